"""The scores of the validation clips by the model that is kept: for the report of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...data.rows import Rows
from ...engine.run_folder import RunFolder
from ...files import written
from ...report.clip_examples import clip_sections
from ...report.html import Section
from ...report.scores import class_sections, label_sections
from ...scoring.analysis import class_analysis
from ...scoring.metrics import Scores, labels_of

FILE = "validation.npz"
"""In the run's folder: ``probabilities``, and ``nouns`` where there are some, float16."""


Save = Callable[[dict[str, float]], None]
"""A function that saves a model, with its metrics."""


class Validation:
    """Keeps the scores of an evaluation when the model is saved that they are of.

    Args:
        run: the folder.
        rows: the validation clips.
    """

    def __init__(self, run: RunFolder, rows: Rows) -> None:
        self.run, self.rows = run, rows
        self.last: Scores | None = None

    def seen(self, scores: Scores) -> Scores:
        """The same scores, which are now the last ones."""
        self.last = scores
        return scores

    def keep(self) -> None:
        """Write the last scores down, where there are some: the model is saved."""
        scores = self.last
        if scores is None:
            return
        arrays: dict[str, Any] = {"probabilities": scores.probabilities.astype(np.float16)}
        if scores.nouns is not None:
            arrays["nouns"] = scores.nouns.astype(np.float16)
        with written(self.run.claim(FILE)) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    def kept(self) -> Scores | None:
        """The scores of the model that is kept; None where nothing was evaluated."""
        place = self.run.root / FILE
        if not place.is_file():
            return None
        with np.load(place, allow_pickle=False) as saved:
            values = {name: saved[name].astype(np.float64) for name in saved.files}
        probabilities = values["probabilities"]
        if len(probabilities) != len(self.rows):  # of other clips than these
            return None
        labels = labels_of(self.rows, probabilities.shape[1])
        return Scores(probabilities, labels, [], self.rows.kind, values.get("nouns"))

    def sections(self, reader: str) -> list[Section]:
        """Confusions, accuracies of classes, and the surest mistakes and hits as moving pictures.

        Args:
            reader: what decodes, as `report.clip_examples.clip_sections` takes it.
        """
        scores = self.kept()
        if scores is None or not scores.readable.any():
            return []
        classes, nouns = list(self.rows.classes or ()), list(self.rows.nouns or ())
        if scores.kind == "single":
            parts = class_sections(scores.confusion(), classes)
        else:
            analysis = class_analysis(scores, self.rows.rows, classes, nouns)
            parts = label_sections(analysis, scores, classes, nouns)
        return parts + clip_sections(self.rows.rows, scores, classes, nouns, reader=reader)


def with_scores(save: Save, validation: Validation | None) -> Save:
    """A function that saves the model, and the scores of the validation clips with it."""

    def save_both(metrics: dict[str, float]) -> None:
        save(metrics)
        if validation is not None:
            validation.keep()

    return save_both

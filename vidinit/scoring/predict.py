"""What is in this file? One model, any number of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..zoo.modify.eval_mode import in_eval_mode
from ..zoo.pair import trunk_of
from ..zoo.probabilities import Ranked

if TYPE_CHECKING:
    from torch import Tensor

    from ..zoo.base import VideoModel
    from ..zoo.pair import PairModel
    from ..zoo.probabilities import Average
    from ..zoo.spec import ClipSpec

_NO_NUMBER = "the model's scores of it are not numbers"


@dataclass(frozen=True)
class Prediction:
    """Classes of one file, or of one clip of its timeline.

    Attributes:
        file: the file, as it was given.
        classes: (class name, probability), most probable first; empty when it cannot be read. Of a
            model of verbs and nouns actions, as ``verb noun``, by the product of the two.
        error: why it cannot be read, or None.
        verbs, nouns: the same of each head of such a model; None of others.
        start, end: of a clip, in seconds from the first frame of the video; None of a whole file.
        timeline: the JSON lines of a file's clips, where a timeline was asked for. The classes are
            then those of the mean over the clips.
    """

    file: str
    classes: Ranked
    error: str | None = None
    verbs: Ranked | None = None
    nouns: Ranked | None = None
    start: float | None = None
    end: float | None = None
    timeline: str | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: ``{path, classes: [{class, probability}]}`` and what else there is."""
        times = {} if self.start is None else {"start": self.start, "end": self.end}
        out: dict[str, Any] = {"path": self.file, **times}
        for key in ("classes", "verbs", "nouns"):
            ranked = getattr(self, key)
            if ranked is not None:
                out[key] = [{"class": name, "probability": value} for name, value in ranked]
        if self.timeline is not None:
            out["timeline"] = self.timeline
        return out if self.error is None else {**out, "error": self.error}


@dataclass(frozen=True)
class Output:
    """What a model says of the views of one clip or file.

    Attributes:
        index: of its row.
        values: probabilities, float64 (classes,), the heads' one after the other; None where there
            is an error.
        error: why there are none, or None.
        embedding: mean of what the head is given of each view, float32 (C,), where asked for.
        span: where a clip begins and ends in its video, in seconds; None of a whole file.
    """

    index: int
    values: np.ndarray | None
    error: str | None
    embedding: np.ndarray | None = None
    span: tuple[float, float] | None = None


def outputs_of(
    model: VideoModel | PairModel,
    batches: Iterable[dict[str, Any]],
    spec: ClipSpec,
    accelerator: Any,
    *,
    average: Average = "softmax",
    embeddings: bool = False,
) -> Iterator[Output]:
    """What a model says of batches, one clip or file after the other, as soon as it is known.

    Args:
        model: as `zoo.views.probabilities_of` takes it; in eval mode while this is iterated over.
        batches: of an `EvalDataset` or a `TimelineDataset`.
        spec: how clips are normalized.
        accelerator: gives the precision.
        average: over the views, see `zoo.probabilities.averaged`.
        embeddings: give them, too.
    """
    from ..zoo.views import probabilities_of

    device = next(model.parameters()).device
    with in_eval_mode(model):
        for batch in batches:
            errors: list[str | None] = batch["error"]
            good = [place for place, error in enumerate(errors) if error is None]
            values, vectors = np.empty((0, 0)), None
            if good:
                views = batch["views"] if len(good) == len(errors) else batch["views"][good]
                views = views.to(device)
                with accelerator.autocast(), _descriptors(model, embeddings) as seen:
                    values = probabilities_of(model, views, spec, average=average).numpy()
                if seen:
                    vectors = seen[0].float().unflatten(0, views.shape[:2]).mean(1).cpu().numpy()
            yield from _of_each(batch, good, values, vectors)


def _of_each(
    batch: dict[str, Any], good: list[int], values: np.ndarray, vectors: np.ndarray | None
) -> Iterator[Output]:
    """What was said of each item of a batch; values and vectors are those of the good ones."""
    rows = np.broadcast_to(np.asarray(batch["index"]), len(batch["error"])).tolist()
    found = {place: number for number, place in enumerate(good)}
    for place, error in enumerate(batch["error"]):
        span = None
        if "start" in batch:
            span = float(batch["start"][place]), float(batch["end"][place])
        number = found.get(place)
        if number is None:
            yield Output(rows[place], None, error, span=span)
        elif not np.isfinite(values[number]).all():
            yield Output(rows[place], None, _NO_NUMBER, span=span)
        else:
            vector = None if vectors is None else vectors[number]
            yield Output(rows[place], values[number], None, vector, span)


@contextmanager
def _descriptors(model: VideoModel | PairModel, wanted: bool) -> Iterator[list[Tensor]]:
    """While entered, the descriptors (B, C) that a model's heads are given are collected."""
    seen: list[Tensor] = []
    if not wanted:
        yield seen
        return
    # All heads read what the trunk's dropout returns, which in eval mode is what it is given.
    dropout = trunk_of(model).dropout
    hook = dropout.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        hook.remove()

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vidinit.data.rows import Row, Rows
from vidinit.engine.run_folder import RunFolder
from vidinit.pipelines.finetune.validation import FILE, Validation, with_scores
from vidinit.scoring.metrics import Scores

ROWS = Rows((Row("a.mp4", 0), Row("b.mp4", 1), Row("c.mp4", 1)), classes=("x", "y"))


def scores(*second: float) -> Scores:
    values = np.array(second)
    return Scores(np.stack([1 - values, values], axis=1), np.array([0, 1, 1]), [])


def test_the_page_of_a_training_shows_what_the_kept_model_confuses(trained: Path) -> None:
    saved = np.load(trained / FILE)["probabilities"]
    assert saved.shape == (6, 2) and saved.sum(axis=1) == pytest.approx(np.ones(6), abs=2e-3)
    top1 = float((saved.argmax(axis=1) == [0, 0, 0, 1, 1, 1]).mean())
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert top1 == pytest.approx(max(row["top1"] for row in rows if "top1" in row))
    page = (trained / "report.html").read_text()
    for title in ("Confusion matrix", "Accuracy per class"):
        assert f"<h2>{title}</h2>" in page
    assert ("Surest mistakes" in page) == (top1 < 1) and ("Surest hits" in page) == (top1 > 0)
    assert page.index('class="headline"') < page.index("<h2>")


def test_the_scores_are_those_of_the_model_that_was_saved(tmp_path: Path) -> None:
    run, saved = RunFolder(tmp_path), []
    validation = Validation(run, ROWS)
    save = with_scores(saved.append, validation)
    save({})  # nothing was evaluated yet
    assert validation.kept() is None and validation.sections("auto") == []
    validation.seen(scores(0.1, 0.9, 0.8))
    save({"top1": 1.0})
    validation.seen(scores(0.9, 0.1, 0.8))  # a worse epoch, which is not saved
    again = Validation(run, ROWS)  # as after a resume
    kept = again.kept()
    assert kept is not None and len(saved) == 2
    assert kept.probabilities[:, 1] == pytest.approx([0.1, 0.9, 0.8], abs=1e-3)
    assert kept.confusion().tolist() == [[1, 0], [0, 2]]
    assert [part.title for part in again.sections("auto")] == [
        "Confusion matrix", "Accuracy per class"
    ]  # fmt: skip
    assert Validation(run, ROWS.of(ROWS.rows[:2])).kept() is None, "of other clips"

"""Two streams averaged: against the average written out, video by video."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scoring_support import drawn

from vidinit.data.rows import Rows
from vidinit.errors import DataError, UsageError
from vidinit.scoring.fusion import fuse
from vidinit.scoring.predictions import Predictions, load

KINDS = ["single", "multi", "pair"]


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """Of one view, (K,) by hand."""
    if kind == "multi":
        return 1 / (1 + np.exp(-logits))
    heads = np.split(logits, 2) if kind == "pair" else [logits]
    return np.concatenate([np.exp(head) / np.exp(head).sum() for head in heads])


def all_of(predictions: Predictions) -> np.ndarray:
    """Probabilities of all heads, (videos, K)."""
    scores = predictions.scores()
    second = () if scores.nouns is None else (scores.nouns,)
    return np.concatenate([scores.probabilities, *second], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_averaged(kind: Any) -> None:
    here, there = drawn(kind, 12, 1, 1.0), drawn(kind, 12, 2, 1.0)
    found = all_of(fuse(here, there, weight=0.3))
    for video in range(1, 12):
        ours, theirs = (probabilities(one.logits[video - 1].astype(float), kind)
                        for one in (here, there))  # fmt: skip
        assert found[video] == pytest.approx(0.3 * ours + 0.7 * theirs, abs=1e-12)
    assert np.isnan(found[0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_averaged(kind: Any) -> None:
    here, there = drawn(kind, 12, 1, 1.0), drawn(kind, 12, 2, 1.0)
    found = all_of(fuse(here, there, weight=0.3, average="logits"))
    for video in range(1, 12):
        mixed = 0.3 * here.logits[video - 1].astype(float) + 0.7 * there.logits[video - 1]
        assert found[video] == pytest.approx(probabilities(mixed, kind), abs=1e-7)


def test_views_are_averaged_first_each_stream_over_its_own() -> None:
    here = drawn("single", 5, 1, 1.0)
    logits = np.random.default_rng(3).normal(size=(8, 3))
    views = np.array([0, 2, 2, 2, 2])
    there = replace(here, logits=logits, views=views, layout="2x1", model="flow")
    found = all_of(fuse(here, there))
    for video in range(1, 5):
        two = [probabilities(logits[2 * (video - 1) + k], "single") for k in (0, 1)]
        own = probabilities(here.logits[video - 1].astype(float), "single")
        assert found[video] == pytest.approx(own / 2 + (two[0] + two[1]) / 4, abs=1e-12)


def test_the_ends_are_the_streams_themselves() -> None:
    here, there = drawn("single", 9, 1, 0.5), drawn("single", 9, 2, 0.5)
    for weight, stream in ((1.0, here), (0.0, there)):
        fused = fuse(here, there, weight=weight)
        assert all_of(fused)[1:] == pytest.approx(all_of(stream)[1:], abs=1e-12)
        assert fused.scores().metrics() == stream.scores().metrics()


def test_rows_and_classes_are_matched_by_name() -> None:
    here, there = drawn("single", 9, 1, 0.5), drawn("single", 9, 2, 0.5)
    order, classes = [2, 0, 1], ("c", "a", "b")
    rows = [replace(row, label=order.index(int(row.label))) for row in there.rows.rows]  # type: ignore[arg-type]
    moved = replace(
        there,
        rows=Rows(tuple(reversed(rows)), classes, "single"),
        logits=there.logits[::-1][:, order],
        views=there.views[::-1],
        reasons={8: "gone"},
    )
    assert all_of(fuse(here, moved))[1:] == pytest.approx(all_of(fuse(here, there))[1:], abs=1e-12)


def test_what_one_stream_could_not_read_has_no_score() -> None:
    here, there = drawn("single", 6, 1, 0.5), drawn("single", 6, 2, 0.5)
    views = np.array([1, 1, 0, 1, 1, 1])
    there = replace(there, views=views, reasons={2: "cut off"}, model="flow")
    fused = fuse(here, there)
    assert fused.reasons == {0: "gone", 2: "flow: cut off"} and fused.undecoded == 2
    assert fused.scores().readable.tolist() == [False, True, False, True, True, True]


def test_a_probability_of_zero_stays_finite(tmp_path: Any) -> None:
    here = drawn("single", 3, 1, 0.0, logits=np.array([[800.0, 0, -800], [0, 900, 0]]))
    fused = fuse(here, here)
    fused.save(tmp_path / "predictions.npz")
    again = load(tmp_path)
    assert np.isfinite(again.logits).all()
    assert all_of(again)[1:] == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=1e-300)


def test_what_does_not_match_is_refused() -> None:
    here, there = drawn("single", 6, 1, 0.5), drawn("single", 6, 2, 0.5)
    with pytest.raises(DataError, match=r"6 videos of videos and 5 of .* have 5 in common.*5\.mp4"):
        fuse(here, drawn("single", 5, 2, 0.5))
    with pytest.raises(DataError, match="have no video in common"):
        fuse(here, replace(there, folder="/elsewhere"))
    wider = replace(there.rows, classes=("a", "b", "c", "d"))
    with pytest.raises(DataError, match="has a class 'd'"):
        fuse(here, replace(there, rows=wider, logits=np.zeros((5, 4))))
    with pytest.raises(UsageError, match="pass --average"):
        fuse(here, replace(there, average="logits"))
    with pytest.raises(UsageError, match="no share"):
        fuse(here, there, weight=1.5)

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vidinit.data.rows import Row, Rows
from vidinit.errors import DataError, UsageError, VidinitError
from vidinit.scoring.metrics import single_label
from vidinit.scoring.predictions import Predictions, choose_views, curve_of, load
from vidinit.zoo.probabilities import averaged

KINDS = ["single", "multi", "pair"]
LABELS = {
    "single": [0, 2, None, 1, 1],
    "multi": [(0, 2), (1,), (), (2,), (0,)],
    "pair": [(0, 1), (2, 0), None, (1, 1), (1, 0)],
}


def made(kind: str = "single", *, crops: int = 3, clips: int = 4, dtype: str = "float32"):
    """Five videos of which the second could not be read, and the fourth has half the clips."""
    nouns = ("cup", "pan") if kind == "pair" else None
    rows = [
        Row(f"v/{i}.mp4", label, 1.5 if i == 3 else None) for i, label in enumerate(LABELS[kind])
    ]
    counts = np.array([clips, 0, clips, clips // 2, clips]) * crops
    width = 5 if kind == "pair" else 3
    logits = np.random.default_rng(0).normal(0, 2, (counts.sum(), width)).astype(dtype)
    return Predictions(
        Rows(tuple(rows), ("a", "b", "c"), kind, nouns),
        logits,
        counts,
        {1: "the file is empty"},
        1,
        crops,
        f"{clips}x{crops}",
        "softmax",
        "runs/mine",
        "videos",
        "/data",
    )


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)


def test_averages_are_a_plain_loop_over_views():
    logits = np.random.default_rng(1).normal(0, 3, (2, 6, 5)).astype(np.float32)
    for video, one in enumerate(logits.astype(float)):
        total, mean = np.zeros(5), np.zeros(5)
        for view in one:
            total[:3] += softmax(view[:3])
            total[3:] += softmax(view[3:])
            mean += view
        mean /= 6
        want = np.concatenate([softmax(mean[:3]), softmax(mean[3:])])
        assert np.abs(averaged(logits, [3, 2])[video] - total / 6).max() < 1e-12
        assert np.abs(averaged(logits, [3, 2], average="logits")[video] - want).max() < 1e-12
        each = np.mean([1 / (1 + np.exp(-view)) for view in one], axis=0)
        assert np.abs(averaged(logits, [5], kind="multi")[video] - each).max() < 1e-12
    # Neither end of the range overflows.
    far = np.array([[[-1e4, 1e4]]], np.float32)
    assert averaged(far, [2]).tolist() == [[0, 1]]
    assert averaged(far, [2], kind="multi").tolist() == [[0, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_back_is_what_was_written(kind, tmp_path):
    predictions = made(kind)
    predictions.save(tmp_path / "predictions.npz")
    back = load(tmp_path)
    assert back.rows == predictions.rows and back.reasons == predictions.reasons
    assert np.array_equal(back.logits, predictions.logits) and back.logits.dtype == np.float32
    assert (back.layout, back.average, back.model, back.clips) == ("4x3", "softmax", "runs/mine", 4)
    assert back.keys[3] == ("/data/v/3.mp4", 1.5, None)
    one, other = predictions.scores(), back.scores()
    assert one.metrics() == other.metrics() and one.missing == [("v/1.mp4", "the file is empty")]
    assert np.array_equal(one.probabilities, other.probabilities, equal_nan=True)
    assert one.readable.tolist() == [True, False, True, True, True]
    assert (one.nouns is None) == (kind != "pair")
    other = replace(back, average="logits").scores()
    assert not np.allclose(one.probabilities[0], other.probabilities[0], atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def test_predictions_are_read_without_torch(tmp_path):
    made().save(tmp_path / "p.npz")
    code = (
        "import sys; from vidinit.scoring.predictions import load\n"
        "print(load(sys.argv[1]).scores().metrics()['top5'], 'torch' in sys.modules)"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "p.npz")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.stdout.split() == ["0.75", "False"], done.stderr


def test_half_of_the_bytes(tmp_path):
    made(dtype="float16").save(tmp_path / "h.npz")
    assert load(tmp_path / "h.npz").logits.dtype == np.float16
    exact, half = made().scores(), load(tmp_path / "h.npz").scores()
    gap = np.nanmax(np.abs(exact.probabilities - half.probabilities))
    assert 0 < gap < 2e-3


def test_smaller_grids_are_spread_over_the_larger_one():
    assert choose_views(30, 3, 1, 1).tolist() == [5 * 3 + 1]
    assert choose_views(30, 3, 2, 1).tolist() == [2 * 3 + 1, 7 * 3 + 1]
    assert choose_views(30, 3, 3, 3).tolist() == [3, 4, 5, 15, 16, 17, 24, 25, 26]
    assert choose_views(30, 3).tolist() == choose_views(30, 3, 99).tolist() == list(range(30))
    assert choose_views(5, 1, 1).tolist() == [2], "of an odd number of clips the one in the middle"
    for total in range(1, 40):
        for count in range(1, total + 1):
            views = choose_views(total, 1, count)
            assert len(set(views.tolist())) == count and views.max() < total


def test_the_curve_comes_from_one_pass():
    predictions = made()
    points = list(curve_of(predictions))
    grids = [(views["clips"], views["crops"]) for views, _ in points]
    assert grids == [(1, 1), (2, 1), (3, 1), (4, 1), (1, 3), (2, 3), (3, 3), (4, 3)]
    assert points[-1][1] == predictions.scores().metrics()
    # 2 x 1 by hand: clips 1 and 3 of four, 0 and 1 of two, always the middle one of three crops.
    want = np.full((5, 3), np.nan)
    starts = np.cumsum(predictions.views) - predictions.views
    for video, clips in ((0, (1, 3)), (2, (1, 3)), (3, (0, 1)), (4, (1, 3))):
        views = [starts[video] + clip * 3 + 1 for clip in clips]
        want[video] = softmax(predictions.logits[views].astype(float)).mean(axis=0)
    keep = [0, 2, 3, 4]
    assert points[1][1] == single_label(want[keep], predictions.labels[keep])


def test_views_by_themselves():
    predictions = made()
    right = predictions.logits.argmax(1) == np.repeat(predictions.labels, predictions.views)
    assert predictions.view_accuracy() == right.mean() and 0 < right.mean() < 1
    assert made("multi").view_accuracy() is None
    nothing = replace(predictions, logits=predictions.logits[:0], views=np.zeros(5, int))
    assert nothing.view_accuracy() is None and nothing.scores().metrics()["top1"] == 0


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.98])
def test_a_file_that_is_cut_off_is_one_error(keep, tmp_path):
    made().save(tmp_path / "p.npz")
    whole = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "p.npz").write_bytes(whole[: int(len(whole) * keep)])
    wanted = "cut off" if keep else "holds no predictions"
    with pytest.raises(DataError, match=wanted):
        load(tmp_path / "p.npz")


def test_a_byte_that_has_changed_is_one_error(tmp_path):
    made().save(tmp_path / "p.npz")
    whole = bytearray((tmp_path / "p.npz").read_bytes())
    whole[300] ^= 255
    (tmp_path / "p.npz").write_bytes(whole)
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path / "p.npz")


def test_foreign_files(tmp_path: Path):
    np.savez(tmp_path / "features.npz", features=np.zeros(3))
    (tmp_path / "text.npz").write_text("no predictions")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("features.npz", "text.npz", "array.npy"):
        with pytest.raises(DataError, match=rf"{name} holds no predictions"):
            load(tmp_path / name)
    with pytest.raises(UsageError, match=r"predictions\.npz does not exist"):
        load(tmp_path)


def test_arrays_that_do_not_fit_together(tmp_path):
    made().save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as archive:
        whole = {name: archive[name] for name in archive.files}
    wrong = {
        "views": whole["views"][::-1],
        "logits": whole["logits"][1:],
        "kind": np.array("double"),
        "crops": np.array(0),
        "paths": whole["paths"][:2],
        "reasons": np.full(5, ""),
    }
    for name, value in wrong.items():
        np.savez(tmp_path / "p.npz", **{**whole, name: value})
        with pytest.raises(DataError, match="damaged"):
            load(tmp_path / "p.npz")


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, monkeypatch):
    made().save(tmp_path / "p.npz")
    before = (tmp_path / "p.npz").read_bytes()

    def full(file, **arrays):
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(VidinitError, match=r"No space left on device\): it takes 0\.0 MB"):
        made("multi").save(tmp_path / "p.npz")
    assert (tmp_path / "p.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]

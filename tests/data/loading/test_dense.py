"""All clips of videos, a few at a time: the same as all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidinit.data.loading import unprobed
from vidinit.data.loading.datasets import EvalDataset
from vidinit.data.loading.loader import Loader
from vidinit.data.loading.quarantine import ReadGuard
from vidinit.data.loading.unprobed import DenseDataset, with_probe
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling, dense_indices

CUT = {"size": 32, "crop_pct": 1.0, "interpolation": "bilinear", "crops": 3}
SAMPLING = Sampling(4, 2)  # a window of 7 frames


@pytest.fixture(scope="module")
def rows(write_video, tmp_path_factory):
    """60 frames; a second of them, 25; three frames, fewer than a clip; one nobody examined."""
    root = tmp_path_factory.mktemp("dense")
    long, short = write_video(root / "v.mp4", 60), write_video(root / "s.mp4", 3)
    known = [with_probe(Row(str(long))), with_probe(Row(str(short)))]
    segment = replace(known[0], start=1.0, end=2.0)
    return Rows((known[0], segment, known[1], Row(str(long))))


@pytest.mark.parametrize(("every", "count"), [(0, 2), (0, 100), (3, 5)])
def test_parts_are_the_whole(rows, every, count, monkeypatch):
    monkeypatch.setattr(unprobed, "_DECODED", 3 * 4 * 48 * 64 * 3)  # three clips at most
    views = EvalDataset(rows, sampling=SAMPLING, **CUT)
    dataset = DenseDataset(views, every)
    parts: dict[int, list[torch.Tensor]] = {}
    errors = {}
    for item in Loader(dataset, dataset.keys(range(4), count), 1, workers=1):
        assert len(item["views"]) <= 3 * count, "however long the video is"
        parts.setdefault(item["index"], []).append(item["views"])
        errors[item["index"]] = item["error"]
    for row, frames in enumerate((60, 25, 3)):
        indices = dense_indices(frames, SAMPLING, every or None)
        whole = views.cut(views.open(rows.rows[row]), indices)
        assert len(whole) == 3 * len(indices) and errors[row] is None
        assert torch.equal(torch.cat(parts[row]), whole)
    assert errors[3] == "nobody has found out how long it is" and len(parts[3][0]) == 0


def test_a_file_that_is_gone_and_one_in_quarantine(rows, tmp_path):
    gone = replace(rows.rows[0], path=str(tmp_path / "gone.mp4"))
    dataset = DenseDataset(EvalDataset(Rows((gone,)), sampling=SAMPLING, **CUT), 0)
    assert dataset.load((0, 0, 2), ReadGuard({}))["error"] == "no such file"
    assert dataset.load((0, 0, 2), ReadGuard({0: "it hangs"}))["error"] == "it hangs"


@pytest.mark.parametrize("short", ["loop", "hold"])
@pytest.mark.parametrize(("frames", "step"), [(3, None), (60, None), (60, 5), (7, 1)])
def test_some_clips_are_some_of_all(frames, step, short):
    sampling = Sampling(4, 2, short=short)
    whole = dense_indices(frames, sampling, step)
    count = len(whole)
    parts = [dense_indices(frames, sampling, step, first=k, count=2) for k in range(0, count, 2)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert dense_indices(frames, sampling, step, first=count, count=2).shape == (0, 4)

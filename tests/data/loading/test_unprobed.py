from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.readers import making

from vidinit.data.loading.datasets import ClipDataset, EvalDataset
from vidinit.data.loading.loader import Loader
from vidinit.data.loading.quarantine import Quarantine, ReadGuard
from vidinit.data.loading.unprobed import (
    SlidingWindows,
    TimelineDataset,
    UnprobedDataset,
    with_probe,
)
from vidinit.data.pixels.transforms import Augment
from vidinit.data.readers import VideoReadError
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling, eval_indices
from vidinit.errors import DataError

DENSE = Sampling(4, 2)  # a window of 7 frames
CUT = {"size": 32, "crop_pct": 1.0, "interpolation": "bilinear"}


@pytest.fixture(scope="module")
def video(write_video, tmp_path_factory):
    """60 frames, 25 a second, each with its number in it."""
    return write_video(tmp_path_factory.mktemp("timeline") / "v.mp4", 60)


def timeline(path, sampling=DENSE, every=None, **cut):
    rows = Rows((with_probe(Row(str(path))),))
    probe = rows.rows[0].probe
    sliding = [SlidingWindows.over(probe.num_frames, probe.fps, sampling, every)]
    return TimelineDataset(EvalDataset(rows, sampling=sampling, **{**CUT, **cut}), sliding)


@pytest.mark.parametrize(
    ("frames", "sampling", "every", "starts", "window"),
    [
        (60, DENSE, None, [*range(0, 53, 7), 53], 7),  # back to back, the last with the end
        (56, DENSE, None, list(range(0, 50, 7)), 7),
        (60, DENSE, 1.0, [0, 25, 50, 53], 7),
        (60, DENSE, 0.001, list(range(54)), 7),  # at least a frame apart
        (5, DENSE, 1.0, [0], 5),
        (120, Sampling(4, kind="uniform"), None, [0, 50, 70], 50),
        (120, Sampling(4, kind="all"), 1.0, [0, 25, 50, 75, 95], 25),
    ],
)
def test_windows_cover_a_video(frames, sampling, every, starts, window):
    sliding = SlidingWindows.over(frames, 25.0, sampling, every)
    assert [sliding.start(clip) for clip in range(len(sliding))] == starts
    assert sliding.window == window and starts[-1] + window == frames


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_show_their_frames_and_say_when(video, codes, workers):
    dataset = timeline(video, every=0.4, size=48)
    dataset.views = replace(dataset.views, size=48, crops=3)
    loader = Loader(dataset, dataset.keys(2), 1, workers=workers)
    found = list(loader)
    assert [batch["clip"].tolist() for batch in found] == [[0, 1], [2, 3], [4, 5], [6]]
    assert torch.cat([batch["start"] for batch in found]).tolist() == pytest.approx(
        [0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.12]
    )
    assert found[3]["end"].tolist() == pytest.approx([2.4])
    assert all(batch["error"] == [None] * len(batch["clip"]) for batch in found)
    views = torch.cat([batch["views"] for batch in found])
    assert views.shape == (7, 3, 4, 48, 48, 3)
    # The left and the right half of a frame show the lower and the upper bits of its number.
    whole = torch.cat([views[:, 0], views[:, 2]], dim=3).flatten(0, 1).numpy()
    starts = [0, 10, 20, 30, 40, 50, 53]
    assert codes(whole) == [start + 2 * k for start in starts for k in range(4)]


def test_few_frames_are_decoded_at_a_time(video, monkeypatch):
    from vidinit.data.loading import unprobed

    dataset = timeline(video)
    whole = dataset.load((0, 0, 9), ReadGuard({}))
    calls = []
    really = EvalDataset.cut

    def cut(self, reader, indices):
        calls.append(indices.shape)
        return really(self, reader, indices)

    monkeypatch.setattr(EvalDataset, "cut", cut)
    monkeypatch.setattr(unprobed, "_DECODED", 2.5 * 4 * 48 * 96 * 3)
    parts = dataset.load((0, 0, 9), ReadGuard({}))
    assert calls == [(2, 4)] * 4 + [(1, 4)]
    assert torch.equal(parts["views"], whole["views"]) and torch.equal(parts["end"], whole["end"])


def test_a_clip_that_cannot_be_read_leaves_the_others(video, monkeypatch):
    from vidinit.data.loading import unprobed

    dataset = timeline(video)
    monkeypatch.setattr(unprobed, "_DECODED", 1.0)  # one clip at a time
    really = EvalDataset.cut

    def cut(self, reader, indices):
        if 14 in indices:
            raise VideoReadError("v.mp4", "frame 14 is damaged")
        return really(self, reader, indices)

    monkeypatch.setattr(EvalDataset, "cut", cut)
    item = dataset.load((0, 1, 3), ReadGuard({}))
    assert item["error"] == [None, "frame 14 is damaged", None]
    assert item["views"][1].max() == 0 and item["views"][2].max() > 0
    assert item["start"].tolist() == pytest.approx([7 / 25, 14 / 25, 21 / 25])
    item = dataset.load((0, 1, 3), ReadGuard({0: "it hung"}))
    assert item["error"] == ["it hung"] * 3 and item["views"].shape == (3, 1, 4, 32, 32, 3)


def test_all_frames_of_a_window(video):
    item = timeline(video, Sampling(4, 2, kind="all"), 0.4).load((0, 0, 2), ReadGuard({}))
    assert item["views"].shape == (2, 1, 5, 32, 32, 3)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return str(making.damaged_between(tmp_path_factory.mktemp("damaged")))


def test_damage_that_is_met_on_the_way_ends_the_video(damaged, codes):
    options = {**CUT, "size": 48, "clips": 3, "crops": 3}
    item = UnprobedDataset(Rows((Row(damaged),)), sampling=DENSE, **options)[0]
    found = with_probe(Row(damaged), full=True)
    count = found.probe.num_frames
    assert 20 <= count < 28 and item["error"] is None and item["kept"] == found.probe.kept
    known = EvalDataset(Rows((found,)), sampling=DENSE, **options)[0]
    assert torch.equal(item["views"], known["views"]) and known["kept"] == item["kept"]
    shown = torch.cat([item["views"][0::3], item["views"][2::3]], dim=3).numpy()
    assert [codes(clip) for clip in shown] == eval_indices(count, DENSE, 3).tolist()


@pytest.mark.parametrize("full", [True, False])
def test_a_damaged_file_may_be_left_out(damaged, full):
    rows = Rows((with_probe(Row(damaged)) if full else Row(damaged),))
    options = {**CUT, "sampling": DENSE, "clips": 3, "partial": "drop"}
    item = UnprobedDataset(rows, **options)[0]
    assert item["kept"] == "" and item["views"].max() == 0
    assert item["error"].startswith("frame ") and "does not decode" in item["error"]


def test_a_beginning_shorter_than_a_clip_is_not_shown(damaged):
    row = with_probe(Row(damaged), full=True)
    count = row.probe.num_frames
    for frames, reason in ((count, ""), (count + 1, f"a clip needs {count + 1}")):
        views = EvalDataset(Rows((row,)), sampling=Sampling(frames, 1), **CUT)
        clips = ClipDataset(Rows((row,)), sampling=Sampling(frames, 1), augment=Augment(32))
        if not reason:
            assert views[0]["error"] is None and clips[0, 0]["bad"] == []
        else:
            assert reason in views[0]["error"] and row.probe.fault in views[0]["error"]
            with pytest.raises(DataError, match=reason):
                clips[0, 0]
    # A segment that was whole before is.
    early = EvalDataset(Rows((replace(row, end=0.2),)), sampling=Sampling(9, 1), **CUT)
    assert early[0]["error"] is None


def test_a_file_is_examined_where_it_is_read(video, tmp_path, bad_files):
    cut = {"sampling": DENSE, **CUT}
    paths = [str(video), str(bad_files["cut_faststart"]), str(bad_files["missing"])]
    rows = Rows(tuple(map(Row, paths)))
    dataset = UnprobedDataset(rows, **cut)
    batches = list(Loader(dataset, range(3), 3, workers=1, quarantine=Quarantine({2: "gone"})))
    (errors,) = [batch["error"] for batch in batches]
    assert errors[0] is None and "cut off" in errors[1] and errors[2] == "gone"
    known = EvalDataset(Rows((with_probe(Row(paths[0])),)), **cut)
    assert torch.equal(batches[0]["views"][0], known[0]["views"])
    assert np.all(batches[0]["views"][1].numpy() == 0)

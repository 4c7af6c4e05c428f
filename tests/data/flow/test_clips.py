"""Clips and views of optical flow: the same in all processes, beside the teachers' RGB frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data.flow.conftest import MOTIONS
from data.flow.scenes import dequantize
from data.ten_clips import all_same, clips, same, views
from support import write_video

from vidinit.data.flow.settings import STILL, Flow
from vidinit.data.loading.loader import eval_loader, train_loader
from vidinit.data.loading.quarantine import ReadGuard
from vidinit.data.loading.teacher_frames import CROPS, FrameView, TeacherFrames
from vidinit.data.loading.unprobed import SlidingWindows, TimelineDataset
from vidinit.data.pixels.transforms import Augment
from vidinit.data.rows import Rows
from vidinit.data.views import Picks, Sampling

pytest.importorskip("cv2")
FLOW = Flow()


def test_views_show_the_motion(videos: Rows) -> None:
    dataset = views(videos, flow=FLOW, size=64, crop_pct=1.0, clips=2)
    for place, motion in enumerate(MOTIONS):
        item = dataset[place]
        assert item["error"] is None
        assert item["views"].shape == (2, 4, 64, 64, 2)
        middle = dequantize(item["views"].numpy(), 20.0)[..., 16:48, 16:48, :]
        assert np.median(middle, axis=(0, 1, 2, 3)) == pytest.approx(motion, abs=0.3)


def test_items_do_not_depend_on_workers(videos: Rows) -> None:
    teachers = TeacherFrames(Picks("random", 2), crops=True)
    dataset = clips(videos, flow=FLOW, teachers=teachers, repeats=2)
    options = {"batch_size": 4, "seed": 3, "epoch": 1}
    here = list(train_loader(dataset, workers=0, **options))
    assert len(here) == 3
    assert all_same(list(train_loader(dataset, workers=2, **options)), here)
    # A run that goes on sees what it would have seen.
    assert all_same(list(train_loader(dataset, workers=0, start=2, **options)), here[2:])
    shown = views(videos, flow=FLOW, crops=3)
    one, two = (list(eval_loader(shown, batch_size=2, workers=n)) for n in (0, 2))
    assert all_same(one, two)
    assert one[0]["views"].shape == (2, 3, 4, 32, 32, 2)


@pytest.mark.parametrize("jitter", [None, (36, 60)])
def test_teachers_see_what_they_would_see_beside_rgb(
    videos: Rows, jitter: tuple[int, int] | None
) -> None:
    view = FrameView(24, 0.9, "bilinear")
    teachers = TeacherFrames(Picks("random", 2), (view,))
    options = {"augment": Augment(32, jitter=jitter), "repeats": 2}
    rgb = clips(videos, teachers=teachers, **options)
    flow = clips(videos, teachers=replace(teachers, crops=True), flow=FLOW, **options)
    for key in [(0, 1), (1, 4), (2, 5)]:
        plain, item = rgb[key], flow[key]
        assert item["clip"].shape == (2, 4, 32, 32, 2)
        assert item[CROPS].shape == (2, 2, 32, 32, 3)
        rows = torch.arange(2)[:, None]
        assert torch.equal(item[CROPS], plain["clip"][rows, plain["picks"]])
        for name in ("picks", "frames", view.key, "label", "index"):
            assert torch.equal(item[name], plain[name])
    # Without teachers the clips are the same.
    alone = clips(videos, flow=FLOW, **options)[1, 4]
    assert torch.equal(alone["clip"], flow[1, 4]["clip"])
    assert not {CROPS, "picks"} & alone.keys()


def test_a_video_without_flow_is_replaced_in_training_and_missing_in_evaluation(
    videos: Rows, tmp_path: Path
) -> None:
    tiny = write_video(tmp_path / "tiny.mp4", np.zeros((9, 12, 64, 3), np.uint8))
    rows = videos.of([replace(videos.rows[0], path=str(tiny), probe=None), *videos.rows[1:]])
    item = clips(rows, flow=FLOW)[0, 0]
    assert item["bad"] == [str(tiny)]
    assert item["skipped"].tolist() == [1]
    assert item["index"].tolist() != [0]
    bad = views(rows, flow=FLOW)[0]
    assert bad["error"] == "frames of 64 x 12 pixels are too small for optical flow"
    assert bad["views"].shape == (1, 4, 32, 32, 2)
    assert not bad["views"].any()


def test_timelines_are_of_flow(videos: Rows) -> None:
    shown = views(videos, flow=FLOW, size=64, crop_pct=1.0)
    probe = videos.rows[4].probe
    assert probe is not None
    sliding = [SlidingWindows.over(probe.num_frames, probe.fps, Sampling(4), None)] * len(
        videos.rows
    )
    dataset = TimelineDataset(shown, sliding)
    item = dataset.load((4, 0, 3), ReadGuard({}))
    assert item["error"] == [None] * 3
    assert item["views"].shape == (3, 1, 4, 64, 64, 2)
    whole = views(videos, flow=FLOW, size=64, crop_pct=1.0, sampling=Sampling(1, 1, "all"))[4]
    # The clips follow one another, and the last one ends with the video.
    ends = [whole["views"][0, start : start + 4] for start in (0, 4, 8)]
    assert torch.equal(item["views"][:, 0], torch.stack(ends))


def test_a_still_image_has_no_motion(videos: Rows, tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "still.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(file)
    rows = videos.of([replace(videos.rows[0], path=str(file), probe=None)])
    assert (clips(rows, flow=FLOW)[0, 0]["clip"] == STILL).all()


def test_rgb_items_have_nothing_new(videos: Rows) -> None:
    item = clips(videos)[0, 2]
    assert item["clip"].shape == (1, 4, 32, 32, 3)
    assert item.keys() == {"clip", "label", "index", "skipped", "bad"}
    assert same(item, clips(videos, flow=None)[0, 2])

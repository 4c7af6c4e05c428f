"""Clips around key frames: boxes go where the pixels go, and who is lost leaves the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidinit.data.boxes.columns import Boxes
from vidinit.data.loading.keyframes import KeyframeDataset, KeyframeViews
from vidinit.data.loading.loader import Loader, train_loader
from vidinit.data.loading.quarantine import Quarantine, ReadGuard
from vidinit.data.pixels.boxes import Affine
from vidinit.data.pixels.transforms import Augment
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling

HEIGHT, WIDTH, LENGTH = 60, 100, 9
BOX = (40, 15, 70, 45)


def folder(root: Path, name: str, box: tuple[int, int, int, int] = BOX) -> str:
    """Frames that are black but for a white box, and their number in the corner's blue."""
    (root / name).mkdir()
    x1, y1, x2, y2 = box
    for t in range(LENGTH):
        frame = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        frame[:, :, 2] = 10 * t
        frame[y1:y2, x1:x2, :2] = 255
        Image.fromarray(frame).save(root / name / f"{t:04d}.png")
    return str(root / name)


def boxes_of(rows: list[int], frames: list[int], corners: list[list[tuple[float, ...]]]) -> Boxes:
    """Boxes in pixels of the frames above; box m has the class m % 2, every third has none."""
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    flat = np.array([box for own in corners for box in own], dtype=np.float64).reshape(-1, 4)
    counts = [0 if m % 3 == 2 else 1 for m in range(len(flat))]
    return Boxes(
        classes=("run", "walk"),
        row=np.array(rows, dtype=np.int32),
        frame=np.array(frames, dtype=np.int32),
        time=None,
        starts=np.cumsum([0, *map(len, corners)]).astype(np.int32),
        box=(flat / size).astype(np.float32),
        fractions=True,
        label_starts=np.cumsum([0, *counts]).astype(np.int32),
        labels=np.array([m % 2 for m, n in enumerate(counts) if n], dtype=np.int16),
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    root = tmp_path_factory.mktemp("frames")
    missing = Row(str(root / "gone"))
    return Rows((Row(folder(root, "a")), Row(folder(root, "b", (5, 20, 35, 50))), missing))


def training(rows: Rows, boxes: Boxes, **options: object) -> KeyframeDataset:
    augment = {"size": 48, "interpolation": "bilinear", "scale": (0.5, 1.0)}
    augment |= {k: options.pop(k) for k in ("scale", "jitter", "flip") if k in options}
    sampling = Sampling(frames=options.pop("frames", 4), stride=1)
    return KeyframeDataset(rows, boxes, sampling=sampling, augment=Augment(**augment), **options)


def bright(frame: torch.Tensor) -> list[int]:
    """Edges of what is bright in red: x1, y1, x2, y2."""
    places = torch.nonzero(frame[..., 0] > 127)
    (y1, x1), (y2, x2) = places.min(0).values.tolist(), places.max(0).values.tolist()
    return [x1, y1, x2 + 1, y2 + 1]


@pytest.mark.parametrize("jitter", [None, (48, 70)])
def test_boxes_follow_crop_flip_and_resize(rows: Rows, jitter: tuple[int, int] | None) -> None:
    data = training(rows, boxes_of([0], [4], [[BOX]]), jitter=jitter, visible=0.3)
    kept, places = 0, set()
    for epoch in range(24):
        item = data[epoch, 0]
        assert item["clip"].shape == (1, 4, 48, 48, 3) and item["boxes"].shape[2] == 4
        if item["boxes"].shape[1]:
            box = item["boxes"][0, 0].tolist()
            assert bright(item["clip"][0, 0]) == pytest.approx(box, abs=1.01)
            assert item["targets"].tolist() == [[[1.0, 0.0]]]
            kept += 1
            places.add(tuple(round(x) for x in box))
    assert kept > 12 and len(places) > 8


def test_the_key_frame_is_in_the_middle_and_the_ends_are_held(rows: Rows) -> None:
    boxes = boxes_of([0, 0, 0], [0, 4, 8], [[BOX]] * 3)
    data = training(rows, boxes, scale=(1.0, 1.0), flip=False)
    # Frame t has 10 t of blue.
    shown = [[round(int(f[-1, 0, 2]) / 10) for f in data[0, k]["clip"][0]] for k in range(3)]
    assert shown == [[0, 0, 0, 1], [2, 3, 4, 5], [6, 7, 8, 8]]


def test_people_of_whom_less_is_left_leave_the_loss(rows: Rows) -> None:
    """The share is that of the box's own area; a person who is whole stays in every crop."""
    boxes = boxes_of([0], [4], [[BOX, (0, 0, WIDTH, HEIGHT)]])
    lost = {}
    for visible in (0.0, 0.5, 0.99):
        data = training(rows, boxes, visible=visible, scale=(0.1, 1.0))
        lost[visible] = 0
        for epoch in range(20):
            item = data[epoch, 0]
            areas = (item["boxes"][0, :, 2:] - item["boxes"][0, :, :2]).prod(dim=1)
            assert (areas > 0).all()
            lost[visible] += 2 - item["valid"].sum().item()
    assert lost[0.0] < lost[0.5] < lost[0.99]
    assert lost[0.99] >= 19  # the whole frame is in no crop of less than it


def test_the_whole_frame_of_training_and_its_bars(rows: Rows) -> None:
    boxes = boxes_of([0], [4], [[BOX]])
    data = training(rows, boxes, whole=True, fill=(7, 8, 9))
    seen = set()
    for epoch in range(8):
        item = data[epoch, 0]
        clip, box = item["clip"][0], item["boxes"][0, 0].tolist()
        assert bright(clip[0]) == pytest.approx(box, abs=1.01)
        assert clip[:, :9].flatten(0, 2).unique(dim=0).tolist() == [[7, 8, 9]]
        seen.add(round(box[0]))
    assert len(seen) == 2  # as it is, and mirrored


def test_boxes_that_are_shaken_stay_near_and_the_goals_are_true(rows: Rows) -> None:
    data = training(rows, boxes_of([0], [4], [[BOX]]), scale=(1.0, 1.0), shake=0.2, visible=0.0)
    moves = []
    for epoch in range(12):
        item = data[epoch, 0]
        goal, box = item["goals"][0, 0], item["boxes"][0, 0]
        assert bright(item["clip"][0, 0]) == pytest.approx(goal.tolist(), abs=1.01)
        sides = (goal[2:] - goal[:2]).repeat(2)
        moves.append(((box - goal).abs() / sides).max().item())
        assert box.min() >= 0 and box.max() <= 48
    assert 0.05 < max(moves) <= 0.2 + 1e-5
    again = data[3, 0]
    assert torch.equal(again["boxes"], data[3, 0]["boxes"])  # counted, not drawn


def test_a_key_frame_that_cannot_be_read_is_replaced_by_the_same_one(rows: Rows) -> None:
    boxes = boxes_of([0, 1, 2, 2], [1, 2, 0, 5], [[BOX], [BOX], [BOX], [BOX]])
    data = training(rows, boxes)
    item = data[0, 3]
    assert item["bad"] and set(item["bad"]) == {rows.rows[2].path}
    assert item["skipped"].item() == len(item["bad"]) and item["key"].item() in (0, 1)
    assert item["index"].item() == item["key"].item()  # the video that is shown
    again = data[0, 3]
    assert torch.equal(item["clip"], again["clip"]) and torch.equal(item["key"], again["key"])
    # What is in quarantine is not opened at all.
    other = data.load((0, 0), ReadGuard({0: "it hangs"}))
    assert other["bad"][0] == rows.rows[0].path and other["key"].item() == 1


def test_a_batch_fills_boxes_up_and_workers_change_nothing(rows: Rows) -> None:
    boxes = boxes_of([0, 1], [1, 2], [[BOX, (1, 1, 30, 30)], [(5, 20, 35, 50)]])
    data = training(rows, boxes, scale=(1.0, 1.0), visible=0.0)
    options = {"batch_size": 2, "seed": 3, "epoch": 1}
    one, other = ([*train_loader(data, workers=w, **options)] for w in (0, 1))
    assert len(one) == len(other) == 1
    batch = one[0]
    assert batch["clip"].shape == (2, 4, 48, 48, 3) and batch["boxes"].shape == (2, 2, 4)
    counts = dict(zip(batch["key"].tolist(), batch["valid"].sum(1).tolist(), strict=True))
    assert counts == {0: 2, 1: 1}
    short = batch["key"].tolist().index(1)
    assert batch["boxes"][short, 1].tolist() == [0, 0, 0, 0]
    assert batch["targets"][short].tolist() == [[0, 0], [0, 0]]  # every third box has no action
    for key, value in batch.items():
        same = torch.equal(value, other[0][key]) if key != "bad" else value == other[0][key]
        assert same, key


@pytest.mark.parametrize("fit", ["letterbox", "whole"])
def test_views_show_the_whole_frame_and_boxes_go_back(rows: Rows, fit: str) -> None:
    boxes = boxes_of([0, 1], [4, 0], [[BOX], [(5, 20, 35, 50)]])
    views = KeyframeViews(rows, boxes, sampling=Sampling(2, 1), size=30, fit=fit)
    shape = (30, 30) if fit == "letterbox" else (30, 50)
    for key in range(2):
        item = views[key]
        assert item["clip"].shape == (2, *shape, 3) and item["error"] is None
        box = item["boxes"][0].tolist()
        assert bright(item["clip"][1]) == pytest.approx(box, abs=1.01)
        scale, shift = item["place"][:2].tolist(), item["place"][2:].tolist()
        back = Affine(tuple(scale), tuple(shift)).back().boxes(item["boxes"].numpy())
        assert back[0] == pytest.approx(boxes.box[key], abs=1e-5)
    if fit == "letterbox":
        assert views[0]["boxes"][0].tolist() == pytest.approx([12, 10.5, 21, 19.5])


def test_views_name_what_cannot_be_read_and_replace_nothing(rows: Rows) -> None:
    boxes = boxes_of([0, 2], [4, 1], [[BOX], [BOX, BOX]])
    views = KeyframeViews(rows, boxes, sampling=Sampling(2, 1), size=30, fit="whole")
    quarantine = Quarantine()
    (batch,) = Loader(views, [0, 1], 2, workers=0, quarantine=quarantine)
    assert batch["error"][0] is None and batch["error"][1]
    assert batch["clip"].shape == (2, 2, 30, 50, 3) and not batch["clip"][1].any()
    assert batch["valid"].tolist() == [[True, False], [True, True]]


def test_a_key_frame_behind_the_end_is_an_error_of_its_video(rows: Rows) -> None:
    boxes = boxes_of([0], [LENGTH], [[BOX]])
    views = KeyframeViews(rows, boxes, sampling=Sampling(2, 1), size=30)
    assert views[0]["error"] == f"{LENGTH} frames, and boxes in {LENGTH}"


def test_randaugment_moves_pixels_away_from_boxes(rows: Rows) -> None:
    augment = Augment(48, randaug="rand-m7-n2")
    with pytest.raises(ValueError, match="boxes do not follow"):
        KeyframeDataset(rows, boxes_of([0], [1], [[BOX]]), sampling=Sampling(2, 1), augment=augment)

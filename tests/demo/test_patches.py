"""Clips of moving patches: the same for the same seed, boxes where the patches are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support import moving_bar, write_video

from vidinit.data.boxes import read_boxes
from vidinit.data.readers import open_video
from vidinit.demo.footage import Footage, clip_rng
from vidinit.demo.patches import (
    KEY,
    MOTIONS,
    SIDE,
    classes_of,
    make_patch_clips,
    render_patches,
)

PAIRS = [(a, b) for a in range(6) for b in range(6) if a != b]


def flat(*levels: int) -> list[Footage]:
    """Footage of which a frame has one level of gray."""
    frames = [np.full((144, 176, 3), level, np.uint8) for level in levels]
    return [Footage(np.stack(frames), ((0, len(frames)),))]


def test_thirty_clips_have_each_pair_of_two_classes_once():
    assert sorted(classes_of(index) for index in range(30)) == PAIRS
    assert Counter(c for index in range(30) for c in classes_of(index)) == dict.fromkeys(
        range(6), 10
    )
    assert classes_of(37) == classes_of(7)


def cover(box: np.ndarray) -> np.ndarray:
    """The share of each pixel that lies in a box."""
    edge = np.arange(SIDE)
    across, down = (
        np.clip(np.minimum(edge + 1, high) - np.maximum(edge, low), 0, 1)
        for low, high in (box[::2], box[1::2])
    )
    return down[:, None] * across


@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_exactly_where_the_patches_are(seed):
    clip = render_patches(flat(20, 120, 220), classes_of(seed), clip_rng(0, seed))
    for frame, (under, over) in zip(clip.frames.astype(float), clip.boxes, strict=True):
        scene = np.median(frame[(cover(under) + cover(over)) == 0], axis=0)
        lower = np.median(frame[(cover(under) == 1) & (cover(over) == 0)], axis=0)
        upper = np.median(frame[cover(over) == 1], axis=0)
        expected = scene + cover(under)[..., None] * (lower - scene)
        expected += cover(over)[..., None] * (upper - expected)
        assert np.abs(frame - expected).max() <= 1.01  # colors are rounded


def test_the_key_frame_does_not_depend_on_the_classes():
    footage = [
        Footage(
            np.random.default_rng(1).integers(0, 255, (12, 144, 176, 3)).astype(np.uint8),
            ((0, 12),),
        )
    ]
    one, *others = (render_patches(footage, pair, clip_rng(4, 2)) for pair in PAIRS)
    for other in others:
        assert np.array_equal(one.frames[KEY], other.frames[KEY])
        assert np.array_equal(one.boxes[KEY], other.boxes[KEY])
        assert not np.array_equal(one.frames[0], other.frames[0])
    again = render_patches(footage, PAIRS[0], clip_rng(4, 2))
    assert np.array_equal(one.frames, again.frames)
    assert not np.array_equal(one.frames, render_patches(footage, PAIRS[0], clip_rng(4, 3)).frames)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_class_is_how_a_patch_moves(motion):
    label = MOTIONS.index(motion)
    clips = (render_patches(flat(0), (label, (label + 1) % 6), clip_rng(9, i)) for i in range(20))
    around = (clip.boxes[KEY - 1 : KEY + 2, 0] for clip in clips)
    inside = next(boxes for boxes in around if boxes.min() > 0 and boxes.max() < SIDE)
    x1, y1, x2, y2 = (inside[2] - inside[0]).round(9)
    sides = np.sign([x1 + x2, y1 + y2, x2 - x1, y2 - y1]).tolist()
    expected = {
        "left": [-1, 0, 0, 0],
        "right": [1, 0, 0, 0],
        "up": [0, -1, 0, 0],
        "down": [0, 1, 0, 0],
        "grow": [0, 0, 1, 1],
        "shrink": [0, 0, -1, -1],
    }
    assert sides == expected[motion]


def test_what_is_written_is_what_was_rendered(tmp_path):
    videos = [write_video(tmp_path / f"{i}.mp4", moving_bar(1, i)) for i in range(2)]
    made, again = (
        make_patch_clips(folder, (videos[:1], videos[1:]), train=6, test=1, seed=3)
        for folder in (tmp_path / "one", tmp_path / "two")
        if not folder.mkdir()
    )
    parts = {part.name: part.boxes for part in read_boxes(made.keys)}
    assert (len(parts["train"]), len(parts["val"])) == (6, 1)
    every = {part.name: part.boxes for part in read_boxes(made.frames)}
    assert len(every["train"]) == 60 and every["train"].frame.tolist()[:10] == list(range(10))
    keys = parts["train"]
    assert keys.classes == MOTIONS and set(keys.frame.tolist()) == {KEY} and not keys.fractions
    assert np.array_equal(keys.box, every["train"].box.reshape(6, 10, 2, 4)[:, KEY].reshape(12, 4))
    assert keys.labels.tolist() == [label for index in range(6) for label in classes_of(index)]
    reader = open_video(made.folder / "val/00000.mp4")
    assert (reader.num_frames, reader.size) == (10, (SIDE, SIDE))
    files = sorted(path.relative_to(made.folder) for path in made.folder.rglob("*.*"))
    assert len(files) == 9
    for file in files:
        assert (made.folder / file).read_bytes() == (again.folder / file).read_bytes()

"""Boxes go where the pixels go: a bright rectangle is found where its box says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidinit.data.pixels.boxes import (
    Affine,
    cropped,
    cut_map,
    fitted,
    flipped,
    letterbox,
    visible,
)
from vidinit.data.pixels.transforms import (
    Augment,
    _jittered_box,
    _random_box,
    augment_clip,
    eval_crops,
    resize,
)

BOX = np.array([[60, 30, 130, 95]], dtype=np.float32)
SHAPE = (120, 200)


def picture(box=BOX[0], shape=SHAPE):
    """Two frames, black but for the box."""
    frames = np.zeros((2, *shape, 3), dtype=np.uint8)
    x1, y1, x2, y2 = (int(one) for one in box)
    frames[:, y1:y2, x1:x2] = 255
    return frames


def bright(clip):
    """Edges of what is bright, to a fraction of a pixel: x1, y1, x2, y2."""
    frame = clip[0, :, :, 0].float() / 255
    found = []
    for line in (frame.amax(0), frame.amax(1)):
        places = torch.nonzero(line > 0.5).flatten()
        first, last = int(places[0]), int(places[-1])
        found.append((first, last + 1))
    (x1, x2), (y1, y2) = found
    return [x1, y1, x2, y2]


@pytest.mark.parametrize("jitter", [None, (112, 150)])
def test_crop_resize_and_flip_of_training_clips(jitter):
    """The map of the crop and the flip that `augment_clip` draws for the same counter."""
    augment = Augment(size=112, jitter=jitter, scale=(0.4, 1.0), interpolation="bilinear")
    mirrored_ones = checked = 0
    for seed in range(24):
        clip, cut = augment_clip(picture(), augment, np.random.default_rng(seed))
        generator = np.random.default_rng(seed)
        if jitter is None:
            crop = _random_box(SHAPE, augment.scale, augment.ratio, generator)
        else:
            crop = _jittered_box(SHAPE, augment.size, jitter, generator)
        affine = cropped(crop, (112, 112))
        if cut.mirrored:
            affine = affine.then(flipped(112))
        assert cut.box == crop and cut_map(cut, 112) == affine
        box, share = visible(affine.boxes(BOX), (112, 112))
        if share[0] < 0.2:
            continue
        assert bright(clip) == pytest.approx(box[0].tolist(), abs=1.01)
        mirrored_ones, checked = mirrored_ones + cut.mirrored, checked + 1
    assert checked > 12 and 0 < mirrored_ones < checked


def test_the_center_crop_of_an_evaluation():
    clip = eval_crops(picture(), size=96, crop_pct=1.0, interpolation="bilinear")[0]
    affine = cropped((0, 40, 120, 120), (96, 96))
    assert bright(clip) == pytest.approx(visible(affine.boxes(BOX), (96, 96))[0][0], abs=1.01)


def test_a_flip_maps_edges_not_numbers_of_pixels():
    """The left half becomes the right half, and two flips are none."""
    left = np.array([[0, 0, 100, 120]], dtype=np.float32)
    assert flipped(200).boxes(left).tolist() == [[100, 0, 200, 120]]
    assert flipped(200).then(flipped(200)) == Affine()
    clip = torch.from_numpy(picture()).flip(2)
    assert bright(clip) == flipped(200).boxes(BOX)[0].tolist()


@pytest.mark.parametrize("size", [(112, 112), (64, 160), (224, 100)])
def test_letterbox(size):
    clip = torch.from_numpy(picture())
    fill = (10, 20, 30)
    result, affine = letterbox(clip, size, fill, "bilinear")
    assert result.shape == (2, *size, 3) and result.dtype == torch.uint8
    assert bright(result) == pytest.approx(affine.boxes(BOX)[0].tolist(), abs=1.01)
    whole = affine.boxes(np.array([[0, 0, SHAPE[1], SHAPE[0]]]))[0]
    x1, y1, x2, y2 = (round(float(one)) for one in whole)
    # It touches two borders and is centered; what is beside it has the color, to the last pixel.
    assert (x1, x2) == (0, size[1]) or (y1, y2) == (0, size[0])
    assert abs(x1 - (size[1] - x2)) <= 1 and abs(y1 - (size[0] - y2)) <= 1
    bars = torch.ones(size, dtype=torch.bool)
    bars[y1:y2, x1:x2] = False
    assert bars.any() and (result[:, bars] == torch.tensor(fill, dtype=torch.uint8)).all()
    assert torch.equal(result[:, y1:y2, x1:x2], resize(clip, y2 - y1, x2 - x1, "bilinear"))
    # And back again.
    back = affine.back().boxes(affine.boxes(BOX))
    assert back[0].tolist() == pytest.approx(BOX[0].tolist(), abs=1e-4)


def test_a_picture_of_the_same_aspect_has_no_bars():
    affine, inner = fitted((120, 200), (60, 100))
    assert affine == Affine((0.5, 0.5), (0, 0)) and inner == (60, 100)
    clip = torch.from_numpy(picture())
    assert torch.equal(letterbox(clip, (120, 200), (0, 0, 0))[0], clip)


def test_people_of_whom_little_is_left():
    boxes = np.array(
        [[10, 10, 20, 20], [-10, 0, 10, 10], [90, 90, 190, 100], [200, 0, 210, 10], [5, 5, 5, 9]],
        dtype=np.float32,
    )
    cut, share = visible(boxes, (100, 100))
    assert share.tolist() == pytest.approx([1, 0.5, 0.1, 0, 0])
    assert cut[:3].tolist() == [[10, 10, 20, 20], [0, 0, 10, 10], [90, 90, 100, 100]]
    assert cut[3].tolist() == [100, 0, 100, 10]  # at the border, without area: share 0 says so


def test_maps_in_a_row():
    first, second = Affine((2.0, 3.0), (1.0, -1.0)), Affine((-1.0, 0.5), (10.0, 2.0))
    apart = second.boxes(first.boxes(BOX))
    assert first.then(second).boxes(BOX).tolist() == apart.tolist()
    assert first.then(first.back()).boxes(BOX).tolist() == BOX.tolist()

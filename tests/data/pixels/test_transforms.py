from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vidinit.data.pixels.transforms import Augment, augment_clip, eval_crops
from vidinit.data.views import rng
from vidinit.errors import UsageError

EVERYTHING = {
    "randaug": "rand-m9-n4-p1-mstd0.5-inc1",
    "color_jitter": 0.4,
    "grayscale": 0.2,
    "erasing": 0.5,
}


def ramp(frames: int, height: int, width: int) -> np.ndarray:
    """Red rises to the right, green rises to the bottom, blue is the frame number."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    clip[..., 0] = np.linspace(0, 250, width, dtype=np.uint8)
    clip[..., 1] = np.linspace(0, 250, height, dtype=np.uint8)[:, None]
    clip[..., 2] = 10 * np.arange(frames, dtype=np.uint8)[:, None, None]
    return clip


def noise(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)


def train(clip: np.ndarray, index: int, *, size: int = 16, **options: object) -> Tensor:
    options = {"interpolation": "bilinear", **options}
    return augment_clip(clip, Augment(size, **options), rng(0, 0, index))[0]  # type: ignore[arg-type]


def test_clips_stay_bytes_with_channels_last_and_frames_are_treated_alike() -> None:
    out = train(ramp(3, 40, 60), 0)
    assert out.shape == (3, 16, 16, 3)
    assert out.dtype == torch.uint8
    assert out.is_contiguous()
    assert torch.equal(out[0, ..., :2], out[1, ..., :2])
    assert torch.equal(out[0, ..., :2], out[2, ..., :2])
    assert out[:, 0, 0, 2].tolist() == [0, 10, 20]


def test_the_crops_of_a_seed_never_change() -> None:
    # Red of the upper corners and green of the left ones as earlier versions gave them.
    expected = [(21, 76, 57, 153), (116, 210, 48, 214), (21, 186, 12, 244), (200, 83, 5, 225)]
    for index, corners in enumerate(expected):
        clip = train(ramp(1, 40, 60), index)
        assert clip.is_contiguous()  # a single frame too
        out = clip[0].int()
        found = (out[0, 0, 0], out[0, -1, 0], out[0, 0, 1], out[-1, 0, 1])
        assert tuple(map(int, found)) == corners


@pytest.mark.parametrize("options", [{}, {"jitter": (16, 24)}, EVERYTHING], ids=str)
def test_the_generator_decides_everything(options: dict) -> None:
    clip = noise(2, 40, 60)
    kept = clip.copy()
    assert torch.equal(train(clip, 0, **options), train(clip, 0, **options))
    assert not torch.equal(train(clip, 0, **options), train(clip, 1, **options))
    assert np.array_equal(clip, kept)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_a_still_clip_stays_still(mode: str) -> None:
    still = np.repeat(noise(1, 40, 60), 4, axis=0)
    for jitter in (None, (16, 30)):
        for index in range(40):
            out = train(still, index, interpolation=mode, jitter=jitter, **EVERYTHING)
            assert out.shape == (4, 16, 16, 3)
            assert out.is_contiguous() and out.dtype == torch.uint8
            assert (out == out[:1]).all()


def test_flip_mirrors_about_half_of_the_clips_and_nothing_else() -> None:
    clip = ramp(1, 40, 60)
    mirrored = 0
    for index in range(40):
        plain, flipped = train(clip, index, flip=False), train(clip, index)
        assert plain[0, 0, -1, 0] > plain[0, 0, 0, 0]
        if not torch.equal(plain, flipped):
            mirrored += 1
            assert torch.equal(plain.flip(2), flipped)
    assert 10 < mirrored < 30


def test_scale_and_ratio_bound_the_crop() -> None:
    clip = ramp(1, 60, 60)
    whole = train(clip, 0, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False)
    assert whole[..., 0].min() < 10 and whole[..., 0].max() > 240
    for index in range(20):
        quarter = train(clip, index, scale=(0.25, 0.25), ratio=(1.0, 1.0), flip=False)
        width = int(quarter[0, 0, -1, 0]) - int(quarter[0, 0, 0, 0])
        assert width == pytest.approx(250 / 2, abs=16)


@pytest.mark.parametrize(("height", "width"), [(20, 400), (400, 20)])
def test_extreme_shapes_fall_back_to_a_central_crop(height: int, width: int) -> None:
    out = train(ramp(1, height, width), 0, scale=(0.9, 1.0), flip=False).float()
    long_channel = 0 if width > height else 1
    assert float(out[..., long_channel].mean()) == pytest.approx(125, abs=3)
    assert float(out[..., long_channel].max() - out[..., long_channel].min()) < 25


def test_jitter_is_a_resize_of_the_short_side_and_a_crop() -> None:
    clip = ramp(1, 100, 150)
    spans, lefts = set(), set()
    for index in range(60):
        out = train(clip, index, size=50, jitter=(50, 100), flip=False)[0].float()
        # As much of the frame as 50 of 50 to 100 pixels show, the same both ways.
        down = float(out[-1, 0, 1] - out[0, 0, 1]) / 250 * 100
        right = float(out[0, -1, 0] - out[0, 0, 0]) / 250 * 150
        assert 46 < down < 101
        assert down == pytest.approx(right, abs=4)
        spans.add(round(down / 10))
        lefts.add(round(float(out[0, 0, 0]) / 25))
    assert spans == set(range(5, 11)) and len(lefts) > 4


def test_jitter_is_the_same_as_resizing_all_frames_before_the_crop() -> None:
    # 200 -> 100 is a half: a crop from an even place is cut exactly from the resized frame, up to
    # its outermost pixels.
    clip = noise(1, 200, 240)
    planes = torch.from_numpy(clip).permute(0, 3, 1, 2)
    whole = F.resize(planes, [100, 120], antialias=True)[0]
    places = whole.unfold(1, 56, 1).unfold(2, 56, 1)  # (3, 45, 65, 56, 56)
    exact = 0
    for index in range(16):
        out = train(clip, index, size=60, jitter=(100, 100), flip=False)[0, 2:-2, 2:-2]
        inner = out.permute(2, 0, 1)[:, None, None]
        exact += bool((places == inner).all(-1).all(-1).all(0).any())
    assert 1 <= exact < 12


def test_eval_resizes_as_torchvision_and_cuts_the_center() -> None:
    for height, width in [(90, 120), (120, 90), (64, 64), (75, 200)]:
        clip = noise(2, height, width)
        for mode in ("bicubic", "bilinear"):
            out = eval_crops(clip, size=48, crop_pct=0.75, interpolation=mode)  # type: ignore[arg-type]
            planes = torch.from_numpy(clip).permute(0, 3, 1, 2)
            whole = F.resize(planes, [64], F.InterpolationMode(mode), antialias=True)
            top, left = (round((side - 48) / 2) for side in whole.shape[-2:])
            expected = whole[..., top : top + 48, left : left + 48].permute(0, 2, 3, 1)
            assert out.dtype == torch.uint8
            assert torch.equal(out, expected[None])


def test_one_crop_is_the_center_of_the_larger_frame() -> None:
    # Short side 40 -> 16 / 0.8 = 20, then the middle 16 of 20 by 40: red spans 16/40 of its range.
    out = eval_crops(ramp(2, 40, 80), size=16, crop_pct=0.8, interpolation="bilinear")
    assert out.shape == (1, 2, 16, 16, 3)
    red, green = out[0, 0, 8, :, 0].float(), out[0, 0, :, 8, 1].float()
    assert float(red[0] + red[-1]) / 2 == pytest.approx(125, abs=2)
    assert float(red[-1] - red[0]) == pytest.approx(250 * 15 / 40, abs=3)
    assert float(green[-1] - green[0]) == pytest.approx(250 * 15 / 20, abs=6)


@pytest.mark.parametrize("portrait", [False, True])
def test_three_crops_cover_the_long_side(portrait: bool) -> None:
    clip = ramp(1, 80, 40) if portrait else ramp(1, 40, 80)
    out = eval_crops(clip, size=16, crops=3).float()
    assert out.shape == (3, 1, 16, 16, 3)
    along = out[..., 1 if portrait else 0].mean(dim=(1, 2, 3))
    assert along.tolist() == pytest.approx([62.5, 125, 187.5], abs=3)
    across = out[..., 0 if portrait else 1]
    assert torch.equal(across[0], across[2])


def test_frames_shrink_without_aliasing() -> None:
    lines = np.zeros((1, 64, 64, 3), np.uint8)
    lines[:, :, ::2] = 250
    whole = train(lines, 0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    center = eval_crops(lines, size=16)[0]
    for out in (whole, center):
        assert float((out.float() - 125).abs().max()) < 25


def test_frames_in_any_order_of_memory_are_taken() -> None:
    clip = noise(2, 40, 60)
    mirrored = clip[:, :, ::-1]
    assert torch.equal(train(mirrored, 0), train(mirrored.copy(), 0))
    assert torch.equal(eval_crops(mirrored, size=16), eval_crops(mirrored.copy(), size=16))


def test_other_numbers_of_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="crops is 1 or 3"):
        eval_crops(ramp(1, 20, 20), size=8, crops=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("jitter", [(200, 256), (300, 256), (256, 224)])
def test_a_short_side_below_the_crop_is_refused(jitter: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="short side cannot be between"):
        Augment(224, jitter=jitter)


def test_wrong_words_are_refused_before_any_clip() -> None:
    with pytest.raises(UsageError, match="unknown part 'w0'"):
        Augment(224, randaug="rand-m7-w0")

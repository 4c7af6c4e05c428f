from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vidinit.data.transforms import Pixels, eval_crops, train_transform
from vidinit.data.views import rng

RAW = Pixels(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), interpolation="bilinear")


def ramp(frames: int, height: int, width: int) -> np.ndarray:
    """Red rises to the right, green rises to the bottom, blue is the frame number."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    clip[..., 0] = np.linspace(0, 250, width, dtype=np.uint8)
    clip[..., 1] = np.linspace(0, 250, height, dtype=np.uint8)[:, None]
    clip[..., 2] = 10 * np.arange(frames, dtype=np.uint8)[:, None, None]
    return clip


def train(clip: np.ndarray, index: int, **options: object) -> Tensor:
    return train_transform(clip, size=16, pixels=RAW, generator=rng(0, 0, index), **options)  # type: ignore[arg-type]


def test_train_transform_treats_all_frames_alike() -> None:
    out = train(ramp(3, 40, 60), 0)
    assert out.shape == (3, 3, 16, 16)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert torch.equal(out[:2, 0], out[:2, 1])
    assert torch.equal(out[:2, 0], out[:2, 2])
    assert out[2, :, 0, 0].tolist() == pytest.approx([0, 10, 20], abs=1e-3)


def test_train_transform_depends_on_the_generator_only() -> None:
    clip = ramp(2, 40, 60)
    assert torch.equal(train(clip, 0), train(clip, 0))
    assert not torch.equal(train(clip, 0), train(clip, 1))


def test_flip_mirrors_about_half_of_the_clips_and_nothing_else() -> None:
    clip = ramp(1, 40, 60)
    mirrored = 0
    for index in range(40):
        plain, flipped = train(clip, index, flip=False), train(clip, index)
        assert plain[0, 0, 0, -1] > plain[0, 0, 0, 0]
        if not torch.equal(plain, flipped):
            mirrored += 1
            assert torch.equal(plain.flip(-1), flipped)
    assert 10 < mirrored < 30


def test_scale_and_ratio_bound_the_crop() -> None:
    clip = ramp(1, 60, 60)
    whole = train(clip, 0, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False)
    assert whole[0, 0, 0].min() < 10 and whole[0, 0, 0].max() > 240
    for index in range(20):
        quarter = train(clip, index, scale=(0.25, 0.25), ratio=(1.0, 1.0), flip=False)
        width = float(quarter[0, 0, 0, -1] - quarter[0, 0, 0, 0])
        assert width == pytest.approx(250 / 2, abs=16)


@pytest.mark.parametrize(("height", "width"), [(20, 400), (400, 20)])
def test_extreme_shapes_fall_back_to_a_central_crop(height: int, width: int) -> None:
    out = train(ramp(1, height, width), 0, scale=(0.9, 1.0), flip=False)
    long_channel = 0 if width > height else 1
    assert float(out[long_channel].mean()) == pytest.approx(125, abs=3)
    assert float(out[long_channel].max() - out[long_channel].min()) < 25


def test_normalization_uses_mean_and_std() -> None:
    pixels = Pixels(mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.1))
    white = np.full((1, 20, 20, 3), 255, np.uint8)
    out = eval_crops(white, size=8, pixels=pixels)
    assert out[0, :, 0, 4, 4].tolist() == pytest.approx([1.0, 2.4, 7.0], abs=1e-5)


def test_one_crop_is_the_center_of_the_larger_frame() -> None:
    # Short side 40 -> 16 / 0.8 = 20, then the middle 16 of 20 by 40: red spans 16/40 of its range.
    pixels = Pixels(RAW.mean, RAW.std, "bilinear", crop_pct=0.8)
    out = eval_crops(ramp(2, 40, 80), size=16, pixels=pixels)
    assert out.shape == (1, 3, 2, 16, 16)
    red, green = out[0, 0, 0, 8], out[0, 1, 0, :, 8]
    assert float(red[0] + red[-1]) / 2 == pytest.approx(125, abs=2)
    assert float(red[-1] - red[0]) == pytest.approx(250 * 15 / 40, abs=3)
    assert float(green[-1] - green[0]) == pytest.approx(250 * 15 / 20, abs=6)


@pytest.mark.parametrize("portrait", [False, True])
def test_three_crops_cover_the_long_side(portrait: bool) -> None:
    clip = ramp(1, 80, 40) if portrait else ramp(1, 40, 80)
    out = eval_crops(clip, size=16, pixels=RAW, crops=3)
    assert out.shape == (3, 3, 1, 16, 16)
    along = out[:, 1 if portrait else 0].mean(dim=(1, 2, 3))
    assert along.tolist() == pytest.approx([62.5, 125, 187.5], abs=3)
    across = out[:, 0 if portrait else 1]
    assert torch.equal(across[0], across[2])


def test_frames_shrink_without_aliasing() -> None:
    lines = np.zeros((1, 64, 64, 3), np.uint8)
    lines[:, :, ::2] = 250
    whole = train(lines, 0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    center = eval_crops(lines, size=16, pixels=RAW)[0]
    for out in (whole, center):
        assert float((out - 125).abs().max()) < 25


def test_other_numbers_of_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="crops is 1 or 3"):
        eval_crops(ramp(1, 20, 20), size=8, pixels=RAW, crops=5)  # type: ignore[arg-type]

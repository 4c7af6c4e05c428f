from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from timm.data.mixup import rand_bbox
from torch import Tensor

from vidinit.data.pixels.batch import mix, normalize
from vidinit.data.views import MIX, rng

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.manual_seed(0))


def test_normalize_is_the_formula() -> None:
    clip = pixels(2, 3, 16, 16, 3)
    out = normalize(clip, MEAN, STD)
    assert out.dtype == torch.float32
    assert out.shape == (2, 3, 3, 16, 16)
    exact = (clip.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    assert float((out - exact.permute(0, 4, 1, 2, 3)).abs().max()) < 1e-6
    # The arithmetic of clips that were normalized one by one, to the last bit.
    planes = clip.permute(0, 4, 1, 2, 3).contiguous().float()
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
    assert torch.equal(out, planes.sub_(mean).div_(std))


def test_normalize_takes_any_leading_dimensions_and_keeps_the_order_of_memory() -> None:
    clip = pixels(2, 5, 4, 8, 6, 3)
    before = clip.clone()
    out = normalize(clip, MEAN, STD)
    assert out.shape == (2, 5, 3, 4, 8, 6)
    assert torch.equal(out[1, 2], normalize(clip[1, 2], MEAN, STD))
    assert torch.equal(clip, before)
    assert out[0].is_contiguous(memory_format=torch.channels_last_3d)
    folded = out[0].transpose(1, 2).flatten(0, 1)
    assert folded.data_ptr() == out.data_ptr()
    assert folded.is_contiguous(memory_format=torch.channels_last)


def test_normalize_takes_views() -> None:
    wide = pixels(2, 3, 20, 20, 3)
    crop = wide[:, :, 2:10, 4:12]
    assert torch.equal(normalize(crop, MEAN, STD), normalize(crop.contiguous(), MEAN, STD))


def test_a_network_of_bgr_gets_the_same_colors_in_reverse_order() -> None:
    clip = pixels(2, 3, 16, 16, 3)
    out = normalize(clip, MEAN, STD, bgr=True)
    assert torch.equal(out, normalize(clip, MEAN, STD).flip(1))
    assert out.is_contiguous(memory_format=torch.channels_last_3d)


def batch(size: int = 4, *, channels_last: bool = False) -> tuple[Tensor, Tensor]:
    """Clip i is i + 1 everywhere, and of class i."""
    clip = torch.arange(1.0, size + 1).view(size, 1, 1, 1, 1).expand(size, 3, 4, 20, 30)
    order = torch.channels_last_3d if channels_last else torch.contiguous_format
    return clip.contiguous(memory_format=order), torch.eye(size)


def test_mixup_is_its_formula() -> None:
    clip = torch.randn(4, 3, 2, 6, 6, generator=torch.manual_seed(0))
    target = torch.eye(4)
    mixed, shares = mix(clip, target, mixup=0.8, cutmix=0, generator=rng(0, 0, 0))
    lam = rng(0, 0, 0).beta(0.8, 0.8)
    assert torch.allclose(mixed, lam * clip + (1 - lam) * clip.flip(0), atol=1e-6)
    assert torch.allclose(shares, lam * target + (1 - lam) * target.flip(0), atol=1e-7)
    assert 0.01 < lam < 0.99


def test_cutmix_pastes_the_share_of_its_target_at_one_place_in_all_frames() -> None:
    clip, target = batch()
    areas = []
    for index in range(30):
        mixed, shares = mix(clip, target, mixup=0, cutmix=1.0, generator=rng(0, 0, index))
        pasted = mixed != clip
        areas.append(int(pasted[0, 0, 0].sum()))
        for i in range(4):
            assert torch.equal(pasted[i], pasted[0, :1, :1].expand(3, 4, 20, 30))
            assert (mixed[i][pasted[i]] == 4 - i).all()
            assert shares[i, i] == np.float32(1 - areas[-1] / 600)
            assert shares[i, 3 - i] == np.float32(1 - (1 - areas[-1] / 600))
        rows, columns = pasted[0, 0, 0].any(1), pasted[0, 0, 0].any(0)
        assert areas[-1] == rows.sum() * columns.sum()  # a box, and nothing beside it
    assert min(areas) < 60 and max(areas) > 300


def test_cutmix_draws_the_box_of_timm() -> None:
    clip, target = batch()
    for index in range(20):
        mixed, _ = mix(clip, target, mixup=0, cutmix=1.0, generator=rng(0, 0, index))
        generator = rng(0, 0, index)
        lam = generator.beta(1.0, 1.0)
        with mock.patch("numpy.random.randint", lambda low, high, size: generator.integers(high)):  # noqa: B023
            top, bottom, left, right = rand_bbox(clip.shape, lam)
        expected = torch.zeros(20, 30, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert torch.equal(mixed[0, 1, 2] != clip[0, 1, 2], expected)


def test_with_both_on_half_of_the_batches_get_each() -> None:
    clip, target = batch()
    pasted = 0
    for index in range(100):
        mixed, _ = mix(clip, target, mixup=0.8, cutmix=1.0, generator=rng(0, 0, index, stream=MIX))
        pasted += bool(((mixed[0] == 1) | (mixed[0] == 4)).all())
    assert 35 < pasted < 65


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_targets_sum_to_one_and_nothing_else_draws(size: int, mixup: float, cutmix: float) -> None:
    clip, target = batch(size, channels_last=True)
    kept, kept_target = clip.clone(), target.clone()
    for index in range(5):
        both = [
            mix(clip, target, mixup=mixup, cutmix=cutmix, generator=rng(3, 1, index))
            for _ in range(2)
        ]
        assert all(torch.equal(first, second) for first, second in zip(*both, strict=True))
        mixed, shares = both[0]
        assert torch.allclose(shares.sum(1), torch.ones(size), atol=1e-6)
        assert mixed.is_contiguous(memory_format=torch.channels_last_3d)
        if size % 2:  # the clip in the middle meets itself
            assert torch.allclose(mixed[size // 2], clip[size // 2])
            assert torch.allclose(shares[size // 2], target[size // 2])
    assert torch.equal(clip, kept) and torch.equal(target, kept_target)


def test_off_changes_nothing_and_draws_nothing() -> None:
    clip, target = batch()
    generator = rng(0, 0, 0)
    mixed, shares = mix(clip, target, mixup=0.0, cutmix=0.0, generator=generator)
    assert mixed is clip and shares is target
    assert generator.random() == rng(0, 0, 0).random()

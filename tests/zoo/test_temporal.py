"""The STS operator against the golden values and properties of the paper's public code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidinit.zoo.folding import FrameCount, depthwise_conv3d, fold, same_pads, unfold
from vidinit.zoo.sts import check_sts, sts_split
from vidinit.zoo.temporal import (
    TemporalConv,
    VolumeConv,
    VolumePool,
    sts_conv,
)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def counting(*shape: int) -> Tensor:
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)


def test_golden_temporal():
    out = sts_conv(counting(1, 1, 2, 2, 2), counting(4, 1, 3, 1, 1))
    assert out.flatten(2)[0].tolist() == [
        [8, 14, 20, 11, 28, 38, 44, 23],
        [23, 46, 31, 28, 67, 106, 91, 64],
        [53, 70, 87, 104, 47, 62, 77, 92],
        [71, 94, 117, 140, 65, 86, 107, 128],
    ]


def test_golden_depthwise():
    out = sts_conv(counting(1, 2, 1, 2, 2), counting(2, 1, 3, 3, 3), groups=2)
    assert out.flatten(2)[0].tolist() == [[486, 446, 426, 386], [1125, 1099, 1047, 1021]]


def test_golden_depthwise_strided():
    out = sts_conv(counting(1, 2, 1, 4, 4), counting(2, 1, 3, 3, 3), groups=2, stride=2)
    assert out.flatten(2)[0].tolist() == [[1112, 2458, 2820, 3714], [3367, 5377, 6399, 10041]]


def test_strided_row_scan_samples_other_pixels_than_the_kernel():
    # The released models were trained with this misalignment.
    weight = torch.zeros(2, 1, 3, 3, 3)
    weight[0, 0, 0, 1, 1] = 1
    x = torch.arange(64.0).view(1, 1, 1, 8, 8).repeat(1, 2, 1, 1, 1)
    out = sts_conv(x, weight, groups=2, stride=2)
    pixels = [divmod(int(v), 8) for v in out[0, 0, 0, 0]]
    assert pixels == [(0, 0), (0, 4), (1, 0), (1, 4)]


def test_impulse_support_wraps_around_row_ends():
    x = torch.zeros(1, 1, 1, 4, 4)
    x[..., 2, 0] = 1
    out = sts_conv(x, torch.ones(4, 1, 3, 1, 1))
    support = [sorted(map(tuple, out[0, c, 0].nonzero().tolist())) for c in (0, 1)]
    assert support == [[(1, 3), (2, 0), (2, 1)], [(1, 0), (2, 0), (3, 0)]]


def random_case(kind: str, frames: int = 4) -> tuple[Tensor, Tensor, dict]:
    if kind == "temporal":
        return torch.randn(2, 6, frames, 6, 4), torch.randn(10, 6, 3, 1, 1), {}
    stride = 2 if kind == "strided" else 1
    return (
        torch.randn(2, 6, frames, 6, 8),
        torch.randn(6, 1, 3, 3, 3),
        dict(groups=6, stride=stride),
    )


def plain(x: Tensor, w: Tensor, groups: int = 1, stride: int = 1) -> Tensor:
    pad = [k // 2 for k in w.shape[2:]]
    return F.conv3d(x, w, stride=(1, stride, stride), padding=pad, groups=groups)


KINDS = ["temporal", "depthwise", "strided"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_side_taps_it_is_a_plain_convolution(kind):
    x, w, how = random_case(kind)
    with_sides = w.clone()
    w[:, :, [0, 2]] = 0
    assert (sts_conv(x, w, **how) - plain(x, w, **how)).abs().max() < 1e-12
    assert (sts_conv(x, with_sides, **how) - plain(x, with_sides, **how)).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_still_clip(kind):
    x, w, how = random_case(kind)
    still = x[:, :, :1].expand_as(x)
    out = sts_conv(still, w, **how)
    image = sts_conv(x[:, :, :1], w, **how)
    half = (w.shape[0] + 1) // 2
    # The static half is constant in time and equal to the one-frame output.
    assert (out[:, :half] - image[:, :half]).abs().max() < 1e-12
    # The dynamic half sees the sum of taps inside, two of them at the first frame.
    if kind == "temporal":
        for t, taps in ((1, [0, 1, 2]), (0, [1, 2]), (3, [0, 1])):
            want = F.conv2d(still[:, :, 0], w[half:, :, taps].sum(2))
            assert (out[:, half:, t] - want).abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_frame_permutation(kind):
    x, w, how = random_case(kind)
    order = torch.tensor([2, 0, 3, 1])
    half = (w.shape[0] + 1) // 2
    a, b = sts_conv(x, w, **how)[:, :, order], sts_conv(x[:, :, order], w, **how)
    assert (a[:, :half] - b[:, :half]).abs().max() < 1e-12
    assert (a[:, half:] - b[:, half:]).abs().max() > 0.1


def test_transposing_space_swaps_the_scans():
    x, w = torch.randn(1, 3, 2, 5, 4), torch.randn(8, 3, 3, 1, 1)
    swapped = torch.cat([w[2:4], w[:2], w[4:]])
    a = sts_conv(x, w)
    b = sts_conv(x.transpose(3, 4), swapped).transpose(3, 4)
    assert torch.equal(a[:, :2], b[:, 2:4])
    assert torch.equal(a[:, 2:4], b[:, :2])


def test_gradients_of_side_taps_at_one_frame():
    x, w, _ = random_case("temporal", frames=1)
    w.requires_grad_()
    sts_conv(x, w).square().sum().backward()
    half = w.shape[0] // 2
    sides = w.grad[:, :, [0, 2]]
    assert (sides[:half].abs().amax(dim=(1, 2)) > 0).all()
    assert (sides[half:] == 0).all()
    v = w.detach().clone().requires_grad_()
    plain(x, v).square().sum().backward()
    assert (v.grad[:, :, [0, 2]] == 0).all()
    assert (v.grad[:, :, 1] != 0).all()


@pytest.mark.parametrize(
    ("x", "w", "how"),
    [
        ((1, 2, 2, 7, 7), (2, 1, 3, 3, 3), dict(groups=2, stride=2)),
        ((1, 2, 2, 8, 7), (2, 1, 3, 3, 3), dict(groups=2, stride=2)),
        ((1, 2, 2, 7, 8), (2, 1, 3, 3, 3), dict(groups=2, stride=2)),
        ((1, 3, 2, 8, 8), (3, 1, 3, 3, 3), dict(groups=3)),
        ((1, 2, 2, 8, 8), (2, 1, 3, 3, 3), dict(groups=2, stride=(2, 1, 1))),
        ((1, 4, 2, 8, 8), (4, 4, 3, 3, 3), dict(groups=1)),
        ((1, 4, 2, 8, 8), (4, 1, 3, 1, 1), dict(groups=4)),
        ((1, 2, 2, 8, 8), (2, 1, 3, 5, 5), dict(groups=2)),
        ((1, 2, 2, 8, 8), (2, 1, 5, 3, 3), dict(groups=2)),
        ((1, 2, 2, 8, 8), (2, 2, 3, 1, 1), dict()),
    ],
)
def test_undefined_cases_are_refused(x, w, how):
    with pytest.raises(ValueError, match="STS"):
        sts_conv(torch.zeros(x), torch.zeros(w), **how)


@pytest.mark.parametrize("size", [(6, 6), (10, 6), (14, 14)])
def test_sizes_that_the_stride_divides(size):
    out = sts_conv(torch.zeros(1, 2, 2, *size), torch.zeros(2, 1, 3, 3, 3), groups=2, stride=2)
    assert out.shape == (1, 2, 2, size[0] // 2, size[1] // 2)


def test_split_gives_the_larger_part_first():
    assert [sts_split(n) for n in (8, 6, 7, 10)] == [(2, 2, 4), (2, 1, 3), (2, 2, 3), (3, 2, 5)]


def test_check_sts_says_why():
    assert check_sts(4, (3, 3, 3), 4) == ""
    assert "3x5x5" in check_sts(4, (3, 5, 5), 4)
    assert "halved" in check_sts(5, (3, 3, 3), 5)


# ------------------------------------------------------------------ layers against nn.Conv3d


def test_fold_and_unfold_are_inverse():
    x = torch.randn(2, 3, 4, 5, 6)
    assert fold(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unfold(fold(x), 4), x)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("stride", [1, 2])
def test_temporal_conv_equals_conv3d(groups, stride):
    x = torch.randn(2, 6, 5, 4, 3, requires_grad=True)
    layer = TemporalConv(6, 6, 3, FrameCount(5), groups=groups, stride=stride)
    want = F.conv3d(
        x, layer.weight.unsqueeze(-1), stride=(stride, 1, 1), padding=(1, 0, 0), groups=groups
    )
    got = unfold(layer(fold(x)), want.shape[2])
    assert (got - want).abs().max() < 1e-12
    a = torch.autograd.grad(got.square().sum(), [x, layer.weight])
    b = torch.autograd.grad(want.square().sum(), [x, layer.weight])
    assert all((i - j).abs().max() < 1e-10 for i, j in zip(a, b, strict=True))


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_volume_conv_equals_conv3d(groups, stride, frames):
    source = nn.Conv2d(6, 6, 3, stride=stride, padding=1, groups=groups, bias=True)
    layer = VolumeConv.of(source, 3, FrameCount(frames))
    layer.bias.data.normal_()
    x = torch.randn(2, 6, frames, 7, 6, requires_grad=True)
    want = F.conv3d(
        x, layer.weight, layer.bias, stride=(1, stride, stride), padding=1, groups=groups
    )
    got = unfold(layer(fold(x)), frames)
    assert (got - want).abs().max() < 1e-12
    with torch.no_grad():  # another way through depthwise kernels
        assert (unfold(layer(fold(x)), frames) - want).abs().max() < 1e-12
    a = torch.autograd.grad(got.square().sum(), [x, layer.weight])
    b = torch.autograd.grad(want.square().sum(), [x, layer.weight])
    assert all((i - j).abs().max() < 1e-9 for i, j in zip(a, b, strict=True))


def test_volume_conv_sts_switch_keeps_the_weight():
    source = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    sts, twin = (VolumeConv.of(source, 3, FrameCount(2), sts=on) for on in (True, False))
    twin.load_state_dict(sts.state_dict())
    x = torch.randn(1, 4, 2, 6, 6)
    assert (unfold(sts(fold(x)), 2) - sts_conv(x, sts.weight, groups=4)).abs().max() < 1e-12
    assert (sts(fold(x)) - twin(fold(x))).abs().max() > 0.01


def test_volume_conv_takes_channels_last_and_types():
    layer = VolumeConv.of(nn.Conv2d(4, 4, 3, groups=4), 3, FrameCount())
    before = layer.weight.detach().clone()
    layer.to(memory_format=torch.channels_last).to(torch.float32)
    assert layer.weight.shape == before.shape
    assert torch.equal(layer.weight, before.float())


def test_same_padding_follows_tensorflow():
    from timm.layers import Conv2dSame

    source = Conv2dSame(4, 4, 3, stride=2, groups=4, bias=False)
    layer = VolumeConv.of(source, 3, FrameCount(3))
    layer.weight.data.zero_()
    layer.weight.data[:, :, 1] = source.weight.data
    for size in ((8, 8), (7, 9), (6, 5)):
        x = torch.randn(3, 4, *size)
        assert (layer(x) - source(x)).abs().max() < 1e-12
    assert same_pads(8, 8, (3, 3), (2, 2)) == (0, 1, 0, 1)


def test_depthwise_of_a_clip_shorter_than_the_kernel():
    x, w = torch.randn(1, 2, 2, 5, 5), torch.randn(2, 1, 5, 3, 3)
    want = F.conv3d(x, w, padding=(2, 1, 1), groups=2)
    got = unfold(depthwise_conv3d(fold(x), w, 2, (1, 1), (1, 1, 1, 1), 2), 2)
    assert (got - want).abs().max() < 1e-12


def test_temporal_pool_halves_the_shared_count():
    frames = FrameCount(5)
    x = torch.randn(2, 3, 5, 4, 4)
    out = VolumePool((2, 1), (2, 1), frames)(fold(x))
    assert frames.value == 2
    assert torch.equal(unfold(out, 2), F.max_pool3d(x, (2, 1, 1)))
    frames.value = 1
    assert VolumePool((2, 1), (2, 1), frames)(out) is out

"""Temporal layers against torch's 3-D operators: strides, paddings, pools, shift, gate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidinit.zoo.folding import (
    FrameCount,
    depthwise_conv3d,
    fold,
    same_axis_pads,
    same_pads,
    unfold,
)
from vidinit.zoo.temporal import (
    SelfGating,
    TemporalConv,
    TemporalShift,
    VolumeConv,
    VolumePool,
    sts_conv,
)

pytestmark = pytest.mark.usefixtures("float64")


def padded(x: torch.Tensor, padding: str, kernel: tuple, stride: tuple, space: int) -> torch.Tensor:
    """The clip as F.conv3d without padding wants it."""
    taps, c = kernel[0], kernel[0] // 2
    if padding == "same":
        sides = same_pads(x.shape[3], x.shape[4], kernel[1:], (stride[1], stride[1]))
        return F.pad(x, (*sides, *same_axis_pads(x.shape[2], taps, stride[0])))
    x = F.pad(x, (space, space, space, space, 0, 0))
    if padding == "replicate":
        return F.pad(x, (0, 0, 0, 0, c, c), mode="replicate")
    return F.pad(x, (0, 0, 0, 0, c, c))


def check_conv3d(layer, x: torch.Tensor, weight: torch.Tensor, clip: torch.Tensor, stride) -> None:
    """The layer on x is F.conv3d on the padded clip, with all gradients."""
    want = F.conv3d(clip, weight, layer.bias, stride, groups=layer.groups)
    got = unfold(layer(fold(x)), want.shape[2])
    assert got.shape == want.shape
    assert (got - want).abs().max() < 1e-12
    with torch.no_grad():  # where no gradient is wanted, depthwise kernels run in another way
        assert (unfold(layer(fold(x)), want.shape[2]) - want).abs().max() < 1e-12
    leaves = (x, layer.weight, layer.bias)
    a, b = (torch.autograd.grad(out.square().sum(), leaves) for out in (got, want))
    assert all((i - j).abs().max() < 1e-9 for i, j in zip(a, b, strict=True))


@pytest.mark.parametrize("padding", ["zeros", "replicate", "same"])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_temporal_conv_equals_conv3d(padding, step, frames, groups):
    layer = TemporalConv(
        4, 4, 3, FrameCount(frames), stride=step, groups=groups, bias=True, time_padding=padding
    )
    x = torch.randn(2, 4, frames, 3, 5, requires_grad=True)
    clip = padded(x, padding, (3, 1, 1), (step, 1), 0)
    check_conv3d(layer, x, layer.weight.unsqueeze(-1), clip, (step, 1, 1))


@pytest.mark.parametrize("padding", ["zeros", "replicate", "same"])
@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 2), (4, 1)])
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_volume_conv_equals_conv3d(padding, stride, frames, groups):
    layer = VolumeConv(
        *(4, 4, (3, 3, 3), FrameCount(frames)),
        stride=stride,
        groups=groups,
        bias=True,
        time_padding=padding,
    )
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, frames, 6, 7, requires_grad=True)
    clip = padded(x, padding, (3, 3, 3), stride, 1)
    check_conv3d(layer, x, layer.weight, clip, (stride[0], stride[1], stride[1]))


@pytest.mark.parametrize("frames", [4, 5, 6, 7, 8])
def test_seven_taps_learn_on_short_clips(frames):
    # torch 2.15's own weight gradient ends the process at 5 frames and is wrong at 6 and 7.
    layer = VolumeConv(3, 16, (7, 7, 7), FrameCount(frames), stride=(2, 2)).float()
    x = torch.randn(1, 3, frames, 16, 16, dtype=torch.float32)
    layer(fold(x)).square().sum().backward()
    weight = layer.weight.detach().double().requires_grad_()
    want = F.conv3d(F.pad(x.double(), (3,) * 6), weight, stride=2).square().sum()
    (grad,) = torch.autograd.grad(want, weight)
    assert (layer.weight.grad - grad).abs().max() < 1e-5 * grad.abs().max()


def test_mean_taps_with_replicate_padding_keep_a_still_clip():
    image = torch.randn(1, 4, 1, 5, 5)
    clip = image.expand(-1, -1, 6, -1, -1)
    kernel = torch.randn(4, 4, 3, 3)
    layer = VolumeConv(4, 4, (3, 3, 3), FrameCount(6), time_padding="replicate")
    layer.weight.data.copy_(kernel.unsqueeze(2).expand(-1, -1, 3, -1, -1) / 3)
    want = F.conv2d(image[:, :, 0], kernel, padding=1)
    assert (unfold(layer(fold(clip)), 6) - want.unsqueeze(2)).abs().max() < 1e-12


@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (2, 2, 0), (3, 2, None), (2, 2, None)]
)
def test_volume_pool_equals_max_pool3d(frames, kernel, stride, padding):
    x = torch.randn(2, 3, frames, 7, 8)
    count = FrameCount(frames)
    pads = None if padding is None else (padding, padding)
    out = VolumePool((kernel, kernel), (stride, stride), count, padding=pads)(fold(x))
    if padding is None:
        sides = same_pads(7, 8, (kernel, kernel), (stride, stride))
        pads = (*sides, *same_axis_pads(frames, kernel, stride))
        want = F.max_pool3d(F.pad(x, pads, value=-1e9), kernel, stride)
    elif frames < kernel and not padding:
        want = F.max_pool3d(x, (1, kernel, kernel), (1, stride, stride))  # an image passes
    else:
        want = F.max_pool3d(x, kernel, stride, padding)
    assert count.value == want.shape[2]
    assert torch.equal(unfold(out, count.value), want)


def test_shift_moves_the_first_eighths():
    x = torch.randn(2, 16, 3, 2, 2)
    out = unfold(TemporalShift(FrameCount(3))(fold(x)), 3)
    assert torch.equal(out[:, :2, :-1], x[:, :2, 1:]) and (out[:, :2, -1] == 0).all()
    assert torch.equal(out[:, 2:4, 1:], x[:, 2:4, :-1]) and (out[:, 2:4, 0] == 0).all()
    assert torch.equal(out[:, 4:], x[:, 4:])


def test_gate_is_one_number_per_clip_and_channel():
    gate = SelfGating(4, FrameCount(3), bias=True)
    gate.fc.weight.data.normal_()
    x = torch.randn(2, 4, 3, 2, 5)
    want = torch.sigmoid(gate.fc(x.mean(dim=(2, 3, 4))))[:, :, None, None, None] * x
    assert (unfold(gate(fold(x)), 3) - want).abs().max() < 1e-12
    nn.init.zeros_(gate.fc.weight)
    assert torch.equal(unfold(gate(fold(x)), 3), x / 2)


def test_sts_is_refused_where_it_is_not_defined():
    with pytest.raises(ValueError, match="time stride"):
        TemporalConv(4, 4, 3, FrameCount(), stride=2, sts=True)
    with pytest.raises(ValueError, match="depthwise"):
        VolumeConv(4, 4, (3, 3, 3), FrameCount(), sts=True)


def test_fold_and_unfold_are_inverse():
    x = torch.randn(2, 3, 4, 5, 6)
    assert fold(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unfold(fold(x), 4), x)


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

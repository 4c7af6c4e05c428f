"""Temporal layers against torch's 3-D operators: strides, paddings, pools, shift, gate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidinit.zoo.folding import FrameCount, fold, same_pads, same_time_pads, unfold
from vidinit.zoo.temporal import (
    SelfGating,
    TemporalConv,
    TemporalShift,
    VolumeConv,
    VolumePool,
    sts_conv,
)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def padded(x: torch.Tensor, padding: str, kernel: tuple, stride: tuple, space: int) -> torch.Tensor:
    """The clip as F.conv3d without padding wants it."""
    taps, c = kernel[0], kernel[0] // 2
    if padding == "same":
        sides = same_pads(x.shape[3], x.shape[4], kernel[1:], (stride[1], stride[1]))
        return F.pad(x, (*sides, *same_time_pads(x.shape[2], taps, stride[0])))
    x = F.pad(x, (space, space, space, space, 0, 0))
    if padding == "replicate":
        return F.pad(x, (0, 0, 0, 0, c, c), mode="replicate")
    return F.pad(x, (0, 0, 0, 0, c, c))


@pytest.mark.parametrize("padding", ["zeros", "replicate", "same"])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@pytest.mark.parametrize("groups", [1, 4])
def test_temporal_conv_equals_conv3d(padding, step, frames, groups):
    layer = TemporalConv(
        4, 4, 3, FrameCount(frames), stride=step, groups=groups, bias=True, time_padding=padding
    )
    x = torch.randn(2, 4, frames, 3, 5)
    weight = layer.weight.unsqueeze(-1)
    want = F.conv3d(
        padded(x, padding, (3, 1, 1), (step, 1), 0), weight, layer.bias, (step, 1, 1), groups=groups
    )
    got = unfold(layer(fold(x)), -(-frames // step))
    assert got.shape == want.shape
    assert (got - want).abs().max() < 1e-12


@pytest.mark.parametrize("padding", ["zeros", "replicate", "same"])
@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 2), (4, 1)])
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_volume_conv_equals_conv3d_with_gradients(padding, stride, frames, groups):
    layer = VolumeConv(
        4, 4, (3, 3, 3), FrameCount(frames), stride=stride, groups=groups, time_padding=padding
    )
    x = torch.randn(2, 4, frames, 6, 7, requires_grad=True)
    step = (stride[0], stride[1], stride[1])
    want = F.conv3d(
        padded(x, padding, (3, 3, 3), stride, 1), layer.weight, None, step, groups=groups
    )
    wanted = torch.autograd.grad(want.square().sum(), (x, layer.weight))
    got = unfold(layer(fold(x)), -(-frames // stride[0]))
    gotten = torch.autograd.grad(got.square().sum(), (x, layer.weight))
    assert (got - want).abs().max() < 1e-12
    with torch.no_grad():  # another kernel does it where no gradient is wanted
        assert (unfold(layer(fold(x)), got.shape[2]) - want).abs().max() < 1e-12
    for a, b in zip(gotten, wanted, strict=True):
        assert (a - b).abs().max() < 1e-10


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
        pads = (*sides, *same_time_pads(frames, kernel, stride))
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


def test_aligned_scans_lie_under_the_kernel():
    """Without a stride both forms are one; with one, each sample is the strideless scan's."""
    w = torch.randn(4, 1, 3, 3, 3)
    x = torch.randn(1, 4, 2, 6, 6)
    still = torch.cat([w[:2], torch.zeros_like(w[2:])])
    full = sts_conv(x, still, groups=4)
    assert torch.equal(sts_conv(x, still, groups=4, aligned=True), full)
    strided = sts_conv(x, still, groups=4, stride=2, aligned=True)
    assert (strided - full[..., ::2, ::2]).abs().max() < 1e-12
    assert (sts_conv(x, still, groups=4, stride=2) - strided).abs().max() > 1e-2
    odd = torch.randn(1, 4, 2, 7, 7)
    assert sts_conv(odd, w, groups=4, stride=2, aligned=True).shape == (1, 4, 2, 4, 4)
    with pytest.raises(ValueError, match="aligned"):
        sts_conv(odd, w, groups=4, stride=2)


def test_sts_is_refused_where_it_is_not_defined():
    with pytest.raises(ValueError, match="time stride"):
        TemporalConv(4, 4, 3, FrameCount(), stride=2, sts=True)
    with pytest.raises(ValueError, match="depthwise"):
        VolumeConv(4, 4, (3, 3, 3), FrameCount(), sts=True)

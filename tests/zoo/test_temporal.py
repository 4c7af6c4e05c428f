"""The STS operator against the golden values and properties of the paper's public code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidinit.zoo.sts import check_sts, sts_split, sts_temporal
from vidinit.zoo.temporal import sts_conv

pytestmark = pytest.mark.usefixtures("float64")


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


def test_split_gives_the_larger_part_first():
    assert [sts_split(n) for n in (8, 6, 7, 10)] == [(2, 2, 4), (2, 1, 3), (2, 2, 3), (3, 2, 5)]


def test_check_sts_says_why():
    assert check_sts(4, (3, 3, 3), 4) == ""
    assert "3x5x5" in check_sts(4, (3, 5, 5), 4)
    assert "halved" in check_sts(5, (3, 3, 3), 5)


def test_tiny_maps_on_one_thread_have_gradients():
    """Torch has a kernel of its own for these, which is picky about strides."""
    found, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for layout in (torch.contiguous_format, torch.channels_last):
            made = torch.Generator().manual_seed(0)
            x = torch.randn(1, 16, 2, 2, generator=made, dtype=torch.float32)
            weight = torch.randn(32, 16, 3, 1, generator=made, dtype=torch.float32)
            x = x.contiguous(memory_format=layout).requires_grad_()
            weight = weight.contiguous(memory_format=layout).requires_grad_()
            sts_temporal(x, weight, 1).square().sum().backward()
            found.append((x.grad, weight.grad))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-4)

"""The Inception family with other nets' weights: torchvision's S3D, plain I3D, GoogLeNet."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from support import shake_norms
from torch import nn
from zoo_support import check_gradients, check_logits, take_weights

from vidinit.conversion.table import transfer
from vidinit.zoo.families.inception3d import Inception3D, Settings, Unit, inception3d
from vidinit.zoo.folding import FrameCount, fold, unfold
from vidinit.zoo.temporal import VolumeConv


def enliven(model: nn.Module) -> nn.Module:
    """Weights under which the logits depend on the pixels, and norms that have seen something.

    With the default initialization the input fades out, and any two trunks look alike.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, VolumeConv)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    shake_norms(model)
    return model.eval()


def two_clips(*shape: int) -> torch.Tensor:
    """Grain on two grounds: (2, 3, ...). Grain alone averages out on large clips."""
    return torch.randn(2, 3, *shape) + torch.randn(2, 3, *[1] * len(shape))


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Logits of two clips that are equal between the nets, but not between the clips."""
    assert a.shape == b.shape
    assert (b[0] - b[1]).abs().max() > 5e-2 * b.abs().max(), "the clips must matter"
    assert (a - b).abs().max() < 1e-5 * b.abs().max()


def s3d_twins(window: int) -> tuple[Inception3D, nn.Module]:
    theirs = enliven(torchvision.models.video.s3d(num_classes=12))
    theirs.avgpool = nn.AvgPool3d((2, window, window), stride=1)
    ours = inception3d(12, window=window).eval()
    take_weights(ours, theirs)
    return ours, theirs


def test_s3d_equals_torchvision():
    """On small clips, for which both heads get a window of 3."""
    ours, theirs = s3d_twins(window=3)
    with torch.no_grad():
        for frames, height, width in ((15, 128, 112), (14, 96, 96)):
            x = two_clips(frames, height, width)
            assert_close(ours(x), theirs(x))


def test_gradients_equal_torchvisions():
    ours, theirs = (model.double() for model in s3d_twins(window=1))
    x = two_clips(14, 48, 40).double()
    check_logits(ours, theirs, x, 1e-12)
    check_gradients(ours, theirs, x, 1e-9)


@pytest.mark.slow
def test_s3d_equals_torchvision_at_full_size():
    ours, theirs = s3d_twins(window=7)
    with torch.no_grad():
        for frames, side in ((14, 224), (15, 224), (16, 256)):
            x = two_clips(frames, side, side)
            assert_close(ours(x), theirs(x))


def reference_i3d(
    state: dict[str, torch.Tensor], x: torch.Tensor, *, same: bool, window: int
) -> torch.Tensor:
    """I3D in plain 3-D operators; ``same`` pads convolutions and pools with TensorFlow's zeros."""

    def pad(x: torch.Tensor, kernel: tuple[int, ...], step: tuple[int, ...]) -> torch.Tensor:
        sides: list[int] = []
        for size, k, s in zip(x.shape[2:], kernel, step, strict=True):
            total = max(k - (s if size % s == 0 else size % s), 0)
            sides = [total // 2, total - total // 2, *sides]
        return F.pad(x, sides)

    def unit(x: torch.Tensor, name: str, step: int = 1) -> torch.Tensor:
        weight = state[f"{name}.conv.weight"]
        weight = weight if weight.dim() == 5 else weight.unsqueeze(2)
        k = weight.shape[-1]
        x = pad(x, (k,) * 3, (step,) * 3) if same else F.pad(x, (k // 2,) * 6)
        names = ("running_mean", "running_var", "weight", "bias")
        norm = [state[f"{name}.bn.{part}"] for part in names]
        return F.relu(F.batch_norm(F.conv3d(x, weight, stride=step), *norm, eps=1e-3))

    def pool(x: torch.Tensor, kernel: tuple[int, ...], step: tuple[int, ...]) -> torch.Tensor:
        if same:  # what is pooled comes from a ReLU, so zeros do not win
            return F.max_pool3d(pad(x, kernel, step), kernel, step)
        pads = tuple(k // 2 if k == 3 else 0 for k in kernel)
        return F.max_pool3d(x, kernel, step, pads)

    def mixed(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = [unit(x, f"{name}.b0")]
        parts += [unit(unit(x, f"{name}.b{i}a"), f"{name}.b{i}b") for i in (1, 2)]
        return torch.cat([*parts, unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b")], 1)

    x = pool(unit(x, "conv1a", 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "conv2b"), "conv2c"), (1, 3, 3), (1, 2, 2))
    x = pool(mixed(mixed(x, "mixed3b"), "mixed3c"), (3, 3, 3), (2, 2, 2))
    for letter in "bcdef":
        x = mixed(x, f"mixed4{letter}")
    x = mixed(mixed(pool(x, (2, 2, 2), (2, 2, 2)), "mixed5b"), "mixed5c")
    x = F.avg_pool3d(x, (2, window, window), stride=1)
    scores = F.conv3d(x, state["head.weight"][:, :, None, None, None], state["head.bias"])
    return scores.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("padding", ["same", "zeros"])
def test_i3d_equals_plain_operators(padding):
    """Even sizes, at which SAME is one-sided, and odd ones; windows that overlap, and one."""
    model = enliven(inception3d(5, kind="i3d", padding=padding, window=2))
    state = model.state_dict()
    with torch.no_grad():
        for frames, height, width in ((16, 64, 96), (27, 74, 67)):
            x = two_clips(frames, height, width)
            assert_close(model(x), reference_i3d(state, x, same=padding == "same", window=2))


@pytest.mark.parametrize("padding", ["same", "zeros"])
def test_separable_stem_equals_plain_operators(padding):
    net = Settings(FrameCount(6), padding, 1e-3, 0.001, False)
    unit = Unit(3, 4, net, kernel=7, kind="s3d", stride=2).eval()
    shake_norms(unit)
    x = torch.randn(2, 3, 6, 12, 9)

    def norm(x: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
        shape = (1, -1, 1, 1, 1)
        scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).view(shape)
        return F.relu((x - bn.running_mean.view(shape)) * scale + bn.bias.view(shape))

    # Even sizes: five zeros, two before and three after; the odd size: six.
    one_sided = padding == "same"
    space = F.pad(x, (3, 3, 2, 3, 0, 0) if one_sided else (3, 3, 3, 3, 0, 0))
    want = norm(F.conv3d(space, unit.conv.weight.unsqueeze(2), stride=(1, 2, 2)), unit.bn)
    time = F.pad(want, (0, 0, 0, 0, *((2, 3) if one_sided else (3, 3))))
    want = norm(F.conv3d(time, unit.time.weight.unsqueeze(-1), stride=(2, 1, 1)), unit.time_bn)
    got = unfold(unit(fold(x)), 3)
    assert unit.frames.value == 3
    assert (got - want).abs().max() < 1e-5


@pytest.mark.parametrize("cut", ["top:0", "top:2", "bottom:3"])
def test_layers_that_see_no_time_equal_centre_taps(cut):
    """On any video: a 1 x k x k layer is a t x k x k layer whose other taps are zero."""
    part = enliven(inception3d(5, kind="i3d", cut=cut))
    whole = inception3d(5, kind="i3d").eval()
    want = whole.state_dict()
    whole.load_state_dict({k: centred(v, want[k].shape) for k, v in part.state_dict().items()})
    x = two_clips(15, 64, 64)
    with torch.no_grad():
        assert_close(part(x), whole(x))


# ------------------------------------------------------------------ GoogLeNet's weights


def centred(kernel: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A 2-D kernel at the middle tap of a 5-D one; other tensors as they are."""
    if kernel.dim() == len(shape):
        return kernel
    volume = kernel.new_zeros(shape)
    volume[:, :, shape[2] // 2] = kernel
    return volume


def converted(image: nn.Module, inflation: str = "center", **options) -> Inception3D:
    """The video model that `origins` makes of GoogLeNet."""
    model = inception3d(1000, pools="googlenet", **options).eval()
    transfer(model, image.state_dict(), "fc", inflation)
    return model


@functools.cache
def googlenet() -> nn.Module:
    torch.manual_seed(0)
    return enliven(
        torchvision.models.googlenet(
            weights=None,
            aux_logits=False,
            transform_input=False,
            init_weights=False,
            num_classes=1000,
        )
    )


def still(images: torch.Tensor, frames: int) -> torch.Tensor:
    return images.unsqueeze(2).repeat(1, 1, frames, 1, 1)


NETS = {
    "i3d": {"kind": "i3d"},
    "s3d": {},
    "s3d-g": {"gating": True},
    "s3d-g, bias": {"gating": True, "gate_bias": True},
    "i3d-g": {"kind": "i3d", "gating": True},
    "i2d": {"kind": "i3d", "cut": "top:0"},
    "s3d top:2": {"cut": "top:2"},
    "s3d-g top:2": {"cut": "top:2", "gating": True},
    "i3d bottom:3": {"kind": "i3d", "cut": "bottom:3"},
    "s3d bottom:3": {"cut": "bottom:3"},
    "i3d, mean": {"kind": "i3d", "padding": "replicate", "inflation": "mean"},
}


@pytest.mark.parametrize("net", NETS)
def test_still_clips_give_googlenets_logits(net):
    image = googlenet()
    model = converted(image, **NETS[net])
    for frames, side in ((14, 48), (16, 48), (17, 59), (1, 48)):
        x = two_clips(side, side)
        with torch.no_grad():
            assert_close(model(still(x, frames)), image(x))


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
def test_still_clips_give_googlenets_logits_at_full_size(net):
    image = googlenet()
    model = converted(image, **NETS[net])
    x = two_clips(224, 224)
    with torch.no_grad():
        want = image(x)
        for frames in (14, 16, 17):
            assert_close(model(still(x, frames)), want)


def test_the_check_notices_other_pools():
    """S3D's own pools shift the grid: the same weights give other logits."""
    image = googlenet()
    exact = converted(image)
    model = inception3d(1000).eval()
    model.load_state_dict(exact.state_dict())
    x = two_clips(48, 48)
    with torch.no_grad():
        want, got = image(x), model(still(x, 14))
    assert (got - want).abs().max() > 1e-3 * want.abs().max()

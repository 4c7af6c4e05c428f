"""R3D, MCx, rMCx, R(2+1)D: counts of the papers, equality with torchvision, image weights, STS."""

from __future__ import annotations

import pytest
import timm
import torch
from support import shake_norms
from torch import nn
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18, resnet
from zoo_support import check_gradients, check_logits, on_meta, shapes, still_proof, take_weights

import vidinit
from vidinit.conversion.table import transfer
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import count_parameters
from vidinit.zoo.families.residual3d import mid_planes
from vidinit.zoo.families.resnet3d import resnet3d, sts_r2plus1d
from vidinit.zoo.temporal import TemporalConv, VolumeConv

IN_1K = 1000


def gmacs(model: nn.Module, frames: int, size: int) -> float:
    return round(count_macs(model, (1, 3, frames, size, size)) / 1e9, 3)


@pytest.mark.parametrize(
    ("name", "options", "params", "costs"),
    [
        ("r3d-18", {}, 33_371_472, {8: 20.348, 16: 40.697, 32: 81.393}),
        ("r3d-34", {}, 63_681_104, {32: 150.756}),
        ("r3d-50", {}, 46_980_944, {32: 109.344}),
        ("mc2-18", {}, 11_400_528, {8: 14.273, 16: 28.545}),
        ("mc3-18", {}, 11_695_440, {8: 21.671, 16: 43.343, 32: 86.685}),
        ("mc4-18", {}, 12_727_632, {8: 19.976, 16: 39.952}),
        ("mc5-18", {}, 16_856_400, {8: 19.950, 16: 39.900}),
        ("rmc2-18", {}, 33_352_656, {8: 19.876, 16: 39.752}),
        ("rmc3-18", {}, 33_057_744, {8: 12.478, 16: 24.955}),
        ("rmc4-18", {}, 32_025_552, {8: 14.546, 16: 29.091}),
        ("rmc5-18", {}, 27_896_784, {8: 15.393, 16: 30.787}),
        ("r2plus1d-18", {}, 31_505_325, {8: 20.260, 16: 40.519, 32: 81.038}),
        ("r2plus1d-18", {"midplanes": "per_conv"}, 33_370_839, {8: 20.748, 16: 41.496, 32: 82.992}),
        ("r2plus1d-34", {}, 63_697_175, {8: 38.089, 32: 152.356}),
        ("r2plus1d-34", {"midplanes": "per_block"}, 61_831_661, {32: 150.401}),
        ("r2plus1d-50", {}, 46_985_057, {32: 115.326}),
        ("r2plus1d-50", {"midplanes": "per_block"}, 53_949_691, {32: 130.464}),
        pytest.param("r2plus1d-101", {}, 86_050_785, {32: 176.469}, marks=pytest.mark.slow),
        pytest.param("r2plus1d-152", {}, 118_226_785, {32: 251.997}, marks=pytest.mark.slow),
    ],
)
def test_counts_are_the_papers(name, options, params, costs):
    model = on_meta(name, **options)
    assert count_parameters(model) == params
    assert {frames: gmacs(model, frames, 112) for frames in costs} == costs


def test_image_pool_at_full_size():
    # VMZ's large networks have the pool but not the wider stem, whose extra channels cost the rest.
    model = on_meta("r2plus1d-50", stem="wide")
    extra = 112 * 112 * 32 * (128 - 45) * (147 + 3 * 64) / 1e9
    assert gmacs(model, 32, 224) == pytest.approx(119.919 + extra, abs=1e-3)


@pytest.mark.parametrize(
    ("classes", "params"),
    [(51, 63_518_138), (101, 63_543_788), (359, 63_676_142), (487, 63_741_806)],
)
def test_public_heads(classes, params):
    assert count_parameters(on_meta("r2plus1d-34", num_classes=classes)) == params


def test_mid_planes():
    pairs = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    assert [mid_planes(*pair) for pair in pairs] == [144, 230, 288, 460, 576, 921, 1152]
    assert mid_planes(3, 64, 7) == 83
    assert [mid_planes(*pair, 1) for pair in pairs[1::2]] == [54, 109, 219]


def bottleneck_r2plus1d(num_classes: int) -> nn.Module:
    """torchvision has the blocks of R(2+1)D-50, but no name for it."""
    return resnet.VideoResNet(
        resnet.Bottleneck,
        [resnet.Conv2Plus1D] * 4,
        [3, 4, 6, 3],
        resnet.R2Plus1dStem,
        num_classes=num_classes,
    )


@pytest.mark.parametrize(
    ("name", "options", "build"),
    [
        pytest.param("r3d-18", {}, r3d_18, marks=pytest.mark.slow),
        ("mc3-18", {}, mc3_18),
        pytest.param("r2plus1d-18", {}, r2plus1d_18, marks=pytest.mark.slow),
        pytest.param(
            "r2plus1d-50",
            {"midplanes": "per_block", "bn_eps": 1e-5},
            bottleneck_r2plus1d,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_equals_torchvision(name, options, build):
    ours = vidinit.create_model(name, num_classes=12, **options).double().eval()
    theirs = build(num_classes=12).double().eval()
    take_weights(ours, theirs)
    for size in ((4, 40, 24), (5, 32, 32)):
        clip = torch.randn(1, 3, *size, dtype=torch.float64)
        check_logits(ours, theirs, clip, 1e-10)
    check_gradients(ours, theirs, clip, 1e-9)


@pytest.mark.parametrize("name", ["r3d-18", "mc3-18", "rmc4-18", "r2plus1d-18", "sts-r2plus1d-34"])
def test_any_number_of_frames(name):
    model = vidinit.create_model(name, num_classes=3).eval()
    with torch.no_grad():
        for frames in (1, 2, 7):
            assert model(torch.randn(2, 3, frames, 32, 32)).shape == (2, 3)
    assert sum(getattr(m, "is_block", False) for m in model.modules()) in (8, 16)


@pytest.mark.parametrize("kind", ["r3d", "mc3", "rmc3"])
@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_an_image_resnet_fits_a_wide_stem_exactly(kind, depth):
    image = timm.create_model(f"resnet{depth}", num_classes=6)
    shake_norms(image)
    model = resnet3d(6, kind=kind, depth=depth, stem="wide").eval()
    rows = transfer(model, image.state_dict(), "fc", "center")
    assert all(row.kind in ("copied", "inflated") for row in rows)
    for frames in (1, 5):
        proof = still_proof(image, model, frames, 48)
        assert proof.max_difference < 1e-5 * proof.scale


@pytest.mark.parametrize("kind", ["r3d", "mc4", "rmc2", "r2plus1d"])
@pytest.mark.parametrize("depth", [34, 101])
def test_origins_name_every_tensor_of_both_networks(kind, depth):
    with torch.device("meta"):
        model = resnet3d(5, kind=kind, depth=depth)
        image = timm.create_model(f"resnet{depth}", num_classes=0)
    keys = {key for key in model.state_dict() if not key.startswith("head.")}
    assert set(model.origins) == keys
    assert {origin.source for origin in model.origins.values()} == set(image.state_dict())
    rules = {origin.rule for origin in model.origins.values()}
    assert rules == {"copy", "factor" if kind == "r2plus1d" else "inflate"}


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("kind", "r2plus1", "did you mean 'r2plus1d'"),
        ("depth", 20, "use 18, 34"),
        ("midplanes", "per-conv", "did you mean 'per_conv'"),
        ("stem", "broad", "use narrow or wide"),
    ],
)
def test_wrong_options(option, value, hint):
    with pytest.raises(UsageError, match=hint):
        resnet3d(4, **{"kind": "r3d", "depth": 18, option: value})


def test_sts_counts():
    sts, twin = on_meta("sts-r2plus1d-34"), on_meta("sts-r2plus1d-34", sts=False)
    assert shapes(sts) == shapes(twin) and len(shapes(sts)) == 434
    for model in (sts, twin):
        assert count_parameters(model) == 63_759_281
        assert gmacs(model, 8, 224) == 87.638
    assert count_parameters(on_meta("sts-r2plus1d-34", num_classes=IN_1K)) == 64_067_081
    kernels = [m for m in sts.modules() if isinstance(m, TemporalConv)]
    assert len(kernels) == 33 and all(kernel.sts for kernel in kernels)
    # The shortcuts' temporal halves have one tap, where STS is the plain kernel.
    ends = [v for k, v in sts.state_dict().items() if k.endswith(("0.3.weight", "stem.3.weight"))]
    assert len(ends) == 36
    assert sum(v.numel() for v in ends) == 16_672_576
    assert {m.eps for m in sts.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3, 1e-5}
    assert sts.stem[1].eps == 1e-5 and sts.stem[4].eps == 1e-3


def test_sts_has_no_stride_in_time_and_no_other_depths():
    model = sts_r2plus1d(2, depth=18).eval()
    with torch.no_grad():
        model(torch.randn(1, 3, 5, 32, 32))
    assert model.frames.value == 5
    assert not any(isinstance(m, VolumeConv) for m in model.modules())
    with pytest.raises(UsageError, match="use 18 or 34"):
        sts_r2plus1d(2, depth=50)

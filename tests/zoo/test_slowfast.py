"""SlowFast: equality with pytorchvideo, counts, the slow pathway as an image network, STS."""

from __future__ import annotations

import pytest
import timm
import torch
from support import shake_norms
from torch import nn
from zoo_support import (
    check_gradients,
    check_logits,
    feed_pathways,
    on_meta,
    shapes,
    still_proof,
    take_weights,
)

import vidinit
from vidinit.conversion.table import transfer
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import VideoModel, count_parameters
from vidinit.zoo.families.slowfast import slow_indices
from vidinit.zoo.temporal import TemporalConv

HEAD = (2048 + 256) * 400


def pair(name: str, alpha: int, build, **options) -> tuple[VideoModel, nn.Module]:
    """Our model and pytorchvideo's with the same weights; both give raw logits of 7 classes."""
    ours = vidinit.create_model(name, num_classes=7, slow_frames="linspace").eval()
    theirs = build(
        model_num_class=7,
        slowfast_fusion_conv_stride=(alpha, 1, 1),
        head_pool=nn.AdaptiveAvgPool3d,
        dropout_rate=0,
        **options,
    ).eval()
    feed_pathways(theirs, alpha)
    take_weights(ours, theirs)
    return ours, theirs


def check_equal(ours: VideoModel, theirs: nn.Module, *sizes: tuple[int, int, int]) -> None:
    for size in sizes:
        check_logits(ours, theirs, torch.randn(1, 3, *size), 1e-5)


def test_4x16_equals_pytorchvideo_with_gradients():
    create = pytest.importorskip("pytorchvideo.models.slowfast").create_slowfast
    ours, theirs = pair("slowfast-r50-4x16", 8, create, slowfast_fusion_conv_kernel_size=(5, 1, 1))
    check_equal(ours, theirs, (32, 64, 64), (16, 96, 80))
    clip = torch.randn(1, 3, 16, 32, 40, dtype=torch.float64)
    check_gradients(ours.double(), theirs.double(), clip, 1e-10)


def test_8x8_equals_the_hub_model():
    hub = pytest.importorskip("pytorchvideo.models.hub.slowfast")
    ours, theirs = pair("slowfast-r50-8x8", 4, hub.slowfast_r50)
    check_equal(ours, theirs, (32, 64, 64), (16, 96, 80))


@pytest.mark.parametrize(
    ("name", "build"),
    [
        pytest.param("slowfast-r101-8x8", "slowfast_r101", marks=pytest.mark.slow),
        ("slowfast-r101-16x8", "slowfast_16x8_r101_50_50"),
    ],
)
def test_r101_equals_the_hub_models(name, build):
    hub = pytest.importorskip("pytorchvideo.models.hub.slowfast")
    ours, theirs = pair(name, 4, getattr(hub, build))
    check_equal(ours, theirs, (16, 64, 64), (8, 96, 64))


@pytest.mark.parametrize(
    ("name", "frames", "params", "gmacs"),
    [
        ("slowfast-r50-4x16", 32, 34_480_216, (27.639, 36.102)),
        ("slowfast-r50-8x8", 32, 34_566_488, (50.309, 65.712)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("slowfast-r101-8x8", 32, 62_826_968, (96.397, 125.908)),
                ("slowfast-r101-16x8", 64, 53_774_808, (163.095, 213.024)),
            )
        ),
    ],
)
def test_counts_are_the_authors(name, frames, params, gmacs):
    model = on_meta(name)
    assert count_parameters(model) == params
    assert round(count_macs(model, (1, 3, frames, 224, 224)) / 1e9, 3) == gmacs[0]
    # At 256 the authors' head slides a 7x7 pool over 8x8 maps and classifies 4 places; ours is one.
    assert round((count_macs(model, (1, 3, frames, 256, 256)) + 3 * HEAD) / 1e9, 3) == gmacs[1]


@pytest.mark.parametrize(
    ("name", "params", "backbone", "image"),
    [
        ("sts-slowfast-r50-4x16", (34_479_288, 33_557_288), (27.638, 36.098), 5.76),
        ("sts-slowfast-r50-8x8", (34_565_560, 33_643_560), (50.308, 65.708), 5.80),
    ],
)
@pytest.mark.parametrize("sts", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sts_counts(name, params, backbone, image, sts):
    model = on_meta(name, sts=sts)
    counted = count_parameters(model)
    assert (counted, counted - count_parameters(model.head)) == params
    for size, gmacs in zip((224, 256), backbone, strict=True):
        assert round((count_macs(model, (1, 3, 32, size, size)) - HEAD) / 1e9, 3) == gmacs
    # The authors' image network has its 1000 classes.
    assert round((count_macs(model, (1, 3, 1, 224, 224)) - HEAD + 2304 * 1000) / 1e9, 2) == image
    kernels = [m for m in model.modules() if isinstance(m, TemporalConv) and m.kernel_size[0] == 3]
    assert len(kernels) == 25 and all(kernel.sts == sts for kernel in kernels)
    assert sum(kernel.weight.numel() for kernel in kernels) == 12_884_160


def test_laterals_of_7_taps_hold_86272_weights_more():
    counts = [count_parameters(on_meta(f"sts-slowfast-r50-{form}")) for form in ("4x16", "8x8")]
    assert counts[1] - counts[0] == 86_272 == 2 * (8 * 16 + 32 * 64 + 64 * 128 + 128 * 256)


def test_the_twins_share_keys_and_laterals_without_norm_lack_theirs():
    sts, plain = shapes(on_meta("sts-slowfast-r50-4x16")), shapes(on_meta("slowfast-r50-4x16"))
    assert sts == shapes(on_meta("sts-slowfast-r50-4x16", sts=False))
    assert {k for k in plain if k not in sts} == {k for k in plain if ".norm." in k}
    assert sts.items() <= plain.items()


@pytest.mark.parametrize(("form", "slow_frames"), [("4x16", 4), ("8x8", 8)])
def test_maps_of_both_pathways(form, slow_frames):
    model = on_meta(f"sts-slowfast-r50-{form}")
    shapes = []
    for pathway in (model.slow, model.fast):
        pathway.layer4.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    assert model.embed(torch.empty(1, 3, 32, 224, 224, device="meta")).shape == (1, 2304)
    assert shapes == [(slow_frames, 2048, 7, 7), (32, 256, 7, 7)]


def test_slow_frames():
    assert slow_indices(32, 8, "stride") == [0, 8, 16, 24]
    assert slow_indices(32, 4, "stride") == list(range(0, 29, 4))
    assert slow_indices(32, 8, "linspace") == [0, 10, 20, 31]
    assert slow_indices(3, 8, "stride") == slow_indices(3, 8, "linspace") == [0]
    for alpha in (2, 4, 8):
        for frames in range(alpha, 129, alpha):
            theirs = torch.linspace(0, frames - 1, frames // alpha).long().tolist()
            assert slow_indices(frames, alpha, "linspace") == theirs
        for frames in range(1, 40):
            for how in ("stride", "linspace"):
                found = slow_indices(frames, alpha, how)
                assert len(found) == -(-frames // alpha) and found[-1] < frames


@pytest.mark.parametrize("how", ["stride", "linspace"])
def test_any_number_of_frames_goes_through(how):
    model = on_meta("slowfast-r50-4x16", num_classes=3, slow_frames=how).eval()
    with torch.no_grad():
        for frames in (1, 7, 9, 17):
            clip = torch.empty(2, 3, frames, 64, 96, device="meta")
            assert model(clip).shape == (2, 3)


@pytest.mark.parametrize(
    "name",
    ["slowfast-r50-4x16", pytest.param("sts-slowfast-r50-8x8", marks=pytest.mark.slow)],
)
def test_the_slow_pathway_is_the_image_network(name):
    image = timm.create_model("resnet50", num_classes=3)
    model = vidinit.create_model(name, num_classes=3).eval()
    shake_norms(image)
    shake_norms(model)
    transfer(model, image.state_dict(), "fc", "center")
    assert model.head.weight[:, 2048:].abs().max() == 0
    for frames in (1, 6, 9):
        proof = still_proof(image, model, frames, 64)
        assert proof.max_difference < 1e-5 * proof.scale
    assert model.embed(torch.randn(1, 3, 9, 64, 64))[:, 2048:].abs().max() > 0.1


def test_what_no_image_network_has_counts_as_temporal():
    names = on_meta("slowfast-r50-4x16").temporal_parameters()
    assert {name.split(".")[0] for name in names} == {"slow", "fast", "lateral"}
    slow = {name for name in names if name.startswith("slow.")}
    assert len(slow) == 9 and all(name.endswith(".conv1.weight") for name in slow)
    assert {"fast.bn1.weight", "lateral.0.norm.weight"} <= names


def test_wrong_options():
    with pytest.raises(UsageError, match=r"unknown depth '18'.*50, 101 or 152"):
        on_meta("slowfast-r50-4x16", depth=18)
    with pytest.raises(UsageError, match="alpha"):
        on_meta("slowfast-r50-4x16", alpha=0)
    with pytest.raises(UsageError, match="odd"):
        on_meta("sts-slowfast-r50-4x16", fusion=4)
    with pytest.raises(UsageError, match=r"slow_frames 'nearest'.*stride or linspace"):
        on_meta("slowfast-r50-4x16", slow_frames="nearest")

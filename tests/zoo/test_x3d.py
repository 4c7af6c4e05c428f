"""X3D: equality with pytorchvideo, counts, shapes, STS."""

from __future__ import annotations

import pytest
import torch
from support import shake_norms
from torch import nn
from zoo_support import check_gradients, check_logits, on_meta, shapes, take_weights

import vidinit
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import VideoModel, count_parameters
from vidinit.zoo.families.x3d import SqueezeExcite
from vidinit.zoo.folding import FrameCount, fold, unfold
from vidinit.zoo.temporal import VolumeConv

HEAD = 432 * 2048 + 2048 * 400
DEPTHS = (3, 5, 11, 7)


def pair(version: str, **options) -> tuple[VideoModel, nn.Module]:
    """Our model and pytorchvideo's with the same weights; both give raw logits of 7 classes."""
    create = pytest.importorskip("pytorchvideo.models.x3d").create_x3d
    ours = vidinit.create_model(f"x3d-{version}", num_classes=7).eval()
    theirs = create(model_num_class=7, dropout_rate=0, head_activation=None, **options).eval()
    theirs.blocks[5].pool.pool = nn.AdaptiveAvgPool3d(1)
    take_weights(ours, theirs)
    return ours, theirs


@pytest.mark.parametrize(
    ("version", "options", "sizes"),
    [
        ("xs", {}, [(4, 96, 96), (4, 64, 80)]),
        ("s", {}, [(13, 64, 64), (7, 90, 70)]),
        ("m", {}, [(16, 64, 64), (1, 128, 96)]),
        ("l", {"depth_factor": 5.0}, [(16, 96, 96), (5, 130, 78)]),
    ],
)
def test_equals_pytorchvideo(version, options, sizes):
    ours, theirs = pair(version, **options)
    for size in sizes:
        check_logits(ours, theirs, torch.randn(2, 3, *size), 1e-5)


def test_gradients_equal_pytorchvideo():
    ours, theirs = pair("s", inner_act=nn.SiLU)
    clip = torch.randn(1, 3, 5, 64, 48, dtype=torch.float64)
    check_gradients(ours.double(), theirs.double(), clip, 1e-10)


@pytest.mark.parametrize(
    ("name", "frames", "size", "params", "gmacs"),
    [
        ("x3d-xs", 4, 160, 3_794_274, 0.605),
        ("x3d-s", 13, 160, 3_794_274, 1.963),
        ("x3d-m", 16, 224, 3_794_274, 4.732),
        ("x3d-l", 16, 312, 6_153_384, 18.368),
    ],
)
def test_counts_are_the_authors(name, frames, size, params, gmacs):
    model = on_meta(name)
    assert count_parameters(model) == params
    assert (model.spec.frames, model.spec.size) == (frames, size)
    assert model.origins == {}
    assert round(count_macs(model, (1, 3, frames, size, size)) / 1e9, 3) == gmacs


@pytest.mark.parametrize("sts", [True, False])
def test_sts_counts(sts):
    model = on_meta("sts-x3d-s", sts=sts)
    head = count_parameters(model.fc1) + count_parameters(model.head)
    assert count_parameters(model) == 3_794_322
    assert count_parameters(model) - head == 2_089_986
    for frames, size, gmacs in ((13, 160, 1.961), (13, 192, 2.824), (8, 224, 2.365)):
        assert round((count_macs(model, (1, 3, frames, size, size)) - HEAD) / 1e9, 3) == gmacs
    kernels = [m for m in model.modules() if isinstance(m, VolumeConv)]
    assert len(kernels) == 26 and all(kernel.sts == sts for kernel in kernels)
    assert sum(kernel.weight.numel() for kernel in kernels) == 164_754


def test_blocks_and_squeezed_widths():
    model = on_meta("sts-x3d-s")
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    assert tuple(len(stage) for stage in stages) == DEPTHS
    for stage, inner, squeezed in zip(stages, (54, 108, 216, 432), (8, 8, 16, 32), strict=True):
        for index, block in enumerate(stage):
            assert block.conv2.weight.shape == (inner, 1, 3, 3, 3)
            assert block.conv2.stride == (1, 2 if index == 0 else 1)
            assert (block.downsample is not None) == (index == 0)
            assert isinstance(block.se, SqueezeExcite) == (index % 2 == 0)
            if index % 2 == 0:
                assert block.se.fc1.weight.shape == (squeezed, inner)
    large = on_meta("x3d-l")
    assert [len(getattr(large, f"layer{i}")) for i in range(1, 5)] == [5, 10, 25, 15]


def test_the_sts_graph_has_one_norm_more():
    sts, plain = shapes(on_meta("sts-x3d-s")), shapes(on_meta("x3d-s"))
    for options in ({"sts": False}, {"aligned": True}):
        assert shapes(on_meta("sts-x3d-s", **options)) == sts
    assert {k.rpartition(".")[0] for k in sts.keys() - plain.keys()} == {"layer1.0.downsample.1"}
    assert plain.items() <= sts.items()


@pytest.mark.parametrize(("size", "side"), [(160, 5), (192, 6)])
def test_last_maps(size, side):
    model = on_meta("sts-x3d-s")
    model.frames.value = 13
    maps = model.feature_maps(torch.empty(13, 3, size, size, device="meta"))
    assert maps.shape == (13, 432, side, side)


def test_squeeze_and_excitation_reads_the_whole_clip():
    layer = SqueezeExcite(54, FrameCount(3))
    clip = torch.randn(2, 54, 3, 4, 5)
    hidden = torch.relu(layer.fc1(clip.mean(dim=(2, 3, 4))))
    want = clip * torch.sigmoid(layer.fc2(hidden))[:, :, None, None, None]
    assert (unfold(layer(fold(clip)), 3) - want).abs().max() < 1e-6


def test_aligned_scans_take_any_size():
    faithful = vidinit.create_model("sts-x3d-s", num_classes=5).eval()
    aligned = vidinit.create_model("sts-x3d-s", num_classes=5, aligned=True).eval()
    shake_norms(aligned)
    faithful.load_state_dict(aligned.state_dict())
    clip = torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        assert (aligned.embed(clip) - faithful.embed(clip)).abs().max() > 1e-4
        assert aligned(torch.randn(1, 3, 1, 50, 70)).isfinite().all()
        with pytest.raises(ValueError, match="divisible by 32"):
            faithful(torch.randn(1, 3, 1, 50, 70))


def test_wrong_version():
    with pytest.raises(UsageError, match="unknown X3D version 'xxl'"):
        on_meta("x3d-s", version="xxl")

"""Batch norms folded into convolutions: the same logits, nothing else changed."""

from __future__ import annotations

import pytest
import torch
from support import shake_norms
from torch import Tensor, nn
from zoo_support import families

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import UsageError
from vidinit.zoo.base import VideoModel
from vidinit.zoo.folding import FrameCount
from vidinit.zoo.modify.fuse import conv_norm_pairs
from vidinit.zoo.temporal import TemporalConv

NORM = nn.modules.batchnorm._BatchNorm


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, NORM)]


QUICK = ("c2d-resnet10t", "i3d-resnet10t", "s3d-resnet10t", "sts-resnet14t", "tsm-resnet10t")
QUICK += ("s3d-mobilenetv2_050", "sts-mobilenetv2_050", "i3d-tf_efficientnet_lite0")
QUICK += ("r2plus1d-18", "mc3-18", "x3d-s", "s3d-g")


@pytest.mark.parametrize("name", families(*QUICK))
def test_logits_stay_and_no_norm_is_left(name):
    model = vidinit.create_model(name, num_classes=5)
    shake_norms(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fused = model.fuse()
    assert model.training and not model.fused, "the model itself stays as it is"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not norms_of(fused) and norms_of(model)
    assert fused.fused and not any(p.requires_grad for p in fused.parameters())
    model.eval()
    for frames in (5, 2):
        clip = torch.randn(1, 3, frames, 32, 32)
        with torch.no_grad():
            want, got = model(clip), fused(clip)
        assert (got - want).abs().max() < 1e-5 * want.abs().max()


class Odd(VideoModel):
    """What may and what may not be folded, side by side."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        self.temporal = TemporalConv(3, 4, 3, self.frames, sts=True, bias=True)
        self.norm0 = nn.BatchNorm2d(4)
        self.read_twice = nn.Conv2d(4, 4, 1)
        self.norm1 = nn.BatchNorm2d(4)
        self.changed = nn.Conv2d(4, 4, 1)
        self.norm2 = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm3 = nn.BatchNorm2d(4)
        self.norm4 = nn.BatchNorm2d(4)
        self.plain = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(4, affine=False)
        self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied.weight = self.plain.weight
        self.norm6 = nn.BatchNorm2d(4, track_running_stats=False)

    def feature_maps(self, x: Tensor) -> Tensor:
        x = self.norm0(self.temporal(x)).relu()
        y = self.read_twice(x)
        x = self.norm1(y) + y
        x = self.norm2(self.changed(x).relu_())
        x = self.norm3(self.shared(x)) + self.norm4(self.shared(x + 1))
        return self.norm6(self.tied(self.norm5(self.plain(x)).relu()))


def test_only_a_norm_that_reads_a_convolution_alone_is_folded():
    model = Odd().double().eval()
    for norm in norms_of(model):
        if norm.running_mean is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    assert conv_norm_pairs(model) == [("temporal", "norm0"), ("plain", "norm5")]
    fused = model.fuse()
    assert len(norms_of(fused)) == 5
    clip = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    assert (fused(clip) - model(clip)).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["c2d-resnetv2_50d_gn", "c2d-nf_resnet26", "c2d-resnetv2_50"])
def test_standardized_kernels_and_norms_before_convolutions_stay(name):
    """Group norms, scaled standardization, pre-activation: little or nothing can be folded."""
    model = vidinit.create_model(name, num_classes=5).eval()
    shake_norms(model)
    fused = model.fuse()
    with torch.no_grad():
        clip = torch.randn(1, 3, 2, 32, 32)
        want, got = model(clip), fused(clip)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_a_fused_model_is_not_saved(tmp_path):
    fused = vidinit.create_model("c2d-resnet10t", num_classes=5).fuse()
    with pytest.raises(UsageError, match=r"fused model cannot be saved.*fuse after loading"):
        save_model(fused, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_copy_counts_its_own_frames():
    model = vidinit.create_model("s3d-resnet10t", num_classes=5).eval()
    fused = model.fuse()
    model.frames.value = 77
    with torch.no_grad():
        fused(torch.randn(1, 3, 3, 32, 32))
    assert (model.frames.value, fused.frames.value) == (77, 3)
    counts = {id(v) for m in fused.modules() for v in vars(m).values() if type(v) is FrameCount}
    assert counts == {id(fused.frames)}

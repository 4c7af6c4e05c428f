"""Images as clips of one frame, in networks that see time (facts on co-training, D and F21)."""

from __future__ import annotations

import copy

import pytest
import torch
from support import shake_norms
from torch import nn
from zoo_support import families

import vidinit
from vidinit.checkpoint import load, save_model
from vidinit.conversion.proof import still_frames
from vidinit.zoo.temporal import TemporalConv, TemporalShift, VolumeConv

TEMPORAL = (TemporalConv, VolumeConv)


def made(name: str, **options: object) -> vidinit.zoo.base.VideoModel:
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=7, **options).eval()
    shake_norms(model)
    for module in model.modules():
        if isinstance(module, TEMPORAL):  # an identity-initialized kernel would hide its side taps
            nn.init.normal_(module.weight, std=0.05)
    return model


def size_of(name: str) -> int:
    return 64 if name.startswith(("i2d", "i3d", "s3d")) else 32


@torch.no_grad()
@pytest.mark.parametrize("name", families("i3d-resnet10t", "sts-mobilenetv2_050", "x3d-s"))
def test_an_image_is_what_a_still_clip_without_ends_is(name):
    """With its end frames repeated in place of zeros, a still clip has inner frames only."""
    model = made(name)
    images = still_frames(2, size_of(name))
    model.still = "sum"
    got = model(images.unsqueeze(2))
    endless = copy.deepcopy(model)
    for module in endless.modules():
        if isinstance(module, TEMPORAL):
            module.time_padding = "replicate"
        elif isinstance(module, TemporalShift):
            module.division = 10**9
    frames = 32 if "slowfast" in name else 9
    want = endless(images.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    assert float((got - want).abs().max()) < 1e-4 * float(want.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", families("s3d-resnet10t", "sts-resnet14t", "slowfast-r50-4x16"))
def test_the_center_tap_is_all_that_zeros_leave_of_a_kernel(name):
    model = made(name)
    images = still_frames(2, size_of(name)).unsqueeze(2)
    want = model(images)
    for module in model.modules():
        if isinstance(module, TEMPORAL) and not module.sts and module.stride[0] == 1:
            middle = module.weight.shape[2] // 2
            side = [t for t in range(module.weight.shape[2]) if t != middle]
            module.weight[:, :, side] = 9.0
    assert torch.equal(model(images), want), "as the published image stage of STS has it"
    model.still = "sum"
    sees_time = any(
        isinstance(m, TemporalShift) or (isinstance(m, TEMPORAL) and m.weight.shape[2] > 1)
        for m in model.modules()
    )
    assert sees_time != torch.equal(model(images), want)


@torch.no_grad()
@pytest.mark.parametrize("inflate", ["center", pytest.param("mean", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "plan", ["i3d", *(pytest.param(x, marks=pytest.mark.slow) for x in ("s3d", "tsm"))]
)
def test_an_image_gets_its_parents_logits(plan, inflate, tmp_path):
    import timm

    torch.manual_seed(0)
    parent = timm.create_model("resnet10t", num_classes=5).eval()
    shake_norms(parent)
    torch.save(parent.state_dict(), tmp_path / "parent.pth")
    report = vidinit.convert(
        "resnet10t", plan, weights=tmp_path / "parent.pth", out=tmp_path / "out", inflate=inflate
    )
    model = report.model.eval()
    images = still_frames(3, 64)
    model.still = "sum"
    difference = (model(images.unsqueeze(2)) - parent(images)).abs().max()
    assert float(difference) < 1e-5
    # and a clip that does not move has it on all frames but the ends
    if plan == "i3d" and inflate == "mean":
        model.still = "center"
        assert float((model(images.unsqueeze(2)) - parent(images)).abs().max()) > 1e-3


def gradients_of_taps(still: str, sts: bool) -> list[float]:
    torch.manual_seed(0)
    conv = TemporalConv(4, 8, 3, frames := vidinit.zoo.folding.FrameCount(), sts=sts)
    frames.value, frames.still = 1, still == "sum"
    conv(torch.randn(2, 4, 5, 5)).square().sum().backward()
    assert conv.weight.grad is not None
    dynamic = conv.weight.grad[4:] if sts else conv.weight.grad
    return [float(dynamic[:, :, tap].abs().sum()) for tap in range(3)]


@pytest.mark.parametrize("sts", [False, True])
def test_which_taps_learn_from_images(sts):
    before, middle, after = gradients_of_taps("center", sts)
    assert before == after == 0 < middle
    before, middle, after = gradients_of_taps("sum", sts)
    assert before == pytest.approx(middle) and after == pytest.approx(middle) and middle > 0


def test_the_static_half_of_sts_sees_an_image_as_each_frame_of_a_still_clip():
    torch.manual_seed(0)
    conv = TemporalConv(4, 8, 3, frames := vidinit.zoo.folding.FrameCount(), sts=True)
    image = torch.randn(1, 4, 6, 5)
    alone = conv(image)[:, :4]
    frames.value = 5
    clip = conv(image.repeat(5, 1, 1, 1))[:, :4]
    assert torch.allclose(clip, alone.expand_as(clip), atol=1e-6)


@pytest.mark.parametrize("name", ["i3d-resnet10t", "slowfast-r50-4x16"])
def test_activations_computed_again_remember_what_kind_of_clip_it_was(name):
    """Two passes, then one backward pass: each block is run again as it was run first."""
    images = still_frames(2, 32)
    still, moving = images.unsqueeze(2), torch.randn(2, 3, 8, 32, 32)
    gradients = []
    for again in (False, True):
        model = made(name).train()
        model.still = "sum"
        model.set_grad_checkpointing(again)
        (model(still).square().sum() + model(moving).square().sum()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for key, want in gradients[0].items():
        assert torch.allclose(gradients[1][key], want, atol=1e-6 * float(want.abs().max())), key


def test_the_model_folder_remembers_it(tmp_path):
    model = made("i3d-resnet10t")
    model.still = "sum"
    save_model(model, tmp_path / "model")
    assert load(tmp_path / "model").still == "sum"

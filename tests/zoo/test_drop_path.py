from __future__ import annotations

import copy

import pytest
import timm
import torch
from support import shake_norms
from torch import nn
from zoo_support import families, on_meta

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.folding import FrameCount
from vidinit.zoo.modify.drop_path import ClipDropPath, set_drop_path

WITHOUT = {"i2d", "i3d", "s3d", "s3d-g"}


def rates(model: nn.Module) -> dict[str, float]:
    return {n: m.rate for n, m in model.named_modules() if isinstance(m, ClipDropPath)}


def test_clips_are_left_out_whole():
    torch.manual_seed(0)
    layer = ClipDropPath(FrameCount(3), 0.25).train()
    x = torch.rand(300, 2, 4, 5).to(memory_format=torch.channels_last) + 1
    out = layer(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    factor = (out / x).unflatten(0, (100, 3)).flatten(1)
    dropped = (factor == 0).all(dim=1)
    kept = torch.isclose(factor, torch.tensor(1 / 0.75)).all(dim=1)
    assert (dropped | kept).all() and 10 < dropped.sum() < 42
    assert layer.eval()(x) is x


def test_rates_grow_with_the_block():
    model = on_meta("r2plus1d-18")
    set_drop_path(model, 0.7)
    assert list(rates(model).values()) == pytest.approx([i / 10 for i in range(8)])
    set_drop_path(model, 0)
    assert set(rates(model).values()) == {0.0}


def test_pathways_are_alike():
    model = on_meta("slowfast-r50-4x16")
    set_drop_path(model, 0.15)
    found = rates(model)
    for way in ("slow", "fast"):
        own = [rate for name, rate in found.items() if name.startswith(way)]
        assert own == pytest.approx([i / 100 for i in range(16)])


@pytest.mark.parametrize("arch", ["resnet14t", "mobilenetv2_050", "convnext_atto"])
def test_timms_networks_have_timms_rates(arch):
    model = on_meta(f"c2d-{arch}")
    keys = set(model.state_dict())
    set_drop_path(model, 0.3)
    twin = timm.create_model(arch, drop_path_rate=0.3)
    wanted = {
        f"trunk.{n}": m.drop_prob
        for n, m in twin.named_modules()
        if isinstance(m, timm.layers.DropPath) and m.drop_prob
    }
    assert wanted and rates(model) == wanted and set(model.state_dict()) == keys


def test_the_generator_is_left_alone():
    model = on_meta("c2d-resnet10t")
    state = torch.get_rng_state()
    set_drop_path(model, 0.3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", families("r2plus1d-18", "s3d-mobilenetv2_050"))
def test_training_changes_and_inference_does_not(name):
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=3)
    model.dropout.p = 0.0
    shake_norms(model)
    clip = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        before, trained = model.eval()(clip), copy.deepcopy(model).train()(clip)
        if name in WITHOUT:
            with pytest.raises(UsageError, match="no residual branches"):
                set_drop_path(model, 0.5)
            return
        set_drop_path(model, 0.5)
        assert not torch.equal(copy.deepcopy(model).train()(clip), trained)
        assert torch.equal(model.eval()(clip), before)
        set_drop_path(model, 0.0)
        assert torch.equal(model.train()(clip), trained)


def test_activations_can_be_recomputed():
    """The recomputation leaves out the same clips."""
    torch.manual_seed(0)
    model = vidinit.create_model("r2plus1d-18", num_classes=3)
    set_drop_path(model, 0.6)
    clip = torch.rand(3, 3, 2, 32, 32)
    gradients = []
    for on in (False, True):
        model.set_grad_checkpointing(on)
        model.zero_grad()
        torch.manual_seed(5)
        model(clip).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["s3d", "c2d-vgg11", "c2d-densenet121"])
def test_networks_without_branches_say_so(name):
    model = on_meta(name)
    set_drop_path(model, 0.0)
    with pytest.raises(UsageError, match=f"{name} has no residual branches"):
        set_drop_path(model, 0.1)

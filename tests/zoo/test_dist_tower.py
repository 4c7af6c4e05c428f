from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from dist_models import SIDE, clip_like_vit, small_dist, small_vit
from torch import nn

from vidinit.conversion.frozen_tower import block_outputs
from vidinit.errors import UsageError
from vidinit.zoo.adapters.frozen import digest, towers_left_out
from vidinit.zoo.adapters.tower import Tower, has_projection


def eva(**options: Any) -> nn.Module:
    return small_vit(arch="eva02_tiny_patch14_224", **{"img_size": 28, **options})


KINDS: dict[str, tuple[Any, int]] = {  # network, its prefix tokens
    "plain": (small_vit, 1),
    "clip": (clip_like_vit, 1),
    "registers": (lambda: small_vit(reg_tokens=4), 5),
    "no class token": (lambda: small_vit(class_token=False, global_pool="map"), 0),
    "gap": (lambda: small_vit(class_token=False, global_pool="avg"), 0),
    "rope": (eva, 1),
    "distilled": (lambda: small_vit(arch="deit_tiny_distilled_patch16_224"), 2),
    "relative positions": (lambda: small_vit(arch="vit_relpos_small_patch16_224"), 0),
    "layer scale": (lambda: small_vit(init_values=0.1), 1),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_taps_are_the_blocks_outputs_to_the_bit(kind: str) -> None:
    """One global token whatever the tower has: a class token, or the mean of the patches."""
    make, prefix = KINDS[kind]
    vit = make().eval()
    assert vit.num_prefix_tokens == prefix
    tower = Tower(vit)
    height, width = tower.image_size
    frames = torch.randn(2, 3, height, width)
    taps = tower(frames)
    patches = height * width // tower.patch**2
    assert [tuple(tap.shape) for tap in taps] == 3 * [(2, 1 + patches, 48)]
    for tap, want in zip(taps, block_outputs(vit, frames, tower), strict=True):
        assert torch.equal(tap, want)
    assert tower.embedding(frames).shape == (2, tower.joint)
    both, embedding = tower.both(frames)
    assert torch.equal(both[1], taps[1])
    torch.testing.assert_close(embedding, tower.embedding(frames))


def test_a_wrong_activation_shows() -> None:
    vit = clip_like_vit().eval()
    tower, frames = Tower(vit), torch.randn(1, 3, SIDE, SIDE)
    before = tower(frames)
    for block in vit.blocks:
        block.mlp.act = nn.GELU()
    assert 1e-5 < (before[-1] - tower(frames)[-1]).abs().max() < 1


def test_a_grid_that_is_no_square() -> None:
    model = small_dist()
    model.tower.vit.set_input_size((32, 48))
    assert model(torch.randn(1, 3, 4, 32, 48)).shape == (1, 48)


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "resnet18", "hiera_tiny_224", "vit_tiny_r_s16_p8_224"]
)
def test_what_is_no_tower(name: str) -> None:
    with torch.device("meta"), pytest.raises(UsageError, match="cannot be a tower"):
        Tower(timm.create_model(name))


def test_which_classifiers_are_projections() -> None:
    with torch.device("meta"):
        assert has_projection(timm.create_model("vit_base_patch16_clip_quickgelu_224"))
        assert has_projection(timm.create_model("vit_base_patch16_clip_224.openai"))
        assert not has_projection(timm.create_model("vit_base_patch16_clip_224.openai_ft_in1k"))
        assert not has_projection(timm.create_model("vit_tiny_patch16_224"))
        assert not has_projection(timm.create_model("vit_base_patch16_siglip_224"))


@torch.no_grad()
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_a_tower(precision: str) -> None:
    vit = small_vit()
    frames = torch.randn(2, 3, SIDE, SIDE)
    want = Tower(vit)(frames)[-1]
    tower = Tower(vit, precision=precision)
    assert {p.dtype for p in tower.parameters()} == {tower.dtype}
    with torch.autocast("cpu", torch.bfloat16):  # a run's own precision does not change it
        got = tower(frames)[-1]
    assert got.dtype == tower.dtype
    assert (got.float() - want).abs().max() < 0.05 * want.abs().max()
    model = small_dist(small_vit(), tower_precision=precision)
    assert model(torch.randn(1, 3, 4, SIDE, SIDE)).dtype == torch.float32


def test_gradients_reach_the_side_network_of_a_half_tower() -> None:
    model = small_dist(tower_precision="bf16").train()
    model(torch.randn(1, 3, 4, SIDE, SIDE)).sum().backward()
    assert model.side.reduce[0].weight.grad.abs().sum() > 0


def test_state_dicts_that_leave_the_tower_out() -> None:
    model, twin = small_dist(), small_dist()
    twin.tower.load_state_dict(model.tower.state_dict())
    with towers_left_out([model]):
        state = model.state_dict()
    assert [key for key in state if key.startswith("tower.")] == ["tower.digest"]
    assert "tower.vit.norm.weight" in model.state_dict()
    twin.load_state_dict(state)  # strict: nothing is missing
    assert torch.equal(twin.side.proj, model.side.proj)
    twin.tower.vit.norm.weight.data[0] += 1
    with pytest.raises(UsageError, match="not the one of the saved state"):
        twin.load_state_dict(state)
    del state["tower.digest"]
    with pytest.raises(RuntimeError, match=r"tower\.vit"):
        twin.load_state_dict(state)


def test_digests_are_of_names_and_values() -> None:
    vit = small_vit()
    first = digest(vit)
    assert first == digest(vit.to(memory_format=torch.channels_last)) and len(first) == 64
    vit.norm.weight.data[0] += 1
    assert digest(vit) != first

"""What training asks of a TimeSformer, and that it equals transformers' with the same weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from vit_support import CLASSES, SMALL, converted, small_vit, wake
from zoo_support import check_gradients, check_logits, on_meta, peer_names

from vidinit.config import TrainConfig
from vidinit.engine.optimizer import parameter_groups
from vidinit.engine.task import Task
from vidinit.measure.flops import count_macs
from vidinit.zoo.build import set_input_channels
from vidinit.zoo.families.timesformer import TimeSformer
from vidinit.zoo.modify.drop_path import ClipDropPath, set_drop_path
from vidinit.zoo.modify.freezing import freeze

FRAMES = 4
TYPES = {"divided": "divided_space_time", "joint": "joint_space_time", "space": "space_only"}


class Peer(nn.Module):
    """transformers' model, which takes (B, T, 3, H, W) and returns an object."""

    inner: Any

    def __init__(self, attention: str, frames: int) -> None:
        super().__init__()
        from transformers import TimesformerConfig, TimesformerForVideoClassification

        config = TimesformerConfig(
            image_size=SMALL["img_size"],
            patch_size=SMALL["patch_size"],
            hidden_size=SMALL["embed_dim"],
            num_hidden_layers=SMALL["depth"],
            num_attention_heads=SMALL["num_heads"],
            intermediate_size=4 * SMALL["embed_dim"],
            num_frames=frames,
            num_labels=CLASSES,
            attention_type=TYPES[attention],
        )
        self.inner = TimesformerForVideoClassification(config)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.inner(clip.transpose(1, 2)).logits


def twins(attention: str, frames: int = FRAMES) -> tuple[TimeSformer, Peer]:
    """Ours and transformers', with the same random weights, none of them zero."""
    torch.manual_seed(0)
    peer = Peer(attention, frames).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    ours = converted(small_vit("augreg"), frames, attention=attention)
    state = peer.inner.state_dict()
    names = peer_names(ours, peer.inner)
    ours.load_state_dict({key: state[names[key]] for key in ours.state_dict()})
    return ours, peer


def clips(frames: int = FRAMES, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, frames, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_transformers_logits_and_gradients(attention):
    ours, peer = twins(attention)
    check_logits(ours, peer, clips(), 1e-5)
    ours, peer = ours.double(), peer.double()
    check_logits(ours, peer, clips().double(), 1e-12)
    peer.state_dict = peer.inner.state_dict  # type: ignore[method-assign]
    peer.named_parameters = peer.inner.named_parameters  # type: ignore[method-assign]
    check_gradients(ours, peer, clips().double(), 1e-10)


@torch.no_grad()
def test_space_attention_averages_frames_where_the_official_code_does():
    """transformers leaves the average out, and so pools frames as if they were clips."""
    ours, peer = twins("space")
    inner = peer.inner.timesformer
    tokens = inner.encoder(inner.embeddings(clips().transpose(1, 2)))[0]
    tokens = inner.layernorm(tokens.unflatten(0, (2, FRAMES)).mean(1))
    want = peer.inner.classifier(tokens[:, 0])
    assert (ours(clips()) - want).abs().max() < 1e-5 * want.abs().max()


@torch.no_grad()
def test_other_frames_as_transformers_resizes_them():
    """Its blocks take the number of frames from the configuration, not from the clip."""
    ours, peer = twins("divided")
    ours.resizing = "nearest"
    ours.spec = replace(ours.spec, frames=8)
    peer.inner.config.num_frames = 8
    check_logits(ours, peer, clips(8), 1e-5)


@torch.no_grad()
def test_branches_are_left_out_where_the_official_code_does():
    """Each place by itself over time, each frame in space, each clip in the MLP."""
    from transformers.models.timesformer.modeling_timesformer import TimesformerDropPath

    ours, peer = twins("divided")
    set_drop_path(ours, 0.5)
    for layer in peer.inner.timesformer.encoder.layer:
        layer.drop_path = TimesformerDropPath(0.5)
    found = [m.rate for m in ours.modules() if isinstance(m, ClipDropPath)]
    assert found == [0.0, 0.25, 0.5]
    rows: dict[str, list[int]] = {"ours": [], "theirs": []}
    for name, model in (("ours", ours.train()), ("theirs", peer.train())):
        for module in model.modules():
            if type(module).__name__ in ("ClipDropPath", "TimesformerDropPath"):
                module.register_forward_hook(
                    lambda _, args, __, to=rows[name]: to.append(len(args[0]))
                )
        model(clips())
    assert rows["ours"] == rows["theirs"] == [2 * 16, 2 * FRAMES, 2] * 3


def test_activations_can_be_recomputed():
    model = wake(converted(small_vit("dinov2"), FRAMES)).train()
    set_drop_path(model, 0.4)
    gradients = []
    for on in (False, True):
        model.set_grad_checkpointing(on)
        model.zero_grad()
        torch.manual_seed(5)
        loss = model(clips()).square().sum()
        model(clips(1))  # another frame count before the backward pass
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_layers_and_what_is_temporal():
    model = on_meta("timesformer-b16")
    layers = model.layer_ids()
    assert set(layers) == {name for name, _ in model.named_parameters()}
    wanted = {
        "time_embed": 0,
        "trunk.pos_embed": 0,
        "trunk.cls_token": 0,
        "trunk.patch_embed.proj.weight": 0,
        "trunk.blocks.0.attn.qkv.weight": 1,
        "trunk.blocks.0.temporal_fc.bias": 1,
        "trunk.blocks.11.temporal_attn.qkv.weight": 12,
        "trunk.norm.weight": 13,
        "head.weight": 13,
    }
    assert {name: layers[name] for name in wanted} == wanted
    temporal = model.temporal_parameters()
    assert len(temporal) == 12 * 8 + 1 and "trunk.blocks.3.temporal_norm1.weight" in temporal
    assert not any("temporal" not in name and name != "time_embed" for name in temporal)


def test_groups_of_the_optimizer():
    class Plain(Task):
        def forward(self, batch: Any) -> Any:
            raise NotImplementedError

    task = Plain(converted(small_vit("registers")))
    temporal = {f"model.{name}" for name in task.model.temporal_parameters()}
    config = TrainConfig(lr=1.0, weight_decay=0.1, layer_decay=0.5, temporal_lr_scale=3.0)
    groups = parameter_groups(task, config, heads={"model.head.weight"}, temporal=temporal)
    of = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    found = {name: of[id(p)] for name, p in task.named_parameters()}
    trunk = "model.trunk."
    assert found["model.time_embed"] == (3 / 16, 0.0)
    for name in ("pos_embed", "cls_token", "reg_token"):
        assert found[trunk + name] == (1 / 16, 0.0)
    assert found[trunk + "blocks.2.attn.qkv.weight"] == (0.5, 0.1)
    assert found[trunk + "blocks.2.temporal_attn.qkv.weight"] == (1.5, 0.1)
    assert found[trunk + "blocks.2.temporal_norm1.weight"] == (1.5, 0.0)


def test_freezing_leaves_the_new_parts():
    model = converted(small_vit("augreg"))
    freeze(model, ["trunk.blocks.*.attn.*", "trunk.*embed*", "trunk.cls_token"])
    kept = {name for name, p in model.named_parameters() if p.requires_grad}
    assert model.temporal_parameters() <= kept and "trunk.pos_embed" not in kept


@torch.no_grad()
def test_tokens_are_those_of_the_patches_frame_by_frame():
    model = wake(converted(small_vit("registers"), FRAMES))
    tokens = model.tokens(clips())
    assert tokens.shape == (2, FRAMES * 16, 24)
    descriptor, same = model.embed_with_tokens(clips())
    assert same.equal(tokens) and descriptor.equal(model.embed(clips()))
    still = clips()[:, :, :1].expand(-1, -1, FRAMES, -1, -1)
    model.time_embed.zero_()
    frames = model.tokens(still).unflatten(1, (FRAMES, 16))
    assert (frames - frames[:, :1]).abs().max() < 1e-5 < (frames[:, :, :1] - frames).abs().max()
    mean = converted(small_vit("mean"), FRAMES)
    pooled = mean.trunk.fc_norm(mean.tokens(clips()).mean(1))
    assert torch.allclose(pooled, mean.embed(clips()), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["augreg", "dinov2"])
def test_projections_in_a_row_are_fused(kind):
    model = wake(converted(small_vit(kind), FRAMES))
    fused = model.fuse()
    for frames in (1, FRAMES):
        want = model(clips(frames))
        assert (fused(clips(frames)) - want).abs().max() < 1e-5 * want.abs().max()
    saved = count_macs(model, (1, 3, FRAMES, 32, 32)) - count_macs(fused, (1, 3, FRAMES, 32, 32))
    assert saved == 3 * FRAMES * 16 * 24**2


@torch.no_grad()
def test_copies_and_flow():
    model = wake(converted(small_vit("clip"), FRAMES))
    twin = copy.deepcopy(model)
    twin.spec = replace(twin.spec, frames=2)
    assert model(clips()).equal(model(clips())) and model.time_embed.shape[1] == FRAMES
    set_input_channels(model, 2)
    assert model(clips()[:, :2]).shape == (2, CLASSES)

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from side4video_models import awake, clips, converted
from torch import Tensor, nn
from vit_support import CLASSES, KINDS, small_vit
from zoo_support import on_meta

import vidinit
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.pipelines.finetune.task import ClassifyTask
from vidinit.zoo.adapters.side_model import SideModel
from vidinit.zoo.adapters.side_network import SideNetwork
from vidinit.zoo.modify.drop_path import set_drop_path
from vidinit.zoo.plans.side4video import width_for

B16, L14 = "side4video-b16", "side4video-l14"


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return small_vit("augreg")


@pytest.fixture
def model(vit: nn.Module) -> SideModel:
    torch.manual_seed(0)
    return converted(vit)


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize(
    ("name", "classes", "trained"),
    [
        (B16, 174, 21_112_686),
        (B16, 400, 21_185_232),
        pytest.param(L14, 174, 102_108_846, marks=pytest.mark.slow),
        pytest.param(L14, 400, 102_224_784, marks=pytest.mark.slow),
    ],
)
def test_published_parameters(name: str, classes: int, trained: int) -> None:
    model = on_meta(name, num_classes=classes, fusion="none")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained


@pytest.mark.parametrize(
    ("name", "gmacs"), [(B16, 175.7), pytest.param(L14, 869.3, marks=pytest.mark.slow)]
)
def test_published_multiply_adds(name: str, gmacs: float) -> None:
    model = on_meta(name, fusion="none")
    assert count_macs(model, (1, 3, 8, 224, 224)) / 1e9 == pytest.approx(gmacs, abs=0.05)


def test_the_fusion_costs_a_matrix_and_a_wider_head() -> None:
    plain, fused = (on_meta(B16, num_classes=10, fusion=f) for f in ("none", "zero"))
    count = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (plain, fused)]
    assert count[1] - count[0] == 320 * 768 + 10 * (768 - 320)


def test_widths() -> None:
    assert [width_for(c) for c in (768, 1024, 1792)] == [320, 512, 576]  # as published
    assert [width_for(c) for c in (24, 192, 384, 1280)] == [64, 64, 192, 512]


# ------------------------------------------------------------------ it starts as the image model


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_any_clip_gets_the_image_models_logits(kind: str) -> None:
    image = small_vit(kind)
    model = converted(image)
    for frames in (1, 3, 8):
        clip = clips(2, frames)
        want = image(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, frames)).mean(dim=1)
        assert (model(clip) - want).abs().max() < 1e-6 * max(1.0, float(want.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize(
    "arch",
    ["vit_base_patch16_dinov3", "eva02_base_patch16_clip_224", "vit_pe_core_base_patch16_224"],
)
def test_towers_with_rotary_positions_are_only_read(arch: str) -> None:
    torch.manual_seed(0)
    small = {"img_size": 64, "depth": 2, "embed_dim": 64, "num_heads": 2}
    image = timm.create_model(arch, num_classes=CLASSES, **small).eval()
    model, clip = converted(image), clips(1, 3, 64)
    want = image(clip.transpose(1, 2).flatten(0, 1)).mean(dim=0)
    assert (model(clip)[0] - want).abs().max() < 1e-6


def test_alone_the_side_network_is_no_image_model(vit: nn.Module) -> None:
    from vidinit.zoo.plans.plan import load_plan

    plan = load_plan("side4video")
    assert "fusion=none" in plan.why_inexact(converted(vit, fusion="none"))
    assert plan.why_inexact(converted(vit)) == ""


# ------------------------------------------------------------------ training


BEFORE_A_NORM = ("side.stem.bias", "side.blocks.2.attn.out_proj.bias", "side.blocks.2.fc2.bias")
"""Published biases that a batch norm takes off again: their gradients are rounding."""


@pytest.mark.parametrize("kind", ["clip", "registers", "siglip"])
@pytest.mark.parametrize("options", [{}, {"fusion": "none"}, {"cut": "top:2"}], ids=str)
def test_every_parameter_learns_from_the_second_step_on(kind: str, options: Any) -> None:
    torch.manual_seed(0)
    model = converted(small_vit(kind), **options).train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name in trained if name.startswith("tower.")]
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    clip, labels = clips(3), torch.tensor([0, 1, 2])
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(clip), labels).backward()
        optimizer.step()
    last = len(model.tower.blocks) - 1
    unread = [name.replace("blocks.2", f"blocks.{last}") for name in BEFORE_A_NORM]
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert name in unread or float(parameter.grad.abs().max()) > 1e-7, name
    assert all(p.grad is None for p in model.tower.parameters())


def test_nothing_of_the_tower_is_kept_for_a_backward_pass(model: SideModel) -> None:
    """Its activations would be many times the parameters' and the taps' bytes."""
    model.train()
    taps, frames = model.tower.both(clips().transpose(1, 2).flatten(0, 1))
    assert not frames.requires_grad and not any(tap.requires_grad for tap in taps)
    assert not model.tower.training and not model.tower.vit.training


def test_norms_go_by_the_batch_in_training_only(model: SideModel) -> None:
    awake(model)
    clip = clips(3)
    with torch.no_grad():
        alone = torch.cat([model(one) for one in clip.split(1)])
        assert (model(clip) - alone).abs().max() < 1e-5
        before = model.side.norm.running_mean.clone()  # type: ignore[operator]
        model.train()
        assert (model(clip)[:1] - model(clip[:2])[:1]).abs().max() > 1e-3
    assert not torch.equal(model.side.norm.running_mean, before)  # type: ignore[arg-type]


def test_checkpointing_changes_nothing(model: SideModel) -> None:
    awake(model).train()
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    clip = clips(2, 3)
    for net in (model, twin):
        net(clip).square().sum().backward()
        net.eval()(clips(1, 1))
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (p.grad is None and q.grad is None) or torch.equal(p.grad, q.grad), name
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_drop_path_grows_with_the_block_and_leaves_the_stream(model: SideModel) -> None:
    set_drop_path(awake(model), 0.99)
    rates = [block.drop_path.rate for block in model.side.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0, 0.495, 0.99])
    block: Any = model.side.blocks[2].train()
    torch.manual_seed(0)
    model.frames.value = 3
    stream = torch.randn(6, 64, 4, 4).to(memory_format=torch.channels_last)
    tap = torch.randn(6, 17, model.tower.width)
    out = block(stream, tap, model.side.pos_embed)
    read = block.read(block.norm_read(tap))[:, 1:].mT.unflatten(2, (4, 4))
    assert (out - (0.5 * stream + 0.5 * read)).abs().max() < 1e-6  # none of two clips was kept


def test_layers_and_temporal_parameters(model: SideModel) -> None:
    ids = model.layer_ids()
    assert set(ids) == {name for name, _ in model.named_parameters()}
    assert ids["side.stem.weight"] == ids["side.pos_embed"] == ids["tower.vit.pos_embed"] == 0
    assert ids["side.blocks.1.read.weight"] == ids["tower.vit.blocks.1.norm1.weight"] == 2
    assert ids["fuse_side.weight"] == ids["head.bias"] == ids["side.norm.weight"] == 4
    temporal = model.temporal_parameters()
    assert "side.stem.weight" in temporal and "side.blocks.0.conv.mix_in.weight" in temporal
    assert not any(name.startswith(("tower", "head", "fuse_side")) for name in temporal)
    assert ids["side.blocks.2.fc1.weight"] == 3


def test_a_cut_reads_some_blocks(vit: nn.Module) -> None:
    top, bottom = (converted(vit, cut=cut) for cut in ("top:2", "bottom:1"))
    assert (top.tower.blocks, bottom.tower.blocks) == ([1, 2], [0])
    assert (len(top.side.blocks), len(bottom.side.blocks)) == (2, 1)
    ids = top.layer_ids()
    assert ids["side.blocks.0.read.weight"] == 2
    clip = clips(1)
    with torch.no_grad():
        assert (bottom(clip) - top(clip)).abs().max() < 1e-6  # both are the image model still
    named = on_meta("side4video@top:3-vit_tiny_patch16_224")
    assert isinstance(named, SideModel) and named.tower.blocks == [9, 10, 11]


# ------------------------------------------------------------------ clips


@torch.no_grad()
def test_the_order_of_frames_matters_once_it_learned(model: SideModel) -> None:
    clip = clips(2, 5)
    assert (model(clip) - model(clip.flip(2))).abs().max() < 1e-6
    awake(model)
    assert (model(clip) - model(clip.flip(2))).abs().max() > 1e-2


@torch.no_grad()
def test_a_clip_of_one_frame_has_no_neighbors(model: SideModel) -> None:
    awake(model)
    image = clips(1, 1)
    still = image.expand(-1, -1, 9, -1, -1)
    assert (model(image) - model(still)).abs().max() > 1e-3  # zeros beyond the ends, as published
    model.still = "sum"
    seen: dict[int, Tensor] = {}
    handle = model.side.blocks[0].register_forward_hook(
        lambda _, given, out: seen.update({model.frames.value: out})
    )
    model(image)
    model(still)
    handle.remove()
    # A frame in the middle of a still clip sees what one that stands for it sees.
    assert (seen[1][0] - seen[9][4]).abs().max() < 1e-5


@torch.no_grad()
def test_other_sizes(vit: nn.Module) -> None:
    model = awake(converted(vit))
    assert model.side.pos_embed.shape == (1, 16, 64)
    model.spec = replace(model.spec, size=48)
    assert model.side.pos_embed.shape == (1, 36, 64)
    assert model.tower.vit.pos_embed.shape[1] == 37  # type: ignore[union-attr]
    assert model(clips(1, 2, 48)).shape == (1, CLASSES)
    with pytest.raises(ValueError, match="48x48"):
        model(clips(1, 2))
    with pytest.raises(UsageError, match="patches of 8"):
        model.spec = replace(model.spec, size=50)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["zero", "none"])
def test_what_the_tower_gave_can_be_used_again(vit: nn.Module, fusion: str) -> None:
    model, clip = awake(converted(vit, fusion=fusion)), clips(2, 4)
    model.spec = replace(model.spec, frames=4)
    want, values = model(clip), model.read_tower(clip)
    assert values.shape == (2, *model.tap_shape)
    model.tower.vit.blocks[0] = nn.Identity()  # type: ignore[index, operator]
    model.use_tower(values)
    assert torch.equal(model(clip), want)
    assert not torch.equal(model(clip), want)


@torch.no_grad()
def test_tokens_have_the_descriptor_for_their_mean(vit: nn.Module) -> None:
    for fusion in ("zero", "none"):
        model = awake(converted(vit, fusion=fusion))
        descriptor, tokens = model.embed_with_tokens(clips(2, 3))
        assert tokens.shape == (2, 3 * 16, model.num_features)
        assert (tokens.mean(dim=1) - descriptor).abs().max() < 1e-5


@torch.no_grad()
def test_norms_behind_kernels_can_be_folded(model: SideModel) -> None:
    fused, clip = awake(model).fuse(), clips(1)
    assert isinstance(fused, SideModel) and isinstance(fused.side, SideNetwork)
    assert isinstance(fused.side.stem_norm, nn.Identity)
    assert (fused(clip) - model(clip)).abs().max() < 1e-4


def test_a_task_trains_it(model: SideModel) -> None:
    task = ClassifyTask(model).train()
    loss = task({"clip": clips(2), "label": torch.tensor([0, 1])})
    sum(loss.values()).backward()  # type: ignore[union-attr]
    assert model.fuse_side is not None and float(model.fuse_side.weight.grad.abs().max()) > 0  # type: ignore[union-attr]


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("arch", "options", "match"),
    [
        ("vit_tiny_patch16_224", {"width": 100}, "multiple of 64"),
        ("vit_tiny_patch16_224", {"fusion": "sum"}, "unknown fusion 'sum'"),
        ("vit_tiny_patch16_224", {"cut": "top:13"}, "has 12 blocks"),
        ("vit_tiny_patch16_224", {"cut": "stages:1"}, "unknown cut"),
        ("deit_tiny_distilled_patch16_224", {}, "two classifiers"),
        ("swin_tiny_patch4_window7_224", {}, "cannot be a tower"),
        ("resnet18", {}, "cannot be a tower"),
    ],
)
def test_refusals(arch: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        on_meta(f"side4video-{arch}", num_classes=2, **options)


def test_flow_is_refused() -> None:
    with pytest.raises(UsageError, match="sees RGB only"):
        vidinit.create_model(
            "side4video-vit_tiny_patch16_224", network={"depth": 1}, num_classes=2, in_channels=2
        )

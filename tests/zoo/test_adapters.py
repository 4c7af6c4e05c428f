"""Plans on a frozen vision transformer: st-adapter, aim and zero-cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import adapter_equations as equations
import pytest
import timm
import torch
from adapter_models import CLASSES, KINDS, PLANS, adapted, clips, new_tensors, small_vit, wake
from torch import Tensor, nn
from zoo_support import on_meta

from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.adapters.attention import default_shift, read_shift
from vidinit.zoo.adapters.blocks import ClipAdapter
from vidinit.zoo.base import count_parameters
from vidinit.zoo.folding import FrameCount
from vidinit.zoo.modify.drop_path import set_drop_path
from vidinit.zoo.plans.plan import load_plan


def some(every: Any, *quick: Any) -> list[Any]:
    """To parametrize a test with; all but the quick ones are slow."""
    slow = pytest.mark.slow
    return [
        k if k in quick else pytest.param(*(k if isinstance(k, tuple) else (k,)), marks=slow)
        for k in every
    ]


def by_frame(vit: Any, clip: Tensor) -> Tensor:
    """Logits of each frame by the image network, (B, T, classes)."""
    return vit(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clip), -1))


# --------------------------------------------------------------------------- the image network


@torch.no_grad()
@pytest.mark.parametrize("kind", some(KINDS, "clip", "dinov3"))
def test_a_new_model_is_the_image_network(kind: str) -> None:
    vit = small_vit(kind).double()
    clip = clips().double()
    frames = by_frame(vit, clip)
    assert (frames[0] - frames[1]).abs().max() > 0.1
    mean = frames.mean(1)
    assert (adapted(vit, "aim")(clip) - mean).abs().max() < 1e-12
    found = adapted(vit, "st-adapter")(clip)
    assert (found - averaged_before_the_norm(vit, clip)).abs().max() < 1e-12
    still = clip[:, :, :1].expand_as(clip)
    for plan in PLANS:
        model = adapted(vit, plan)
        assert (model(clip[:, :, :1]) - frames[:, 0]).abs().max() < 1e-12, plan
        assert (model(still) - frames[:, 0]).abs().max() < 1e-12, plan
    assert (adapted(vit, "zero-cost")(clip) - mean).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("kind", some(KINDS, "siglip"))
def test_in_single_precision_a_new_model_is_the_image_network_to_rounding(kind: str) -> None:
    vit, clip = small_vit(kind), clips()
    frames, still = by_frame(vit, clip), clip[:, :, :1].expand_as(clip)
    found = {plan: adapted(vit, plan)(still) - frames[:, 0] for plan in PLANS}
    found["any clip"] = adapted(vit, "aim")(clip) - frames.mean(1)
    for name, difference in found.items():
        assert difference.abs().max() < 1e-6 * frames.abs().max(), name


def averaged_before_the_norm(vit: Any, clip: Tensor) -> Tensor:
    """Logits with the mean over frames taken in front of the last norm of the descriptor."""
    kept: list[Tensor] = []
    behind = vit.norm if vit.global_pool == "token" else vit.fc_norm
    handle = behind.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    logits = by_frame(vit, clip)
    handle.remove()

    def mean(x: Tensor) -> Tensor:
        return x.unflatten(0, (len(clip), -1)).mean(1)

    if vit.global_pool != "token" and isinstance(vit.fc_norm, nn.Identity):
        return logits.mean(1)  # the norm stands before the pool
    read = kept[0][:, 0] if vit.global_pool == "token" else kept[0]
    return vit.head(vit.fc_norm(vit.norm(mean(read))))


@torch.no_grad()
def test_a_new_st_adapter_is_the_image_network_to_the_bit() -> None:
    vit = small_vit("siglip")
    image = clips(3, 1)
    assert torch.equal(adapted(vit, "st-adapter")(image), vit(image[:, :, 0]))
    model, bare = adapted(small_vit("clip"), "st-adapter"), adapted(small_vit("clip"), "st-adapter")
    for own in bare.adapters.values():
        own.clear()
    assert torch.equal(model(clips()), bare(clips()))


# --------------------------------------------------------------------------- the equations

OFFSETS = [-1, 1, 0]


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "options"),
    some(
        [("clip", {}), ("registers", {"kernel": "3,3,3"}), ("eva02 clip", {"places": "mlp"})],
        ("registers", {"kernel": "3,3,3"}),
    ),
)
def test_st_adapter_as_published(kind: str, options: dict[str, Any]) -> None:
    vit = small_vit(kind).double()
    model = wake(adapted(vit, "st-adapter", width=6, **options))
    clip = clips(2, 3).double()
    own = new_tensors(model)
    tokens = [equations.st_adapter(vit, own, one) for one in clip]
    prefix = vit.num_prefix_tokens
    maps = model.feature_maps(model._folded(clip)).unflatten(0, (2, -1))
    assert (maps[1] - tokens[1]).abs().max() < 1e-11
    want = torch.stack([equations.logits(vit, vit.head, t, "tokens") for t in tokens])
    found = model(clip)
    assert (found - want).abs().max() < 1e-11
    assert (found - adapted(vit, "st-adapter")(clip)).abs().max() > 0.05
    seen = model.tokens(clip)
    patches = vit.norm(torch.stack(tokens))[:, :, prefix:].flatten(1, 2)
    assert (seen - patches).abs().max() < 1e-11


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "options"),
    some(
        [("clip", {}), ("registers", {"time_adapters": 2, "scale": 1.0}), ("dinov3", {})],
        ("dinov3", {}),
    ),
)
def test_aim_as_published(kind: str, options: dict[str, Any]) -> None:
    vit = small_vit(kind).double()
    model = wake(adapted(vit, "aim", **options))
    model.spec = replace(model.spec, frames=3)
    clip, own = clips(2, 3).double(), new_tensors(model)
    assert own["time_embed"].shape == (1, 3, 24)
    tokens = [equations.aim(vit, own, one, options.get("scale", 0.5)) for one in clip]
    want = torch.stack([equations.logits(vit, vit.head, t, "descriptors") for t in tokens])
    assert (model(clip) - want).abs().max() < 1e-11
    assert (want - adapted(vit, "aim")(clip)).abs().max() > 0.05


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "shift", "offsets"),
    some(
        [
            ("clip", None, OFFSETS),
            ("registers", "+2:1,-1:2", [2, -1, -1]),
            ("siglip", "-9:1", [-9, 0, 0]),  # beyond the clip: its own frame
        ],
        ("clip", None, OFFSETS),
    ),
)
def test_zero_cost_as_published(kind: str, shift: str | None, offsets: list[int]) -> None:
    vit = small_vit(kind).double()
    model = wake(adapted(vit, "zero-cost", shift=shift, scale=0.7))
    model.spec = replace(model.spec, frames=5)
    clip, own = clips(2, 5).double(), new_tensors(model)
    tokens = [equations.zero_cost(vit, own, one, 0.7, offsets) for one in clip]
    want = torch.stack([equations.logits(vit, vit.head, t, "descriptors") for t in tokens])
    assert (model(clip) - want).abs().max() < 1e-11


@torch.no_grad()
@pytest.mark.parametrize("kind", some(["queries normed", "dinov3", "eva02 clip", "eva"], "dinov3"))
def test_attention_without_a_shift_is_timms(kind: str) -> None:
    """So that what is written out above holds for rotations and norms of queries, too."""
    vit = small_vit(kind).double()
    clip = clips().double()
    difference = adapted(vit, "zero-cost", shift="")(clip) - by_frame(vit, clip).mean(1)
    assert difference.abs().max() < 1e-12


def test_patterns_of_heads() -> None:
    assert default_shift(12) == "-1:1,+1:1" and default_shift(16) == "-1:2,+1:2"
    assert read_shift("-1:2, +1:2,-2:2", 16) == [(-1, 2), (1, 2), (-2, 2)]
    assert read_shift("", 3) == []
    for wrong in ("1", "0:1", "1:1,+1:1", "1:0", "a:b", "1:2,2:2"):
        with pytest.raises(UsageError, match="shift="):
            read_shift(wrong, 3)


@torch.no_grad()
def test_kernels_over_time_alone_are_those_of_a_convolution() -> None:
    """A way of its own for k x 1 x 1, and torch's convolution for the others, agree."""
    for frames in (1, 2, 4):
        count = FrameCount(frames)
        adapter = ClipAdapter(8, 4, (5, 1, 1), count).double()
        for parameter in adapter.parameters():
            nn.init.normal_(parameter)
        patches = torch.randn(2 * frames, 6, 8, dtype=torch.float64)
        hidden = adapter.down(patches).reshape(2, frames, 2, 3, 4).permute(0, 4, 1, 2, 3)
        want = adapter.up(adapter.conv(hidden).permute(0, 2, 3, 4, 1).reshape(2 * frames, 6, 4))
        assert (adapter(patches, (2, 3)) - want).abs().max() < 1e-12


# --------------------------------------------------------------------------- clips


@torch.no_grad()
@pytest.mark.parametrize("plan", some(PLANS, "zero-cost"))
def test_any_number_of_frames(plan: str) -> None:
    """Clips are never regrouped: each by itself gets what it gets in a batch."""
    model = wake(adapted(small_vit("clip").double(), plan))
    assert model.clip_lengths() is None
    for frames in (1, 5):
        clip = clips(2, frames).double()
        both = model(clip)
        alone = torch.cat([model(one[None]) for one in clip])
        assert (both - alone).abs().max() < 1e-12
        if frames > 1:
            assert (both - model(clip.flip(2))).abs().max() > 1e-4  # it sees the order


@torch.no_grad()
def test_the_time_embedding_is_interpolated() -> None:
    model = wake(adapted(small_vit("clip").double(), "aim"))
    clip = clips(1, 4).double()
    before = model(clip)
    model.spec = replace(model.spec, frames=4)
    assert model.time_embed is not None and model.time_embed.shape == (1, 4, 24)
    assert (model(clip) - before).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("kind", some(["registers", "dinov3"], "dinov3"))
def test_frames_of_another_size(kind: str) -> None:
    model = wake(adapted(small_vit(kind), "st-adapter", width=4))
    with pytest.raises(ValueError, match="expected frames of 24x24"):
        model(clips(1, 2, 40))
    model.spec = replace(model.spec, size=40)
    assert model(clips(1, 2, 40)).shape == (1, CLASSES)
    with pytest.raises(UsageError, match="no multiple"):
        model.spec = replace(model.spec, size=50)


@torch.no_grad()
def test_a_grid_that_is_no_square() -> None:
    vit: Any = small_vit("clip")
    vit.set_input_size((24, 40))
    model = wake(adapted(vit, "st-adapter", width=4, kernel="1,3,1"))
    assert model(torch.randn(1, 3, 2, 24, 40)).isfinite().all()
    tokens = torch.randn(2, 1 + 15, 24)
    block = model.tower.vit.blocks[0]
    rows = block._through("before_mlp", tokens, (3, 5)) - tokens
    assert not rows[:, 0].any()  # the class token passes by


# --------------------------------------------------------------------------- training

LEARNING = some(
    [(kind, plan) for kind in ("clip", "siglip", "dinov3") for plan in PLANS],
    *(("clip", "st-adapter"), ("clip", "aim"), ("siglip", "zero-cost")),
)


@pytest.mark.parametrize(("kind", "plan"), LEARNING)
def test_every_parameter_learns(kind: str, plan: str) -> None:
    """What is trained gets a gradient in two steps, and nothing else does."""
    options = {"width": 6} if plan == "st-adapter" else {}
    model = adapted(small_vit(kind), plan, **options).train()
    assert not any(m.training for m in model.tower.modules())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    reached: dict[str, bool] = dict.fromkeys(trained, False)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(clips()), torch.tensor([0, 1])).backward()
        for name, parameter in trained.items():
            reached[name] |= parameter.grad is not None and bool(parameter.grad.any())
        optimizer.step()
    assert [name for name, has in reached.items() if not has] == []
    assert all(not torch.equal(before[name], p) for name, p in trained.items())
    assert not any(p.grad is not None for p in model.parameters() if not p.requires_grad)
    norms = {n for n in trained if n.startswith("tower.")}
    vit = model.tower.vit
    last = [n for n in ("norm", "fc_norm") if len(vit.get_submodule(n).state_dict())]
    own = [] if plan == "st-adapter" else ["weight", "bias"]
    assert norms == {f"tower.vit.{last[0]}.{leaf}" for leaf in own} and len(last) == 1


def test_the_adapter_that_nobody_reads() -> None:
    """Behind the last attention patches are read by no class token, but by a pool over them."""

    def names(kind: str, **options: Any) -> set[str]:
        model = adapted(small_vit(kind), "st-adapter", width=4, **options)
        return {f"{i}.{place}" for i, own in model.adapters.items() for place in own}

    every = {f"{i}.{place}" for i in range(2) for place in ("before_attention", "before_mlp")}
    assert names("siglip") == every and names("mean") == every
    assert names("clip") == every - {"1.before_mlp"}
    assert names("clip", places="mlp") == {"0.before_mlp"}
    assert names("clip", unread=True) == every
    vit = small_vit("clip")
    model = wake(adapted(vit, "st-adapter", width=4, unread=True))
    dead = [p for n, p in model.named_parameters() if n.startswith("adapters.1.before_mlp.")]
    assert len(dead) == 6 and not any(p.requires_grad for p in dead)
    with torch.no_grad():
        want = model(clips())
        for parameter in dead:
            parameter.normal_()
        assert torch.equal(model(clips()), want)
    with pytest.raises(UsageError, match="leaves no adapter"):
        adapted(vit, "st-adapter", cut="top:1", places="mlp")


def test_drop_path_leaves_out_clips() -> None:
    model = wake(adapted(small_vit("clip"), "aim")).train()
    set_drop_path(model, 0.4)
    rates = [own["drop"].rate for own in model.adapters.values()]
    assert rates == pytest.approx([0.0, 0.4])
    block = model.tower.vit.blocks[1]
    model.frames.value = 4
    x = torch.randn(8 * 4, 10, 24)
    torch.manual_seed(0)
    added = model.adapters["1"]["drop"](torch.ones_like(x)).unflatten(0, (8, 4))
    kept = added.flatten(1)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert bool((kept == kept[:, :1]).all())  # a clip's frames and tokens share their fate
    assert block(x, None, (3, 3)).shape == x.shape
    for plan in ("st-adapter", "zero-cost"):
        with pytest.raises(UsageError, match="no residual branches"):
            set_drop_path(adapted(small_vit("clip"), plan), 0.1)


@pytest.mark.parametrize("plan", some(PLANS, "aim"))
def test_checkpointing_changes_nothing(plan: str) -> None:
    options = {"dropout": 0.0} if plan == "zero-cost" else {}
    model = wake(adapted(small_vit("clip"), plan, **options)).train()
    calls = []
    model.tower.vit.blocks[0].norm2.register_forward_pre_hook(lambda *_: calls.append(1))

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(clips()).square().sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.set_grad_checkpointing()
    calls.clear()
    again = gradients()
    assert len(calls) == 2
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("plan", some(PLANS, "aim"))
def test_a_cut_computes_nothing_below_it(plan: str) -> None:
    """No activation below the first adapted block is kept: gradients end there."""
    options = {"width": 4} if plan == "st-adapter" else {}
    model = adapted(small_vit("clip"), plan, cut="top:1", **options)
    assert list(model.adapters) == ["1"]
    outputs: list[Tensor] = []
    model.tower.vit.blocks[0].register_forward_hook(lambda _, __, out: outputs.append(out))
    model.train()(clips()).sum().backward()
    assert not outputs[0].requires_grad
    if model.time_embed is not None:
        assert model.time_embed.grad is not None and model.time_embed.grad.any()
    for wrong in ("top:9", "bottom:0", "stages:1"):
        with pytest.raises(UsageError, match="cut"):
            adapted(small_vit("clip"), plan, cut=wrong)


def test_layers_and_temporal_parameters() -> None:
    model = adapted(small_vit("clip"), "aim", time_adapters=2)
    layers = model.layer_ids()
    assert set(layers) == {name for name, _ in model.named_parameters()}
    assert layers["time_embed"] == layers["tower.vit.pos_embed"] == 0
    assert layers["adapters.1.mlp.up.weight"] == layers["tower.vit.blocks.1.mlp.fc1.weight"] == 2
    assert layers["tower.vit.norm.weight"] == layers["head.weight"] == 3
    temporal = model.temporal_parameters()
    assert "time_embed" in temporal and "adapters.0.time_in.up.bias" in temporal
    assert not any(".space." in name or ".mlp." in name for name in temporal)


# --------------------------------------------------------------------------- networks, figures


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "another kind"),
        pytest.param("swin_tiny_patch4_window7_224", "another kind", marks=pytest.mark.slow),
        pytest.param("beit_base_patch16_224", "another kind", marks=pytest.mark.slow),
        ("deit_tiny_distilled_patch16_224", "two classifiers"),
        pytest.param("vit_tiny_r_s16_p8_224", "convolutional network", marks=pytest.mark.slow),
        pytest.param("vit_relpos_small_patch16_224", "another kind", marks=pytest.mark.slow),
        ("vit_base_patch16_xp_224", "ParallelScalingBlock"),
    ],
)
def test_what_takes_no_adapters(name: str, reason: str) -> None:
    with torch.device("meta"):
        vit = timm.create_model(name, num_classes=0)
    for plan in PLANS:
        with pytest.raises(UsageError, match=f"cannot take the adapters of {plan}.*({reason})"):
            load_plan(plan).build(vit, num_classes=2)


COUNTS = [  # name, options, parameters of the adapters, giga multiply-adds of 8 frames
    ("st-adapter-b16", {"places": "mlp", "unread": True}, 7_110_144, 151.6),
    ("st-adapter-b16", {"unread": True}, 14_220_288, 162.7),
    ("st-adapter-l14", {"places": "mlp", "unread": True}, 18_945_024, 686.8),
    ("st-adapter-l14", {"unread": True}, 37_890_048, 725.5),
    ("st-adapter-l14", {"places": "mlp", "width": 512, "unread": True}, 25_251_840, None),
    ("aim-b16", {}, 10_651_392, 202.1),
    ("aim-b16", {"time_adapters": 2}, 14_201_856, 207.7),
    ("aim-l14", {}, 37_840_896, 933.5),
    ("aim-l14", {"time_adapters": 2}, 50_454_528, None),
    ("zero-cost-b16", {}, 14_201_856, 162.8),
    ("zero-cost-l14", {}, 50_454_528, 751.6),
    ("zero-cost-b16", {"merged": True}, 0, 140.5),
    ("zero-cost-l14", {"merged": True}, 0, 648.1),
]
TRUNKS = {"b16": 85_799_424, "l14": 303_179_776}


@pytest.mark.parametrize(
    ("name", "options", "adapters", "giga"), some(COUNTS, COUNTS[1], COUNTS[5])
)
def test_published_counts(
    name: str, options: dict[str, Any], adapters: int, giga: float | None
) -> None:
    """One adapter of st-adapter is read by nobody: the published figures have it, ours does not."""
    model: Any = on_meta(name, num_classes=400, **options)
    assert sum(p.numel() for p in model.adapters.parameters()) == adapters
    size = name.rpartition("-")[2]
    width = model.num_features
    time = 0 if model.time_embed is None else 8 * width
    head = 400 * width + 400
    assert count_parameters(model) == TRUNKS[size] + adapters + time + head
    if giga is None:
        return
    patches = {"b16": 196, "l14": 256}[size]
    per_patch = 2 * width * 384 + 3 * 384
    unread = 8 * patches * per_patch if options.get("unread") else 0
    found = count_macs(model, (1, 3, 8, 224, 224)) + unread - 400 * width
    assert round(found / 1e9, 1) == giga
    if options.get("unread"):
        ours: Any = on_meta(name, num_classes=400, **{**options, "unread": False})
        one = sum(p.numel() for p in model.adapters["0"]["before_mlp"].parameters())
        assert sum(p.numel() for p in ours.adapters.parameters()) == adapters - one


def test_a_merged_model_is_as_large_as_the_image_network() -> None:
    """The published count, of a network for 64 pixels with 174 classes and 8 frames."""
    model = on_meta("zero-cost-b16", num_classes=174, merged=True, network={"img_size": 64})
    assert count_parameters(model) == 85_801_134


def test_clips_of_the_short_names() -> None:
    for name in ("st-adapter-b16", "zero-cost-l14"):
        spec = on_meta(name, num_classes=2).spec
        assert (spec.frames, spec.stride, spec.size) == (8, 16, 224)
        assert spec.mean[0] == pytest.approx(0.48145466)

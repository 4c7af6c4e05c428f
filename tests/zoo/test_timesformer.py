from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from vit_support import CLASSES, KINDS, SMALL, converted, small_vit, wake
from zoo_support import on_meta

import vidinit
from vidinit.checkpoint import save_model
from vidinit.conversion.proof import still_frames
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import count_parameters
from vidinit.zoo.families.vit import describe_vit, resize_time
from vidinit.zoo.plans.timesformer import timesformer


def still(frames: int, side: int = 32, count: int = 2) -> tuple[Tensor, Tensor]:
    """Images, and clips of each repeated."""
    images = still_frames(count, side)
    return images, images.unsqueeze(2).expand(-1, -1, frames, -1, -1)


def moving(frames: int, side: int = 32, count: int = 2) -> Tensor:
    return torch.randn(count, 3, frames, side, side, generator=torch.Generator().manual_seed(3))


# ------------------------------------------------------------------ the image network inside


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_still_clips_get_the_image_networks_logits(kind, frames):
    vit = small_vit(kind)
    model = converted(vit, frames)
    images, clips = still(frames)
    want = vit(images)
    assert want.std() > 0.1 and (want[0] - want[1]).abs().max() > 0.01
    assert (model(clips) - want).abs().max() < 1e-5
    want = vit.double()(images.double())
    assert (model.double()(clips.double()) - want).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("attention", ["space", "joint"])
def test_other_attentions_on_still_clips(attention):
    """Without prefix tokens joint attention is exact, too: a mean over equal patches."""
    for kind in ("siglip", "augreg"):
        vit = small_vit(kind).double()
        model = converted(vit, 4, attention=attention).double()
        images, clips = still(4)
        difference = (model(clips.double()) - vit(images.double())).abs().max()
        exact = attention == "space" or kind == "siglip"
        assert (difference < 1e-12) if exact else (difference > 1e-3)


@torch.no_grad()
def test_a_pool_over_prefix_tokens_is_taken_frame_by_frame():
    vit = small_vit("registers", global_pool="avg", pool_include_prefix=True).double()
    images, clips = still(4)
    difference = converted(vit, 4).double()(clips.double()) - vit(images.double())
    assert difference.abs().max() < 1e-12


@torch.no_grad()
def test_a_new_model_does_not_see_the_order_but_is_no_mean_of_frames():
    vit = small_vit("augreg")
    model, clip = converted(vit), moving(8)
    shuffled = clip[:, :, torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    assert (model(clip) - model(shuffled)).abs().max() < 1e-5
    frames = vit(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 8)).mean(1)
    assert (model(clip) - frames).abs().max() > 1e-4
    wake(model)
    assert (model(clip) - model(shuffled)).abs().max() > 1e-3


def test_at_first_only_the_projection_behind_the_temporal_attention_learns():
    model = converted(small_vit("augreg")).train()
    model(moving(8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        silent = ".temporal_attn." in name or ".temporal_norm1." in name
        assert bool((parameter.grad == 0).all()) == silent, name


# ------------------------------------------------------------------ clips of one frame


@torch.no_grad()
@pytest.mark.parametrize("kind", ["augreg", "dinov2", "siglip"])
def test_an_image_is_a_clip_of_one_frame(kind):
    model = wake(converted(small_vit(kind)), time=False).double()
    images, clips = still(8)
    image = model(images.double().unsqueeze(2))
    assert (image - model(clips.double())).abs().max() < 1e-12
    wake(model)
    assert (model(images.double().unsqueeze(2)) - model(clips.double())).abs().max() > 1e-3


def test_the_shortcut_of_one_frame_has_the_same_values_and_gradients():
    model = wake(converted(small_vit("augreg", qkv_bias=True))).double().train()
    twin = copy.deepcopy(model)
    for block in twin.trunk.blocks:
        assert block.has_shortcut
        block.has_shortcut = False
    clip = moving(1).double()
    for m in (model, twin):
        m(clip).square().sum().backward()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=0, atol=1e-10), name
        if name.endswith("temporal_attn.qkv.weight"):
            assert (p.grad[:48] == 0).all() and p.grad[48:].norm() > 1e-3
        elif "temporal_fc" in name or "temporal_attn.proj" in name:
            assert p.grad.norm() > 1e-3


def test_normed_queries_have_no_shortcut():
    """Their norms would get no gradient at all, which distributed training does not take."""
    model = converted(small_vit("augreg", qk_norm=True)).train()
    model(moving(1)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@torch.no_grad()
def test_the_time_of_an_image():
    images, _ = still(1)
    made = {}
    for choice in ("first", "mean", "none"):
        model = wake(converted(small_vit("augreg"), image_time=choice))
        made[choice] = model(images.unsqueeze(2))
        time = {"first": model.time_embed[:, :1], "mean": model.time_embed.mean(1, keepdim=True)}
        model.spec = replace(model.spec, frames=1)
        model.time_embed.copy_(time.get(choice, torch.zeros(1, 1, 24)))
        assert torch.allclose(model(images.unsqueeze(2)), made[choice], atol=1e-6)
    assert (made["first"] - made["mean"]).abs().max() > 1e-3 < (made["none"] - made["mean"]).norm()


# ------------------------------------------------------------------ other clips


def test_time_embeddings_are_resized_as_the_official_code_does_it():
    embed = torch.arange(8.0).view(1, 8, 1)
    near = {n: resize_time(embed, n, "nearest").flatten().tolist() for n in (1, 4, 16)}
    assert near == {1: [0], 4: [0, 2, 4, 6], 16: [i // 2 for i in range(16)]}
    assert resize_time(embed, 4).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    assert resize_time(embed, 8).equal(embed)


@torch.no_grad()
def test_setting_the_spec_resizes_both_embeddings():
    vit = small_vit("registers")
    model = wake(converted(vit))
    model.time_embed.requires_grad_(False)
    model.spec = replace(model.spec, frames=16, size=64)
    assert model.time_embed.shape == (1, 16, 24) and not model.time_embed.requires_grad
    assert model(moving(16, 64)).shape == (2, CLASSES)
    vit.set_input_size(img_size=64)
    assert model.trunk.pos_embed.equal(vit.pos_embed)


@torch.no_grad()
def test_nearest_positions():
    model = converted(small_vit("augreg"), resizing="nearest")
    before = model.trunk.pos_embed.clone()
    model.spec = replace(model.spec, size=64)
    after = model.trunk.pos_embed
    assert after[:, 0].equal(before[:, 0])
    grid = before[:, 1:].view(4, 4, 24).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert after[0, 1:].equal(grid.flatten(0, 1))


def test_clips_of_other_forms_are_refused():
    model = converted(small_vit("augreg"))
    for frames in (2, 4, 16):
        with pytest.raises(ValueError, match=f"clips of 8 frames, or of one, got {frames}"):
            model(moving(frames))
    with pytest.raises(ValueError, match="frames of 32x32 pixels, got 40x40"):
        model(moving(8, 40))
    with pytest.raises(UsageError, match="a size of 36 is no multiple") as error:
        model.spec = replace(model.spec, size=36)
    assert error.value.hint == "use 32" and model.spec.size == 32
    assert converted(small_vit("augreg"), attention="space")(moving(5)).shape == (2, CLASSES)


def test_a_folder_keeps_the_resized_embeddings(tmp_path):
    model = vidinit.create_model("timesformer-vit_tiny_patch16_224", num_classes=3, frames=4)
    model.spec = replace(model.spec, size=32)
    wake(model)
    loaded = vidinit.load(save_model(model, tmp_path / "m"))
    assert loaded.spec == model.spec
    assert all(a.equal(b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("timesformer-b16", 400, 121_566_352),
        ("timesformer-l16", 0, 429_310_976),
        ("timesformer-vit_tiny_patch16_224", 0, 7_753_920),
    ],
)
def test_parameters(name, classes, count):
    model = on_meta(name)
    head = model.num_features * 400 + 400
    assert count_parameters(model) - (0 if classes else head) == count


def macs(frames: int, side: int, width: int = 768, depth: int = 12, classes: int = 400) -> int:
    """Multiply-adds of divided attention: patches, time, space, MLP, head."""
    t, n, d = frames, (side // 16) ** 2, width
    time = 5 * t * n * d**2 + 2 * n * t**2 * d
    space = 4 * t * (n + 1) * d**2 + 2 * t * (n + 1) ** 2 * d
    mlp = 8 * (t * n + 1) * d**2
    return t * n * 3 * 16**2 * d + depth * (time + space + mlp) + d * classes


@pytest.mark.parametrize(
    ("name", "published"), [("timesformer-b16", 195.8), ("timesformer-b16-hr", 1702.7)]
)
def test_multiply_adds(name, published):
    model = on_meta(name)
    spec = model.spec
    counted = count_macs(model, (1, 3, spec.frames, spec.size, spec.size))
    assert counted == macs(spec.frames, spec.size)
    assert counted / 1e9 == pytest.approx(published, abs=0.05)
    # An image has no queries, keys and products over one token.
    saved = 12 * (spec.size // 16) ** 2 * (2 * 768**2 + 2 * 768)
    assert count_macs(model, (1, 3, 1, spec.size, spec.size)) == macs(1, spec.size) - saved


# ------------------------------------------------------------------ what it is made of


def test_what_a_vit_is_made_of():
    info = describe_vit(small_vit("registers"))
    assert (info.embed_dim, info.depth, info.heads, info.patch) == (24, 3, 3, 8)
    assert (info.size, info.grid, info.patches) == ((32, 32), (4, 4), 16)
    assert (info.prefix_tokens, info.class_token, info.registers) == (5, True, 4)


@pytest.mark.parametrize(
    ("arch", "reason"),
    [
        ("eva02_tiny_patch14_224", "rotations inside the attention"),
        ("vit_small_patch16_dinov3", "rotations inside the attention"),
        ("deit_tiny_distilled_patch16_224", "two classifiers"),
        ("vit_tiny_r_s16_p8_224", "patches are made by a convolutional network"),
        ("vit_small_patch16_18x2_224", "ParallelThingsBlock"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer"),
        ("resnet10t", "ResNet"),
    ],
)
def test_networks_that_cannot_attend_over_time(arch, reason):
    with torch.device("meta"):
        network = timm.create_model(arch, num_classes=0)
    with pytest.raises(UsageError, match=reason):
        timesformer(network, num_classes=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "devided"}, "unknown attention 'devided'"),
        ({"resizing": "cubic"}, "unknown resizing"),
        ({"image_time": "last"}, "unknown image_time"),
        ({"cut": "stages:1"}, "unknown cut"),
        ({"cut": "top:4"}, "has 3 blocks"),
        ({"cut": "top:1", "attention": "joint"}, "unknown cut"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        converted(small_vit("augreg"), **options)


@pytest.mark.parametrize(("cut", "blocks"), [("top:1", {2}), ("bottom:2", {0, 1})])
def test_cuts(cut, blocks):
    model = converted(small_vit("augreg"), cut=cut)
    temporal = model.temporal_parameters() - {"time_embed"}
    assert {int(name.split(".")[2]) for name in temporal} == blocks


# ------------------------------------------------------------------ training


def test_one_batch_is_learned_from_chance():
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    model = timesformer(vit, num_classes=CLASSES)
    model.spec = replace(model.spec, frames=4)
    clip, labels = moving(4, count=8), torch.arange(8) % CLASSES
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = cross_entropy(model(clip), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(CLASSES), abs=0.05)
    assert losses[-1] < 0.1

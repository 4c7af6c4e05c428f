from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from vit_support import converted, small_vit, wake

import vidinit
from vidinit.conversion.layouts.read_write import Found, read_layout, recognize, write_layout
from vidinit.errors import UsageError

TINY = "timesformer-vit_tiny_patch16_224"


def convert(source: str, to: str = "timesformer", **options: Any) -> Any:
    given = {"pretrained": False, "size": 32, "frames": 4, **options}
    return vidinit.convert(source, to, **given)


# ------------------------------------------------------------------ from image networks


def test_every_tensor_has_its_rule():
    report = convert("test_vit")
    model = report.model
    assert report.exact and report.max_difference < 1e-5
    rules = Counter(origin.rule for origin in model.origins.values())
    assert rules == {"copy": 78, "space-to-time": 6 * 6, "silent": 2 * 6 + 1}
    assert (report.total("copied"), report.total("inflated")) == (80, 36)  # the head's two, too
    state = model.state_dict()
    for key in state:
        if "temporal_fc" in key or key == "time_embed":
            assert (state[key] == 0).all(), key
        elif ".temporal_" in key:
            assert state[key].equal(state[key.replace(".temporal_", ".")]), key


def test_a_network_without_classifier_is_compared_by_its_features():
    report = convert("vit_small_patch14_reg4_dinov2", size=56, num_classes=5)
    assert report.exact and report.model.num_classes == 5 and report.model.classes is None
    assert any("no classifier" in note for note in report.notes)
    assert any("from 37x37 to 4x4 patches" in note for note in report.notes)
    assert [row.kind for row in report.rows if row.stage == "head"] == ["initialized"]
    assert report.proof.scale > 0


def test_frames_alone_are_resized_as_well(tmp_path):
    """Plan c2d: a ViT's positions follow the size, in the folder and behind it, too."""
    report = convert("vit_tiny_patch16_224", "c2d", size=64, out=tmp_path / "start")
    assert report.exact and any("from 14x14 to 4x4 patches" in note for note in report.notes)
    model = vidinit.load(tmp_path / "start")
    assert model.trunk.pos_embed.shape == (1, 1 + 4 * 4, 192)
    model.spec = replace(model.spec, size=96)
    assert model(torch.zeros(1, 3, 2, 96, 96)).shape == (1, 1000)
    with pytest.raises(UsageError, match="a size of 90 is no multiple"):
        model.spec = replace(model.spec, size=90)


def test_positions_that_cannot_be_resized_keep_their_size():
    model = vidinit.create_model("c2d-deit_tiny_distilled_patch16_224")
    model.spec = replace(model.spec, size=224, frames=2)
    with pytest.raises(UsageError, match=r"224x224 pixels and no others, 192 was asked"):
        model.spec = replace(model.spec, size=192)


def test_a_size_that_the_network_does_not_take_is_refused_by_any_plan():
    small = {"embed_dims": (16,) * 4, "mlp_ratios": (1,) * 4}
    model = vidinit.create_model("c2d-coat_lite_mini", network=small)
    statistics = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(UsageError, match=r"no images of 64 pixels.*doesn't match model \(224\)"):
        model.spec = replace(model.spec, size=64)
    assert model.training and all(map(torch.equal, statistics, model.buffers()))


def test_joint_attention_says_why_it_is_not_exact():
    report = convert("test_vit", attention="joint")
    assert not report.exact and "class token" in report.notes[-1]


def test_a_zoo_name_takes_networks_of_its_shape_only():
    with pytest.raises(UsageError, match="is made of vit_base_patch16_224") as error:
        convert("deit_tiny_patch16_224", "timesformer-b16")
    assert "timesformer" in error.value.hint


def test_what_cannot_be_converted_says_so():
    with pytest.raises(UsageError, match="no multiple"):
        convert("test_vit", size=33)
    with pytest.raises(UsageError, match="has no option 'attention'"):
        convert("resnet10t", "s3d", attention="joint")


# ------------------------------------------------------------------ files of other code bases


@pytest.fixture(scope="module")
def tiny() -> Any:
    model = vidinit.create_model(TINY, num_classes=5)
    model.spec = replace(model.spec, frames=4, size=32)
    return wake(model).eval()


@torch.no_grad()
@pytest.mark.parametrize("layout", ["timesformer", "transformers"])
@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_keys_are_written_and_read(layout, attention):
    model = wake(converted(small_vit("augreg"), 4, attention=attention))
    state = write_layout(model, layout)
    again = converted(small_vit("augreg", img_size=64), attention=attention)
    clip = {"size": 32} if attention == "space" else {"size": 32, "frames": 4}
    imported = read_layout(again, state, Found(layout, TINY, 7, clip=clip))
    assert len(imported.loaded) == len(state) and not imported.leftovers
    assert again.spec.mean == (0.45,) * 3 and again.spec.std == (0.225,) * 3
    clip = torch.randn(1, 3, 4, 32, 32)
    assert again(clip).equal(model(clip))


@pytest.mark.parametrize("layout", ["timesformer", "transformers"])
@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_attention_is_told_from_the_keys(layout, attention):
    with torch.device("meta"):
        options = {"num_classes": 5, "frames": 4, "attention": attention}
        model = vidinit.create_model(TINY, **options)
        state = write_layout(model, layout)
    found = recognize(state)
    if (layout, attention) == ("timesformer", "space"):
        assert found is None  # a timm ViT has these names
        found = recognize(state, layout)
    assert found is not None and (found.layout, found.target) == (layout, TINY)
    assert found.options == ({} if attention == "divided" else {"attention": attention})
    assert found.num_classes == 5 and found.clip.get("frames", 4) == 4


@torch.no_grad()
def test_released_files_have_a_prefix(tmp_path, tiny):
    file = tmp_path / "it.pyth"
    state = {f"model.{key}": value for key, value in write_layout(tiny, "timesformer").items()}
    torch.save({"model_state": state}, file)
    report = vidinit.convert(str(file), TINY)
    assert report.layout == "timesformer" and not report.missing and not report.leftovers
    clip = torch.randn(1, 3, 4, 32, 32)
    assert report.model(clip).equal(tiny(clip))


@torch.no_grad()
def test_a_file_of_transformers(tmp_path):
    """Its own class reads what is written, and its own keys are recognized."""
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    config = TimesformerConfig(
        image_size=32,
        hidden_size=192,
        num_attention_heads=3,
        intermediate_size=768,
        num_frames=4,
        num_labels=5,
    )
    peer = TimesformerForVideoClassification(config).eval()
    peer.save_pretrained(tmp_path)
    report = vidinit.convert(str(tmp_path / "model.safetensors"), TINY)
    assert (report.layout, report.model.spec.frames, report.model.spec.size) == (
        "transformers",
        4,
        32,
    )
    clip = torch.randn(1, 3, 4, 32, 32)
    want = peer(clip.transpose(1, 2)).logits
    assert (report.model(clip) - want).abs().max() < 1e-5 * want.abs().max()
    peer.load_state_dict(write_layout(report.model, "transformers"))


def test_files_tell_what_they_are(tiny):
    def found(width: int, depth: int, side: int, frames: int, size: int) -> Any:
        with torch.device("meta"):
            grid = (size // side) ** 2
            state = {
                "cls_token": torch.empty(1, 1, width),
                "pos_embed": torch.empty(1, grid + 1, width),
                "time_embed": torch.empty(1, frames, width),
                "patch_embed.proj.weight": torch.empty(width, 3, side, side),
                "blocks.0.temporal_fc.weight": torch.empty(width, width),
                "head.weight": torch.empty(174, width),
                **{f"blocks.{i}.norm1.weight": torch.empty(width) for i in range(depth)},
            }
        return recognize(state)

    base = found(768, 12, 16, 96, 224)
    assert (base.target, base.num_classes) == ("timesformer-b16", 174)
    assert base.clip == {"frames": 96, "size": 224} and not base.refusal
    assert found(768, 12, 16, 16, 448).target == "timesformer-b16-hr"
    assert found(1024, 24, 16, 8, 224).target == "timesformer-l16"
    assert found(1024, 24, 14, 8, 224).target == "timesformer-vit_large_patch14_224"
    assert "100 wide" in found(100, 12, 16, 8, 224).refusal
    assert "no timesformer-vit_tiny_patch32_224" in found(192, 12, 32, 8, 224).refusal


@torch.no_grad()
def test_a_file_for_more_frames(tmp_path, tiny):
    file = tmp_path / "it.pth"
    torch.save(write_layout(tiny, "timesformer"), file)
    report = vidinit.convert(str(file), TINY, frames=8, resizing="nearest")
    assert report.model.time_embed.equal(tiny.time_embed.repeat_interleave(2, 1))
    told = "embeddings were resized for clips of 8 frames of 32 x 32: time_embed from 4 to 8"
    assert told in report.notes


def test_a_file_for_another_network_is_refused(tmp_path, tiny):
    file = tmp_path / "it.pth"
    torch.save(write_layout(tiny, "timesformer"), file)
    with pytest.raises(UsageError, match=r"time_embed is .*192.*timesformer-test_vit needs"):
        vidinit.convert(str(file), "timesformer-test_vit")
    with pytest.raises(UsageError, match="it is timesformer-vit_tiny_patch16_224"):
        vidinit.convert(str(file), "r3d-18")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("registers", "no other prefix"),
        ("siglip", "no other prefix"),
        ("deit3", "a position of its own"),
        ("clip", "norms there have eps"),
        ("dinov2", "layers are unknown"),
    ],
)
def test_models_the_code_bases_cannot_hold(kind, reason):
    for layout in ("timesformer", "transformers"):
        with pytest.raises(UsageError, match=reason):
            model = converted(small_vit(kind))
            model.name = TINY
            write_layout(model, layout)


def test_a_cut_is_not_theirs():
    model = vidinit.create_model("timesformer@top:2-vit_tiny_patch16_224", num_classes=2)
    with pytest.raises(UsageError, match="there it is with cut='all', not 'top:2'"):
        write_layout(model, "transformers")

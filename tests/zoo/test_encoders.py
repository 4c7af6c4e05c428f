"""Video encoders of transformers: their own outputs, tokens in time order, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from video_encoders import FRAMES, SETTINGS, SIDE, network, saved

import vidinit
from vidinit.checkpoint import read_card, save_model
from vidinit.errors import UsageError
from vidinit.zoo.encoders.clips import clip_of
from vidinit.zoo.encoders.folder import is_encoder_folder
from vidinit.zoo.families import video_encoder

CLASSES = ["änd", "bow", "cut"]


def clips(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def theirs(net: Any, clip: torch.Tensor) -> Any:
    """What transformers itself makes of clips."""
    with torch.no_grad():
        return net(clip.transpose(1, 2))


@pytest.mark.parametrize("family", SETTINGS)
def test_a_classifier_gives_the_logits_of_transformers(family, tmp_path):
    net = network(family, classes=CLASSES)
    net.save_pretrained(tmp_path / "net")
    model = vidinit.load(tmp_path / "net")
    assert model.classes == CLASSES and not model.training
    want = theirs(net, clips()).logits
    with torch.no_grad():
        got = model(clips())
    assert want.std() > 0.05 and torch.allclose(got, want, atol=1e-6, rtol=0)
    # Whole in a model folder of our own, and back.
    save_model(model, tmp_path / "whole")
    shutil.rmtree(tmp_path / "net")
    again = vidinit.load(tmp_path / "whole")
    with torch.no_grad():
        assert torch.allclose(again(clips()), want, atol=2e-6, rtol=0)
    assert again.classes == CLASSES and again.spec == model.spec


@pytest.mark.parametrize("family", SETTINGS)
def test_tokens_are_those_of_transformers_frame_by_frame(family, tmp_path):
    net = network(family, "Model")
    net.save_pretrained(tmp_path)
    model = vidinit.load(tmp_path)
    options = {"skip_predictor": True} if family == "VJEPA2" else {}
    with torch.no_grad():
        want = net(clips().transpose(1, 2), **options).last_hidden_state
        tokens, descriptor = model.tokens(clips()), model.embed(clips())
    places = (SIDE // 8) ** 2
    times = model.token_frames()
    assert times == (FRAMES if family in ("VideoPrism", "Timesformer") else FRAMES // 2)
    assert tokens.shape == (2, times * places, 32)
    if family == "Timesformer":  # there all frames of a place follow one another
        inner = want[:, 1:].reshape(2, places, times, 32)
        assert torch.equal(tokens.reshape(2, times, places, 32)[:, 1, 2], inner[:, 2, 1])
        assert torch.equal(descriptor, want[:, 0])
    elif family == "Vivit":
        assert torch.equal(tokens, want[:, 1:]) and torch.equal(descriptor, want[:, 0])
    else:
        assert torch.equal(tokens, want)
        assert torch.allclose(descriptor, want.mean(1), atol=1e-6)


def test_a_new_head_reads_the_encoders_own_descriptor(tmp_path):
    for family in ("VJEPA2", "VideoPrism"):
        model = vidinit.load(saved(tmp_path / family, family, classes=CLASSES))
        model.reset_head(5)
        with torch.no_grad():
            plain = model.tokens(clips()).mean(1)
            assert torch.allclose(model.embed(clips()), plain, atol=1e-6), family
        save_model(model, tmp_path / f"{family}-new")
        again = vidinit.load(tmp_path / f"{family}-new")
        with torch.no_grad():
            assert torch.allclose(again(clips()), model(clips()), atol=1e-6)


def test_only_the_head_can_learn(tmp_path):
    model = vidinit.load(saved(tmp_path / "net", "VideoMAE", "ForPreTraining"))
    assert model.num_classes == 0 and model.classes is None
    model.reset_head(3)
    model.train()
    assert not any(module.training for module in model.tower.modules())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    assert "predictor" not in " ".join(model.state_dict())


def test_without_mean_pooling_the_first_token_is_read(tmp_path):
    net = network("VideoMAE", classes=CLASSES, use_mean_pooling=False)
    net.save_pretrained(tmp_path)
    model = vidinit.load(tmp_path)
    with torch.no_grad():
        assert torch.allclose(model(clips()), theirs(net, clips()).logits, atol=1e-6, rtol=0)
        assert model.tokens(clips()).shape[1] == FRAMES // 2 * 16, "it is a patch like the others"


@pytest.mark.parametrize("family", ["VJEPA2", "VideoMAE", "Timesformer", "Vivit"])
def test_pixels_are_those_of_transformers(family, tmp_path):
    """Our statistics on x / 255 are what the preprocessor makes of a frame of its own size."""
    import transformers

    saved(tmp_path, family)
    options: dict[str, Any] = {"crop_size": {"height": SIDE, "width": SIDE}}
    if family != "VJEPA2":
        options["size"] = {"shortest_edge": SIDE}
    made = getattr(transformers, f"{family}VideoProcessor")(**options)
    made.save_pretrained(tmp_path)
    spec = vidinit.load(tmp_path).spec
    if family != "VJEPA2":
        assert spec.crop_pct == 1.0
        video = torch.randint(0, 256, (FRAMES, 3, SIDE, SIDE), dtype=torch.uint8)
        want = made(list(video), return_tensors="pt")["pixel_values"][0]
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
        assert torch.allclose((video / 255 - mean) / std, want, atol=1e-5)
    else:
        assert round(spec.size / spec.crop_pct) == made.size["shortest_edge"] == 36


def test_preprocessors_files_of_all_ages(tmp_path):
    config = {"image_size": 224, "num_frames": 16, "tubelet_size": 2}
    values: dict[str, Any] = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4] * 3}

    def read(**more: Any) -> Any:
        file = tmp_path / "preprocessor_config.json"
        file.write_text(json.dumps({**values, **more}))
        return clip_of("videomae", config, tmp_path)

    spec, notes = read(size=224, do_center_crop=True, crop_size=224, resample=3)
    assert (spec.size, spec.crop_pct, spec.interpolation, notes) == (224, 1.0, "bicubic", [])
    assert spec.mean == (0.1, 0.2, 0.3) and spec.std == (0.4,) * 3
    spec, notes = read(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    assert spec.crop_pct == 224 / 256 and not notes
    spec, notes = read(size={"height": 224, "width": 224}, do_normalize=False)
    assert spec.mean == (0,) * 3 and spec.std == (1,) * 3
    assert len(notes) == 1 and "squeezes frames to 224 x 224" in notes[0]
    spec, notes = read(do_rescale=False)
    assert spec.std == pytest.approx((0.4 / 255,) * 3)
    spec, notes = read(resample=0)
    assert spec.interpolation == "bilinear" and "resample=0" in notes[0]
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [1], "image_std": 2}')
    with pytest.raises(UsageError, match="does not say how pixels are made"):
        clip_of("videomae", config, tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    assert "no preprocessor's file" in clip_of("videomae", config, tmp_path)[1][0]


def test_clips_that_it_has_no_positions_for(tmp_path):
    from dataclasses import replace

    jepa = vidinit.load(saved(tmp_path / "jepa", "VJEPA2", "Model"))
    jepa.spec = replace(jepa.spec, frames=8)
    with torch.no_grad():
        assert jepa.tokens(clips(1).repeat(1, 1, 2, 1, 1)).shape[1] == 4 * 16
    with pytest.raises(UsageError, match="reads 2 frames at a time, and 3 are no multiple"):
        jepa.spec = replace(jepa.spec, frames=3)
    mae = vidinit.load(saved(tmp_path / "mae", "VideoMAE"))
    with pytest.raises(UsageError, match="positions for 4 frames, not 8"):
        mae.spec = replace(mae.spec, frames=8)
    with pytest.raises(UsageError, match="takes frames of 32 pixels, not 64 x 64"):
        mae.spec = replace(mae.spec, size=64)
    with pytest.raises(UsageError, match="no batch norms to fuse"):
        mae.fuse()


def changed(folder: Path, **values: Any) -> Path:
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def test_what_is_refused(tmp_path, monkeypatch):
    base = saved(tmp_path / "base", "VideoMAE")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(base, tmp_path / name))

    for name, values, match in (
        ("code", {"auto_map": {"AutoModel": "mine.Model"}}, "comes with code of its own"),
        ("audio", {"model_type": "wav2vec2"}, "of type 'wav2vec2', which is no video encoder"),
        ("text", {"model_type": "bert"}, "no video encoder"),
        ("pair", {"model_type": "videoprism"}, "a pair of a video and a text encoder"),
        ("less", {"num_frames": None}, "does not say num_frames"),
        ("gaps", {"id2label": {"0": "a", "2": "b"}}, "id2label does not number the classes"),
        ("list", {"id2label": ["a", "b"]}, "id2label does not number the classes"),
        ("word", {"num_frames": "four"}, "num_frames in config.json is no number above 0"),
        ("none", {"image_size": [0, 0]}, "image_size in config.json is no number above 0"),
        ("wide", {"image_size": [32, 64]}, "which are no squares"),
        ("kinds", {"model_type": ["videomae"]}, "no video encoder"),
        ("quantized", {"quantization_config": {"bits": 4}}, "has quantized weights"),
    ):
        with pytest.raises(UsageError, match=match):
            vidinit.load(changed(copy(name), **values))
    pickled = copy("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickled ones could run code"):
        vidinit.load(pickled)
    cut = copy("cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="transformers does not open"):
        vidinit.load(cut)
    indexed = copy("indexed")
    (indexed / "model.safetensors").rename(indexed / "one.safetensors")
    index = indexed / "model.safetensors.index.json"
    for named in ({}, {"a": "../base/model.safetensors"}, ["one.safetensors"]):
        index.write_text(json.dumps({"weight_map": named}))
        with pytest.raises(UsageError, match="does not name files beside it"):
            vidinit.load(indexed)
    broken = copy("broken")
    (broken / "config.json").write_text("{" * 9)
    with pytest.raises(UsageError, match=r"cannot read .*config\.json"):
        vidinit.load(broken)
    deeper = changed(copy("deeper"), num_hidden_layers=3)
    with pytest.raises(UsageError, match=r"lacks .*layer\.2\..* which VideoMAE has"):
        vidinit.load(deeper)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match="need transformers, which is not installed") as error:
        video_encoder.transformers_class("VideoMAEModel")
    assert "pip install" in str(error.value.hint) and "transformers" in str(error.value.hint)


def test_a_folder_of_ours_is_no_folder_of_transformers(tmp_path):
    """A config.json that somebody laid beside model.yaml changes nothing."""
    model = vidinit.load(saved(tmp_path / "net", "Vivit", classes=CLASSES))
    save_model(model, tmp_path / "ours")
    shutil.copy(tmp_path / "net" / "config.json", tmp_path / "ours")
    assert is_encoder_folder(tmp_path / "net") and not is_encoder_folder(tmp_path / "ours")
    card = read_card(tmp_path / "ours")
    assert card.name == "hf-vivit" and card.classes == CLASSES
    assert "architectures" not in card.options["config"]


def test_a_changed_card_is_one_clear_error(tmp_path):
    model = vidinit.load(saved(tmp_path / "net", "VideoMAE", classes=CLASSES))
    save_model(model, tmp_path / "ours")
    file = tmp_path / "ours" / "model.yaml"
    card = yaml.safe_load(file.read_text())
    card["options"]["config"]["num_attention_heads"] = 7
    file.write_text(yaml.safe_dump(card))
    with pytest.raises(UsageError, match="hf-videomae cannot be built with"):
        vidinit.load(tmp_path / "ours")
    card["options"]["config"] = {"attn_implementation": "they/kernel"}
    file.write_text(yaml.safe_dump(card))
    with pytest.raises(UsageError, match=r"config\.attn_implementation is no setting"):
        vidinit.load(tmp_path / "ours")


def test_code_that_a_configuration_names_is_not_fetched(tmp_path):
    """Transformers would take kernels of attention from the hub by this name."""
    folder = changed(saved(tmp_path, "VideoMAE"), attn_implementation="they/kernel")
    model = vidinit.load(folder)
    assert model.tower.network.config._attn_implementation in ("sdpa", "eager")

"""Image networks of transformers and open_clip: their names, and their logits where installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import vidinit
from vidinit.conversion.sources import open_source
from vidinit.errors import UsageError
from vidinit.zoo.images.networks import ImageSource, load_image_model

State = dict[str, Tensor]
BOUND = 1e-4  # of the largest logit


def network(arch: str, **arguments) -> nn.Module:
    torch.manual_seed(0)
    return shaken(timm.create_model(arch, **{"num_classes": 5, **arguments}))


def shaken(model: nn.Module) -> nn.Module:
    """Weights that say something in each tensor: gains, tokens, statistics."""
    for name, value in model.named_parameters():
        if value.dim() <= 1 or "grn" in name:
            nn.init.uniform_(value, 0.3, 1.2)
        elif "conv" not in name and "token" not in name and "pos" not in name:
            with torch.no_grad():
                value.mul_(10 if "patch" in name else 3)
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return model.eval()


def pictures(side: int, count: int = 2) -> Tensor:
    """Normalized images that differ in color, too: grain alone is averaged away."""
    return 2 * torch.randn(count, 3, 1, 1) + torch.randn(count, 3, side, side)


def read(file: Path, arch: str | None = None, layout: str | None = None) -> ImageSource:
    """A file as the named network, or as whatever its names and shapes tell."""
    if arch is not None:
        return load_image_model(arch, weights=file, layout=layout)
    found = open_source(str(file), "c2d", weights=None, layout=layout, pretrained=True)
    assert isinstance(found, ImageSource)
    return found


def check(source: ImageSource, want: Tensor, image: Tensor) -> None:
    with torch.no_grad():
        got = source.model(image)
    assert want.shape == got.shape
    difference = (got - want).abs().max()
    assert difference < BOUND * want.abs().max()
    assert difference < (want[0] - want[1]).abs().max() / 50, "another picture is no further off"


# ------------------------------------------------------------------ names alone


def transformers_vit(state: State, prefix: str = "vit.") -> State:
    """timm's names as transformers has them: three matrices for one."""
    found: State = {}
    outer = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    layers = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", module)
        if block and block[2] == "attn.qkv":
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                name = f"{prefix}encoder.layer.{block[1]}.attention.attention.{part}.{leaf}"
                found[name] = rows
        elif block:
            found[f"{prefix}encoder.layer.{block[1]}.{layers[block[2]]}.{leaf}"] = value
        elif module == "head":
            found[f"classifier.{leaf}"] = value
        elif module in outer:
            found[f"{prefix}{outer[module]}.{leaf}"] = value
        else:
            found[f"{prefix}{outer[key]}"] = value
    return found


@pytest.mark.parametrize("prefix", ["", "vit.", "module.vit."])
def test_the_names_of_a_vit(tmp_path, prefix):
    theirs = network("test_vit")
    extras = {f"{prefix}pooler.dense.weight": torch.ones(64, 64)}
    torch.save(transformers_vit(theirs.state_dict(), prefix) | extras, tmp_path / "vit.pth")
    source = read(tmp_path / "vit.pth", "test_vit")
    image = pictures(160)
    assert torch.equal(source.model(image), theirs(image))
    assert source.read["layout"] == "transformers" and source.read["left_out"] == list(extras)
    assert "its names are those of transformers" in source.notes


def test_what_config_and_processor_say(tmp_path):
    """Activation, number of heads, classes and pixels are in no state dict."""
    theirs = network("test_vit", act_layer="quick_gelu")
    torch.save(transformers_vit(theirs.state_dict()), tmp_path / "pytorch_model.bin")
    config = {
        "hidden_act": "quick_gelu",
        "num_attention_heads": theirs.blocks[0].attn.num_heads,
        "id2label": {str(i): f"animal {i}" for i in range(5)},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    source = read(tmp_path, "test_vit")
    image = pictures(160)
    assert torch.equal(source.model(image), theirs(image))
    assert source.classes == [f"animal {i}" for i in range(5)]
    report = vidinit.convert("test_vit", "c2d", weights=tmp_path, frames=2, out=tmp_path / "out")
    spec = report.model.spec
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert spec.interpolation == "bilinear" and report.exact
    loaded = vidinit.load(tmp_path / "out")
    clip = image[:1, :, None].expand(-1, -1, 2, -1, -1)
    with torch.no_grad():
        assert torch.allclose(loaded(clip), theirs(image[:1]), atol=1e-4)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 16}))
    with pytest.raises(UsageError, match="16 heads"):
        read(tmp_path, "test_vit")


def test_the_names_of_clips_image_tower(tmp_path):
    """open_clip's and OpenAI's file: the text tower beside it is left out."""
    arch = "vit_xsmall_patch16_clip_224"
    theirs = network(arch, depth=2)
    named: State = {"logit_scale": torch.ones(()), "token_embedding.weight": torch.ones(9, 4)}
    for key, value in theirs.state_dict().items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if key.startswith("head."):
            if key == "head.weight":
                named["visual.proj"] = value.mT.contiguous()
        elif block:
            inner = block[2].replace("norm", "ln_").replace("attn.proj", "attn.out_proj")
            inner = inner.replace("attn.qkv.", "attn.in_proj_").replace("mlp.fc1", "mlp.c_fc")
            inner = inner.replace("mlp.fc2", "mlp.c_proj")
            named[f"visual.transformer.resblocks.{block[1]}.{inner}"] = value
        else:
            outer = key.replace("patch_embed.proj", "conv1").replace("norm_pre", "ln_pre")
            outer = outer.replace("norm", "ln_post").replace("pos_embed", "positional_embedding")
            outer = outer.replace("cls_token", "class_embedding")
            named[f"visual.{outer}"] = value.squeeze() if value.dim() == 3 else value
    theirs.head.bias.data.zero_()
    torch.save({"state_dict": {f"module.{k}": v for k, v in named.items()}}, tmp_path / "c.pth")
    from functools import partial

    from vidinit.zoo.images.fitting import fit_image
    from vidinit.zoo.images.state_dicts import open_weights

    fitted = fit_image(
        arch, partial(timm.create_model, arch, depth=2), open_weights(tmp_path / "c.pth")
    )
    want = theirs.state_dict()
    assert set(fitted.state) == set(want)
    assert all(torch.equal(fitted.state[key], want[key]) for key in want)
    assert fitted.read["layout"] == "openclip" and fitted.arguments["num_classes"] == 5
    assert {"module.logit_scale", "module.token_embedding.weight"} == set(fitted.read["left_out"])


def test_a_layout_that_the_names_are_not_of(tmp_path):
    torch.save(network("test_resnet").state_dict(), tmp_path / "r.pth")
    for layout in ("openclip", "transformers"):
        with pytest.raises(UsageError, match=f"has no names of {layout}"):
            read(tmp_path / "r.pth", "test_resnet", layout)


def test_a_file_of_a_vit_tells_its_network(tmp_path):
    """Width, depth, patches and positions name it; timm's and transformers' names alike."""
    theirs = network("vit_tiny_patch16_224")
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    torch.save(transformers_vit(theirs.state_dict()), tmp_path / "transformers.pth")
    for name in ("timm.pth", "transformers.pth"):
        source = read(tmp_path / name)
        assert source.arch == "vit_tiny_patch16_224" and source.num_classes == 5
        assert "taken for vit_tiny_patch16_224" in " ".join(source.notes)


def authors_convnext(state: State) -> State:
    """timm's names as the authors of ConvNeXt have them."""
    named = {}
    for key, value in state.items():
        key = key.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.")
        key = key.replace("head.fc.", "head.").replace(".blocks.", ".")
        for stage in (1, 2, 3):
            key = key.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
        named[key.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc", ".pwconv")] = value
    return named


def test_a_file_of_convnexts_authors_tells_its_network(tmp_path):
    theirs = network("convnext_atto")
    torch.save({"model": authors_convnext(theirs.state_dict())}, tmp_path / "convnext.pth")
    source = read(tmp_path / "convnext.pth")
    assert source.arch == "convnext_atto" and "timm's filter" in " ".join(source.notes)
    check(source, theirs(image := pictures(64)).detach(), image)


# ------------------------------------------------------------------ their own networks


VIT = {
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "image_size": 64,
    "patch_size": 16,
}
BASE = VIT | {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
CLIP = BASE | {"patch_size": 32, "projection_dim": 64}
DINO = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "patch_size": 14}
DINO |= {"image_size": 70}
BASIC = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
ATTO = {"depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]}

NETWORKS = {
    # name: (class, configuration, its settings, what it returns, timm's network)
    "vit": ("ViTForImageClassification", "ViTConfig", VIT, "logits", "vit_tiny_patch16_224"),
    "resnet": ("ResNetForImageClassification", "ResNetConfig", BASIC, "logits", "resnet18"),
    "deit": (
        *("DeiTForImageClassificationWithTeacher", "DeiTConfig", VIT, "logits"),
        "deit_tiny_distilled_patch16_224",
    ),
    "deit-one-head": (
        *("DeiTForImageClassification", "DeiTConfig", VIT, "logits"),
        "deit_tiny_distilled_patch16_224",
    ),
    "dinov2": (*("Dinov2Model", "Dinov2Config", DINO, "token"), "vit_small_patch14_dinov2"),
    "dinov2-registers": (
        *("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINO, "token"),
        "vit_small_patch14_reg4_dinov2",
    ),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        ATTO,
        "logits",
        "convnext_atto",
    ),
    "convnextv2": (
        *("ConvNextV2ForImageClassification", "ConvNextV2Config", ATTO, "logits"),
        "convnextv2_atto",
    ),
    "siglip": (
        *("SiglipVisionModel", "SiglipVisionConfig", BASE, "pooler_output"),
        "vit_base_patch16_siglip_224",
    ),
    "clip": (
        *("CLIPVisionModelWithProjection", "CLIPVisionConfig", CLIP, "image_embeds"),
        "vit_base_patch32_clip_quickgelu_224",
    ),
    "clip-gelu": (
        *("CLIPVisionModelWithProjection", "CLIPVisionConfig", CLIP | {"hidden_act": "gelu"}),
        *("image_embeds", "vit_base_patch32_clip_224"),
    ),
}
DEFAULT = ("vit", "resnet")
TRANSFORMERS = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_networks_of_transformers(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    kind, config, settings, output, arch = NETWORKS[name]
    torch.manual_seed(0)
    labels = {"num_labels": 5} if output == "logits" else {}
    theirs = getattr(transformers, kind)(getattr(transformers, config)(**settings, **labels))
    shaken(theirs).save_pretrained(tmp_path / "folder")
    torch.save(theirs.state_dict(), tmp_path / "live.pth")  # newer names than it saves
    side = settings.get("image_size", 64)
    image = pictures(side)
    with torch.no_grad():
        out = theirs(pixel_values=image)
        want = out.last_hidden_state[:, 0] if output == "token" else getattr(out, output)
    source = read(tmp_path / "folder")
    assert source.arch == arch
    check(source, want, image)
    if output == "logits":  # and as a video model, on a still clip
        model = vidinit.convert(str(tmp_path / "folder"), "c2d", frames=2, size=side).model
        with torch.no_grad():
            got = model(image[:, :, None].expand(-1, -1, 2, -1, -1))
        assert (got - want).abs().max() < BOUND * want.abs().max()
    if name != "clip-gelu":  # without its configuration nothing tells the activation
        check(read(tmp_path / "live.pth"), want, image)


OPEN_CLIP = {
    "ViT-B-32": "vit_base_patch32_clip_224",
    "ViT-B-32-quickgelu": "vit_base_patch32_clip_quickgelu_224",
    "RN50": "resnet50_clip",
    "ViT-B-16-SigLIP": "vit_base_patch16_siglip_224",
    "convnext_base": "convnext_base",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPEN_CLIP)
def test_image_towers_of_open_clip(tmp_path, name):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    theirs = shaken(open_clip.create_model(name, pretrained=None))
    held = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": held}, tmp_path / "both.pth")
    torch.save(theirs.visual.state_dict(), tmp_path / "visual.pth")
    image = pictures(224)
    with torch.no_grad():
        want = theirs.visual(image)
    for file in ("both.pth", "visual.pth"):
        check(read(tmp_path / file, OPEN_CLIP[name]), want, image)

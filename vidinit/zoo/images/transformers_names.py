"""Image networks of Hugging Face's transformers under timm's names.

ViT, DeiT and DINOv2 (with registers, too), CLIP's and SigLIP's image towers, ResNet and ConvNeXt.
Queries, keys and values are one matrix in timm, and three there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .state_dicts import Part

LAYOUT = "transformers"

_VIT = "embeddings.patch_embeddings.projection.weight"
_CLIP = "embeddings.class_embedding"
_SIGLIP = "embeddings.patch_embedding.bias"
_RESNET = "embedder.embedder.convolution.weight"
_CONVNEXT = "encoder.stages.0.layers.0.dwconv.weight"

_BLOCK = r"(?:encoder\.layers?|layers)\.(\d+)\."
_LEAF = r"(weight|bias)"
Rules = tuple[tuple[str, str], ...]

_LINEAR: Rules = (
    (
        rf"{_BLOCK}(?:attention\.output\.dense|attention\.o_proj)\.{_LEAF}",
        r"blocks.\1.attn.proj.\2",
    ),
    (rf"{_BLOCK}self_attn\.out_proj\.{_LEAF}", r"blocks.\1.attn.proj.\2"),
    (rf"{_BLOCK}(?:layernorm_before|norm1|layer_norm1)\.{_LEAF}", r"blocks.\1.norm1.\2"),
    (rf"{_BLOCK}(?:layernorm_after|norm2|layer_norm2)\.{_LEAF}", r"blocks.\1.norm2.\2"),
    (
        rf"{_BLOCK}(?:intermediate\.dense|mlp\.fc1|mlp\.weights_in)\.{_LEAF}",
        r"blocks.\1.mlp.fc1.\2",
    ),
    (
        rf"{_BLOCK}(?:output\.dense|mlp\.fc2|mlp\.weights_out|mlp\.down_proj)\.{_LEAF}",
        r"blocks.\1.mlp.fc2.\2",
    ),
    (rf"{_BLOCK}layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
)
_QKV = re.compile(
    rf"{_BLOCK}(?:attention\.attention\.|attention\.|self_attn\.)"
    rf"(query|key|value|q_proj|k_proj|v_proj)\.{_LEAF}"
)
_GATED = re.compile(rf"{_BLOCK}mlp\.(gate_proj|up_proj)\.{_LEAF}")
_VIT_RULES: Rules = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (rf"embeddings\.patch_embeddings\.projection\.{_LEAF}", r"patch_embed.proj.\1"),
    (rf"layernorm\.{_LEAF}", r"norm.\1"),
    *_LINEAR,
)
_TOWER_RULES: Rules = (
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (rf"embeddings\.patch_embedding\.{_LEAF}", r"patch_embed.proj.\1"),
    (rf"pre_layrnorm\.{_LEAF}", r"norm_pre.\1"),
    (rf"post_layernorm\.{_LEAF}", r"norm.\1"),
    (r"head\.probe", "attn_pool.latent"),
    (rf"head\.attention\.out_proj\.{_LEAF}", r"attn_pool.proj.\1"),
    (rf"head\.layernorm\.{_LEAF}", r"attn_pool.norm.\1"),
    (rf"head\.mlp\.fc([12])\.{_LEAF}", r"attn_pool.mlp.fc\1.\2"),
    *_LINEAR,
)
_ANY = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def find(state: Mapping[str, Tensor]) -> bool:
    """True for names of an image network of transformers."""
    return _anchor(state) is not None


def _anchor(state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """A name that tells the family, and what stands before it."""
    for mark in (_VIT, _CLIP, _SIGLIP, _RESNET, _CONVNEXT):
        for name in state:
            if name == mark or name.endswith(f".{mark}"):
                return mark, name.removesuffix(mark)
    return None


def renamed(whole: Part) -> Part:
    """A state dict under timm's names; what has none is outside.

    Args:
        whole: one for which `find` is true.
    """
    anchor = _anchor(whole.state)
    assert anchor is not None
    mark, prefix = anchor
    own = {k.removeprefix(prefix): v for k, v in whole.state.items() if k.startswith(prefix)}
    if mark == _RESNET:
        state, used = _renamed_one_by_one(own, _resnet_name)
    elif mark == _CONVNEXT:
        state, used = _renamed_one_by_one(own, _convnext_name)
        state = {k: v.flatten() if ".grn." in k else v for k, v in state.items()}
    else:
        state, used = _vision_transformer(own, _VIT_RULES if mark == _VIT else _TOWER_RULES)
    used = {prefix + key for key in used}
    head, read, notes = _classifier(mark, whole.state, distilled="dist_token" in state)
    if mark == _SIGLIP and head:
        # Its classifier reads the mean of the patches, not what its attention pools.
        state = {k: v for k, v in state.items() if not k.startswith("attn_pool.")}
        used = {key for key in used if not key.startswith(f"{prefix}head.")}
    outside = tuple(key for key in whole.state if key not in used | read)
    activation = "gelu_tanh" if mark == _SIGLIP else ""
    return Part(whole.key, "", state | head, outside, LAYOUT, notes, activation)


Renamed = tuple[dict[str, Tensor], set[str]]
"""Tensors under timm's names, and the names of those that went into them."""


def _renamed_one_by_one(own: Mapping[str, Tensor], name_of: Callable[[str], str | None]) -> Renamed:
    names = {key: name for key in own if (name := name_of(key)) is not None}
    return {name: own[key] for key, name in names.items()}, set(names)


def _vision_transformer(own: Mapping[str, Tensor], rules: Rules) -> Renamed:
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    joined: dict[str, dict[str, str]] = {}
    for key, value in own.items():
        if match := _QKV.fullmatch(key):
            joined.setdefault(f"blocks.{match[1]}.attn.qkv.{match[3]}", {})[match[2][0]] = key
        elif match := _GATED.fullmatch(key):
            joined.setdefault(f"blocks.{match[1]}.mlp.fc1.{match[3]}", {})[match[2][0]] = key
        elif match := re.fullmatch(r"head\.attention\.in_proj_(weight|bias)", key):
            width = len(value) // 3
            state[f"attn_pool.q.{match[1]}"] = value[:width]
            state[f"attn_pool.kv.{match[1]}"] = value[width:]
            used.add(key)
        else:
            for rule, name in rules:
                if found := re.fullmatch(rule, key):
                    state[found.expand(name)] = value
                    used.add(key)
                    break
    for name, parts in joined.items():
        order = "qkv" if ".qkv." in name else "gu"
        if set(parts) == set(order):
            state[name] = torch.cat([own[parts[part]] for part in order])
            used.update(parts.values())
    if "cls_token" in state:
        state["cls_token"] = state["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in state and state["pos_embed"].dim() == 2:
        state["pos_embed"] = state["pos_embed"][None]
    if "reg_token" in state and {"pos_embed", "cls_token"} <= set(state):
        # In timm the class token's position is in the token, and registers have none.
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    return state, used


def _classifier(
    mark: str, state: Mapping[str, Tensor], *, distilled: bool
) -> tuple[dict[str, Tensor], set[str], tuple[str, ...]]:
    """The classifier under timm's names, the names of what went into it, and notes."""

    def layer(there: str, here: str) -> dict[str, Tensor]:
        keys = {leaf: f"{there}.{leaf}" for leaf in ("weight", "bias")}
        found = {f"{here}.{leaf}": state[key] for leaf, key in keys.items() if key in state}
        read.update(key for key in keys.values() if key in state)
        return found

    read: set[str] = set()
    if mark == _CLIP:  # a classifier of transformers' reads the mean of patches without a norm
        head = layer("visual_projection", "head")
        if head:
            head["head.bias"] = head["head.weight"].new_zeros(len(head["head.weight"]))
        return head, read, ()
    if mark in (_RESNET, _CONVNEXT):
        there, here = ("classifier.1", "fc") if mark == _RESNET else ("classifier", "head.fc")
        return layer(there, here), read, ()
    if not distilled:
        return layer("classifier", "head"), read, ()
    both = layer("cls_classifier", "head") | layer("distillation_classifier", "head_dist")
    if both:
        return both, read, ()
    one = layer("classifier", "head")
    # timm averages two classifiers: twice the one, and nothing from the other.
    silent = {k.replace("head.", "head_dist."): torch.zeros_like(v) for k, v in one.items()}
    notes = ("it has one classifier, where timm's network averages two: the other is zero",)
    return {k: v * 2 for k, v in one.items()} | silent, read, notes if one else ()


def _resnet_name(key: str) -> str | None:
    stem = re.fullmatch(rf"embedder\.embedder\.(convolution|normalization)\.{_ANY}", key)
    if stem:
        return f"{'conv1' if stem[1] == 'convolution' else 'bn1'}.{stem[2]}"
    block = r"encoder\.stages\.(\d+)\.layers\.(\d+)\."
    short = re.fullmatch(rf"{block}shortcut\.(convolution|normalization)\.{_ANY}", key)
    if short:
        place = 0 if short[3] == "convolution" else 1
        return f"layer{int(short[1]) + 1}.{short[2]}.downsample.{place}.{short[4]}"
    conv = re.fullmatch(rf"{block}layer\.(\d+)\.(convolution|normalization)\.{_ANY}", key)
    if conv:
        kind = "conv" if conv[4] == "convolution" else "bn"
        return f"layer{int(conv[1]) + 1}.{conv[2]}.{kind}{int(conv[3]) + 1}.{conv[5]}"
    return None


_CONVNEXT_LAYERS = {
    "dwconv": "conv_dw",
    "layernorm": "norm",
    "pwconv1": "mlp.fc1",
    "pwconv2": "mlp.fc2",
    "grn": "mlp.grn",
}


def _convnext_name(key: str) -> str | None:
    outer = re.fullmatch(rf"(?:embeddings\.(patch_embeddings|layernorm)|layernorm)\.{_LEAF}", key)
    if outer:
        stem = {"patch_embeddings": "stem.0", "layernorm": "stem.1", None: "head.norm"}
        return f"{stem[outer[1]]}.{outer[2]}"
    down = re.fullmatch(rf"encoder\.stages\.(\d+)\.downsampling_layer\.(\d)\.{_LEAF}", key)
    if down:
        return f"stages.{down[1]}.downsample.{down[2]}.{down[3]}"
    block = re.fullmatch(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.([\w.]+)", key)
    if block is None:
        return None
    place = f"stages.{block[1]}.blocks.{block[2]}"
    if block[3] == "layer_scale_parameter":
        return f"{place}.gamma"
    layer, _, leaf = block[3].rpartition(".")
    return f"{place}.{_CONVNEXT_LAYERS[layer]}.{leaf}" if layer in _CONVNEXT_LAYERS else None

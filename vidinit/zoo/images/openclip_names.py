"""Image towers of open_clip and OpenAI's CLIP under timm's names.

Vision transformers, ResNets with their attention pool, and towers that are timm's own. The text
tower in the same file is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .state_dicts import Part

LAYOUT = "openclip"

_VIT = "class_embedding"
_RESNET = "attnpool.positional_embedding"
_TIMM = "trunk."

_OUTER = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "proj": "head.weight",
    "conv1.weight": "patch_embed.proj.weight",
    "conv1.bias": "patch_embed.proj.bias",
    **{f"ln_pre.{leaf}": f"norm_pre.{leaf}" for leaf in ("weight", "bias")},
    **{f"ln_post.{leaf}": f"norm.{leaf}" for leaf in ("weight", "bias")},
}
_LAYERS = {
    "ln_1": "norm1",
    "attn.in_proj": "attn.qkv",
    "attn.out_proj": "attn.proj",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_UNITS = {"1": "conv1_1x1", "2": "conv2_kxk", "3": "conv3_1x1"}
_POOL = {
    "positional_embedding": "pos_embed",
    **{f"{letter}_proj": letter for letter in "qkv"},
    "c_proj": "proj",
}


def find(state: Mapping[str, Tensor]) -> bool:
    """True for names of an image tower of open_clip."""
    return _prefix(state) is not None


def _prefix(state: Mapping[str, Tensor]) -> str | None:
    """The prefix of the tower's own names; ``visual.`` at its end, or nothing for a tower."""
    for name in state:
        match = re.fullmatch(rf"(.*\bvisual\.)({_VIT}|{_RESNET}|{_TIMM}.+)", name)
        if match:
            return match[1]
    alone = {_VIT, "conv1.weight"} <= set(state) or _RESNET in state
    return "" if alone else None


def renamed(whole: Part) -> Part:
    """A state dict under timm's names; what has none, the text tower's tensors too, is outside.

    Args:
        whole: one for which `find` is true.
    """
    prefix = _prefix(whole.state)
    assert prefix is not None
    own = {k.removeprefix(prefix): v for k, v in whole.state.items() if k.startswith(prefix)}
    state: dict[str, Tensor] = {}
    used = set()
    for key, value in own.items():
        name = _name(key, resnet=_RESNET in own)
        if name is not None:
            state[name] = _value(name, value)
            used.add(prefix + key)
    if "proj" in own:  # timm's layer has a bias
        state["head.bias"] = own["proj"].new_zeros(own["proj"].shape[1])
    outside = tuple(key for key in whole.state if key not in used)
    return Part(whole.key, "", state, outside, LAYOUT)


def _value(name: str, value: Tensor) -> Tensor:
    if name == "cls_token":
        return value.reshape(1, 1, -1)
    if name == "pos_embed" and value.dim() == 2:
        return value[None]
    return value.mT.contiguous() if name == "head.weight" else value


def _name(key: str, *, resnet: bool) -> str | None:
    if key.startswith(_TIMM):
        return key.removeprefix(_TIMM)
    if key == "head.proj.weight":  # a projection behind a tower of timm's
        return "head.proj.weight"
    if resnet:
        return _resnet_name(key)
    if key in _OUTER:
        return _OUTER[key]
    scale = re.fullmatch(r"transformer\.resblocks\.(\d+)\.ls_([12])\.gamma", key)
    if scale:
        return f"blocks.{scale[1]}.ls{scale[2]}.gamma"
    block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.([\w.]+?)[._](weight|bias)", key)
    if block is None or block[2] not in _LAYERS:
        return None
    return f"blocks.{block[1]}.{_LAYERS[block[2]]}.{block[3]}"


def _resnet_name(key: str) -> str | None:
    """Names of timm's ``resnet50_clip``."""
    pool = re.fullmatch(r"attnpool\.(\w+?)(\.weight|\.bias)?", key)
    if pool:
        return f"head.{_POOL[pool[1]]}{pool[2] or ''}" if pool[1] in _POOL else None
    stem = re.fullmatch(r"(conv|bn)(\d)\.(\w+)", key)
    if stem:
        return f"stem.conv{stem[2]}.{stem[1]}.{stem[3]}"
    block = r"layer(\d)\.(\d+)\."
    unit = re.fullmatch(rf"{block}(conv|bn)(\d)\.(\w+)", key)
    if unit:
        return f"stages.{int(unit[1]) - 1}.{unit[2]}.{_UNITS[unit[4]]}.{unit[3]}.{unit[5]}"
    down = re.fullmatch(rf"{block}downsample\.(\d)\.(\w+)", key)
    if down:
        layer = "conv" if down[3] == "0" else "bn"
        return f"stages.{int(down[1]) - 1}.{down[2]}.shortcut.conv.{layer}.{down[4]}"
    return None

"""Names of the tensors of V-JEPA 2's attentive probe: ours, which are its own, and transformers'.

Its code has one matrix for queries, keys and values where transformers has three: ``qkv`` stacks q,
k and v, ``kv`` stacks k and v.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_LAYERS = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_SELF = {**_LAYERS, "attn.proj": "self_attn.out_proj"}
_OURS = re.compile(r"(blocks\.(\d+)|cross_attention_block)\.(.+)\.(weight|bias)")


def theirs_of(key: str) -> list[str]:
    """Names in transformers of what a tensor of our pooler stacks; empty for one it has not.

    Args:
        key: below ``pooler.``, as ``blocks.0.attn.qkv.weight``.
    """
    if key == "query_tokens":
        return [key]
    match = _OURS.fullmatch(key)
    if match is None:
        return []
    block, number, layer, leaf = match.groups()
    inner = block == "cross_attention_block"
    place = "cross_attention_layer" if inner else f"self_attention_layers.{number}"
    attention = f"{place}.{'cross_attn' if inner else 'self_attn'}"
    stacks = {"attn.qkv": "qkv", "xattn.q": "q", "xattn.kv": "kv"}
    if layer in stacks:
        return [f"{attention}.{part}_proj.{leaf}" for part in stacks[layer]]
    names = _LAYERS if inner else _SELF
    return [f"{place}.{names[layer]}.{leaf}"] if layer in names else []


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of transformers' pooler under our names."""
    depth = len({key.split(".")[1] for key in state if key.startswith("self_attention_layers.")})
    ends = ("weight", "bias")
    names = ["query_tokens"]
    for block in range(depth):
        names += [f"blocks.{block}.{one}.{end}" for one in (*_SELF, "attn.qkv") for end in ends]
    inner = (*_LAYERS, "xattn.q", "xattn.kv")
    names += [f"cross_attention_block.{one}.{end}" for one in inner for end in ends]
    return {name: torch.cat([state[one] for one in theirs_of(name)]) for name in names}


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of our pooler under transformers' names; what has none is left out."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if theirs := theirs_of(name):
            out.update(zip(theirs, value.chunk(len(theirs)), strict=True))
    return out

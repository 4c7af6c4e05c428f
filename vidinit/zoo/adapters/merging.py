"""Linear adapters of ZeroI2V folded into the projections they stand before or behind.

With A(y) = y + s (W2 (W1 y + b1) + b2) = M y + c, where M = I + s W2 W1 and c = s (W2 b1 + b2):

    W A(y) + b = (W M) y + (W c + b)         before a projection
    A(W y + b) = (M W) y + (M b + c)         behind one

Exact but for rounding. Li et al., ECCV 2024, https://arxiv.org/abs/2310.01324.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .blocks import Bottleneck, ShiftedBlock

_BEFORE_MLP = ("fc1", "fc1_g", "fc1_x")


def why_not_merged(model: nn.Module) -> str:
    """Why the adapters of a model cannot be folded into its projections; empty where they can."""
    rotated = any(getattr(m, "rope", None) is not None for m in model.modules())
    blocks = [m for m in model.modules() if isinstance(m, ShiftedBlock)]
    if not blocks:
        return "it has no linear adapters"
    if not any(len(block.adapters) for block in blocks):
        return "they are merged already"
    for block in blocks:
        reason = _why_not(block, rotated)
        if reason:
            return reason
    return ""


def _why_not(block: Any, rotated: bool) -> str:
    attn, mlp = block.attn, block.mlp
    layers = [attn.proj, mlp.fc2, *(getattr(mlp, n) for n in _BEFORE_MLP if hasattr(mlp, n))]
    if attn.gate is not None:
        layers.append(attn.gate)
    has_bias = [layer.bias is not None for layer in layers]
    queries = attn.q_proj if attn.qkv is None else attn.qkv
    has_bias.append(queries.bias is not None or getattr(attn, "q_bias", None) is not None)
    if not all(has_bias):
        return "its projections have no bias that could take up that of an adapter"
    keys = attn.k_proj if attn.qkv is None else attn.qkv
    normed = not isinstance(attn.k_norm, nn.Identity)
    if keys.bias is None and (normed or rotated):
        between = "a norm stands" if normed else "rotary positions stand"
        return f"its keys have no bias, and {between} between them and the products with queries"
    return ""


@torch.no_grad()
def fold_adapters(block: Any) -> None:
    """Fold the adapters of a `ShiftedBlock` into its projections, in double precision.

    The network's layers get new parameters; the block has no adapters afterwards.

    Args:
        block: one of a model that `why_not_merged` says nothing of.
    """
    own = {place: _affine(adapter, block.scale) for place, adapter in block.adapters.items()}
    block.adapters.clear()
    if not own:
        return
    attn, mlp = block.attn, block.mlp
    if attn.qkv is None:
        for layer in (attn.q_proj, attn.k_proj, attn.v_proj):
            _fold_before(layer, *own["attention_in"])
    elif getattr(attn, "q_bias", None) is not None:
        added = _fold_before(attn.qkv, *own["attention_in"]).chunk(3)
        attn.q_bias = _like(attn.q_bias, attn.q_bias.double() + added[0])
        attn.v_bias = _like(attn.v_bias, attn.v_bias.double() + added[2])
    else:
        _fold_before(attn.qkv, *own["attention_in"])
    if attn.gate is not None:
        _fold_before(attn.gate, *own["attention_in"])
    _fold_behind(attn.proj, *own["attention_out"])
    for name in _BEFORE_MLP:
        if hasattr(mlp, name):
            _fold_before(getattr(mlp, name), *own["mlp_in"])
    _fold_behind(mlp.fc2, *own["mlp_out"])


def _affine(adapter: Bottleneck, scale: float) -> tuple[Tensor, Tensor]:
    """M and c of an adapter."""
    first, last = adapter.down, adapter.up
    up = last.weight.double()
    matrix = scale * up @ first.weight.double()
    matrix.diagonal().add_(1.0)
    return matrix, scale * (up @ first.bias.double() + last.bias.double())


def _fold_before(layer: nn.Linear, matrix: Tensor, shift: Tensor) -> Tensor:
    """Let a layer read M y + c; returns what its bias gains, which one without a bias has not.

    Of keys that gain is the same for all tokens, and the softmax takes no notice.
    """
    weight = layer.weight.double()
    layer.weight = _like(layer.weight, weight @ matrix)
    added = weight @ shift
    if layer.bias is not None:
        layer.bias = _like(layer.bias, layer.bias.double() + added)
    return added


def _fold_behind(layer: nn.Linear, matrix: Tensor, shift: Tensor) -> None:
    """Let what a layer returns be M y + c."""
    layer.weight = _like(layer.weight, matrix @ layer.weight.double())
    layer.bias = _like(layer.bias, matrix @ layer.bias.double() + shift)


def _like(old: Tensor, value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad)

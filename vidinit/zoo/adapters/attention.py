"""Attention of a vision transformer in which some heads look at neighboring frames.

STDHA of Li et al., "ZeroI2V: Zero-Cost Adaptation of Pre-trained Transformers from Image to Video",
ECCV 2024, https://arxiv.org/abs/2310.01324. Behind their projections the keys and values, not the
queries, of some heads are those of another frame. Frames whose source lies outside of the clip keep
their own. It costs no operations, only a copy.

Shapes in comments: B clips, T frames, N tokens of a frame with the prefix ones, H heads, D width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from ..images.networks import timm_module

EXAMPLE = "-1:1,+1:1"


class HeadShift(NamedTuple):
    """How many heads look how many frames ahead; back where the offset is negative."""

    offset: int
    heads: int


def default_shift(heads: int) -> str:
    """The published pattern for Kinetics-400: an eighth of the heads looks back, an eighth ahead.

    One each way of 12 heads, two of 16; at least one.
    """
    count = max(heads // 8, 1)
    return f"-1:{count},+1:{count}"


def read_shift(text: str, heads: int) -> list[HeadShift]:
    """A pattern such as ``-1:2,+1:2,-2:2``: frame offset and number of heads, from head 0 on.

    Args:
        text: entries OFFSET:HEADS separated by commas; empty for none.
        heads: of an attention.

    Raises:
        UsageError: for other text, an offset of 0 or given twice, and more heads than there are.
    """
    found = []
    for part in text.split(",") if text.strip() else ():
        match = re.fullmatch(r"\s*([+-]?\d+)\s*:\s*(\d+)\s*", part)
        if match is None:
            raise UsageError(
                f"shift={text}: '{part.strip()}' is no OFFSET:HEADS",
                f"write frame offsets with their heads: {EXAMPLE}",
            )
        found.append(HeadShift(int(match[1]), int(match[2])))
    offsets = [entry.offset for entry in found]
    if 0 in offsets or len(set(offsets)) < len(offsets) or any(e.heads < 1 for e in found):
        raise UsageError(
            f"shift={text}: offsets are other frames, each given once, with at least one head",
            f"write it like {EXAMPLE}",
        )
    total = sum(entry.heads for entry in found)
    if total > heads:
        raise UsageError(
            f"shift={text} moves {total} heads, each attention has {heads}", "move fewer"
        )
    return found


def why_not_shifted(attn: nn.Module) -> str:
    """Why the heads of an attention cannot be shifted; empty where they can."""
    timm_module()
    from timm.layers import Attention, AttentionRope
    from timm.models.eva import EvaAttention

    if type(attn) in (Attention, AttentionRope, EvaAttention):
        return ""
    return f"timm's {type(attn).__name__} has no keys and values by head that could be shifted"


def shifted_attention(
    attn: Any, x: Tensor, rope: Tensor | None, shifts: Sequence[HeadShift], frames: int
) -> Tensor:
    """Timm's attention within each frame, some heads with another frame's keys and values.

    Args:
        attn: one that `why_not_shifted` says nothing of, in eval mode.
        x: (B*T, N, D) tokens.
        rope: rotations of the patches' queries and keys, as the attention takes them, or None.
        shifts: the first heads, in this order; the rest look at their own frame.
        frames: T.

    Returns:
        (B*T, N, D).
    """
    q, k, v = projected(attn, x)
    q, k = attn.q_norm(q), attn.k_norm(k)
    if rope is not None:
        q, k = (_rotated(attn, part, rope).type_as(v) for part in (q, k))
    groups = getattr(attn, "num_kv_groups", 1)
    if groups > 1:
        k, v = (part.repeat_interleave(groups, dim=1) for part in (k, v))
    k, v = (shift_heads(part, shifts, frames) for part in (k, v))
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B*T, N, D)
    out = attn.norm(out)
    if attn.gate is not None:
        out = out * attn.gate(x).sigmoid()
    return attn.proj(out)


def projected(attn: Any, x: Tensor) -> list[Tensor]:
    """Queries, keys and values, (B*T, H, N, D/H) each, before any norm; for x of (B*T, N, D)."""
    if attn.qkv is None:
        parts = [layer(x) for layer in (attn.q_proj, attn.k_proj, attn.v_proj)]
    else:
        bias = attn.qkv.bias
        if getattr(attn, "q_bias", None) is not None:
            bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
        parts = list(F.linear(x, attn.qkv.weight, bias).chunk(3, dim=-1))
    return [part.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2) for part in parts]


def shift_heads(x: Tensor, shifts: Sequence[HeadShift], frames: int) -> Tensor:
    """(B*T, H, N, C) with the first heads taken from other frames of the clip, where there are."""
    clips = x.unflatten(0, (-1, frames))  # (B, T, H, N, C)
    parts, first = [], 0
    for offset, heads in shifts:
        parts.append(_from_frames(clips[:, :, first : first + heads], offset))
        first += heads
    return torch.cat([*parts, clips[:, :, first:]], dim=2).flatten(0, 1)


def _from_frames(clips: Tensor, offset: int) -> Tensor:
    """(B, T, ...) with frame t + offset in the place of frame t; t itself where there is none."""
    frames, step = clips.shape[1], abs(offset)
    if step >= frames:
        return clips
    if offset > 0:
        return torch.cat([clips[:, step:], clips[:, -step:]], dim=1)
    return torch.cat([clips[:, :step], clips[:, :-step]], dim=1)


def _rotated(attn: Any, x: Tensor, rope: Tensor) -> Tensor:
    from timm.layers import apply_rot_embed_cat

    first, patches = x[:, :, : attn.num_prefix_tokens], x[:, :, attn.num_prefix_tokens :]
    return torch.cat([first, apply_rot_embed_cat(patches, rope, half=attn.rotate_half)], dim=2)

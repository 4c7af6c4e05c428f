"""Poolers that know order, and V-JEPA 2's: tokens of a clip to its descriptor.

- `VJEPA2Pooler`: the attentive probe of V-JEPA 2 (Assran et al., 2025,
  https://arxiv.org/abs/2506.09985): blocks of self-attention over all tokens of a clip, then a
  learned query that attends to them. Blind to the order of frames without a time code.
- `ReadoutPooler`: the attention readout of RVM and 4DS (https://arxiv.org/abs/2412.15212): a time
  code on each frame's tokens, then one learned query.
- `GatedPooler`: RVM's recurrent network with gates over the frames, with a state for each position;
  the readout of its last state is the descriptor
  (https://github.com/tue-mps/towards-video-image-frozen).

Shapes in comments: B clips, T frames, N tokens of a frame, C channels of a token, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from .attentive import MLP_RATIO, AttentivePooler, Pooler, halves, heads_of, mix_heads, read_tokens
from .families.vit import resize_time

TIMES = ("none", "sincos", "learned")
"""Time codes: nothing, sines and cosines of the frame's number, or a learned vector a frame."""


class Mlp(nn.Module):
    """Two layers with GELU between them.

    Args:
        width: C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SelfAttention(nn.Module):
    """Attention among tokens, with a projection behind it.

    Args:
        width: C.
        heads: H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.proj(mix_heads(q, k, v, self.heads))
        return out


class CrossAttention(nn.Module):
    """Attention of queries to tokens; the projection behind it is left to the caller.

    Args:
        width: C.
        heads: H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """(B, M, C) and (B, N, C) to (B, M, C)."""
        k, v = self.kv(tokens).chunk(2, dim=-1)
        return mix_heads(self.q(query), k, v, self.heads)


class TimeCode(nn.Module):
    """A code that is added to all tokens of a frame, so that its place in the clip can be seen.

    Args:
        kind: one of `TIMES`.
        width: C.
        frames: of a learned code; it is interpolated for clips of other lengths.

    Raises:
        UsageError: another kind.
    """

    def __init__(self, kind: str, width: int, frames: int) -> None:
        super().__init__()
        if kind not in TIMES:
            raise UsageError(f"time={kind} is no time code", f"use {', '.join(TIMES)}")
        self.kind, self.width = kind, width
        if kind == "learned":
            self.embed = nn.Parameter(0.02 * torch.randn(1, frames, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to the same."""
        if self.kind == "none":
            return tokens
        if self.kind == "learned":
            code = resize_time(self.embed, tokens.shape[1])[0]
        else:
            code = sincos(tokens.shape[1], self.width, tokens.device)
        return tokens + code[:, None].to(tokens.dtype)

    def settings(self) -> dict[str, Any]:
        """Keywords of a pooler that make another one of this form."""
        frames = {"frames": self.embed.shape[1]} if self.kind == "learned" else {}
        return {"time": self.kind, **frames}


def sincos(frames: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sines, then cosines, of the numbers of frames at frequencies 10000^(-2i/C): (T, C).

    Vaswani et al., 2017, in the order of MAE and V-JEPA. An odd last channel is 0.
    """
    half = width // 2
    rates = 10000.0 ** (-torch.arange(half, device=device) / half)
    angles = torch.arange(frames, device=device)[:, None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width - 2 * half))


# ------------------------------------------------------------------------------------- V-JEPA 2


EPS = 1e-5  # of V-JEPA 2's norms; transformers' have 1e-6


class _SelfBlock(nn.Module):
    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn, self.mlp = SelfAttention(width, heads), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _CrossBlock(nn.Module):
    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.xattn, self.mlp = CrossAttention(width, heads), Mlp(width)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        xattn = self.xattn
        key, value = halves(xattn.kv)
        seen = read_tokens(xattn.q(query), self.norm1(tokens), key, value, xattn.heads)
        query = query + seen
        return query + self.mlp(self.norm2(query))


class VJEPA2Pooler(Pooler):
    """V-JEPA 2's attentive pooler, with its names of tensors and its initial values.

    With tokens X, ``blocks - 1`` times ``X += proj(MHA(LN X)); X += MLP(LN X)``, then with a
    learned query q, which is not normed, ``y = q + softmax(Wq q (Wk LN X)^T / sqrt(C/H)) Wv LN X``
    without a projection, and ``y += MLP(LN y)``, which is the descriptor.

    Args:
        width: C of the tokens.
        blocks: the depth: all blocks, the last of which is the query's. The published probes have
            4.
        heads: of the attention, a divisor of C; default: about one per 64 channels.
        time: the time code, one of `TIMES`. The published probes have none: their tokens were
            made of several frames each and know where they are.
        frames: T of a learned time code.
        eps: of all norms; transformers' poolers have 1e-6.

    Raises:
        UsageError: when C cannot be shared out among so many heads.
    """

    form = "vjepa2"

    def __init__(
        self,
        width: int,
        *,
        blocks: int = 1,
        heads: int | None = None,
        time: str = "none",
        frames: int = 16,
        eps: float = EPS,
    ) -> None:
        super().__init__(width)
        self.eps = eps
        self.heads = heads = heads_of(width, heads)
        self.time = TimeCode(time, width, frames)
        self.query_tokens = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(_SelfBlock(width, heads, eps) for _ in range(blocks - 1))
        self.cross_attention_block = _CrossBlock(width, heads, eps)
        self._reset()

    @torch.no_grad()
    def _reset(self) -> None:
        """Truncated normal of 0.02, biases 0, the ends of deeper branches smaller."""
        nn.init.trunc_normal_(self.query_tokens, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for number, block in enumerate(self.blocks, start=1):
            for end in (block.attn.proj, block.mlp.fc2):  # type: ignore[union-attr]
                end.weight.div_(math.sqrt(2 * number))  # type: ignore[union-attr, operator]
        # As the last block before it has it, not as the next one would: so it is published.
        last = max(1, len(self.blocks))
        self.cross_attention_block.mlp.fc2.weight.div_(math.sqrt(2 * last))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to (B, C)."""
        x = self.time(tokens).flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        query = self.query_tokens.expand(x.shape[0], -1, -1)
        out: Tensor = self.cross_attention_block(query, x)
        return out[:, 0]

    def settings(self) -> dict[str, Any]:
        """See `Pooler`."""
        sizes = {"blocks": len(self.blocks) + 1, "heads": self.heads}
        eps = {} if self.eps == EPS else {"eps": self.eps}
        return {"form": self.form, **sizes, **self.time.settings(), **eps}


# -------------------------------------------------------------------------------------- readout


class ReadoutPooler(Pooler):
    """A learned query attends once to all tokens, of which each frame's have a time code.

    ``X = LN X + code``, then ``y = q + Wo softmax(q (Wk X)^T / sqrt(R/H)) Wv X`` and
    ``y += MLP(LN y)``. Norms have an eps of 1e-5.

    Args:
        width: C of the tokens.
        heads: of the attention, a divisor of R; default: about one per 64 channels.
        readout: R, the width of the query and of the descriptor; default: C.
        time: the time code, one of `TIMES`.
        frames: T of a learned time code.

    Raises:
        UsageError: when R cannot be shared out among so many heads.
    """

    form = "readout"

    def __init__(
        self,
        width: int,
        *,
        heads: int | None = None,
        readout: int | None = None,
        time: str = "learned",
        frames: int = 16,
    ) -> None:
        inner = readout or width
        super().__init__(inner)
        self.heads = heads_of(inner, heads)
        self.norm = nn.LayerNorm(width)
        self.time = TimeCode(time, width, frames)
        self.query_token = nn.Parameter(0.02 * torch.randn(1, 1, inner))
        self.key, self.value = nn.Linear(width, inner), nn.Linear(width, inner)
        self.proj = nn.Linear(inner, inner)
        self.norm_mlp, self.mlp = nn.LayerNorm(inner), Mlp(inner)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to (B, R)."""
        x = self.time(self.norm(tokens)).flatten(1, 2)
        query = self.query_token.expand(x.shape[0], -1, -1)
        key, value = ((layer.weight, layer.bias) for layer in (self.key, self.value))
        query = query + self.proj(read_tokens(query, x, key, value, self.heads))
        out: Tensor = query + self.mlp(self.norm_mlp(query))
        return out[:, 0]

    def settings(self) -> dict[str, Any]:
        """See `Pooler`."""
        sizes = {"heads": self.heads, "readout": self.out_features}
        return {"form": self.form, **sizes, **self.time.settings()}


# ----------------------------------------------------------------------------------- gated core


class _CoreBlock(nn.Module):
    """Attention to the state, an MLP, attention among the frame's own tokens, each residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_cross = nn.LayerNorm(width, eps=1e-6)
        self.cross, self.proj = CrossAttention(width, heads), nn.Linear(width, width)
        self.norm_mlp, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width)
        self.norm_self, self.attn = nn.LayerNorm(width, eps=1e-6), SelfAttention(width, heads)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """(B, N, C) tokens of a frame and the state, which is not normed here, to (B, N, C)."""
        x = x + self.proj(self.cross(self.norm_cross(x), state))
        x = x + self.mlp(self.norm_mlp(x))
        return x + self.attn(self.norm_self(x))


class GatedCore(nn.Module):
    """A recurrent network over frames with a state of C channels for each position.

    With the tokens x of a frame and the state s, zero at first, in each frame

        u = sigmoid(Wu x + Uu s),   r = sigmoid(Wr x + Ur s),
        h = XT(x, r * LN(s)),       s <- (1 - u) * s + u * h,

    where the blocks XT read the tokens as queries and the gated state as keys and values. LN(s) of
    the last frame is what is read out.

    Args:
        width: C.
        blocks: of XT.
        heads: of their attention.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.input_update = nn.Linear(width, width, bias=False)
        self.state_update = nn.Linear(width, width, bias=False)
        self.input_reset = nn.Linear(width, width, bias=False)
        self.state_reset = nn.Linear(width, width, bias=False)
        self.norm_state = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(_CoreBlock(width, heads) for _ in range(blocks))
        self.norm_blocks = nn.LayerNorm(width, eps=1e-6)
        self.norm = nn.LayerNorm(width)  # 1e-5, as published

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to the last state, normed, (B, N, C)."""
        state = torch.zeros_like(tokens[:, 0])
        for x in tokens.unbind(1):
            update = torch.sigmoid(self.input_update(x) + self.state_update(state))
            reset = torch.sigmoid(self.input_reset(x) + self.state_reset(state))
            seen, h = reset * self.norm_state(state), x
            for block in self.blocks:
                h = block(h, seen)
            state = (1 - update) * state + update * self.norm_blocks(h)
        out: Tensor = self.norm(state)
        return out


class GatedPooler(Pooler):
    """`GatedCore` over the frames, and the readout of its last state.

    Args:
        width: C of the tokens.
        blocks: transformer blocks of the core.
        heads: of their attention, a divisor of C; default: about one per 64 channels.
        readout: width of the descriptor; default: C.
        readout_heads: of the readout's attention; default: about one per 64 of its channels.

    Raises:
        UsageError: when channels cannot be shared out among so many heads.
    """

    form = "gru"

    def __init__(
        self,
        width: int,
        *,
        blocks: int = 4,
        heads: int | None = None,
        readout: int | None = None,
        readout_heads: int | None = None,
    ) -> None:
        super().__init__(readout or width)
        self.heads = heads = heads_of(width, heads)
        self.core = GatedCore(width, blocks, heads)
        self.readout = ReadoutPooler(width, heads=readout_heads, readout=readout, time="none")

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to (B, R)."""
        out: Tensor = self.readout(self.core(tokens).unsqueeze(1))
        return out

    def settings(self) -> dict[str, Any]:
        """See `Pooler`."""
        core = {"blocks": len(self.core.blocks), "heads": self.heads}
        own = {"readout": self.out_features, "readout_heads": self.readout.heads}
        return {"form": self.form, **core, **own}


# ----------------------------------------------------------------------------- moments of frames


PARTS = ("mean", "change", "segments")
"""Parts that `SegmentsPooler` makes of the frames' tokens, in this order."""


class SegmentsPooler(Pooler):
    """Means of a clip's tokens over time, without parameters: what, how much it changes, and when.

    ``mean`` is the mean over all tokens, ``change`` the mean of ``|x[t+1, n] - x[t, n]|`` over
    frames t and positions n, and ``segments`` the means of K equal parts of the clip, in order
    (TSN's segments, kept apart). They stand behind one another.

    Args:
        width: C of the tokens.
        parts: which of `PARTS`, each once.
        segments: K.

    Raises:
        UsageError: no parts, others, or one twice.
    """

    form = "segments"

    def __init__(self, width: int, *, parts: Sequence[str] = PARTS, segments: int = 4) -> None:
        if not parts or len(set(parts)) < len(parts) or not set(parts) <= set(PARTS):
            raise UsageError(
                f"a clip's tokens are not pooled to {', '.join(parts) or 'nothing'}",
                f"name some of {', '.join(PARTS)}, each once",
            )
        ordered = [part for part in PARTS if part in parts]
        super().__init__(width * sum(segments if p == "segments" else 1 for p in ordered))
        self.parts, self.segments = ordered, segments

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to (B, D): C for each part, K C for the segments."""
        frames = tokens.mean(2)  # B T C
        found = []
        for part in self.parts:
            if part == "mean":
                found.append(frames.mean(1))
            elif part == "segments":
                found.append(F.adaptive_avg_pool1d(frames.mT, self.segments).mT.flatten(1))
            elif tokens.shape[1] == 1:
                found.append(torch.zeros_like(frames[:, 0]))
            else:
                found.append(tokens.diff(dim=1).abs().mean(dim=(1, 2)))
        return torch.cat(found, dim=1)

    def settings(self) -> dict[str, Any]:
        """See `Pooler`."""
        return {"form": self.form, "parts": list(self.parts), "segments": self.segments}


POOLERS: dict[str, type[Pooler]] = {
    "coca": AttentivePooler,
    "vjepa2": VJEPA2Pooler,
    "readout": ReadoutPooler,
    "gru": GatedPooler,
    "segments": SegmentsPooler,
}
"""The poolers by the word for their form, as model.yaml has it."""


def make_pooler(width: int, *, form: str = "coca", **settings: Any) -> Pooler:
    """A pooler with new weights.

    Args:
        width: C of the tokens.
        form: a key of `POOLERS`; folders of before there were several have none.
        settings: as `Pooler.settings` gives them.
    """
    return POOLERS[form](width, **settings)

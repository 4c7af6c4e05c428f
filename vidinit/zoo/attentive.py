"""A descriptor by attention: a learned query attends to all tokens of a clip.

The attentive probe of V-JEPA (Bardes et al., "Revisiting Feature Prediction for Learning Visual
Representations from Video", 2024, section 4) and the pooler of CoCa (Yu et al., 2022, section 3.2):
with tokens X and a learned query q, block by block,

    q <- q + MHA(LN(q), LN(X)),   q <- q + MLP(LN(q)),

and LN(q) is the descriptor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError

HEAD_WIDTH = 64  # of a head of attention, about, where their number is not given
MLP_RATIO = 4


class Pooler(nn.Module, ABC):
    """From the tokens of clips to their descriptors, in place of a model's own pooling.

    Args:
        out_features: D, the width of a descriptor.
    """

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) tokens, frame by frame, to (B, D)."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Keywords of `poolers.make_pooler` that make another one of this form."""


def heads_of(width: int, heads: int | None) -> int:
    """The number of heads of attention that is given, else a divisor of C, about one per 64 of it.

    Raises:
        UsageError: when C cannot be shared out among so many heads.
    """
    if not heads:
        most = max(1, width // HEAD_WIDTH)
        return next(heads for heads in range(most, 0, -1) if width % heads == 0)
    if width % heads:
        raise UsageError(
            f"{width} channels cannot be shared out among {heads} heads of attention",
            f"take a divisor of {width}",
        )
    return heads


def mix_heads(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention in each head: queries (B, M, C), keys and values (B, N, C) to (B, M, C)."""
    split = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def halves(layer: nn.Linear) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of the two layers that one stands for."""
    return list(zip(layer.weight.chunk(2), layer.bias.chunk(2), strict=True))


def read_tokens(
    query: Tensor,
    tokens: Tensor,
    key: tuple[Tensor, Tensor],
    value: tuple[Tensor, Tensor],
    heads: int,
) -> Tensor:
    """`mix_heads` for a few queries, without a key and a value for each token.

    As q (Wk x) = (q Wk) x, and the mean of Wv x is Wv of the mean, the layers are put on the
    queries' side: a token costs 2 M H C multiply-adds in place of 2 R C, forth and back.

    Args:
        query: (B, M, R), behind its layer.
        tokens: (B, N, C).
        key, value: weight (R, C) and bias (R,) of their layers.
        heads: H.

    Returns:
        (B, M, R).
    """
    q = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # B H M R/H
    key_weight, value_weight = (w.unflatten(0, (heads, -1)) for w, _ in (key, value))  # H R/H C
    key_bias, value_bias = (b.unflatten(0, (heads, 1, -1)) for _, b in (key, value))  # H 1 R/H
    rows = (q @ key_weight).flatten(1, 2)  # B H*M C
    scores = (rows @ tokens.mT).unflatten(1, (heads, -1)) + (q * key_bias).sum(-1, keepdim=True)
    shares = (scores * q.shape[-1] ** -0.5).softmax(-1)  # B H M N
    seen = (shares.flatten(1, 2).to(tokens.dtype) @ tokens).unflatten(1, (heads, -1))  # B H M C
    return (seen @ value_weight.mT + value_bias).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """A query attends to tokens, then passes an MLP, both with a residual.

    Args:
        width: C.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """(B, 1, C) and (B, N, C) to (B, 1, C)."""
        q = self.query(self.norm_query(query))
        key, value = halves(self.key_value)
        seen = read_tokens(q, self.norm_tokens(tokens), key, value, self.heads)
        query = query + self.proj(seen)
        return query + self.fc2(F.gelu(self.fc1(self.norm_mlp(query))))


class AttentivePooler(Pooler):
    """From tokens to a descriptor of the same width; the order of tokens does not matter.

    Args:
        width: C of the tokens.
        blocks: how many times the query attends, each time starting from the last result.
        heads: of the attention, a divisor of C; default: about one per 64 channels.

    Raises:
        UsageError: when C cannot be shared out among so many heads.
    """

    def __init__(self, width: int, *, blocks: int = 1, heads: int | None = None) -> None:
        super().__init__(width)
        self.heads = heads = heads_of(width, heads)
        self.query_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        nn.init.trunc_normal_(self.query_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, C) to (B, C)."""
        query = self.query_token.expand(tokens.shape[0], -1, -1)
        for block in self.blocks:
            query = block(query, tokens.flatten(1, 2))
        out: Tensor = self.norm(query)
        return out[:, 0]

    def settings(self) -> dict[str, Any]:
        """See `Pooler`."""
        return {"blocks": len(self.blocks), "heads": self.heads}

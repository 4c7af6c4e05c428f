"""Blocks of a vision transformer: as the image network has them, and with attention over time.

Both take over the modules of timm's blocks, so whatever a block has (layer scale, normed queries,
another activation) works as it does there, and the weights keep their names.

Shapes in comments: B clips, T frames, P prefix tokens (class token, registers), N patches of a
frame, C channels. A clip is (B, P + N*T, C), time running fastest: the order of the official code.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..folding import FrameCount
from ..modify.drop_path import ClipDropPath


class PlainBlock(nn.Module):
    """A block as it is in the image network: attention over all tokens it is given, then the MLP.

    Drop path leaves out whole sequences: those of frames where frames lie in the batch, as in the
    official code.

    Args:
        block: timm's, whose modules it takes over.
    """

    is_block = True

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn
        self.ls1 = getattr(block, "ls1", nn.Identity())
        self.norm2, self.mlp = block.norm2, block.mlp
        self.ls2 = getattr(block, "ls2", nn.Identity())
        self.drop_path = ClipDropPath(FrameCount(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) tokens to the same."""
        return self.feed(x + self.drop_path(self.ls1(self.attn(self.norm1(x)))))

    def feed(self, x: Tensor) -> Tensor:
        """The second half: (B, L, C) tokens through the MLP, each by itself."""
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class FrameBlock(PlainBlock):
    """Attention within each frame; all frames share the prefix tokens (TimeSformer's second step).

    The prefix tokens go into each frame's attention, and become the mean of what comes out.

    Args:
        block: timm's, whose modules it takes over.
        frames: T.
        prefix: P.
    """

    def __init__(self, block: Any, frames: FrameCount, prefix: int) -> None:
        super().__init__(block)
        self.frames = frames
        self.prefix = prefix

    def forward(self, x: Tensor) -> Tensor:
        """(B, P + N*T, C) tokens to the same."""
        return self.across_space(x[:, : self.prefix], x[:, self.prefix :])

    def across_space(self, first: Tensor, patches: Tensor) -> Tensor:
        """(B, P, C) prefix tokens and (B, N*T, C) patches to the block's (B, P + N*T, C)."""
        t = self.frames.value
        grid = patches.unflatten(1, (-1, t))  # (B, N, T, C)
        spread = first.unsqueeze(1).expand(-1, t, -1, -1)
        rows = torch.cat([spread, grid.transpose(1, 2)], dim=2).flatten(0, 1)  # (B*T, P + N, C)
        change = self.drop_path(self.ls1(self.attn(self.norm1(rows)))).unflatten(0, (-1, t))
        ours, theirs = change[:, :, : self.prefix], change[:, :, self.prefix :]
        grid = grid + theirs.transpose(1, 2)
        return self.feed(torch.cat([first + ours.mean(dim=1), grid.flatten(1, 2)], dim=1))


class DividedBlock(FrameBlock):
    """Attention over time at each position, then within each frame, then the MLP.

    "Divided space-time attention" of Bertasius et al., "Is Space-Time Attention All You Need for
    Video Understanding?", 2021. With z the patches:

        z <- z + fc(attn(norm(z)))    over the T tokens of a position

    The attention, its norm and its layer scale start as copies of the spatial ones, fc as zeros, so
    that a new block does what the image network's did.

    Args:
        block: timm's, whose modules it takes over.
        frames: T.
        prefix: P; these tokens have no time.
    """

    def __init__(self, block: Any, frames: FrameCount, prefix: int) -> None:
        super().__init__(block, frames, prefix)
        self.temporal_norm1 = copy.deepcopy(self.norm1)
        self.temporal_attn = copy.deepcopy(self.attn)
        self.temporal_ls1 = copy.deepcopy(self.ls1)
        self.has_shortcut = _is_standard(self.attn)
        width = self.attn.proj.out_features
        projection = nn.Linear(width, width).to(self.attn.proj.weight)
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
        self.temporal_fc: nn.Module = projection

    def forward(self, x: Tensor) -> Tensor:
        """(B, P + N*T, C) tokens to the same."""
        first, patches = x[:, : self.prefix], x[:, self.prefix :]
        return self.across_space(first, patches + self.across_time(patches))

    def across_time(self, patches: Tensor) -> Tensor:
        """The change that attention over time makes to the patches, (B, N*T, C) to the same."""
        rows = self.temporal_norm1(patches).unflatten(1, (-1, self.frames.value)).flatten(0, 1)
        alone = rows.shape[1] == 1 and self.has_shortcut
        rows = value_of(self.temporal_attn, rows) if alone else self.temporal_attn(rows)
        rows = self.drop_path(self.temporal_ls1(rows))  # (B*N, T, C)
        # The projection stands behind the drop path in the official code: its bias is never left
        # out.
        return self.temporal_fc(rows).view_as(patches)

    @torch.no_grad()
    def join_projections(self) -> None:
        """Make the two linear layers behind the attention over time one: for inference."""
        first, last = self.temporal_attn.proj, self.temporal_fc
        assert isinstance(last, nn.Linear)
        device = "cpu" if last.weight.device.type == "mps" else last.weight.device
        weight, bias, inner = (
            tensor.to(device, torch.float64) for tensor in (last.weight, last.bias, first.weight)
        )
        if not isinstance(self.temporal_ls1, nn.Identity):
            weight = weight * self.temporal_ls1.gamma.to(weight)
        if first.bias is not None:
            bias = bias + weight @ first.bias.to(weight)
        joined = nn.Linear(inner.shape[1], inner.shape[0], device="meta")
        joined.weight = nn.Parameter((weight @ inner).to(last.weight), requires_grad=False)
        joined.bias = nn.Parameter(bias.to(last.weight), requires_grad=False)
        self.temporal_attn.proj = joined.train(self.training)
        self.temporal_ls1, self.temporal_fc = nn.Identity(), nn.Identity()


def value_of(attn: Any, rows: Tensor) -> Tensor:
    """Attention within rows of one token, (R, 1, C) to the same.

    The softmax over one token is 1, so the result is its value. Queries and keys are not computed;
    their weights get gradients of zero, as they would otherwise.
    """
    values = attn.qkv.out_features // 3
    bias = None if attn.qkv.bias is None else attn.qkv.bias[-values:]
    value = F.linear(rows, attn.qkv.weight[-values:], bias)
    return attn.proj_drop(attn.proj(attn.norm(value) if hasattr(attn, "norm") else value))


def _is_standard(attn: Any) -> bool:
    """True for timm's standard attention, without norms or gates that would go unused."""
    from timm.models.vision_transformer import Attention

    return (
        type(attn) is Attention
        and isinstance(attn.q_norm, nn.Identity)
        and getattr(attn, "gate", None) is None
    )

"""Blocks of a frozen vision transformer with small trained layers between their parts.

They take over the modules of timm's blocks under the names they have there. Their adapters stand
beside the network, in the model's ``adapters``, so that what is trained and what is not are apart.

Shapes in comments: B clips, T frames, N tokens of a frame with the P prefix ones (class token,
registers), n = h*w patches, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..folding import FrameCount, depthwise_conv3d
from .attention import HeadShift, shifted_attention

DROP = "drop"  # of a block's adapters, the layer that leaves out branches of clips


class ClipAdapter(nn.Module):
    """ST-Adapter: x + W2 conv(W1 x), a depthwise kernel over the patches of a clip.

    No activation. It starts as nothing: the kernel is zero, so that gradients reach it at once and
    the linear layers from the second step on.

    Args:
        width: D.
        hidden: width of the bottleneck.
        kernel: (t, h, w), odd.
        frames: the model's frame count.
        unread: True where nothing behind it reads the patches. It then does nothing and is not
            trained; it is there because published files have it.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel: tuple[int, int, int],
        frames: FrameCount,
        unread: bool = False,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.unread = unread
        self.down = nn.Linear(width, hidden)
        pads = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(hidden, hidden, kernel, padding=pads, groups=hidden)
        self.up = nn.Linear(hidden, width)
        for value in (self.down.bias, self.up.bias, self.conv.bias, self.conv.weight):
            assert value is not None
            nn.init.zeros_(value)
        self.requires_grad_(not unread)

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B*T, n, D) patches to what is added to them."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        hidden = self.down(patches)
        time, height, width = weight.shape[2:]
        if height == width == 1 and hidden.device.type != "meta":  # where operations are counted
            mixed = _over_time(hidden, weight.flatten(1), self.frames.value)
        else:
            maps = hidden.unflatten(1, grid).permute(0, 3, 1, 2)  # channels_last, nothing copied
            pads = (width // 2, width // 2, height // 2, height // 2)
            mixed = depthwise_conv3d(maps, weight, self.frames.value, (1, 1), pads, time // 2)
            mixed = mixed.permute(0, 2, 3, 1).flatten(1, 2)
        return self.up(mixed + bias)


def _over_time(x: Tensor, weight: Tensor, frames: int) -> Tensor:
    """Depthwise kernels over time alone: (B*T, n, C) by (C, taps), with zeros around the clip."""
    half = weight.shape[1] // 2
    clips = x.unflatten(0, (-1, frames))  # (B, T, n, C)
    padded = F.pad(clips, (0, 0, 0, 0, half, half))
    total = clips * weight[:, half]
    for tap in range(weight.shape[1]):
        if tap != half and abs(tap - half) < frames:
            total = total + padded[:, tap : tap + frames] * weight[:, tap]
    return total.flatten(0, 1)


class Bottleneck(nn.Module):
    """W2 f(W1 x + b1) + b2, with f the GELU or nothing; it starts as zero.

    Args:
        width: D; a quarter of it is hidden.
        gelu: True for the (exact) GELU.
        dropout: of the hidden units.
    """

    def __init__(self, width: int, *, gelu: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // 4)
        self.act: nn.Module = nn.GELU() if gelu else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(width // 4, width)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        for value in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(value)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same."""
        return self.up(self.dropout(self.act(self.down(x))))


class AdaptedBlock(nn.Module):
    """A block of the network, without drop path, and the adapters that stand in it.

    Args:
        block: timm's ``Block`` or ``EvaBlock``, whose parts it takes over.
        adapters: by place. They are no children of this module, but of the model.
        frames: the model's frame count.
    """

    is_block = True

    norm1: nn.Module
    attn: nn.Module
    norm2: nn.Module
    mlp: nn.Module

    def __init__(self, block: nn.Module, adapters: nn.ModuleDict, frames: FrameCount) -> None:
        super().__init__()
        for name, value in block.named_parameters(recurse=False):
            self.register_parameter(name, value)  # EVA's layer scales
        for name, child in block.named_children():
            if not name.startswith("drop_path"):
                self.add_module(name, child)
        self.frames = frames
        self._beside = (adapters,)

    @property
    def adapters(self) -> nn.ModuleDict:
        """The adapters, by place."""
        return self._beside[0]

    @property
    def is_trained(self) -> bool:
        """True in train mode; the block itself is in eval mode always."""
        return self.adapters.training

    def attend(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """The network's attention over rows of tokens, (R, L, D) to the same."""
        attn: Any = self.attn
        return attn(x) if rope is None else attn(x, rope=rope)

    def scaled(self, x: Tensor, branch: int) -> Tensor:
        """The output of branch 1 (attention) or 2 (MLP) by the network's layer scale, if any."""
        gamma = getattr(self, f"gamma_{branch}", None)
        if gamma is not None:
            return gamma * x
        scale = getattr(self, f"ls{branch}", None)
        return x if scale is None else scale(x)


class ClipAdapterBlock(AdaptedBlock):
    """ST-Adapter's: the stream of patches passes an adapter before the attention and the MLP.

        x <- x + A1(x);  x <- x + attn(norm(x));  x <- x + A2(x);  x <- x + mlp(norm(x))

    Class token and registers pass by. Pan et al., "ST-Adapter: Parameter-Efficient Image-to-Video
    Transfer Learning", NeurIPS 2022, https://arxiv.org/abs/2206.13559.
    """

    def forward(self, x: Tensor, rope: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """(B*T, N, D) tokens to the same."""
        x = self._through("before_attention", x, grid)
        x = x + self.scaled(self.attend(self.norm1(x), rope), 1)
        x = self._through("before_mlp", x, grid)
        return x + self.scaled(self.mlp(self.norm2(x)), 2)

    def _through(self, place: str, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if place not in self.adapters or self.adapters[place].unread:
            return x
        prefix = x.shape[1] - grid[0] * grid[1]
        first, patches = x[:, :prefix], x[:, prefix:]
        patches = patches + self.adapters[place](patches, grid)
        return torch.cat([first, patches], dim=1) if prefix else patches


class TimeBlock(AdaptedBlock):
    """AIM's: the network's attention once over time, once over space, and an adapter for each part.

        x <- x + T(attn(norm(x)))              over the T tokens of each position
        x <- x + S(attn(norm(x))),             S(y) = y + s(y)
        x <- x + mlp(norm(x)) + scale * M(norm(x))

    Every token takes part in time, class token and registers too; there are no rotary positions in
    time. With two adapters over time T(attn(T_in(norm(x)))), T_in(y) = y + t(y). A layer scale of
    the network stands behind S, and not behind T and M, which are new branches. Drop path leaves
    out T and M of whole clips; in the official code it drops positions or frames.

    Yang et al., "AIM: Adapting Image Models for Efficient Video Action Recognition", ICLR 2023,
    https://arxiv.org/abs/2302.03024.
    """

    def __init__(
        self, block: nn.Module, adapters: nn.ModuleDict, frames: FrameCount, scale: float
    ) -> None:
        super().__init__(block, adapters, frames)
        self.scale = scale

    def forward(self, x: Tensor, rope: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """(B*T, N, D) tokens to the same."""
        own = self.adapters
        drop: nn.Module = own[DROP]
        x = x + drop(own["time"](self._attend_over_time(self.norm1(x))))
        attended = self.attend(self.norm1(x), rope)
        x = x + self.scaled(attended + own["space"](attended), 1)
        normed = self.norm2(x)
        return x + self.scaled(self.mlp(normed), 2) + drop(self.scale * own["mlp"](normed))

    def _attend_over_time(self, x: Tensor) -> Tensor:
        """(B*T, N, D) to the same: attention over the T tokens of a position."""
        tokens = x.shape[1]
        rows = x.unflatten(0, (-1, self.frames.value)).transpose(1, 2).flatten(0, 1)  # (B*N, T, D)
        if "time_in" in self.adapters:
            rows = rows + self.adapters["time_in"](rows)
        rows = self.attend(rows)
        return rows.unflatten(0, (-1, tokens)).transpose(1, 2).flatten(0, 1)


class ShiftedBlock(AdaptedBlock):
    """ZeroI2V's: heads that look at neighboring frames, and linear adapters that can be merged.

        x <- x + A_out(attn(A_in(norm(x))))
        x <- x + A_out(mlp(A_in(norm(x)))),    A(y) = y + scale * (W2 W1 y + b)

    The attention is `shifted_attention`. All tokens take part. Adapters stand before a layer scale
    of the network. Without adapters the block is a merged one. Li et al., "ZeroI2V", ECCV 2024,
    https://arxiv.org/abs/2310.01324.
    """

    def __init__(
        self,
        block: nn.Module,
        adapters: nn.ModuleDict,
        frames: FrameCount,
        shifts: Sequence[HeadShift],
        scale: float,
    ) -> None:
        super().__init__(block, adapters, frames)
        self.shifts = list(shifts)
        self.scale = scale

    def forward(self, x: Tensor, rope: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """(B*T, N, D) tokens to the same."""
        seen = self._adapted("attention_in", self.norm1(x))
        seen = shifted_attention(self.attn, seen, rope, self.shifts, self.frames.value)
        x = x + self.scaled(self._adapted("attention_out", seen), 1)
        fed = self.mlp(self._adapted("mlp_in", self.norm2(x)))
        return x + self.scaled(self._adapted("mlp_out", fed), 2)

    def _adapted(self, place: str, x: Tensor) -> Tensor:
        return x + self.scale * self.adapters[place](x) if place in self.adapters else x

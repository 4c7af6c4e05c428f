"""Side4Video's side network: a narrow video transformer that reads a frozen image transformer.

Yao et al., "Side4Video: Spatial-Temporal Side Network for Memory-Efficient Image-to-Video Transfer
Learning", 2023, https://arxiv.org/abs/2311.15769. Beside every block of the tower that is read
stands a block of width S. With X_i the tokens behind the tower's block, c_i and p_i the class
token's and the patches' rows of u_i = W_i LN_i(X_i), and s the stream of the side network:

    s = BN(stem(video))                       3 x p x p kernels on the pixels, p the tower's patch
    s <- s / 2 + p_i / 2                      then the block:
    s <- s + C(BN1(s))                        1x1x1, depthwise 3x1x1, 1x1x1: no activation
    y  = LN([c~_i; s + pos])                  c~_i: half of the channels of c_i are the next
    s <- s + MHA(y[1:], y, y)                 frame's, half the last one's, zeros beyond the ends
    s <- s + MLP(BN2(s))                      4 S wide, GELU

    descriptor = mean over time and space of BN(s)

Statistics of the batch norms are of all frames and positions of a batch: in train mode a clip's
result depends on the clips beside it, and of a batch of one clip nothing is left of the
descriptor, whose mean the last norm takes off.

Shapes in comments: B clips, T frames, N = h*w patches, C the tower's width, S the side network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..folding import FixedPads, FrameCount
from ..modify.drop_path import ClipDropPath
from ..temporal import TemporalConv, VolumeConv

HEAD_WIDTH = 64
TAPS = 3
MLP_RATIO = 4
POSITION_STD = 0.01
LAYERS_OF_INIT = 12  # published initial values divide by it whatever the tower's depth


class TimeBranch(nn.Module):
    """C(BN(s)): a depthwise kernel of three frames between two mixes of the channels."""

    is_new = True  # counted among the temporal parameters

    def __init__(self, width: int, frames: FrameCount) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.mix_in = nn.Linear(width, width)
        self.time = TemporalConv(width, width, TAPS, frames, groups=width, bias=True)
        self.mix_out = nn.Linear(width, width)

    def forward(self, s: Tensor) -> Tensor:
        """(B*T, S, h, w) to the same."""
        mixed = self.mix_in(_as_tokens(self.norm(s)))
        moved = self.time(_as_map(mixed, s.shape[2:]))
        return _as_map(self.mix_out(_as_tokens(moved)), s.shape[2:])


class SideBlock(nn.Module):
    """The part beside one block of the tower.

    Args:
        tower_width: C.
        width: S, a multiple of 64.
        frames: the model's frame count.
    """

    is_block = True

    def __init__(self, tower_width: int, width: int, frames: FrameCount) -> None:
        super().__init__()
        self.frames = frames
        self.norm_read = nn.LayerNorm(tower_width)
        self.read = nn.Linear(tower_width, width)
        self.conv = TimeBranch(width, frames)
        self.norm_attn = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // HEAD_WIDTH, batch_first=True)
        self.norm_mlp = nn.BatchNorm2d(width)
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)
        self.drop_path = ClipDropPath(frames)

    def forward(self, s: Tensor, tap: Tensor, pos_embed: Tensor) -> Tensor:
        """One step of the stream.

        Args:
            s: the stream, (B*T, S, h, w) in channels_last memory.
            tap: the tower's tokens, (B*T, 1 + N, C), the global one first.
            pos_embed: (1, N, S).

        Returns:
            The stream, as it came.
        """
        grid = s.shape[2:]
        tap = tap.to(self.norm_read.weight.dtype)  # a tower may have a precision of its own
        read = self.read(self.norm_read(tap))  # (B*T, 1 + N, S)
        s = 0.5 * s + 0.5 * _as_map(read[:, 1:], grid)
        s = s + self.drop_path(self.conv(s))
        tokens = _as_tokens(s)
        rows = torch.cat([self._neighbors(read[:, :1]), tokens + pos_embed], dim=1)
        rows = self.norm_attn(rows)
        seen = self.attn(rows[:, 1:], rows, rows, need_weights=False)[0]
        tokens = tokens + self.drop_path(seen)
        normed = _as_tokens(self.norm_mlp(_as_map(tokens, grid)))
        return _as_map(tokens + self.drop_path(self.fc2(F.gelu(self.fc1(normed)))), grid)

    def _neighbors(self, token: Tensor) -> Tensor:
        """(B*T, 1, S), half of it from the next frame and half from the last one."""
        if self.frames.still:  # every frame is like its neighbors
            return token
        clips = token.unflatten(0, (-1, self.frames.value))  # (B, T, 1, S)
        half = clips.shape[-1] // 2
        after, before = clips[..., :half], clips[..., half:]
        empty_after, empty_before = torch.zeros_like(after[:, :1]), torch.zeros_like(before[:, :1])
        after = torch.cat([after[:, 1:], empty_after], dim=1)
        before = torch.cat([empty_before, before[:, :-1]], dim=1)
        return torch.cat([after, before], dim=-1).flatten(0, 1)


class SideNetwork(nn.Module):
    """Stem, blocks and the last norm.

    Args:
        tower_width: C.
        patch: side of the tower's patches in pixels, which the stem shares.
        grid: (h, w), patches of a frame.
        blocks: how many blocks of the tower are read.
        width: S, a multiple of 64.
        frames: the model's frame count.
    """

    def __init__(
        self,
        tower_width: int,
        patch: int,
        grid: tuple[int, int],
        blocks: int,
        width: int,
        frames: FrameCount,
    ) -> None:
        super().__init__()
        self.width = width
        self.stem = VolumeConv(
            3,
            width,
            (TAPS, patch, patch),
            frames,
            stride=(1, patch),
            pads=FixedPads((0, 0, 0, 0)),
            bias=True,
        )
        self.stem_norm = nn.BatchNorm2d(width)
        self.pos_embed = nn.Parameter(torch.empty(1, grid[0] * grid[1], width))
        self.blocks = nn.ModuleList(SideBlock(tower_width, width, frames) for _ in range(blocks))
        self.norm = nn.BatchNorm2d(width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As published: CLIP's deviations, by S, for linear layers; torch's own for convolutions.

        No kernel and no matrix starts at zero.
        """
        # The published rule for convolutions looks for names that are not there: torch's stays.
        fan_in = self.stem.weight[0].numel()
        for value in (self.stem.weight, self.stem.bias):
            assert value is not None
            nn.init.uniform_(value, -(fan_in**-0.5), fan_in**-0.5)
        nn.init.normal_(self.pos_embed, std=POSITION_STD)
        attention, inner = self.width**-0.5, (2 * self.width) ** -0.5
        outer = attention * (2 * LAYERS_OF_INIT) ** -0.5
        for module in self.blocks:
            block: Any = module
            nn.init.normal_(block.read.weight, std=inner)
            nn.init.normal_(block.attn.in_proj_weight, std=attention)
            nn.init.normal_(block.attn.out_proj.weight, std=outer)
            nn.init.normal_(block.fc1.weight, std=inner)
            nn.init.normal_(block.fc2.weight, std=outer)

    def resize(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        """Resample the positions for another grid (h, w), as timm does an image network's.

        A new parameter takes the place of the old one.
        """
        from timm.layers import resample_abs_pos_embed

        data = resample_abs_pos_embed(
            self.pos_embed.detach(), new_size=list(new), old_size=list(old), num_prefix_tokens=0
        )
        self.pos_embed = nn.Parameter(data, requires_grad=self.pos_embed.requires_grad)

    def forward(self, taps: Sequence[Tensor], video: Tensor) -> Tensor:
        """Run beside the tower.

        Args:
            taps: outputs of the tower's blocks, (B*T, 1 + N, C) each, the global token first.
            video: the frames, (B*T, 3, H, W).

        Returns:
            The normed stream behind the last block, (B*T, S, h, w).
        """
        s = self.stem_norm(self.stem(video))
        for block, tap in zip(self.blocks, taps, strict=True):
            s = block(s, tap, self.pos_embed)
        return self.norm(s)


def _as_map(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """(B*T, N, S) to a view (B*T, S, h, w) in channels_last memory."""
    return tokens.unflatten(1, tuple(grid)).permute(0, 3, 1, 2)


def _as_tokens(maps: Tensor) -> Tensor:
    """(B*T, S, h, w) to (B*T, N, S); a view of channels_last memory."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)

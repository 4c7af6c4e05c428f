"""DiST's side network: what learns beside a frozen image transformer.

Qing et al., "Disentangling Spatial and Temporal Learning for Efficient Image-to-Video Transfer
Learning", ICCV 2023, https://arxiv.org/abs/2309.07911. A temporal encoder Z of small width sees all
frames; an integration stream R reads the outputs X_l of the tower's blocks, which sees every
gamma-th frame; both speak to one another behind each block. With M, U, Z as in the paper's code:

    Z <- temporal(Z)                          3x1x1 and 1x3x3 kernels
    M  = W_l X_l + R                          tokens of width D, the global one included
    U  = M + to_space(Z)                      gamma frames become one, a learned token joins
    Z <- Z + to_time(M)                       each frame of M goes to gamma frames of Z
    R  = mix(U)                               no identity inside: U comes back at the end only

    Y  = R + U                                then queries pool Y over space, and over time

Shapes in comments: B clips, T frames of the tower, gamma*T frames of the clip, N = G*G patches, C
the tower's width, D of the integration, E of the temporal encoder, J of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..folding import FixedPads, FrameCount
from ..temporal import TemporalConv, VolumeConv

STEM_TAPS = 5
HEAD_WIDTH = 64
POOL_RATIO = 4  # of the pooling layers' inner width over D
MIX_RATIO = 4  # of D over the inner width of the integration's temporal branch
STD = 0.02


def quick_gelu(x: Tensor) -> Tensor:
    """The product x * sigmoid(1.702 x), as a SiLU: one tensor is kept for the backward pass."""
    return F.silu(1.702 * x) * (1 / 1.702)


class TemporalBlock(nn.Module):
    """Z + space(act(time(norm(Z)))), the activation again behind the sum."""

    is_block = True
    is_new = True  # counted among the temporal parameters

    def __init__(self, width: int, frames: FrameCount) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.time = TemporalConv(width, width, 3, frames, bias=True)
        self.space = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B*gamma*T, E, G, G) to the same."""
        normed = self.norm(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return quick_gelu(z + self.space(quick_gelu(self.time(normed))))


class ToSpace(nn.Module):
    """gamma frames of Z to one of M, by a kernel of gamma taps; a learned token for the global one.

    Args:
        width: E.
        out_width: D.
        gamma: frames of Z for one of M.
        frames: T, of which each has a token of its own.
    """

    is_new = True

    def __init__(self, width: int, out_width: int, gamma: int, frames: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, frames, out_width))
        self.weight = nn.Parameter(torch.empty(out_width, width, gamma, 1))
        self.bias = nn.Parameter(torch.empty(out_width))

    def forward(self, z: Tensor, batch: int) -> Tensor:
        """(B*gamma*T, N, E) to (B*T, 1 + N, D)."""
        gamma = self.weight.shape[2]
        frames = z.unflatten(0, (-1, gamma)).unbind(1)
        # A kernel of gamma taps and stride gamma is one matrix product on frames side by side.
        weight = self.weight.squeeze(3).transpose(1, 2).flatten(1)  # (D, gamma*E)
        down = F.linear(torch.cat(frames, dim=-1), weight, self.bias)
        token = self.token.expand(batch, -1, -1).reshape(-1, 1, down.shape[-1])
        return torch.cat([token.to(down.dtype), down], dim=1)


class MixBlock(nn.Module):
    """Two branches on tokens: an MLP by itself, and one with a kernel of three frames inside."""

    is_block = True

    def __init__(self, width: int, frames: FrameCount) -> None:
        super().__init__()
        inner = width // MIX_RATIO
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.norm_time = nn.LayerNorm(width)
        self.time_in = nn.Linear(width, inner)
        self.time = TemporalConv(inner, inner, 3, frames, bias=True)
        self.time_out = nn.Linear(inner, width)

    def forward(self, u: Tensor) -> Tensor:
        """(B*T, 1 + N, D) to the same."""
        still = self.fc2(quick_gelu(self.fc1(self.norm(u))))
        tokens = self.time_in(self.norm_time(u)).transpose(1, 2).unsqueeze(3)  # (B*T, D/4, 1+N, 1)
        mixed = quick_gelu(self.time(tokens)).squeeze(3).transpose(1, 2)
        return still + self.time_out(mixed)


class QueryPool(nn.Module):
    """A query token that reads a set of tokens: cross-attention and an MLP, with residuals.

    One norm serves the query and what it reads.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // HEAD_WIDTH, batch_first=True)
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, POOL_RATIO * width)
        self.fc2 = nn.Linear(POOL_RATIO * width, width)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """(B, 1, D) and (B, N, D) to (B, 1, D)."""
        read = self.norm(tokens)
        query = query + self.attn(self.norm(query), read, read, need_weights=False)[0]
        return query + self.fc2(quick_gelu(self.fc1(self.norm_mlp(query))))


class PoolLayer(nn.Module):
    """A query for each frame reads its tokens; a query for the clip reads those of the frames."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.over_space = QueryPool(width)
        self.over_time = QueryPool(width)
        self.pos_embed = nn.Parameter(torch.empty(1, frames, width))

    def forward(self, frame: Tensor, clip: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B*T, 1, D), (B, 1, D) and (B*T, 1 + N, D) to the first two."""
        frame = self.over_space(frame, y)
        placed = frame.view(clip.shape[0], -1, frame.shape[-1]) + self.pos_embed
        return frame, self.over_time(clip, placed)


class SideNetwork(nn.Module):
    """Temporal encoder, integration and pooling.

    Args:
        width: C of the tower.
        patch: side of its patches in pixels, which the stem shares.
        taps: how many of its blocks are read.
        frames: T, frames the tower sees.
        gamma: frames of the clip for each of those.
        pools: A, pooling layers.
        joint: J, width of the embedding.
        dim: D, a multiple of 64.
        temporal_dim: E; 0 leaves the temporal encoder out: U = M, and the frames between those that
            the tower sees are seen by nobody.
        fine, coarse: frame counts of the clip and of the tower, which the model sets.
    """

    def __init__(
        self,
        width: int,
        patch: int,
        taps: int,
        *,
        frames: int,
        gamma: int,
        pools: int,
        joint: int,
        dim: int,
        temporal_dim: int,
        fine: FrameCount,
        coarse: FrameCount,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.has_time = temporal_dim > 0
        if self.has_time:
            self.stem = VolumeConv(
                3,
                temporal_dim,
                (STEM_TAPS, patch, patch),
                fine,
                stride=(1, patch),
                pads=FixedPads((0, 0, 0, 0)),
                bias=True,
            )
        self.reduce = nn.ModuleList(nn.Linear(width, dim) for _ in range(taps))
        if self.has_time:
            self.to_time = nn.ModuleList(nn.Linear(dim, temporal_dim) for _ in range(taps))
            self.to_space = nn.ModuleList(
                ToSpace(temporal_dim, dim, gamma, frames) for _ in range(taps)
            )
            self.temporal = nn.ModuleList(TemporalBlock(temporal_dim, fine) for _ in range(taps))
        self.mix = nn.ModuleList(MixBlock(dim, coarse) for _ in range(taps))
        self.pools = nn.ModuleList(PoolLayer(dim, frames) for _ in range(pools))
        self.frame_token = nn.Parameter(torch.empty(1, 1, dim))
        self.clip_token = nn.Parameter(torch.empty(1, 1, dim))
        self.global_proj = nn.Linear(width, dim)
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Parameter(torch.empty(dim, joint))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """N(0, 0.02) cut off for kernels, matrices and tokens, zero for biases, as published.

        The projections into the attentions keep torch's Xavier bounds; the last projection has
        unit gain. No layer starts at zero, so an untrained side network gives no image embedding.
        """
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, VolumeConv, ToSpace)):
                nn.init.trunc_normal_(module.weight, std=STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith(("token", "pos_embed")):
                nn.init.trunc_normal_(parameter, std=STD)
        nn.init.normal_(self.proj, std=self.proj.shape[0] ** -0.5)

    @property
    def frames(self) -> int:
        """T, frames of the tower, for each of which there are parameters."""
        return self.clip_positions[0].shape[1]

    @property
    def clip_positions(self) -> list[nn.Parameter]:
        """The parameters (1, T, D) that hold one vector per frame."""
        return [p for name, p in self.named_parameters() if p.dim() == 3 and _per_frame(name)]

    def forward(self, taps: Sequence[Tensor], video: Tensor) -> tuple[Tensor, Tensor]:
        """Run both streams beside the tower's blocks; `pooled` makes the embedding of the result.

        Args:
            taps: outputs of the tower's blocks, (B*T, 1 + N, C) each, the global token first.
            video: all frames, (B*gamma*T, 3, H, W).

        Returns:
            Y (B*T, 1 + N, D), and the mean over the frames of the last global token, (B, C).
        """
        z = self.stem(video) if self.has_time else video
        grid = z.shape[2:]
        batch = video.shape[0] // (self.gamma * self.frames)
        r: Tensor | None = None
        u = z
        for i, tap in enumerate(taps):
            m = self.reduce[i](tap.to(z.dtype))
            u = m = m if r is None else m + r
            if self.has_time:
                z = self.temporal[i](z)
                flat = z.permute(0, 2, 3, 1).flatten(1, 2)  # (B*gamma*T, N, E)
                u = m + self.to_space[i](flat, batch)  # (B*T, 1 + N, D)
                if i + 1 < len(taps):  # nobody reads Z behind the last block
                    sent = self.to_time[i](m[:, 1:]).unsqueeze(1)  # (B*T, 1, N, E)
                    flat = (flat.unflatten(0, (-1, self.gamma)) + sent).flatten(0, 1)
                    z = flat.unflatten(1, grid).permute(0, 3, 1, 2)
            r = self.mix[i](u)
        assert r is not None
        tokens = taps[-1][:, 0].unflatten(0, (batch, -1)).mean(dim=1)
        return r + u, tokens.to(u.dtype)  # U is added here, at the end, and never before

    def pooled(self, y: Tensor, tokens: Tensor) -> Tensor:
        """The results of `forward`, Y (B*T, 1 + N, D) and (B, C), to video embeddings (B, J)."""
        frame = self.frame_token.expand(y.shape[0], -1, -1)
        clip = self.clip_token.expand(tokens.shape[0], -1, -1)
        for layer in self.pools:
            frame, clip = layer(frame, clip, y)
        return self.joint(clip[:, 0] + self.global_proj(tokens))

    def joint(self, x: Tensor) -> Tensor:
        """(..., D) to (..., J)."""
        return self.norm(x) @ self.proj


def _per_frame(name: str) -> bool:
    return name.endswith("pos_embed") or name.startswith("to_space.")

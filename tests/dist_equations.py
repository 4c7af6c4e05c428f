"""DiST's equations written out over a public state dict: 3-D convolutions, tokens first.

Shapes: L = 1 + N tokens, B clips, T frames of the tower, gamma * T of the clip, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PREFIX = "backbone.base_encoder.dist_net."


class Equations:
    """The side network of a file, as a function."""

    def __init__(self, state: Mapping[str, Tensor], gamma: int) -> None:
        self.w = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
        self.gamma = gamma

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def conv(self, name: str, x: Tensor, padding: tuple[int, int, int]) -> Tensor:
        return F.conv3d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], padding=padding)

    def attention(self, name: str, q: Tensor, kv: Tensor) -> Tensor:
        """(L, B, D) by hand: heads of 64."""
        weight, bias = self.w[f"{name}.in_proj_weight"], self.w[f"{name}.in_proj_bias"]
        parts = zip((q, kv, kv), weight.chunk(3), bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, w, b).unflatten(2, (-1, 64)) for x, w, b in parts)
        scores = torch.einsum("qbhd,kbhd->bhqk", q, k) / 8
        out = torch.einsum("bhqk,kbhd->qbhd", scores.softmax(-1), v).flatten(2)
        return self.linear(f"{name}.out_proj", out)

    def __call__(self, taps: Sequence[Tensor], video: Tensor) -> Tensor:
        """Taps (L, B*T, C) and video (B, 3, gamma*T, H, W) to (B, J)."""
        w, b, t = self.w, video.shape[0], video.shape[2] // self.gamma
        patch = w["temporal_stem.weight"].shape[-1]
        z = F.conv3d(
            video,
            w["temporal_stem.weight"],
            w["temporal_stem.bias"],
            stride=(1, patch, patch),
            padding=(2, 0, 0),
        )
        r: Tensor | float = 0.0
        for i, tap in enumerate(taps):
            z = self.temporal_block(f"temporal_nets.{i}", z)
            m = self.linear(f"input_linears.{i}", tap) + r
            u = m + self.to_space(f"temporal2integration_nets.{i}", z, b)
            z = z + self.to_time(f"integration2temporal_nets.{i}.linear_fuse", m, b, z.shape)
            r = self.mix(f"integration_nets.{i}", u, b)
        y = r + u
        frame = w["aggregated_spatial_cls_token"].repeat(1, b * t, 1)
        clip = w["aggregated_cls_token"].repeat(1, b, 1)
        layer = 0
        while f"adapooling_nets.{layer}.positional_embedding" in w:
            frame, clip = self.pool(f"adapooling_nets.{layer}", frame, clip, y)
            layer += 1
        seen = taps[-1][0].view(b, t, -1).mean(1)
        return (
            self.norm("ln_post", clip[0] + self.linear("proj_spatial_cls_token", seen)) @ w["proj"]
        )

    def temporal_block(self, name: str, z: Tensor) -> Tensor:
        normed = self.norm(f"{name}.ln", z.movedim(1, -1)).movedim(-1, 1)
        inner = gelu(self.conv(f"{name}.temporal_net.c_fc1", normed, (1, 0, 0)))
        return gelu(z + self.conv(f"{name}.temporal_net.c_fc2", inner, (0, 1, 1)))

    def to_space(self, name: str, z: Tensor, b: int) -> Tensor:
        kernel, bias = self.w[f"{name}.linear_fuse.weight"], self.w[f"{name}.linear_fuse.bias"]
        down = F.conv3d(z, kernel, bias, stride=(self.gamma, 1, 1)).flatten(3)  # (B, D, T, N)
        token = self.w[f"{name}.cls_token"].repeat(1, b, 1, 1)
        return torch.cat([token, down.permute(3, 0, 2, 1)]).flatten(1, 2)

    def to_time(self, name: str, m: Tensor, b: int, shape: torch.Size) -> Tensor:
        sent = self.linear(name, m[1:]).unflatten(1, (b, -1)).permute(1, 3, 2, 0)  # (B, E, T, N)
        return sent.repeat_interleave(self.gamma, dim=2).reshape(shape)

    def mix(self, name: str, u: Tensor, b: int) -> Tensor:
        hidden = gelu(self.linear(f"{name}.ffn.c_fc", self.norm(f"{name}.ln", u)))
        x = self.norm(f"{name}.ln_temporal", u).unflatten(1, (b, -1)).permute(1, 3, 2, 0)[..., None]
        x = self.conv(f"{name}.temporal_ffn.c_fc1", x, (0, 0, 0))
        x = gelu(self.conv(f"{name}.temporal_ffn.c_fc2", x, (1, 0, 0)))
        x = self.conv(f"{name}.temporal_ffn.c_proj", x, (0, 0, 0))[..., 0]
        return self.linear(f"{name}.ffn.c_proj", hidden) + x.permute(3, 0, 2, 1).flatten(1, 2)

    def pool(self, name: str, frame: Tensor, clip: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        frame = self.query(name, "spatial_transformer", "spatial_cls_token", "spat", frame, y)
        placed = frame[0].view(clip.shape[1], -1, frame.shape[-1])
        placed = (placed + self.w[f"{name}.positional_embedding"]).transpose(0, 1)
        return frame, self.query(name, "temporal_transformer", "cls_token", "temp", clip, placed)

    def query(self, name: str, block: str, out: str, norm: str, q: Tensor, kv: Tensor) -> Tensor:
        block = f"{name}.{block}"
        read = self.norm(f"{block}.ln_1", kv)
        q = q + self.attention(f"{block}.attn", self.norm(f"{block}.ln_1", q), read)
        hidden = self.linear(
            f"{name}.output_map_{out}.c_fc", self.norm(f"{name}.ln_out_{norm}_cls_token", q)
        )
        return q + self.linear(f"{name}.output_map_{out}.c_proj", gelu(hidden))


def gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)

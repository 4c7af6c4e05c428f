"""Files of Side4Video as its authors save them, at any size, and their logits.

A file has random tensors under the published names; its logits are computed in plain torch straight
from these names, tokens first as in the paper's code: nothing here knows our models.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from adapter_files import HEAD_WIDTH, Drawn, Sizes, State, clip_tower
from torch import Tensor

TOWER, SIDE = "visual.transformer.resblocks.", "visual.transformer.side_transformer."


def side4video_file(
    sizes: Sizes, width: int = 64, *, blocks: int | None = None, wrapped: bool = False
) -> dict[str, Any]:
    """What Side4Video's training saves.

    Args:
        sizes: of the tower.
        width: of the side network.
        blocks: how many side blocks; default: one for each of the tower's.
        wrapped: with the prefix that training in several processes leaves.
    """
    drawn = Drawn(sizes.seed)
    drawn.state |= clip_tower(sizes, "visual.")
    del drawn.state["visual.ln_post.weight"], drawn.state["visual.ln_post.bias"]

    def batch_norm(key: str) -> None:
        drawn.norm(key, width)
        drawn.tensor(f"{key}.running_mean", width, scale=0.1)
        drawn.state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=drawn.generator)
        drawn.state[f"{key}.num_batches_tracked"] = torch.tensor(7)

    def conv(key: str, inputs: int, *kernel: int) -> None:
        drawn.tensor(f"{key}.weight", width, inputs, *kernel, scale=width**-0.5)
        drawn.tensor(f"{key}.bias", width, scale=0.1)

    conv("visual.side_conv1", 3, 3, sizes.patch, sizes.patch)
    batch_norm("visual.side_pre_bn3d")
    batch_norm("visual.side_post_bn")
    places = "visual.transformer.side_spatial_position_embeddings"
    drawn.tensor(places, sizes.grid**2, width, scale=0.5)
    for i in range(sizes.depth if blocks is None else blocks):
        drawn.norm(f"visual.transformer.side_lns.{i}", sizes.width)
        drawn.linear(f"visual.transformer.side_linears.{i}", width, sizes.width)
        batch_norm(f"{SIDE}{i}.bn_1")
        conv(f"{SIDE}{i}.conv.0", width, 1, 1, 1)
        conv(f"{SIDE}{i}.conv.1", 1, 3, 1, 1)
        conv(f"{SIDE}{i}.conv.2", width, 1, 1, 1)
        batch_norm(f"{SIDE}{i}.bn_2")
        drawn.linear(f"{SIDE}{i}.mlp.fc1", 4 * width, width)
        drawn.linear(f"{SIDE}{i}.mlp.fc2", width, 4 * width)
        drawn.tensor(f"{SIDE}{i}.attn.in_proj_weight", 3 * width, width, scale=width**-0.5)
        drawn.tensor(f"{SIDE}{i}.attn.in_proj_bias", 3 * width, scale=0.1)
        drawn.linear(f"{SIDE}{i}.attn.out_proj", width, width)
        drawn.norm(f"{SIDE}{i}.ln_1", width)
    drawn.linear("fc", sizes.classes, width)
    prefix = "module." if wrapped else ""
    state = {f"{prefix}{key}": value for key, value in drawn.state.items()}
    optimizer = {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    return {"epoch": 29, "model_state_dict": state, "optimizer_state_dict": optimizer}


class Paper:
    """The network of a file, in eval mode or with the statistics of the batch."""

    def __init__(self, state: State, *, training: bool = False) -> None:
        self.w, self.training = state, training

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """(B, S, T, h, w), each channel by its mean and variance."""
        if self.training:
            mean, var = x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4), unbiased=False)
        else:
            mean, var = self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"]
        gain = self.w[f"{name}.weight"] / (var + 1e-5).sqrt()
        shift = self.w[f"{name}.bias"] - mean * gain
        return x * gain.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)

    def attention(self, name: str, queries: Tensor, read: Tensor) -> Tensor:
        """(L, B*T, D) by hand."""
        weight, bias = self.w[f"{name}.in_proj_weight"], self.w[f"{name}.in_proj_bias"]
        parts = zip((queries, read, read), weight.chunk(3), bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, w, b).unflatten(2, (-1, HEAD_WIDTH)) for x, w, b in parts)
        scores = torch.einsum("qbhd,kbhd->bhqk", q, k) * HEAD_WIDTH**-0.5
        out = torch.einsum("bhqk,kbhd->qbhd", scores.softmax(-1), v).flatten(2)
        return self.linear(f"{name}.out_proj", out)

    def tower_block(self, i: int, x: Tensor) -> Tensor:
        block = f"{TOWER}{i}."
        normed = self.layer_norm(f"{block}ln_1", x)
        x = x + self.attention(f"{block}attn", normed, normed)
        inner = self.linear(f"{block}mlp.c_fc", self.layer_norm(f"{block}ln_2", x))
        return x + self.linear(f"{block}mlp.c_proj", inner * torch.sigmoid(1.702 * inner))

    def side_block(self, i: int, s: Tensor, token: Tensor, places: Tensor) -> Tensor:
        """The stream (B, S, T, h, w), and the class token's row (B, T, S)."""
        block, (b, width, t, h, w) = f"{SIDE}{i}.", s.shape
        y = self.batch_norm(f"{block}bn_1", s)
        for j, (groups, padding) in enumerate(((1, 0), (width, 1), (1, 0))):
            kernel, bias = self.w[f"{block}conv.{j}.weight"], self.w[f"{block}conv.{j}.bias"]
            y = F.conv3d(y, kernel, bias, padding=(padding, 0, 0), groups=groups)
        s = s + y
        shifted, half = torch.zeros_like(token), width // 2
        shifted[:, :-1, :half] = token[:, 1:, :half]
        shifted[:, 1:, half:] = token[:, :-1, half:]
        rows = s.permute(3, 4, 0, 2, 1).reshape(h * w, b * t, width)
        read = torch.cat([shifted.reshape(1, b * t, width), rows + places.unsqueeze(1)])
        read = self.layer_norm(f"{block}ln_1", read)
        rows = rows + self.attention(f"{block}attn", read[1:], read)
        s = rows.reshape(h, w, b, t, width).permute(2, 4, 3, 0, 1)
        y = self.batch_norm(f"{block}bn_2", s).permute(0, 2, 3, 4, 1)
        y = self.linear(f"{block}mlp.fc2", F.gelu(self.linear(f"{block}mlp.fc1", y)))
        return s + y.permute(0, 4, 1, 2, 3)

    def logits(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) clips to (B, classes)."""
        w, (b, _, t) = self.w, clip.shape[:3]
        kernel = w["visual.conv1.weight"]
        patch = kernel.shape[-1]
        x = F.conv2d(clip.transpose(1, 2).flatten(0, 1), kernel, stride=patch)
        grid = x.shape[-2:]
        x = x.flatten(2).permute(0, 2, 1)
        x = torch.cat([w["visual.class_embedding"].expand(b * t, 1, -1), x], dim=1)
        x = self.layer_norm("visual.ln_pre", x + w["visual.positional_embedding"])
        x = x.transpose(0, 1)
        stem, bias = w["visual.side_conv1.weight"], w["visual.side_conv1.bias"]
        s = F.conv3d(clip, stem, bias, stride=(1, patch, patch), padding=(1, 0, 0))
        s = self.batch_norm("visual.side_pre_bn3d", s)
        depth = len({key.split(".")[3] for key in w if key.startswith(TOWER)})
        sides = len({key.split(".")[3] for key in w if key.startswith(SIDE)})
        places = w["visual.transformer.side_spatial_position_embeddings"]
        for i in range(depth):
            x = self.tower_block(i, x)
            j = i - (depth - sides)
            if j < 0:
                continue
            u = self.layer_norm(f"visual.transformer.side_lns.{j}", x)
            u = self.linear(f"visual.transformer.side_linears.{j}", u)
            patches = u[1:].reshape(*grid, b, t, -1).permute(2, 4, 3, 0, 1)
            s = self.side_block(j, 0.5 * s + 0.5 * patches, u[0].reshape(b, t, -1), places)
        return self.linear("fc", self.batch_norm("visual.side_post_bn", s).mean((2, 3, 4)))

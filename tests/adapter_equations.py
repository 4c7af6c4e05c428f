"""Adapters of frozen vision transformers written out a second time: frame by frame, head by head.

Straight from the equations of the papers, on an untouched timm network and the tensors of the
adapters by name. Nothing here is shared with the library.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]


def affine(own: State, name: str, x: Tensor) -> Tensor:
    return x @ own[f"{name}.weight"].T + own[f"{name}.bias"]


def stem(vit: Any, frame: Tensor) -> tuple[Tensor, Tensor | None]:
    """Tokens (N, D) of one frame (3, H, W), with positions, in front of the norm; rotations."""
    tokens, rope = vit._pos_embed(vit.patch_embed(frame[None])), None
    if isinstance(tokens, tuple):
        tokens, rope = tokens
    return tokens[0], rope


def attention(block: Any, x: Tensor, rope: Tensor | None) -> Tensor:
    """The network's own attention over the rows of (L, D)."""
    return (block.attn(x[None]) if rope is None else block.attn(x[None], rope=rope))[0]


def scaled(block: Any, number: int, x: Tensor) -> Tensor:
    """By the block's layer scale."""
    gamma = getattr(block, f"gamma_{number}", None)
    if gamma is not None:
        return gamma * x
    return getattr(block, f"ls{number}", nn.Identity())(x)


def own_of(adapters: State, block: int, place: str) -> State:
    start = f"adapters.{block}.{place}."
    return {
        key.removeprefix(start): value for key, value in adapters.items() if key.startswith(start)
    }


@torch.no_grad()
def st_adapter(vit: Any, adapters: State, clip: Tensor) -> Tensor:
    """Raw tokens of the frames (T, N, D) behind the last block, of a clip (3, T, H, W)."""
    frames = clip.shape[1]
    made = [stem(vit, clip[:, t]) for t in range(frames)]
    rope = made[0][1]
    x = [vit.norm_pre(tokens) for tokens, _ in made]
    prefix = vit.num_prefix_tokens
    rows, columns = vit.patch_embed.grid_size

    def adapter(own: State, x: list[Tensor]) -> list[Tensor]:
        if not own:
            return x
        hidden = [
            affine(own, "down", tokens[prefix:]).unflatten(0, (rows, columns)) for tokens in x
        ]
        weight = own["conv.weight"][:, 0]
        _, taps, height, width = weight.shape
        out = []
        for t in range(frames):
            total = torch.zeros_like(hidden[0]) + own["conv.bias"]
            for r in range(rows):
                for c in range(columns):
                    for k in range(taps):
                        for i in range(height):
                            for j in range(width):
                                at = t + k - taps // 2
                                y, z = r + i - height // 2, c + j - width // 2
                                if 0 <= at < frames and 0 <= y < rows and 0 <= z < columns:
                                    total[r, c] += weight[:, k, i, j] * hidden[at][y, z]
            patches = x[t][prefix:] + affine(own, "up", total.flatten(0, 1))
            out.append(torch.cat([x[t][:prefix], patches]))
        return out

    for number, block in enumerate(vit.blocks):
        x = adapter(own_of(adapters, number, "before_attention"), x)
        x = [f + scaled(block, 1, attention(block, block.norm1(f), rope)) for f in x]
        x = adapter(own_of(adapters, number, "before_mlp"), x)
        x = [f + scaled(block, 2, block.mlp(block.norm2(f))) for f in x]
    return torch.stack(x)


def bottleneck(own: State, x: Tensor, gelu: bool) -> Tensor:
    hidden = affine(own, "down", x)
    if gelu:
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    return affine(own, "up", hidden)


@torch.no_grad()
def aim(vit: Any, adapters: State, clip: Tensor, scale: float) -> Tensor:
    """As `st_adapter`, of AIM; drop path off."""
    frames = clip.shape[1]
    made = [stem(vit, clip[:, t]) for t in range(frames)]
    rope = made[0][1]
    time = adapters["time_embed"][0]
    x = torch.stack([vit.norm_pre(tokens + time[t]) for t, (tokens, _) in enumerate(made)])
    for number, block in enumerate(vit.blocks):
        place = {p: own_of(adapters, number, p) for p in ("time", "time_in", "space", "mlp")}
        z = block.norm1(x)
        for position in range(x.shape[1]):
            row = z[:, position]
            if place["time_in"]:
                row = row + bottleneck(place["time_in"], row, gelu=True)
            x[:, position] += bottleneck(place["time"], attention(block, row, None), gelu=True)
        for t in range(frames):
            seen = attention(block, block.norm1(x[t]), rope)
            x[t] += scaled(block, 1, seen + bottleneck(place["space"], seen, gelu=True))
            normed = block.norm2(x[t])
            beside = scale * bottleneck(place["mlp"], normed, gelu=True)
            x[t] += scaled(block, 2, block.mlp(normed)) + beside
    return x


@torch.no_grad()
def zero_cost(vit: Any, adapters: State, clip: Tensor, scale: float, offsets: list[int]) -> Tensor:
    """As `st_adapter`, of ZeroI2V, dropout off; ``offsets`` has the frame offset of each head.

    Networks with one projection of queries, keys and values, and without rotations.
    """
    frames, heads = clip.shape[1], len(offsets)
    time = adapters["time_embed"][0]
    x = torch.stack([vit.norm_pre(stem(vit, clip[:, t])[0] + time[t]) for t in range(frames)])
    for number, block in enumerate(vit.blocks):
        attn = block.attn

        def adapted(place: str, y: Tensor, number: int = number) -> Tensor:
            return y + scale * bottleneck(own_of(adapters, number, place), y, gelu=False)

        projected = [attn.qkv(adapted("attention_in", block.norm1(x[t]))) for t in range(frames)]
        head = projected[0].shape[1] // 3 // heads
        after = x.clone()
        for t in range(frames):
            outs = []
            for h, offset in enumerate(offsets):
                source = t + offset if 0 <= t + offset < frames else t
                start = h * head
                q = attn.q_norm(projected[t][:, start : start + head])
                k, v = (
                    projected[source][:, part * heads * head + start :][:, :head] for part in (1, 2)
                )
                weights = (q @ attn.k_norm(k).T / math.sqrt(head)).softmax(dim=-1)
                outs.append(weights @ v)
            seen = F.linear(torch.cat(outs, dim=1), attn.proj.weight, attn.proj.bias)
            after[t] += scaled(block, 1, adapted("attention_out", seen))
        x = after
        for t in range(frames):
            fed = block.mlp(adapted("mlp_in", block.norm2(x[t])))
            x[t] += scaled(block, 2, adapted("mlp_out", fed))
    return x


@torch.no_grad()
def logits(vit: Any, head: nn.Linear, tokens: Tensor, averaged: str) -> Tensor:
    """Of raw tokens (T, N, D): frames averaged before the last norm of a class token, or behind."""
    if averaged == "tokens":
        assert vit.global_pool == "token"
        return head(vit.fc_norm(vit.norm(tokens[:, 0].mean(0))))
    described = torch.stack(
        [vit.forward_head(vit.norm(f[None]), pre_logits=True)[0] for f in tokens]
    )
    return torch.stack([head(d) for d in described]).mean(0)

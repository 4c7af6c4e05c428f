"""Adapters of frozen vision transformers as their authors publish them, at any size.

For each a file's tensors under the published names, with random values, and the logits of the
network in plain torch straight from these names: nothing here knows our models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
HEAD_WIDTH = 64


@dataclass(frozen=True)
class Sizes:
    """Of a small vision transformer; its heads are 64 wide."""

    width: int = 128
    depth: int = 2
    patch: int = 8
    grid: int = 3
    classes: int = 5
    frames: int = 4
    seed: int = 0

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH

    @property
    def side(self) -> int:
        return self.patch * self.grid


class Drawn:
    """Tensors of a file, drawn one after the other."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def tensor(self, key: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> None:
        drawn = torch.randn(shape, generator=self.generator)
        self.state[key] = around + drawn * scale

    def linear(self, key: str, outputs: int, inputs: int, gain: float = 1.0) -> None:
        self.tensor(f"{key}.weight", outputs, inputs, scale=gain / math.sqrt(inputs))
        self.tensor(f"{key}.bias", outputs, scale=0.1)

    def norm(self, key: str, width: int) -> None:
        self.tensor(f"{key}.weight", width, scale=0.2, around=1.0)
        self.tensor(f"{key}.bias", width, scale=0.2)


# ------------------------------------------------------------------ files


def clip_tower(sizes: Sizes, root: str = "", *, proj: int = 0) -> State:
    """OpenAI's image tower; ``proj`` is the width of its joint space, 0 for a tower without."""
    drawn, width = Drawn(sizes.seed), sizes.width
    drawn.tensor(f"{root}class_embedding", width)
    drawn.tensor(f"{root}positional_embedding", 1 + sizes.grid**2, width, scale=0.5)
    pixels = 3 * sizes.patch**2
    drawn.tensor(f"{root}conv1.weight", width, 3, sizes.patch, sizes.patch, scale=pixels**-0.5)
    drawn.norm(f"{root}ln_pre", width)
    for i in range(sizes.depth):
        block = f"{root}transformer.resblocks.{i}."
        drawn.norm(f"{block}ln_1", width)
        drawn.tensor(f"{block}attn.in_proj_weight", 3 * width, width, scale=width**-0.5)
        drawn.tensor(f"{block}attn.in_proj_bias", 3 * width, scale=0.1)
        drawn.linear(f"{block}attn.out_proj", width, width)
        drawn.norm(f"{block}ln_2", width)
        drawn.linear(f"{block}mlp.c_fc", 4 * width, width)
        drawn.linear(f"{block}mlp.c_proj", width, 4 * width)
    drawn.norm(f"{root}ln_post", width)
    if proj:
        drawn.tensor(f"{root}proj", width, proj, scale=width**-0.5)
    return drawn.state


def timm_tower(sizes: Sizes, root: str = "", *, norm: str = "norm") -> State:
    """A ViT under timm's names, without its classifier."""
    drawn, width = Drawn(sizes.seed), sizes.width
    drawn.tensor(f"{root}cls_token", 1, 1, width)
    drawn.tensor(f"{root}pos_embed", 1, 1 + sizes.grid**2, width, scale=0.5)
    pixels = 3 * sizes.patch**2
    kernel = f"{root}patch_embed.proj"
    drawn.tensor(f"{kernel}.weight", width, 3, sizes.patch, sizes.patch, scale=pixels**-0.5)
    drawn.tensor(f"{kernel}.bias", width, scale=0.1)
    for i in range(sizes.depth):
        block = f"{root}blocks.{i}."
        drawn.norm(f"{block}norm1", width)
        drawn.linear(f"{block}attn.qkv", 3 * width, width)
        drawn.linear(f"{block}attn.proj", width, width)
        drawn.norm(f"{block}norm2", width)
        drawn.linear(f"{block}mlp.fc1", 4 * width, width)
        drawn.linear(f"{block}mlp.fc2", width, 4 * width)
    drawn.norm(f"{root}{norm}", width)
    return drawn.state


def st_adapter_file(
    sizes: Sizes,
    *,
    inner: int = 48,
    kernel: Sequence[int] = (3, 1, 1),
    places: Sequence[str] = ("attn", "mlp"),
    blocks: Sequence[int] | None = None,
) -> dict[str, Any]:
    """What ST-Adapter's training saves: the tensors that learned, alone."""
    drawn = Drawn(sizes.seed + 1)
    for i in range(sizes.depth) if blocks is None else blocks:
        for place in places:
            adapter = f"transformer.resblocks.{i}.adapter_pre_{place}."
            drawn.linear(f"{adapter}fc1", inner, sizes.width)
            drawn.tensor(f"{adapter}conv.weight", inner, 1, *kernel, scale=0.5)
            drawn.tensor(f"{adapter}conv.bias", inner, scale=0.1)
            drawn.linear(f"{adapter}fc2", sizes.width, inner)
    drawn.linear("fc", sizes.classes, sizes.width)
    state = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    return {
        "model": drawn.state,
        "optimizer": {"state": {0: state}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "lr_sched": {"last_epoch": 3, "base_lrs": [1e-3]},
        "loss_scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "next_epoch": 12,
    }


def _bottlenecks(sizes: Sizes, block: str, names: Sequence[str]) -> State:
    drawn, inner = Drawn(sizes.seed + 2), sizes.width // 4
    for i in range(sizes.depth):
        for name in names:
            drawn.linear(f"{block.format(i)}{name}.D_fc1", inner, sizes.width)
            drawn.linear(f"{block.format(i)}{name}.D_fc2", sizes.width, inner)
    return drawn.state


def _around(sizes: Sizes) -> State:
    """What AIM and ZeroI2V have outside the blocks: an embedding of time, and the classifier."""
    drawn = Drawn(sizes.seed + 3)
    drawn.tensor("backbone.temporal_embedding", 1, sizes.frames, sizes.width, scale=0.5)
    drawn.linear("cls_head.fc_cls", sizes.classes, sizes.width)
    return drawn.state


CLIP_BLOCK = "backbone.transformer.resblocks.{}."


def aim_state(sizes: Sizes, *, time_adapters: int = 1) -> State:
    """AIM on CLIP: the whole model, in mmcv's ``state_dict``."""
    names = ["T_Adapter", "S_Adapter", "MLP_Adapter", *["T_Adapter_in"] * (time_adapters == 2)]
    tower = clip_tower(sizes, "backbone.")
    return {**tower, **_bottlenecks(sizes, CLIP_BLOCK, names), **_around(sizes)}


def aim_imagenet_state(sizes: Sizes, *, time_adapters: int = 1) -> State:
    """AIM on a ViT of ImageNet: timm's names, but for the last norm."""
    names = ["T_Adapter", "S_Adapter", "MLP_Adapter", *["T_Adapter_in"] * (time_adapters == 2)]
    tower = timm_tower(sizes, "backbone.", norm="ln_post")
    return {**tower, **_bottlenecks(sizes, "backbone.blocks.{}.", names), **_around(sizes)}


ZERO_PLACES = ("T_Adapter_in", "S_Adapter", "MLP_Adapter", "MLP_Adapter_out")


def zeroi2v_state(sizes: Sizes, *, places: Sequence[str] = ZERO_PLACES) -> State:
    """ZeroI2V as it was trained; without any of ``places`` as it is merged."""
    tower = clip_tower(sizes, "backbone.")
    return {**tower, **_bottlenecks(sizes, CLIP_BLOCK, places), **_around(sizes)}


def merged_zeroi2v(state: Mapping[str, Tensor], depth: int, scale: float) -> State:
    """The file of a trained ZeroI2V with its adapters in the layers beside them."""
    merged = {key: value for key, value in state.items() if "Adapter" not in key}
    for i in range(depth):
        block = CLIP_BLOCK.format(i)

        def matrices(name: str, block: str = block) -> tuple[Tensor, Tensor]:
            down, up = f"{block}{name}.D_fc1.", f"{block}{name}.D_fc2."
            product = state[f"{up}weight"].double() @ state[f"{down}weight"].double()
            bias = state[f"{up}weight"].double() @ state[f"{down}bias"].double()
            full = torch.eye(len(product), dtype=torch.float64) + scale * product
            return full, scale * (bias + state[f"{up}bias"].double())

        for name, weight, bias, first in (
            ("T_Adapter_in", "attn.in_proj_weight", "attn.in_proj_bias", True),
            ("S_Adapter", "attn.out_proj.weight", "attn.out_proj.bias", False),
            ("MLP_Adapter", "mlp.c_fc.weight", "mlp.c_fc.bias", True),
            ("MLP_Adapter_out", "mlp.c_proj.weight", "mlp.c_proj.bias", False),
        ):
            matrix, vector = matrices(name)
            w, b = state[block + weight].double(), state[block + bias].double()
            new = (w @ matrix, w @ vector + b) if first else (matrix @ w, matrix @ b + vector)
            merged[block + weight], merged[block + bias] = (value.float() for value in new)
    return merged


# ------------------------------------------------------------------ the networks, in plain torch


def _linear(state: Mapping[str, Tensor], key: str, x: Tensor) -> Tensor:
    return x @ state[f"{key}.weight"].mT + state[f"{key}.bias"]


def _norm(state: Mapping[str, Tensor], key: str, x: Tensor, eps: float) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    unit = centered / torch.sqrt(centered.square().mean(-1, keepdim=True) + eps)
    return unit * state[f"{key}.weight"] + state[f"{key}.bias"]


def _mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of one head: (..., N, 64) each."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1) @ v


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Published:
    """The parts of a published vision transformer, by their names in its file.

    Args:
        state: the tensors.
        sizes: of the network.
        root: what stands before the tower's names.
        timm: True for timm's names, exact GELU and an eps of 1e-6; else OpenAI's.
    """

    def __init__(
        self, state: Mapping[str, Tensor], sizes: Sizes, root: str = "", *, timm: bool = False
    ) -> None:
        self.state, self.sizes, self.root, self.timm = state, sizes, root, timm
        self.eps = 1e-6 if timm else 1e-5
        self.act: Callable[[Tensor], Tensor] = F.gelu if timm else _quick_gelu

    def block(self, i: int) -> str:
        return f"{self.root}blocks.{i}." if self.timm else f"{self.root}transformer.resblocks.{i}."

    def tokens(self, clips: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, 3, T, S, S) to the tokens before the first block, (B, T, N, D)."""
        state, root = self.state, self.root
        batch, _, frames, side, _ = clips.shape
        patch, grid = self.sizes.patch, side // self.sizes.patch
        kernel = state[f"{root}patch_embed.proj.weight" if self.timm else f"{root}conv1.weight"]
        cut = clips.reshape(batch, 3, frames, grid, patch, grid, patch)
        patches = torch.einsum("bctyixj,dcij->btyxd", cut, kernel).flatten(2, 3)
        if self.timm:
            patches = patches + state[f"{root}patch_embed.proj.bias"]
            first, places = state[f"{root}cls_token"][0, 0], state[f"{root}pos_embed"][0]
        else:
            first = state[f"{root}class_embedding"]
            places = state[f"{root}positional_embedding"]
        x = torch.cat([first.expand(batch, frames, 1, -1), patches], dim=2) + places
        if time is not None:
            x = x + time[:, :, None]
        return x if self.timm else _norm(state, f"{root}ln_pre", x, self.eps)

    def norm(self, i: int, which: int, x: Tensor) -> Tensor:
        return _norm(
            self.state, f"{self.block(i)}{'norm' if self.timm else 'ln_'}{which}", x, self.eps
        )

    def attention(
        self, i: int, x: Tensor, heads: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """(B, T, N, D) through a block's attention; ``heads`` mixes the values of one head."""
        state, block, width = self.state, self.block(i), self.sizes.width
        if self.timm:
            weight, bias = state[f"{block}attn.qkv.weight"], state[f"{block}attn.qkv.bias"]
        else:
            weight, bias = state[f"{block}attn.in_proj_weight"], state[f"{block}attn.in_proj_bias"]
        both = x @ weight.mT + bias
        q, k, v = both[..., :width], both[..., width : 2 * width], both[..., 2 * width :]
        mixed = []
        for head in range(self.sizes.heads):
            own = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
            mixed.append(heads(head, q[..., own], k[..., own], v[..., own]))
        name = "attn.proj" if self.timm else "attn.out_proj"
        return _linear(state, block + name, torch.cat(mixed, dim=-1))

    def mlp(self, i: int, x: Tensor) -> Tensor:
        block = self.block(i)
        first, second = ("mlp.fc1", "mlp.fc2") if self.timm else ("mlp.c_fc", "mlp.c_proj")
        return _linear(self.state, block + second, self.act(_linear(self.state, block + first, x)))


def over_space(head: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _mix(q, k, v)


def over_time(head: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _mix(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


def st_adapter_logits(tower: State, learned: State, clips: Tensor, sizes: Sizes) -> Tensor:
    """ST-Adapter: adapters on the stream before both halves of a block; the norm comes last."""
    net = Published({**tower, **learned}, sizes)

    def adapted(place: str, i: int, x: Tensor) -> Tensor:
        key = f"transformer.resblocks.{i}.adapter_pre_{place}"
        if f"{key}.fc1.weight" not in learned:
            return x
        down = _linear(learned, f"{key}.fc1", x[:, :, 1:])
        grid = math.isqrt(down.shape[2])
        volume = down.unflatten(2, (grid, grid)).permute(0, 4, 1, 2, 3)
        kernel, bias = learned[f"{key}.conv.weight"], learned[f"{key}.conv.bias"]
        padding = [size // 2 for size in kernel.shape[2:]]
        volume = F.conv3d(volume, kernel, bias, padding=padding, groups=len(kernel))
        moved = _linear(learned, f"{key}.fc2", volume.permute(0, 2, 3, 4, 1).flatten(2, 3))
        return torch.cat([x[:, :, :1], x[:, :, 1:] + moved], dim=2)

    x = net.tokens(clips)
    for i in range(sizes.depth):
        x = adapted("attn", i, x)
        x = x + net.attention(i, net.norm(i, 1, x), over_space)
        x = adapted("mlp", i, x)
        x = x + net.mlp(i, net.norm(i, 2, x))
    pooled = _norm(net.state, "ln_post", x[:, :, 0].mean(dim=1), net.eps)
    return _linear(learned, "fc", pooled)


def _head(net: Published, x: Tensor) -> Tensor:
    """The head of AIM and ZeroI2V: a norm of each frame's class token, then the mean."""
    pooled = _norm(net.state, f"{net.root}ln_post", x[:, :, 0], net.eps).mean(dim=1)
    return _linear(net.state, "cls_head.fc_cls", pooled)


def aim_logits(
    state: State, clips: Tensor, sizes: Sizes, scale: float, *, timm: bool = False
) -> Tensor:
    """AIM: attention over time with the weights of that over space, then over space."""
    net = Published(state, sizes, "backbone.", timm=timm)

    def adapter(name: str, i: int, x: Tensor) -> Tensor:
        key = f"{net.block(i)}{name}"
        return _linear(state, f"{key}.D_fc2", F.gelu(_linear(state, f"{key}.D_fc1", x)))

    x = net.tokens(clips, state["backbone.temporal_embedding"])
    for i in range(sizes.depth):
        z = net.norm(i, 1, x)
        if f"{net.block(i)}T_Adapter_in.D_fc1.weight" in state:
            z = z + adapter("T_Adapter_in", i, z)
        x = x + adapter("T_Adapter", i, net.attention(i, z, over_time))
        z = net.attention(i, net.norm(i, 1, x), over_space)
        x = x + z + adapter("S_Adapter", i, z)
        z = net.norm(i, 2, x)
        x = x + net.mlp(i, z) + scale * adapter("MLP_Adapter", i, z)
    return _head(net, x)


def zeroi2v_logits(
    state: State, clips: Tensor, sizes: Sizes, scale: float, shifts: Mapping[int, int]
) -> Tensor:
    """ZeroI2V: some heads take keys and values from other frames.

    Args:
        state: of the file, merged or not.
        clips: (B, 3, T, S, S).
        sizes: of the network.
        scale: of the adapters.
        shifts: how far from its own frame a head looks, by head.
    """
    net = Published(state, sizes, "backbone.")

    def adapted(name: str, i: int, x: Tensor) -> Tensor:
        key = f"{net.block(i)}{name}"
        if f"{key}.D_fc1.weight" not in state:
            return x
        return x + scale * _linear(state, f"{key}.D_fc2", _linear(state, f"{key}.D_fc1", x))

    def shifted(head: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        far, frames = shifts.get(head, 0), q.shape[1]
        out = []
        for t in range(frames):
            source = t + far if 0 <= t + far < frames else t
            out.append(_mix(q[:, t], k[:, source], v[:, source]))
        return torch.stack(out, dim=1)

    x = net.tokens(clips, state["backbone.temporal_embedding"])
    for i in range(sizes.depth):
        z = net.attention(i, adapted("T_Adapter_in", i, net.norm(i, 1, x)), shifted)
        x = x + adapted("S_Adapter", i, z)
        z = net.mlp(i, adapted("MLP_Adapter", i, net.norm(i, 2, x)))
        x = x + adapted("MLP_Adapter_out", i, z)
    return _head(net, x)

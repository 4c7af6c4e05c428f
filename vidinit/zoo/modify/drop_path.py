"""Drop path: residual branches left out at random while training.

Huang et al., "Deep Networks with Stochastic Depth", 2016: for a share of the samples a block passes
its input on alone, and its branch is scaled by 1 / (1 - share) for the others. A sample is a clip:
its frames lie in the batch, and timm's own layer would take each frame for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ..folding import FrameCount
from ..images.networks import timm_module

if TYPE_CHECKING:
    from ..base import VideoModel


class ClipDropPath(nn.Module):
    """Zero for a share of the clips, scaled for the others; in eval mode nothing.

    Args:
        frames: the frame count that holds where the layer stands.
        rate: the share, 0 to 1 (exclusive).
    """

    def __init__(self, frames: FrameCount, rate: float = 0.0) -> None:
        super().__init__()
        self.frames = frames
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, ...) to the same; frames of a clip share their fate."""
        if self.rate == 0.0 or not self.training:
            return x
        clips = x.unflatten(0, (-1, self.frames.value))
        keep = x.new_empty(clips.shape[0], *[1] * x.dim()).bernoulli_(1 - self.rate)
        return (clips * keep.div_(1 - self.rate)).flatten(0, 1)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.rate:.3f}"


def set_drop_path(model: VideoModel, rate: float) -> None:
    """Leave out residual branches, more of them the later they stand.

    In timm's networks the branches, and the share of each, are those that timm gives an
    architecture created with ``drop_path_rate``. In the zoo's own networks the share grows linearly
    with the block, from 0 for the first to ``rate`` for the last; SlowFast's pathways are alike.

    Args:
        model: changed in place; its parameters and their names stay.
        rate: of the last branch, 0 to 1 (exclusive). 0 undoes it.

    Raises:
        UsageError: when the network has no residual branches.
    """
    for module in model.modules():
        if isinstance(module, ClipDropPath):
            module.rate = 0.0
    if rate == 0.0:
        return
    trunk = getattr(model, "trunk", None)
    if isinstance(trunk, nn.Module) and not any(hasattr(m, "is_block") for m in trunk.modules()):
        found = _as_timm(model, trunk, rate)
    else:
        found = _by_layer(model, rate)
    if not found:
        raise UsageError(
            f"train.drop_path={rate}: {model.name or type(model).__name__} has no residual "
            "branches that can be left out",
            "set train.drop_path=0",
        )


def _by_layer(model: VideoModel, rate: float) -> bool:
    slots = {name: m for name, m in model.named_modules() if isinstance(m, ClipDropPath)}
    if not slots:
        return False
    layers = model.layer_ids()
    block_of = {name: name.rpartition(".")[0] + "." for name in slots}
    layer_of = {
        name: next(layer for key, layer in layers.items() if key.startswith(block))
        for name, block in block_of.items()
    }
    order = sorted(set(layer_of.values()))
    for name, slot in slots.items():
        slot.rate = rate * order.index(layer_of[name]) / max(len(order) - 1, 1)
    return True


def _as_timm(model: VideoModel, trunk: nn.Module, rate: float) -> bool:
    """Look up in a twin of the image network where timm drops how much."""
    arch = (getattr(trunk, "pretrained_cfg", None) or {}).get("architecture")
    if arch is None:
        return False
    timm = timm_module()
    try:
        with torch.random.fork_rng(devices=[]):  # its weights are thrown away
            twin = timm.create_model(arch, drop_path_rate=rate)
    except TypeError:  # an architecture that knows no such argument
        return False
    found = False
    for name, layer in twin.named_modules():
        if isinstance(layer, timm.layers.DropPath) and layer.drop_prob:
            parent, _, leaf = name.rpartition(".")
            slot = ClipDropPath(model.frames, layer.drop_prob)
            setattr(trunk.get_submodule(parent), leaf, slot.train(trunk.training))
            found = True
    return found

"""Activation checkpointing: blocks keep their input only and run again in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. Running a block twice must
change nothing but memory and time, and two things of the house would break that:

- Temporal layers read the number of frames from the model's `FrameCount`, which by the time of the
  backward pass holds what the last layer, or another clip's forward pass, left in it. A
  recomputation sees the counts that held when the block ran, and leaves those it found.
- Batch norms move their running statistics whenever they run. In a recomputation they move copies.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from ...errors import UsageError
from ..folding import FrameCount

if TYPE_CHECKING:
    from ..base import VideoModel


_MARKS = ("is_block", "drop_path", "drop_path1")


def set_grad_checkpointing(model: VideoModel, on: bool = True) -> None:
    """Keep no activations inside the blocks of a model for the backward pass: compute them again.

    Losses, gradients and running statistics stay what they are; names of parameters too. Memory
    for activations falls to the blocks' inputs and one block's inside, for about a third more
    compute. Only forward passes in train mode with gradients enabled are concerned; under
    `torch.compile` the compiler decides itself what is computed again.

    Args:
        model: changed in place.
        on: False undoes it.

    Raises:
        UsageError: when the network has nothing that could serve as a block.
    """
    units = checkpoint_units(model) if on else []
    if on and not units:
        raise UsageError(
            f"{model.name or type(model).__name__} cannot recompute activations: its trunk is not "
            "made of blocks",
            "leave train.checkpointing off, or lower data.batch_size",
        )
    for module in model.modules():
        if isinstance(vars(module).get("forward"), _Checkpointed):
            del vars(module)["forward"]
    counts = _frame_counts(model)
    for unit in units:
        vars(unit)["forward"] = _Checkpointed(unit, counts)


def checkpoint_units(model: VideoModel) -> list[nn.Module]:
    """The modules that are run again as a whole.

    The outermost modules with the attribute ``is_block`` (the zoo's own blocks), ``drop_path`` or
    ``drop_path1`` (timm's residual blocks); in a network with none of them, the outermost modules
    of the trunk that hold convolutions and are more than plain containers.
    """
    trunk = getattr(model, "trunk", model)
    marked = _outermost(trunk, lambda m: any(hasattr(m, mark) for mark in _MARKS))
    return marked or _outermost(trunk, _is_composed)


def _outermost(root: nn.Module, wanted: Callable[[nn.Module], bool]) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in root.children():
        found += [child] if wanted(child) else _outermost(child, wanted)
    return found


def _is_composed(module: nn.Module) -> bool:
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    return (
        type(module) not in containers
        and next(module.children(), None) is not None
        and any(hasattr(m, "kernel_size") or hasattr(m, "kernel") for m in module.modules())
    )


def _frame_counts(model: nn.Module) -> list[FrameCount]:
    """All frame counts of a model, each once: SlowFast has one per pathway."""
    found = {
        id(value): value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, FrameCount)
    }
    return list(found.values())


class _Checkpointed:
    """The ``forward`` of a block that computes its activations again in the backward pass.

    An attribute of the block itself: a wrapping module would change the names of its parameters.
    A class, so that models can be copied and pickled.
    """

    def __init__(self, block: nn.Module, counts: list[FrameCount]) -> None:
        self.block, self.counts = block, counts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = functools.partial(type(self.block).forward, self.block)
        # A compiler decides itself what it computes again.
        compiled = torch.compiler.is_compiling()
        # Blocks of a frozen tower are in eval mode though what stands in them is trained.
        trained = getattr(self.block, "is_trained", self.block.training)
        if compiled or not (trained and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        again = _Recomputation(self.block, self.counts)
        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), again),
            **kwargs,
        )


class _Recomputation:
    """The state in which a block runs again: the frame counts of now, and copies of statistics.

    Entered in the backward pass, as often as that is run (``retain_graph``).
    """

    def __init__(self, block: nn.Module, counts: list[FrameCount]) -> None:
        self.block, self.counts = block, counts
        self.frames = [(count.value, count.still) for count in counts]

    def __enter__(self) -> None:
        self.found = [(count.value, count.still) for count in self.counts]
        self.set_frames(self.frames)
        # Copies rather than none: the backward pass keeps as many tensors as it did before.
        self.buffers = [
            (norm._buffers, key, buffer)
            for norm in self.block.modules()
            if isinstance(norm, _NormBase)
            for key, buffer in norm._buffers.items()
            if buffer is not None
        ]
        for buffers, key, buffer in self.buffers:
            buffers[key] = buffer.clone()

    def __exit__(self, *_: object) -> None:
        for buffers, key, buffer in self.buffers:
            buffers[key] = buffer
        self.set_frames(self.found)

    def set_frames(self, values: list[tuple[int, bool]]) -> None:
        """Put a value into every frame count."""
        for count, (value, still) in zip(self.counts, values, strict=True):
            count.value, count.still = value, still

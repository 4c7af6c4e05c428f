"""Batch norms' statistics, taken anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..zoo.base import VideoModel
from ..zoo.freezing import batch_norms, frozen_norms


@torch.no_grad()
def precise_statistics(model: VideoModel, batches: Iterable[Tensor], accelerator: Any) -> None:
    """Set the running statistics of a model's batch norms to those of the given batches.

    Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3: with the weights as they are,
    and batches normalized by their own moments as in training,

        mean = E[mean_B],   var = E[mean_B^2 + var_B] - E[mean_B]^2,

    each batch of each process with the same weight. The variance is kept, as torch keeps it, in its
    unbiased form for all values seen. Norms that are frozen keep their statistics; dropout and drop
    path are off; a model without batch norms stays as it is, and its batches are not read.

    Args:
        model: its trunk runs; modes and gradients' settings are afterwards as they were.
        batches: normalized clips (B, 3, T, H, W) on the model's device, as many as are to count.
        accelerator: gives the precision, and the processes, all of which have to call this.
    """
    frozen = set(frozen_norms(model))
    norms = [norm for _, norm in batch_norms(model) if norm not in frozen]
    if not norms:
        return
    moments = [_Moments(norm) for norm in norms]
    with _training_alone(model, norms):
        for clip in batches:
            with accelerator.autocast():
                model.embed(clip)
    for moment in moments:
        moment.hook.remove()
    sums = accelerator.reduce(torch.cat([m.sums.flatten() for m in moments]), reduction="sum")
    for moment, own in zip(moments, sums.split([m.sums.numel() for m in moments]), strict=True):
        moment.write(own.view_as(moment.sums))


@contextmanager
def _training_alone(model: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """The norms in train mode, everything else in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    counts = [norm.num_batches_tracked for norm in norms]
    kept = [None if count is None else count.clone() for count in counts]
    model.eval()
    for norm in norms:
        norm.training = True  # not train(): timm's norms hold a dropout
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for count, before in zip(counts, kept, strict=True):
            if count is not None and before is not None:
                count.copy_(before)


class _Moments:
    """Sums over batches of a norm's inputs: of the mean, of mean^2 + var, and of two counts.

    Attributes:
        sums: (4, C): the two sums, the number of batches, and of values in a channel.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        self.norm = norm
        assert norm.running_mean is not None
        # Differences of squares lose half the digits; Apple's GPUs have no more.
        exact = torch.float32 if norm.running_mean.device.type == "mps" else torch.float64
        self.sums = norm.running_mean.new_zeros(4, norm.num_features, dtype=exact)
        self.hook = norm.register_forward_pre_hook(self._note)

    def _note(self, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].float()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        var, mean = torch.var_mean(x, axes, correction=0)
        var, mean = var.to(self.sums.dtype), mean.to(self.sums.dtype)
        self.sums[0] += mean
        self.sums[1] += mean.square() + var
        self.sums[2] += 1
        self.sums[3] += x.numel() // x.shape[1]

    def write(self, sums: Tensor) -> None:
        """Set the norm's statistics from the sums of all processes."""
        means, squares, batches, values = sums
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        if batches[0] == 0:
            return
        mean = means / batches
        var = (squares / batches - mean.square()).clamp_min(0)
        self.norm.running_mean.copy_(mean)
        self.norm.running_var.copy_(var * values / (values - 1).clamp_min(1))


def same_buffers(module: nn.Module, accelerator: Any) -> None:
    """The main process's buffers everywhere: it is its batch norms' statistics that are saved."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)

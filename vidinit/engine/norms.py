"""Statistics of batch norms: computed anew after an epoch, or shared by all processes in each step.

`precise_statistics` replaces the running averages before an evaluation; `same_buffers` gives all
processes those of the main one; `SyncedNorms` normalizes over the batches of all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ..zoo.base import VideoModel
from ..zoo.modify.freezing import batch_norms, frozen_norms


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
    """Copy the main process's buffers to all: it is its batch norms' statistics that are saved."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


class SyncedNorms(TorchFunctionMode):
    """Inside, batch norms in training mode normalize over the batches of all processes.

    All processes have to come through the same norms in the same order. The modules stay what they
    are, so that nothing is converted back to evaluate, fuse or save them, which is why the function
    is taken over and not `torch.nn.SyncBatchNorm` put in. It does not reach what is compiled, nor
    what a backward pass computes again.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take over `torch.nn.functional.batch_norm`, and leave all else alone."""
        return (synced_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def synced_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` over the batches of all processes, with their gradients.

    Gradients of the mean of the processes' losses are what DDP makes of them, as with
    `torch.nn.SyncBatchNorm`, which has no form for CPUs.

    Args:
        input: (B, C, ...), B may differ between processes.
        running_mean, running_var, weight, bias: (C,), or None.
        training: else nothing is shared.
        momentum: of the running statistics.
        eps: added to the variance.
    """
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.is_cuda:
        return SyncBatchNorm.apply(  # type: ignore[no-untyped-call]
            input.contiguous(),
            weight,
            bias,
            running_mean,
            running_var,
            eps,
            momentum,
            dist.group.WORLD,
            dist.get_world_size(),
        )
    dims = [d for d in range(input.dim()) if d != 1]
    shape = [1, -1] + [1] * (input.dim() - 2)
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    total, count = _summed(x, dims)
    mean = total / count
    centered = x - mean.view(shape)
    variance = _summed(centered * centered, dims)[0] / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    out = centered * scale.view(shape)
    return (out if bias is None else out + bias.view(shape)).to(input.dtype)


def _summed(x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
    """Sums (C,) over ``dims`` and all processes, and of how many numbers each."""
    own = x.sum(dims)
    count = own.new_tensor([x.numel() / len(own)])
    both = _Sum.apply(torch.cat([own, count]))
    return both[:-1], both[-1]


class _Sum(torch.autograd.Function):
    """Sum over all processes; each one's gradient is the sum of what all make of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _over_all(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return _over_all(grad)


def _over_all(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total

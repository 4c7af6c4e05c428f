"""Batch norms whose statistics are those of the batches of all processes (SyncBN)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode


class SyncedNorms(TorchFunctionMode):
    """Inside, batch norms in training mode normalize over the batches of all processes.

    All processes have to come through the same norms in the same order. The modules stay what they
    are, so that nothing is converted back to evaluate, fuse or save them. It does not reach what is
    compiled, nor what a backward pass computes again.
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

"""Moving averages of the weights while training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average of a module's trained parameters: a <- d * a + (1 - d) * w.

    It holds tensors, not a second module: while it is `applied` the module itself has the averages,
    to be evaluated and saved as it always is. Buffers are not averaged: batch norms' statistics are
    averages already, and the module's own go with the averaged weights. Frozen parameters have
    no average.

    The averages start as the weights are now. Parameters have to be whole on every process, which
    FSDP and ZeRO 3 do not give.

    Args:
        module: the task, on its device.
        decay: d, 0 to 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._move = get_ema_multi_avg_fn(decay)
        self._applied = False

    def update(self) -> None:
        """Follow the weights; once after each optimizer step."""
        self._refuse_while_applied()
        weights = [parameter.detach() for parameter in self._parameters.values()]
        self._move(list(self._averages.values()), weights, 0)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module's parameters are the averages; after it, all is as it was before.

        Buffers may be changed inside (see `norms.precise_statistics`): they are put back, too.
        """
        self._refuse_while_applied()
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        self._swap()
        self._applied = True
        try:
            yield
        finally:
            self._swap()
            self._applied = False
            for buffer, kept in buffers:
                buffer.copy_(kept)

    @torch.no_grad()
    def _swap(self) -> None:
        # Values change places, not tensors: compiled graphs and gradient buckets hold the tensors.
        for name, parameter in self._parameters.items():
            weight = parameter.detach().clone()
            parameter.copy_(self._averages[name])
            self._averages[name].copy_(weight)

    def _refuse_while_applied(self) -> None:
        if self._applied:
            raise RuntimeError("the module has its averages for weights now")

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        self._refuse_while_applied()
        return dict(self._averages)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over averages.

        Raises:
            KeyError: when they are of other parameters.
        """
        self._refuse_while_applied()
        if set(state) != set(self._averages):
            other = sorted(set(state) ^ set(self._averages))
            raise KeyError(f"averages of other parameters: {other[0]} is in one of both only")
        for name, value in state.items():
            self._averages[name].copy_(value)

"""Means over recent steps of numbers that live on a device, read without waiting for it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor


class Recent:
    """The last values of each name. Nothing is computed or copied until somebody asks.

    `ask` has the values brought to the host; `here` says whether they have arrived. On CUDA that
    happens behind the work that is queued, elsewhere at once.

    Args:
        span: how many values of a name are averaged. A name that is not in every step, as a source
            of a co-training, has its own last ones.

    Attributes:
        means: mean by name, of what arrived last, in the order in which the names came up.
    """

    def __init__(self, span: int = 20) -> None:
        self.means: dict[str, float] = {}
        self._kept: dict[str, deque[Tensor]] = defaultdict(partial(deque, maxlen=span))
        self._coming: tuple[dict[str, int], Tensor, torch.cuda.Event | None] | None = None

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Keep the values of one step, scalar tensors on one device."""
        for name, value in values.items():
            self._kept[name].append(value.detach())

    def ask(self) -> None:
        """Have the present values brought, unless earlier ones are still on their way."""
        if self._coming is not None or not self._kept:
            return
        counts = {name: len(kept) for name, kept in self._kept.items()}
        on_device = torch.stack([value for kept in self._kept.values() for value in kept])
        on_host = on_device.float().to("cpu", non_blocking=on_device.is_cuda)
        event = None
        if on_device.is_cuda:
            event = torch.cuda.Event()
            event.record()
        self._coming = counts, on_host, event

    def here(self, *, wait: bool = False) -> bool:
        """Whether nothing is on its way any more; ``wait`` for it if it is."""
        if self._coming is None:
            return True
        counts, on_host, event = self._coming
        if event is not None and wait:
            event.synchronize()
        elif event is not None and not event.query():
            return False
        parts = on_host.split(list(counts.values()))
        self.means = {name: float(part.mean()) for name, part in zip(counts, parts, strict=True)}
        self._coming = None
        return True

"""Waits for data and recent losses, measured without ever waiting for the device."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter

import torch
from torch import Tensor


class WaitTimer:
    """The time that a training process spends waiting for its next batch.

    On a CPU a wait is what the clock says. A CUDA device works through what was queued while this
    process waits for the next batch, so the clock would count waits that cost nothing: there, two
    events around each wait tell how long the device itself stood still. They are looked at once the
    device has passed them, so the sum lags behind by the work that is queued.

    Args:
        device: what the batches are for.

    Attributes:
        first: seconds of the first wait, in which workers start and caches fill.
    """

    def __init__(self, device: torch.device) -> None:
        self.first: float | None = None
        self._seconds = 0.0
        self._cuda = device.type == "cuda"
        self._open: deque[tuple[torch.cuda.Event, torch.cuda.Event, float]] = deque()
        self._spare: list[torch.cuda.Event] = []

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """While entered, a batch is fetched: the time counts as a wait."""
        before = self._mark() if self._cuda and self.first is not None else None
        began = perf_counter()
        try:
            yield
        finally:
            waited = perf_counter() - began
            if self.first is None:
                self.first = waited
            if before is None:
                self._seconds += waited
            else:
                self._open.append((before, self._mark(), waited))

    @property
    def seconds(self) -> float:
        """All waits that are known by now, in seconds."""
        while self._open and self._open[0][1].query():
            before, after, waited = self._open.popleft()
            # Where this process was busy otherwise between the two, that is no wait for data.
            self._seconds += min(before.elapsed_time(after) / 1000, waited)
            self._spare += before, after
        return self._seconds

    def settle(self) -> float:
        """Like `seconds`, but waits for the device; for the end of an epoch."""
        if self._open:
            self._open[-1][1].synchronize()
        return self.seconds

    def _mark(self) -> torch.cuda.Event:
        event = self._spare.pop() if self._spare else torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class RecentMeans:
    """Means of the last values of each name, computed only when they are requested.

    `request` starts a copy of the values to the host; `arrived` tells when it is complete. On CUDA
    that happens behind the work that is queued, elsewhere at once.

    Args:
        span: how many values of a name are averaged. A name that is not in every step, as a source
            of a co-training, has its own last ones.

    Attributes:
        means: mean by name, of what arrived last, in the order in which the names came up.
    """

    def __init__(self, span: int = 20) -> None:
        self.means: dict[str, float] = {}
        self._kept: dict[str, deque[Tensor]] = defaultdict(partial(deque, maxlen=span))
        self._copying: tuple[dict[str, int], Tensor, torch.cuda.Event | None] | None = None

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Keep the values of one step, scalar tensors on one device."""
        for name, value in values.items():
            self._kept[name].append(value.detach())

    def request(self) -> None:
        """Start copying the present values, unless earlier ones are still on their way."""
        if self._copying is not None or not self._kept:
            return
        counts = {name: len(kept) for name, kept in self._kept.items()}
        on_device = torch.stack([value for kept in self._kept.values() for value in kept])
        on_host = on_device.float().to("cpu", non_blocking=on_device.is_cuda)
        event = None
        if on_device.is_cuda:
            event = torch.cuda.Event()
            event.record()
        self._copying = counts, on_host, event

    def arrived(self, *, wait: bool = False) -> bool:
        """True where no copy is under way any more; ``wait`` for it if there is one."""
        if self._copying is None:
            return True
        counts, on_host, event = self._copying
        if event is not None and wait:
            event.synchronize()
        elif event is not None and not event.query():
            return False
        parts = on_host.split(list(counts.values()))
        self.means = {name: float(part.mean()) for name, part in zip(counts, parts, strict=True)}
        self._copying = None
        return True

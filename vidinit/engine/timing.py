"""How long a training process had nothing to do because the next batch was not there."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter

import torch
from torch import Tensor


class WaitTimer:
    """Adds up the waits for data, without ever waiting for the device.

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
    def waiting(self) -> Iterator[None]:
        """Around what fetches a batch."""
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
            # What else this process did between the two is no wait for data.
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

"""How long a training process had nothing to do because the next batch was not there."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from time import perf_counter

import torch


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

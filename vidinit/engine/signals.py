"""SIGINT and SIGTERM ask the training loop to save its state and leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """While entered, the first SIGINT or SIGTERM is noted in `number`; a second acts at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._old.get(number, signal.SIG_DFL))

    def agreed(self, accelerator: Any) -> int | None:
        """The number of the signal that all processes leave for now, or None; all of them call it.

        Only what they tell one another counts. A signal that comes while they do so is for the next
        time: the process that got it would leave alone, and save its state with nobody.
        """
        if accelerator.num_processes == 1:
            return self.number
        import torch

        own = torch.tensor([self.number or 0], device=accelerator.device)
        return int(accelerator.gather(own).max()) or None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

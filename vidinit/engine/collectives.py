"""Values, errors and signals shared among the processes of a run.

An error of one process ends all of them, and a signal to one stops all of them at the same step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from ..errors import VidinitError

T = TypeVar("T")


def from_main(accelerator: Any, make: Callable[[], T]) -> T:
    """Call ``make`` on the main process; return its result, or raise its error, on all of them."""
    from accelerate.utils import broadcast_object_list

    box: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            box[0] = make()
        except Exception as error:
            if accelerator.num_processes == 1:
                raise
            box[1] = error
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


def gather_all(accelerator: Any, value: T) -> list[T]:
    """The values of all processes, by rank, on each of them."""
    from accelerate.utils import gather_object

    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def first_failure(accelerator: Any, do: Callable[[], object] | None) -> str | None:
    """Run ``do`` where it is given and wait for the others.

    Returns:
        The reason of the first process that failed, the same on all of them; None when none did.
    """
    reason = None
    try:
        if do is not None:
            do()
    except BaseException as error:
        # torch's sharded checkpoints raise an error class of their own that is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "CheckpointException":
            raise
        reason = _reason(error)
    return next((r for r in gather_all(accelerator, reason) if r is not None), None)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.message if isinstance(error, VidinitError) else str(error)
    if "PytorchStreamWriter" in text:  # of torch.save, which quotes its own source
        return "the disk does not take it"
    return " ".join(text.split())[:160] or type(error).__name__


class StopRequest:
    """While entered, a first SIGINT, SIGTERM or SIGHUP is kept in `number`; a second ends at once.

    The first only asks the loop to save and stop, so that a user who presses Ctrl-C, or closes the
    terminal, loses no step; one who presses it again does not want to wait. A signal that was
    ignored, as nohup does with SIGHUP, stays ignored.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
            if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
                self._old[hang_up] = signal.signal(hang_up, self._note)
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for other, handler in self._old.items():
            signal.signal(other, handler)

    def agreed(self, accelerator: Any) -> int | None:
        """The number of the signal that all processes stop for now, or None; all of them call it.

        Only a signal that all have gathered counts. One that arrives meanwhile is for the next
        call: the process that got it would stop alone, and wait for the others in `save` forever.
        """
        if accelerator.num_processes == 1:
            return self.number
        import torch

        own = torch.tensor([self.number or 0], device=accelerator.device)
        return int(accelerator.gather(own).max()) or None

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

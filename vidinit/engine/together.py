"""What the processes of a run do together, so that an error of one ends all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import VidinitError

T = TypeVar("T")


def from_main(accelerator: Any, make: Callable[[], T]) -> T:
    """``make()`` on the main process, its result on all of them; its error, too."""
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


def of_all(accelerator: Any, value: T) -> list[T]:
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
        # torch's sharded checkpoints raise a kind of their own that is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "CheckpointException":
            raise
        reason = _reason(error)
    return next((r for r in of_all(accelerator, reason) if r is not None), None)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.message if isinstance(error, VidinitError) else str(error)
    return " ".join(text.split())[:160] or type(error).__name__

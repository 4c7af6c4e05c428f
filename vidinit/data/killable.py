"""The common part of processes that may hang or crash over a file and are killed for it.

There are two kinds of them. `index.pool` starts plain interpreters that read JSON and answer in
JSON: nothing of the parent is inherited, and any function can be called on any file. The workers of
`loading.workers` are forks of the parent, because what they make is large and has to be handed over
without a copy. They differ in how they are started, watched and spoken to, and agree in how they
end, which is here, and in writing a file that must not be seen before it is whole.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def timeout_reason(deadline: float) -> str:
    """Why a file failed whose time was up."""
    return f"no answer within {deadline:g} s"


def exit_reason(code: int | None, deadline: float) -> str:
    """Why a file failed over which a process ended.

    Args:
        code: of the process as Python has it, negative for a signal; None where it is unknown.
        deadline: seconds, for a process that was ended by its own alarm.
    """
    if code is None or code >= 0:
        return f"the decoder ended its process (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGALRM":  # its own alarm: the parent was asleep
        return timeout_reason(deadline)
    if name == "SIGKILL":
        return "the decoder was killed (SIGKILL), perhaps for want of memory"
    return f"the decoder crashed ({name})"


def alarm_seconds(deadline: float) -> float:
    """Seconds after which a process ends itself: long after its parent would have done it."""
    return min(2 * deadline + 60, 1e7)


def set_alarm(seconds: float) -> None:
    """Have the kernel end this process after so many seconds; 0 takes that back.

    A decoder that hangs in native code holds the interpreter lock, so no thread and no handler of
    this process would get a word in. SIGALRM without a handler needs neither, and comes where the
    parent is gone, too.
    """
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_REAL, seconds)


def leave_no_core() -> None:
    """Have a crash leave no memory image in the user's folder."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@contextlib.contextmanager
def whole_file(partial: Path, target: Path) -> Iterator[None]:
    """While entered, a file grows as ``partial``; then it takes the place of ``target``, on disk.

    Where the process is killed, ``partial`` is left for its parent to delete.

    Raises:
        OSError: the disk does not take it.
    """
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
        # A full disk may only be noticed, and a name may only be durable, once the bytes are.
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()

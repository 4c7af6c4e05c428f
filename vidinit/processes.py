"""The process group that this process was launched in, and its memory, before torch is imported.

torchrun, `accelerate launch` and `--processes` all say it by the same environment variables.
"""

from __future__ import annotations

import os
import sys
import time

OWN_GROUP = "VIDINIT_PROCESSES"
"""The environment variable that processes set which ``--processes`` started."""

# Seconds in which the launcher ends a process when another one of its group has failed.
_GRACE = 2.0


def in_group() -> bool:
    """True where this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """True for the process that speaks and writes; of a group only the first does."""
    return os.environ.get("RANK", "0") == "0"


def launched_elsewhere() -> bool:
    """True where torchrun or `accelerate launch` started the group, and not ``--processes``."""
    return in_group() and OWN_GROUP not in os.environ


def wait_for_first_error(*, to_main: bool = False) -> None:
    """Wait where another process of the group may have failed before and say why.

    When one ends, the launcher ends the others. A process that is still there after a while failed
    alone, or as the first on its machine, and has to speak for itself.

    Args:
        to_main: only to the main process, which does not wait.
    """
    if in_group() and not (to_main and is_main_process()):
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        time.sleep(_GRACE if first else 2 * _GRACE)


_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h

_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next step instead of giving it back.

    The activations of a clip are tens of megabytes each. By default glibc hands such blocks back to
    the system when they are freed and fetches them anew, page by page, at every layer: a fifth of
    a training step. Kept, they cost about a fifth more resident memory.

    Returns:
        True where it was done: not without glibc, nor where the user has set its allocator.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _OWN):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP, 1 << 30)) and bool(mallopt(_TRIM, (1 << 31) - 1))

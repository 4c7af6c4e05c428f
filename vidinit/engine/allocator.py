"""How freed memory is kept while training on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next step instead of giving it back.

    The activations of a clip are tens of megabytes each. By default glibc hands such blocks back to
    the system when they are freed and fetches them anew, page by page, at every layer: a fifth of
    a training step. Kept, they cost about a fifth more resident memory.

    Returns:
        Whether it was done: not without glibc, nor where the user has set its allocator.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _OWN):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP, 1 << 30)) and bool(mallopt(_TRIM, (1 << 31) - 1))

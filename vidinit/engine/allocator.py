"""Memory pages for training on a CPU."""

from __future__ import annotations

import os

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def use_huge_pages() -> None:
    """Have PyTorch ask Linux for huge pages behind its large CPU tensors.

    The activations of a clip are tens of megabytes each, and are handed back to the system and
    fetched anew at every step: with pages of 4 KiB the faults cost a good part of it. Call it
    before the first tensor is made; a value that the user has set stays.
    """
    os.environ.setdefault(HUGE_PAGES, "1")

"""Where vidinit keeps what it found out, for the next run."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/vidinit``, by default ``~/.cache/vidinit``; it need not exist.

    Raises:
        RuntimeError: there is no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(home) if os.path.isabs(home) else Path.home() / ".cache"  # as the standard says
    return root / "vidinit"

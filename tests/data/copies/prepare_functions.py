"""What the tests have the workers of `prepare` do, well and badly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from vidinit.data.copies.encode import encode_item


def trap(item: dict[str, Any]) -> dict[str, Any]:
    """Encode, but hang, crash or meet a full disk on files with these names."""
    name, partial = Path(item["source"]).stem, Path(item["partial"])
    partial.parent.mkdir(parents=True, exist_ok=True)
    if name in ("hang", "crash"):
        partial.write_bytes(b"begun")
    if name == "hang":
        time.sleep(3600)
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "full":
        partial.symlink_to("/dev/full")
    return encode_item(item)

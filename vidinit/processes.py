"""What a process knows of the group it was launched in, before torch is imported.

torchrun, `accelerate launch` and `--processes` all say it by the same environment variables.
"""

from __future__ import annotations

import os


def in_group() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """Whether this process speaks and writes; of a group only the first does."""
    return os.environ.get("RANK", "0") == "0"

"""What a process knows of the group it was launched in, before torch is imported.

torchrun, `accelerate launch` and `--processes` all say it by the same environment variables.
"""

from __future__ import annotations

import os
import time

OWN_GROUP = "VIDINIT_PROCESSES"
"""The environment variable that processes set which ``--processes`` started."""

# Seconds in which the launcher ends a process when another one of its group has failed.
_GRACE = 2.0


def in_group() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """Whether this process speaks and writes; of a group only the first does."""
    return os.environ.get("RANK", "0") == "0"


def launched_elsewhere() -> bool:
    """Whether torchrun or `accelerate launch` started the group, and not ``--processes``."""
    return in_group() and OWN_GROUP not in os.environ


def give_way(*, to_main: bool = False) -> None:
    """Wait where another process of the group may have failed before and say why.

    When one ends, the launcher ends the others. A process that is still there after a while failed
    alone, or as the first on its machine, and has to speak for itself.

    Args:
        to_main: only to the main process, which does not wait.
    """
    if in_group() and not (to_main and is_main_process()):
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        time.sleep(_GRACE if first else 2 * _GRACE)

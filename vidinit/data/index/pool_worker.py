"""The code of a process of `pool`: read items, call the function on each, answer."""

from __future__ import annotations

import importlib
import json
import os
import traceback
from typing import Any

from ..killable import alarm_seconds, leave_no_core, set_alarm
from ..readers import VideoReadError


def work(function: str, deadline: float) -> None:
    """Read items from stdin until it is closed, a JSON value a line, and answer on stdout.

    The first answer is empty and says that the process is up. The others are ``{"value"}``,
    ``{"reason"}`` of a file that cannot be read, or ``{"fault", "traceback"}`` of another error.

    Args:
        function: ``package.module:name``.
        deadline: seconds after which the parent kills a process that gives no answer.
    """
    # Decoders print to stdout and stderr as they like: items and answers get pipes of their own.
    items, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    leave_no_core()

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value).encode() + b"\n")
        answers.flush()

    try:
        module, _, name = function.partition(":")
        call = getattr(importlib.import_module(module), name)
    except Exception as error:
        answer(_fault(error))
        return
    answer({})
    for line in items:
        # The kernel's alarm ends a decoder that hangs where the parent is gone or asleep.
        set_alarm(alarm_seconds(deadline))
        try:
            answer({"value": call(json.loads(line))})
        except VideoReadError as error:
            answer({"reason": error.reason})
        except Exception as error:
            answer(_fault(error))
        set_alarm(0)


def _fault(error: Exception) -> dict[str, str]:
    return {"fault": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}

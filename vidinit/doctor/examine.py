"""All checks of the doctor's, in the order in which they are shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .finding import NO_ANSWER, Finding
from .machine import machine
from .packages import extras, installed, packages, versions
from .trials import Trial


def examine(patience: float = 8.0) -> list[Finding]:
    """Look at the packages, try what may fail, look at the machine.

    Trials run at the same time, so what is slow is waited for once.

    Args:
        patience: seconds for all trials together.
    """
    until = time.monotonic() + patience
    names = ["torch", "readers", *(["torchcodec"] if installed("torchcodec") else []), "hub"]
    trials = [Trial(name) for name in names]
    try:
        here = [*packages()]
        around = [*machine()]
        *tried, hub = [[*trial.findings(until)] for trial in trials]
    finally:
        for trial in trials:
            trial.end()
    return [*here, *(finding for part in tried for finding in part), *around, *hub, *extras()]


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """What ``--json`` prints: whether a run can start, versions, and each check."""
    return {
        "ok": not stopping(findings),
        "versions": versions(),
        "checks": [finding.as_dict() for finding in findings],
    }


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: whether a run can start, as far as is known."""
    if failed := stopping(findings):
        return f"these would stop a run: {', '.join(failed)}"
    late = [finding.check for finding in findings if finding.found == NO_ANSWER]
    known = f", as far as could be tried; {NO_ANSWER}: {', '.join(late)}" if late else ""
    return f"a run can start{known}"


def stopping(findings: Sequence[Finding]) -> list[str]:
    """The checks whose failure stops a run."""
    return [finding.check for finding in findings if finding.status == "fail"]

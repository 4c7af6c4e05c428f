"""All checks in the order in which they are shown, and the processes that try what may crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .finding import NO_ANSWER, Finding
from .machine import machine
from .packages import extras, installed, packages, versions
from .trials import TRIALS, Step


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
    """The result for ``--json``: whether a run can start, versions, and each check."""
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


# The process gets the paths of this one: the current folder is not in front of them.
_CODE = "import sys; name, *sys.path[:] = sys.argv[1:]; from vidinit.doctor.trials import main"


class Trial:
    """A process that works through the steps of one trial and answers line by line.

    Args:
        name: of `trials.TRIALS`.
    """

    def __init__(self, name: str) -> None:
        self.steps = TRIALS[name]
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{_CODE}; main(name)", name, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # it is ended from here, with whatever it started
        )

    def findings(self, until: float) -> Iterator[Finding]:
        """The finding of each step.

        Args:
            until: on the clock of `time.monotonic`; the process is ended then.
        """
        late = False
        try:
            out, words = self._process.communicate(timeout=max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            late = True
            self.end()
            out, words = self._process.communicate()
        found = [Finding(**json.loads(line)) for line in out.splitlines()]
        yield from found
        rest = self.steps[len(found) :]
        if not rest:
            return
        stuck = found[-1].check if found and found[-1].status == "fail" else rest[0].check
        for step in rest:
            if step.check != stuck:
                yield Finding(step.check, "none", f"not tried: {stuck} comes first")
            elif late:
                yield _timed_out(step)
            else:
                yield _crashed(step, self._process.returncode, words)

    def end(self) -> None:
        """Kill the process, if it has not ended yet, with all that it has started."""
        if self._process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:  # Windows has no process groups
                self._process.kill()


def _timed_out(step: Step) -> Finding:
    return Finding(
        step.check,
        "warn",
        NO_ANSWER,
        "--patience 60 waits longer, where the machine, its disk or its network is slow",
    )


def _crashed(step: Step, code: int, words: str) -> Finding:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = (words.strip().splitlines() or [""])[-1].strip()[:200]
    found = f"the process that tried it ended with {how}{': ' if last else ''}{last}"
    return Finding(step.check, "fail", found, step.advice)

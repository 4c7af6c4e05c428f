"""Trials: things that may crash or hang, done in a process that can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from .finding import NO_ANSWER, Finding
from .inside import TRIALS, Step

# The process gets the paths of this one: the current folder is not in front of them.
_CODE = "import sys; name, *sys.path[:] = sys.argv[1:]; from vidinit.doctor.inside import main"


class Trial:
    """A process that works through the steps of one trial and answers line by line.

    Args:
        name: of `inside.TRIALS`.
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
        """What it found, a finding a step.

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
                yield _late(step)
            else:
                yield _died(step, self._process.returncode, words)

    def end(self) -> None:
        """End it, if it has not ended yet."""
        if self._process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:  # Windows has no process groups
                self._process.kill()


def _late(step: Step) -> Finding:
    return Finding(
        step.check,
        "warn",
        NO_ANSWER,
        "--patience 60 waits longer, where the machine, its disk or its network is slow",
    )


def _died(step: Step, code: int, words: str) -> Finding:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = (words.strip().splitlines() or [""])[-1].strip()[:200]
    found = f"the process that tried it ended with {how}{': ' if last else ''}{last}"
    return Finding(step.check, "fail", found, step.advice)

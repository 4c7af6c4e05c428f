"""The result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "none"]
NO_ANSWER = "no answer in time"
"""`Finding.found` of a trial that was ended before it answered."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's answer: a check and its result.

    Attributes:
        check: the name of the check.
        status: ``fail`` stops a run, ``warn`` may; ``none``: an optional part that is not there, or
            what could not be tried.
        found: what is there.
        advice: what to do; empty where there is nothing to.
    """

    check: str
    status: Status
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)

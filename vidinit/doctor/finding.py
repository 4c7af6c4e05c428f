"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "none"]
NO_ANSWER = "no answer in time"
"""What is found of something that was ended before it answered."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        check: what was looked at.
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

"""Messages and progress on stderr: a rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from .processes import is_main_process


def console() -> Console:
    """Rich console on stderr. Plain text when it is no terminal or NO_COLOR is set."""
    return Console(file=sys.stderr, quiet=not is_main_process(), soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """One message to the user."""
    console().print(text, markup=False)


class ProgressBar:
    """Progress of work on many files: a bar on a terminal, elsewhere a line now and then.

    Args:
        title: what is done, before the bar.
        noun: what is counted.
    """

    def __init__(self, title: str, noun: str = "files") -> None:
        self.title, self.noun, self.last_line = title, noun, time.perf_counter()
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        screen = console()
        if screen.is_terminal and not screen.quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=screen,
                transient=True,
            )
            self.task = self.bar.add_task(self.title, total=None)
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, done: int, total: int) -> None:
        """So many of so many are done."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)
        elif time.perf_counter() - self.last_line > 15:
            self.last_line = time.perf_counter()
            say(f"{self.title}: {done} of {total} {self.noun}")


T = TypeVar("T")


def with_messages(make: Callable[[], T]) -> T:
    """``make()`` with its warnings shown as plain messages, after it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            return make()
        finally:
            for warning in caught:
                if warning.category is UserWarning:
                    say(f"note: {warning.message}")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03``."""
    return str(timedelta(seconds=round(seconds)))

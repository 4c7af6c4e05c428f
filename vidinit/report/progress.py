"""Messages and progress on stderr: a rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from ..processes import is_main_process


def console() -> Console:
    """Rich console on stderr. Plain text when it is no terminal or NO_COLOR is set."""
    return Console(file=sys.stderr, quiet=not is_main_process(), soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """One message to the user."""
    console().print(text, markup=False)


class TrainingBar:
    """Progress of one epoch: loss, clips per second, time left."""

    def __init__(self, title: str, steps: int, start: int = 0) -> None:
        self.title, self.steps, self.done = title, steps, start
        self.began, self.clips = time.perf_counter(), 0
        self.last_line, self.note = self.began, ""
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        screen = console()
        if screen.is_terminal and not screen.quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=screen,
                transient=True,
            )
            self.task = self.bar.add_task(title, total=steps, completed=start, note="")

    def __enter__(self) -> TrainingBar:
        if self.bar is not None:
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
            say(self.line())

    def line(self) -> str:
        """The state in words."""
        return f"{self.title}  step {self.done}/{self.steps}  {self.note}"

    def advance(self, loss: float | None, clips: int) -> None:
        """One step done; ``loss`` is the latest known one."""
        self.done += 1
        self.clips += clips
        now = time.perf_counter()
        rate = self.clips / max(now - self.began, 1e-9)
        speed = f"{rate:.1f} clips/s"
        self.note = speed if loss is None else f"loss {loss:.3f}  {speed}"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self.done, note=self.note)
        elif now - self.last_line > 15 or self.done == self.steps:
            self.last_line = now
            say(self.line())

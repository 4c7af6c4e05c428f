"""The terminal: messages and progress on stderr, tables of results on stdout.

Every text goes through `escaped`, and no markup in it is obeyed: names of files and classes can do
nothing but be read. Lines of results are printed by `put` of the command line.
"""

from __future__ import annotations

import errno
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import IO, Any, TypeVar, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .errors import escaped
from .processes import is_main_process


class PlainConsole(Console):
    """A rich console to which a str, also in a table, is text and nothing else.

    Whoever wants styles or several lines in a cell makes a `Text` or a group of what is certain.
    """

    def __init__(self, file: IO[str], **options: Any) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """The text, `escaped`."""
        plain = {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(escaped(text), **{**options, **plain})


@contextmanager
def _if_open() -> Iterator[None]:
    """Pass over the error of a terminal that was closed."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


class _Stderr:
    """sys.stderr, which swallows text once its terminal was closed: a training has to save then."""

    def write(self, text: str) -> int:
        with _if_open():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with _if_open():
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


STDERR = cast("IO[str]", _Stderr())
"""Where messages go, whatever `sys.stderr` is at the time."""


def console() -> PlainConsole:
    """Rich console on stderr. Plain text when it is no terminal or NO_COLOR is set."""
    return PlainConsole(STDERR, quiet=not is_main_process(), soft_wrap=True)


def result_console(**options: Any) -> PlainConsole:
    """Rich console on stdout, for tables of results."""
    return PlainConsole(sys.stdout, **options)


def say(text: str) -> None:
    """One message to the user."""
    console().print(text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of printable ASCII alone, in which names are whole: a terminal may show it as it is."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")  # the one JSON lets pass


def escape_warnings() -> None:
    """Have warnings that Python prints by itself show their text `escaped`."""
    usual = warnings.formatwarning

    def formatted(message: Any, *place: Any, **more: Any) -> str:
        return usual(escaped(str(message)), *place, **more)

    if usual.__name__ != formatted.__name__:
        warnings.formatwarning = formatted


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
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=screen,
                transient=True,
            )
            self.task = self.bar.add_task(escaped(self.title), total=None)
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

"""The few kinds of error a user can meet, each with its exit code.

A message says what is wrong and where; a hint says what to do about it. They are raised
anywhere and rendered once, in ``commands/app.py``, as one line on stderr.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Any


class VidinitError(Exception):
    """A failed run: exit code 1.

    Args:
        message: what is wrong, and where. One sentence without a full stop.
        hint: what the user can do about it. Empty when the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the attributes: the constructors of kinds take other arguments."""
        return _restored, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        """One line: the message, then the hint, as `escaped` shows them."""
        return escaped(f"{self.message}; {self.hint}" if self.hint else self.message)


def _restored(
    kind: type[VidinitError], args: tuple[Any, ...], state: dict[str, Any]
) -> VidinitError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(VidinitError):
    """A wrong name, path, key, value or combination: exit code 2."""

    exit_code = 2


class DataError(VidinitError):
    """Data that cannot be used (nothing readable, no class, ...): exit code 3."""

    exit_code = 3


class Interrupted(VidinitError):
    """A run stopped by a signal after its state was saved: exit code 130 or 143."""

    def __init__(self, message: str, hint: str = "", *, signal_number: int = 2) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


_JOINERS = "\u200c\u200d"  # part of words in Persian and Hindi, and of emoji


def escaped(text: str) -> str:
    r"""Text as one line that a terminal shows and does not obey.

    Names of files and classes come from anywhere. Line breaks, escape sequences and all other
    control characters, marks that turn the direction of text, invisible ones, and bytes of names
    that are not UTF-8 are written as Python writes them: ``\n``, ``\x1b``, ``\u202e``,
    ``\udcff``. Letters of any script stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(repr(c)[1:-1] if _is_unseen(c) else c for c in text)


def _is_unseen(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def suggest(word: str, known: Iterable[str]) -> str:
    """A "did you mean" hint for ``word``, or the empty string when nothing known is close."""
    close = difflib.get_close_matches(word, dict.fromkeys(known), n=2, cutoff=0.55)
    return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?" if close else ""

"""Warnings of the library as plain messages to the user."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from .progress import say

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

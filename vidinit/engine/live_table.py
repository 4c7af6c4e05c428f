"""The table of a training run on a terminal, and short forms of numbers.

It does without `rich.progress`, whose columns stand in one line: a co-training has more losses than
a line is wide, so the facts are a table of their own, turned where the terminal is too narrow.
No torch is imported here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    import torch

_GAP = (0, 2, 0, 0)  # right of a cell
_BAR = 8, 40  # columns of the bar, at least and at most


def table(
    title: str, done: int, steps: int, facts: Mapping[str, str], *, width: int
) -> RenderableType:
    """A line with a bar, and below it the facts: across, or downwards where they do not fit.

    Args:
        title: before the bar, which gives way first.
        done: steps of ``steps``.
        steps: of the epoch.
        facts: values by name.
        width: columns of the terminal.
    """
    count = f"{done}/{steps}"
    free = width - len(count) - 4  # two gaps
    for_bar, (least, most) = free - len(title), _BAR
    head = Table.grid(padding=_GAP)
    head.add_column(no_wrap=True, overflow="ellipsis", max_width=max(free, 1))
    parts: list[RenderableType] = [title]
    if for_bar >= least:
        parts.append(ProgressBar(max(steps, 1), min(done, steps), min(for_bar, most)))
        head.add_column(no_wrap=True)
    head.add_column(no_wrap=True, min_width=len(count))
    head.add_row(*parts, count)
    return Group(head, _across(facts) if _fits(facts, width) else _down(facts))


def _fits(facts: Mapping[str, str], width: int) -> bool:
    return sum(max(len(name), len(fact)) + 2 for name, fact in facts.items()) <= width


def _across(facts: Mapping[str, str]) -> Table:
    body = Table.grid(padding=_GAP)
    for _ in facts:
        body.add_column(no_wrap=True)
    body.add_row(*facts, style="dim")
    body.add_row(*facts.values())
    return body


def _down(facts: Mapping[str, str]) -> Table:
    body = Table.grid(padding=_GAP)
    body.add_column(no_wrap=True, style="dim")
    body.add_column(no_wrap=True, overflow="ellipsis")
    for name, fact in facts.items():
        body.add_row(name, fact)
    return body


def interactive() -> bool:
    """True where stderr is a terminal that can move its cursor."""
    # Rich trusts FORCE_COLOR, with which a log file may be in color but still has no cursor.
    return sys.stderr.isatty() and Console(file=sys.stderr).is_interactive


def memory(device: torch.device) -> int:
    """Bytes: the most that was in use on a CUDA device, else what this process has resident."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import psutil  # type: ignore[import-untyped]

    return int(psutil.Process().memory_info().rss)


def size(count: int) -> str:
    """Bytes in GiB, or in MiB below one of these."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def number(value: float) -> str:
    """Three decimals, or an exponent where these would show little."""
    plain = value == 0 or not math.isfinite(value) or 0.01 <= abs(value) < 1e5
    return f"{value:.3f}" if plain else f"{value:.2e}"

"""The answer that a page begins with: a headline, a verdict, and the figures behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Figure:
    """A fraction that the answer rests on.

    Attributes:
        name: plain text.
        value: 0 to 1.
        interval: [low, high] around it, 0 to 1; None where it is not known.
    """

    name: str
    value: float
    interval: Sequence[float] | None = None


def answer(
    headline: str,
    verdict: str,
    figures: Sequence[Figure] = (),
    *,
    chance: float | None = None,
    advice: Sequence[str] = (),
) -> str:
    """HTML to put above the parts of a page.

    Args:
        headline: plain text, what was found out, in a few words.
        verdict: plain text of a sentence or two: what that means.
        figures: bars from 0 to 1 beside it, the first of them brought out.
        chance: a dashed line over all bars, the level of guessing.
        advice: plain sentences below the verdict.

    Raises:
        ValueError: a figure is no fraction.
    """
    lines = ["<div>", f'<p class="headline">{escape(headline)}</p>']
    if verdict:
        lines.append(f'<p class="verdict">{escape(verdict)}</p>')
    if advice:
        items = "".join(f"<li>{escape(line)}</li>" for line in advice)
        lines.append(f"<ul>{items}</ul>")
    lines.append("</div>")
    if figures:
        bars = "\n".join(_bar(one, chance, first=place == 0) for place, one in enumerate(figures))
        lines.append(f'<div class="figures">\n{bars}{_legend(figures, chance)}</div>')
    return "\n".join(lines)


def _bar(figure: Figure, chance: float | None, *, first: bool) -> str:
    """One figure: its name, its number, and a bar with its interval."""
    if not 0 <= figure.value <= 1:  # also of what is no number
        raise ValueError(f"{figure.name} is no fraction: {figure.value}")
    words = f"{figure.value:.3f}"
    drawn = [f'<span class="length" style="width: {_part(figure.value)}"></span>']
    if figure.interval is not None:
        low, high = (min(1.0, max(0.0, end)) for end in figure.interval)
        words += f" ({low:.3f} to {high:.3f})"
        place = f"left: {_part(low)}; width: {_part(high - low)}"
        drawn.append(f'<span class="spread" style="{place}"></span>')
    if chance is not None and math.isfinite(chance):
        drawn.append(f'<span class="chance" style="left: {_part(chance)}"></span>')
    kind = ' class="first"' if first else ""
    name = f'<div class="name"><span>{escape(figure.name)}</span><b>{words}</b></div>'
    return f'<div{kind}>{name}<div class="track">{"".join(drawn)}</div></div>'


def _part(value: float) -> str:
    return f"{100 * value:.2f}%"


def _legend(figures: Sequence[Figure], chance: float | None) -> str:
    """How the bars are read."""
    words = []
    if chance is not None:
        words.append(f'<span class="key">dashed</span>: chance, {chance:.3g}')
    if any(one.interval is not None for one in figures):
        words.append("in brackets and as a thin line: 95 % interval")
    return f"\n<p>{'; '.join(words)}</p>" if words else ""

"""One HTML page without network, scripts or files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..errors import escaped
from ..version import __version__

if TYPE_CHECKING:
    from jinja2 import Template


_LONG = 24  # letters of a word that may be broken: a path


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        title: plain text.
        body: HTML, put in as it is; whoever makes it escapes what came from outside.
        note: plain text below the body: how to read it, or what was left out.
        wide: takes the whole width of a page that has room for two parts side by side.
        folded: is closed until its title is clicked.
    """

    title: str
    body: str
    note: str = ""
    wide: bool = False
    folded: bool = False


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    )


def page(title: str, sections: Sequence[Section], *, subtitle: str = "", answer: str = "") -> str:
    """A whole page; title and subtitle are plain text.

    The answer, HTML as `report.answer` makes it, stands above all parts. These stand in one column
    or, where there is room, in two, those that are folded at the end of the page.

    Control characters, marks that turn the direction of text, and bytes that are not UTF-8 stand in
    it as `escaped` writes them, wherever in it they are.
    """
    ordered = [one for one in sections if not one.folded] + [one for one in sections if one.folded]
    text = _template().render(
        title=title, subtitle=subtitle, answer=answer, sections=ordered, version=__version__
    )
    return "\n".join(map(escaped, text.split("\n")))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any, tag: str = "td", *, number: bool = False) -> str:
    if value is None:
        text = "–"  # noqa: RUF001 - a dash for "nothing known"
    elif isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = str(value)
    names = ["number"] * number + ["long"] * any(len(word) > _LONG for word in text.split())
    kind = f' class="{" ".join(names)}"' if names else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], *, highlight: int | None = None
) -> str:
    """A <table> in a box that scrolls; everything in it is escaped.

    Args:
        headers: one per column; all empty leaves the head out.
        rows: cells. Floats get four digits, None a dash; columns of numbers stand to the right.
        highlight: index of a row to bring out.

    Raises:
        ValueError: when a row has more or fewer cells than there are headers.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"{len(headers)} columns, but a row of {len(row)}: {list(row)}")
    numeric = [
        any(_is_number(row[i]) for row in rows)
        and all(row[i] is None or _is_number(row[i]) for row in rows)
        for i in range(len(headers))
    ]
    lines = ['<div class="wide"><table>']
    if any(headers):
        cells = (_cell(h, "th", number=n) for h, n in zip(headers, numeric, strict=True))
        lines.append(f"<thead><tr>{''.join(cells)}</tr></thead>")
    lines.append("<tbody>")
    for index, row in enumerate(rows):
        kind = ' class="highlight"' if index == highlight else ""
        cells = (_cell(value, number=n) for value, n in zip(row, numeric, strict=True))
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table></div>"])


def details(summary: str, body: str) -> str:
    """HTML that shows when its summary, which is plain text, is opened."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figure(picture: str, caption: str) -> str:
    """HTML of a picture with a caption, which is plain text of one or several lines."""
    lines = "<br>".join(map(escape, caption.split("\n")))
    return f"<figure>{picture}<figcaption>{lines}</figcaption></figure>"

"""`vidinit profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options as opt
from .derived import command
from .options import OUTPUT

if TYPE_CHECKING:
    from vidinit.report.profile_page import Sheet

MORE = "More to measure"


def numbers(text: str | None, option: str) -> list[int] | None:
    """``1,2,4`` as numbers."""
    from vidinit.errors import UsageError

    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{option} {text}: not whole numbers", "write one, or several as 1,2,4"
        ) from None


@command(
    "profile",
    panels={
        OUTPUT: "out overwrite",
        MORE: "count_only stages training kernels data workers results",
        "Options": "batch_size device precision",
    },
    arguments={"models": "MODEL..."},
    names={"batch_size": "batch-size batch-sizes"},
    kinds={"models": list[str]},
    texts={"out": "Folder for profile.json and profile.html; default: none is written."},
)
def profile(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Measure, and print a table.

    Examples:
        vidinit profile r3d50 sts-r3d50 c2d-r50
        vidinit profile r2plus1d-18 --frames 8,16 --batch-sizes 1,2,4 --training --stages
        vidinit profile runs/finetune-mine-1 --data videos/
        vidinit profile 's3d@top:*' --results runs/ --out runs/tradeoff
        vidinit profile runs/distilled runs/scratch --kernels --out runs/kernels
    """
    import vidinit

    keywords["frames"] = numbers(keywords["frames"], "--frames")
    keywords["batch_size"] = numbers(keywords["batch_size"], "--batch-size")
    rows = vidinit.profile(**keywords)
    if json:
        opt.print_json(rows)
        return
    from vidinit.report.profile_page import sheets

    for sheet in sheets(rows):
        show(sheet)
    if keywords["out"] is not None:
        opt.put(f"page: {keywords['out']}/profile.html")


def show(sheet: Sheet) -> None:
    """One table, for people."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from vidinit.console import result_console

    table = Table(
        title=sheet.title,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, header in enumerate(sheet.headers):
        if any(isinstance(row[i], str) for row in sheet.rows):
            longest = max(
                len(word) for row in sheet.rows for word in (*header.split(), str(row[i]))
            )
            table.add_column(header, overflow="fold", min_width=min(longest, 16))
        else:  # numbers are not broken; their headers are
            lines = Text(header.replace(" ", "\n"))
            table.add_column(lines, justify="right", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console = result_console()
    # Lines that a narrow terminal breaks are better than numbers that are not there.
    least = console.measure(table).minimum
    console.print(table, width=max(console.width, least), crop=False)
    if sheet.note:
        console.print(sheet.note)

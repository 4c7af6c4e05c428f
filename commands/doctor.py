"""`vidinit doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as opt

if TYPE_CHECKING:
    from vidinit.doctor.finding import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "none": "dim"}


def doctor(
    patience: Annotated[
        float,
        typer.Option(min=1.0, help="Seconds for what is tried: imports, devices, videos, the hub."),
    ] = 8.0,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Try what a run needs: packages, readers, devices, folders, the hub.

    The exit code is 1 where something would stop a run.

    Examples:
        vidinit doctor
        vidinit doctor --json > doctor.json
    """
    from vidinit.doctor.examine import as_json, examine, stopping

    findings = examine(patience)
    if json:
        opt.print_json(as_json(findings))
    else:
        show(findings)
    if stopping(findings):
        raise typer.Exit(1)


def show(findings: Sequence[Finding]) -> None:
    """A line a check, and the verdict, for people."""
    from rich.table import Table
    from rich.text import Text

    from vidinit.console import result_console
    from vidinit.doctor.examine import verdict
    from vidinit.errors import escaped

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(escaped(finding.found))
        if finding.advice:
            text.append(f"\n-> {escaped(finding.advice)}", style="cyan")
        shown = "-" if finding.status == "none" else finding.status
        table.add_row(Text(shown, style=STYLES[finding.status]), finding.check, text)
    console = result_console()
    console.print(table)
    console.print()
    console.print(verdict(findings), soft_wrap=True)

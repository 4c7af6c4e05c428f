"""Options of every command, and how results are printed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidinit.errors import escaped
from vidinit.processes import is_main_process

INPUT, TRAINING, COMPUTING, OUTPUT = "Input", "Training", "Computing", "Output"
"""Headings of options in help."""

Json = Annotated[
    bool, typer.Option("--json", help="The result as JSON on stdout.", rich_help_panel=OUTPUT)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=OUTPUT)]


def put(line: str) -> None:
    """One line of a result on stdout, for people; names in it are `escaped`."""
    print(escaped(line), flush=True)


def print_json(value: Any) -> None:
    """The result on stdout, for scripts."""
    if is_main_process():
        from vidinit.console import json_text

        print(json_text(value, indent=2), flush=True)


def print_runs(result: dict[str, Any]) -> None:
    """The end of a command that made several runs."""
    from vidinit.pipelines.run_set import lines_of

    for line in lines_of(result):
        put(line)


def print_fit(result: dict[str, Any], *, as_json: bool) -> None:
    """The end of a fit: each model's score, the answer, and what to do next."""
    if as_json:
        print_json(result)
        return
    watch = result["watch"]
    width = max(len(one["name"]) for one in result["models"].values())
    for one in result["models"].values():
        put(f"{one['name']:<{width}}  {watch} {one[watch]:.3f}")
    put(result["answer"])
    put(f"model: {result['out']}/model   report: {result['out']}/report.html")
    put(f"next: {result['next']}")


def print_training(result: dict[str, Any], *, as_json: bool, dry_run: bool) -> None:
    """The end of a training command."""
    if as_json:
        print_json(result)
    elif "runs" in result:
        print_runs(result)
    elif is_main_process():
        from vidinit.pipelines.shared.summary import dry_run_summary, summary

        for line in dry_run_summary(result) if dry_run else summary(result):
            put(line)

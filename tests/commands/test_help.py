"""Every help page: its width, its groups, its examples, and what it does without."""

from __future__ import annotations

import re

import pytest
from support import imported_by
from typer.testing import CliRunner
from vidinit.commands import app


def pages() -> list[str]:
    """Every command and group of commands, by its full name; empty for vidinit itself."""
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    inner = [f"{name} {one.name}" for name, g in groups.items() for one in g.registered_commands]
    return ["", *(one.name for one in app.registered_commands), *groups, *inner]


def help_of(page: str, columns: int = 100) -> str:
    env = {"COLUMNS": str(columns), "TERM": "dumb"}
    shown = CliRunner().invoke(app, [*page.split(), "--help"], env=env)
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def test_all_commands_are_looked_at():
    assert {"", "demo", "convert", "data", "data check", "preset", "preset copy"} <= set(pages())
    assert len(pages()) >= 19


@pytest.mark.parametrize("page", pages())
def test_help_fits_has_groups_and_ends_with_examples(page):
    text = help_of(page)
    assert max(map(len, text.splitlines())) <= 100
    groups = re.findall(r"^╭─ (.*?) ─", text, flags=re.M)
    assert len(groups) >= 2, "options or commands stand in groups"
    end = text.rpartition("╯")[2].split("\n\n")
    examples = [line for line in (" ".join(part.split()) for part in end) if line]
    assert examples and all(line.startswith("$ ") for line in examples)
    assert any(f"vidinit {page}".strip() in line for line in examples)


@pytest.mark.parametrize("page", [page for page in pages() if page])
def test_examples_name_real_options(page):
    known, _, examples = help_of(page, columns=200).partition("$ ")
    options = set(re.findall(r"--[a-z-]+", known))
    for line in examples.split("\n"):
        command = line.partition(f"vidinit {page}")[2]
        assert set(re.findall(r"--[a-z-]+", command)) <= options, line


def test_help_waits_for_nothing_heavy():
    code = (
        "from typer.testing import CliRunner\n"
        "from vidinit.commands import app\n"
        f"for page in {pages()[1:]!r}:\n"
        "    assert CliRunner().invoke(app, [*page.split(), '--help']).exit_code == 0"
    )
    assert imported_by(code, "torch", "timm", "numpy", "yaml", "av", "vidinit.config") == []

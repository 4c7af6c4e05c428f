"""Reading the docs, and running their commands as they are written."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner
from vidinit.commands import app

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "commands"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def blocks(page: Path, language: str) -> list[str]:
    return blocks_of(page.read_text(), language)


def lines_of(block: str) -> list[str]:
    """The commands of a block, continued lines joined."""
    return [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def first_example(page: Path) -> tuple[list[str], list[str]]:
    """(commands of the page's first block, lines of the output shown behind it)."""
    shown = blocks(page, "text")
    return lines_of(blocks(page, "bash")[0]), shown[0].splitlines() if shown else []


def words_of(line: str) -> str:
    """What is the same on another machine: all but numbers, and the room between words."""
    return " ".join(re.sub(r"[-+]?\d[\d.,:]*(e-\d+)?", "0", line).split())


@dataclass
class Shelf:
    """Folders by the commands that made them.

    An empty folder and a line of commands have one outcome, so what several examples begin with is
    run once: each goes on in a copy of what the longest known beginning has left.
    """

    root: Path
    made: dict[tuple[str, ...], Path] = field(default_factory=dict)
    said: dict[tuple[str, ...], str] = field(default_factory=dict)

    def run(self, commands: list[str], monkeypatch) -> tuple[Path, list[str]]:
        """(the folder at the end, what each command printed)."""
        keys = [tuple(commands[: n + 1]) for n in range(len(commands))]
        known = sum(key in self.made for key in keys)
        folder = self.copy(self.made[keys[known - 1]] if known else None)
        monkeypatch.chdir(folder)
        for key in keys[known:]:
            self.said[key] = run_line(key[-1])
            self.made[key] = self.copy(folder)
        return folder, [self.said[key] for key in keys]

    def copy(self, like: Path | None) -> Path:
        """A folder with the same in it; None for an empty one."""
        folder = self.root / str(len(list(self.root.iterdir())))
        folder.mkdir() if like is None else shutil.copytree(like, folder)
        return folder


def run_line(command: str) -> str:
    """Run one command in the working folder; its output."""
    words = shlex.split(command, comments=True)
    assert words[0] == "vidinit", command
    result = CliRunner().invoke(app, words[1:], env={"COLUMNS": "100", "TERM": "dumb"})
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.stdout

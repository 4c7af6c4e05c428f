"""Commands in the README and the docs exist, with those options; Python blocks run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support import MODEL, SMALL
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.config import COMMANDS
from vidinit.configure import known_keys

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.S)


def documented_lines() -> list[str]:
    lines = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            lines += block.replace("\\\n", " ").splitlines()
        lines += re.findall(r"`(vidinit [a-z]+ [^`]+)`", page.read_text())
    return [line.split("&&")[-1].strip() for line in lines if "vidinit " in line.split("&&")[-1]]


def test_there_are_commands_to_check():
    assert len(documented_lines()) >= 15


@pytest.mark.parametrize("line", documented_lines())
def test_documented_commands_parse(line):
    words = shlex.split(line, comments=True)
    if words[0] in ("torchrun", "accelerate"):
        words = words[words.index("-m") + 1 :]
    assert words[0] == "vidinit"
    if len(words) == 1 or words[1].startswith("-"):
        return
    name = words[1:3] if words[1] in ("data", "preset") else words[1:2]  # groups of commands
    shown = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, line
    options = set(re.findall(r"--[a-z-]+", shown.stdout.split("$ vidinit")[0]))
    for word in words[2:]:
        if word.startswith("--"):
            assert word in options, line
    cls = COMMANDS.get(words[1])
    if cls is not None:
        for key in re.findall(r"(?<= )((?:data|train|eval|distill)\.\w+)=", line):
            assert key in set(known_keys(cls)), line


def test_python_blocks_run(motion_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos" / "jumping").mkdir(parents=True)
    clip = (motion_set / "train" / "left" / "0.mp4").read_bytes()
    (tmp_path / "videos" / "jumping" / "a.mp4").write_bytes(clip)
    vidinit.finetune(MODEL, data=motion_set, out="runs/mine", overrides=SMALL, epochs=1)
    count = 0
    for page in PAGES:
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), {})
            count += 1
    assert count >= 2


def test_the_readme_holds_both_commands():
    text = (ROOT / "README.md").read_text()
    for command in (
        "pip install -e '.[demo]' && vidinit demo",
        "pip install -e '.[test]' && pytest",
    ):
        assert f"\n{command}\n" in text


def test_no_module_is_long():
    files = [*ROOT.glob("vidinit/**/*.py"), *ROOT.glob("commands/*.py")]
    assert len(files) > 50
    long = {str(f): n for f in files if (n := len(f.read_text().splitlines())) > 400}
    assert long == {}

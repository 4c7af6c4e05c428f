"""Commands in the README and the docs exist, with those options; Python blocks run."""

from __future__ import annotations

import ast
import functools
import re
import shlex

import pytest
from docs_support import PAGES, ROOT, blocks
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit import errors
from vidinit.config.build import known_keys
from vidinit.pipelines.registry import config_classes

CONFIGS = config_classes()

APART = ("python.md", "quickstart.md")  # each is one program, which test_guides runs


def documented_lines() -> list[str]:
    lines = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            lines += block.replace("\\\n", " ").splitlines()
        lines += re.findall(r"`(vidinit [a-z]+ [^`]+)`", page.read_text())
    return [line.split("&&")[-1].strip() for line in lines if "vidinit " in line.split("&&")[-1]]


def test_there_are_commands_to_check():
    assert len(documented_lines()) >= 15


@functools.cache
def options_of(*command: str) -> set[str]:
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, command
    return set(re.findall(r"--[a-z-]+", shown.stdout.split("$ vidinit")[0]))


@pytest.mark.parametrize("line", documented_lines())
def test_documented_commands_parse(line):
    words = shlex.split(line, comments=True)
    if words[0] in ("torchrun", "accelerate"):
        words = words[words.index("-m") + 1 :]
    assert words[0] == "vidinit"
    if len(words) == 1 or words[1].startswith("-"):
        return
    options = options_of(*words[1 : 3 if words[1] in ("data", "preset") else 2])
    for word in words[2:]:
        if word.startswith("--"):
            assert word in options, line
    cls = CONFIGS.get(words[1])
    if cls is not None:
        for key in re.findall(r"(?<= )((?:data|train|eval|distill|cotrain|text)\.\w+)=", line):
            assert key in set(known_keys(cls)), line


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [(p, block) for p in PAGES if p.name not in APART for block in blocks(p, "python")]
    assert [page.name for page, _ in found].count("README.md") == 1
    for page, block in found:
        exec(compile(block, str(page), "exec"), {})


def code_texts() -> tuple[set[str], list[re.Pattern[str]]]:
    """(texts of the code as they are, texts with blanks that take anything)."""
    whole, blanks = set(), []
    for file in (*ROOT.glob("vidinit/**/*.py"), *ROOT.glob("commands/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                whole.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                words = [getattr(part, "value", None) for part in node.values]
                words = [word if isinstance(word, str) else "" for word in words]
                if sum(map(len, words)) >= 12:  # enough of them to be a message
                    blanks.append(re.compile("".join(re.escape(w) or ".*" for w in words)))
    return whole, blanks


def test_messages_in_the_docs_are_those_of_the_code():
    page = (ROOT / "docs" / "errors.md").read_text()
    messages = re.findall(r"^\| `(.+?)` \| (?!\|)", page, flags=re.M)
    whole, blanks = code_texts()

    def unknown(messages: list[str]) -> list[str]:
        rest = [text for text in messages if text not in whole]
        return [text for text in rest if not any(blank.fullmatch(text) for blank in blanks)]

    assert len(messages) >= 30
    assert unknown(messages) == []
    other = [message.replace(" ", " surely ", 1) for message in messages]
    assert len(unknown(other)) > len(other) / 2


def test_exit_codes_in_the_docs_are_those_of_the_code():
    page = (ROOT / "docs" / "errors.md").read_text()
    told = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", page, flags=re.M))))
    kinds = [errors.VidinitError, errors.UsageError, errors.DataError]
    signals = [errors.Interrupted("", signal_number=n).exit_code for n in (1, 2, 15)]
    assert told == {"0", *map(str, [*(kind.exit_code for kind in kinds), *signals])}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", place.read_text(), flags=re.M)
            anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles}
            assert anchor in anchors, target


def test_the_index_has_every_page():
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / to).resolve() for to in re.findall(r"\]\(([\w/]+\.md)", index.read_text())
    }
    assert linked == {page for page in PAGES if page.parent != ROOT} - {index}


def test_the_readme_holds_both_commands():
    text = (ROOT / "README.md").read_text()
    for command in (
        "pip install -e '.[demo]' && vidinit demo",
        "pip install -e '.[test]' && pytest",
    ):
        assert f"\n{command}\n" in text

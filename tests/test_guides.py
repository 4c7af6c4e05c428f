"""The guides: one for each command, with an example that runs and tables that are true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from docs_support import GUIDES, ROOT, Shelf, blocks, blocks_of, first_example, lines_of, words_of
from option_tables import MARKED, commands, default_of, effective_defaults, pages, rewritten

import vidinit
from vidinit.pipelines.finetune.settings import FinetuneConfig

# Minutes, the machine's state, or tested elsewhere.
SLOW = {"fit", "finetune", "demo", "doctor", "export"}
SLOW |= {"cotrain", "distill", "eval", "data", "predict", "profile"}
HEADS = sorted({name.partition(" ")[0] for name in commands()})


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("examples"))


def examples():
    for name in HEADS:
        yield pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("name", HEADS)
def test_each_command_has_a_guide(name):
    page = GUIDES / f"{name}.md"
    lines = page.read_text().splitlines()
    assert lines[0] == f"# vidinit {name}"
    example = lines.index("```bash")
    assert 3 <= example <= 6 and lines[example - 1] == "", "two lines say what it is for"
    tables = {match[2].removeprefix("options: ") for match in MARKED.finditer(page.read_text())}
    assert tables == {full for full in commands() if full.partition(" ")[0] == name}
    assert f"commands/{name}.md" in (ROOT / "docs" / "README.md").read_text()


def test_no_guide_is_left_of_a_command_that_is_gone():
    assert sorted(page.stem for page in GUIDES.glob("*.md")) == HEADS


@pytest.mark.parametrize("name", examples())
def test_the_first_example_runs_as_it_is_written(name, shelf, monkeypatch):
    example, shown = first_example(GUIDES / f"{name}.md")
    assert any(line.startswith(f"vidinit {name}") for line in example)
    _, said = shelf.run(example, monkeypatch)
    printed = {words_of(line) for text in said for line in text.splitlines()}
    assert shown, "the guide shows what is printed"
    for line in shown:
        assert words_of(line) in printed, f"{line}\nis not in\n{said[-1]}"


def quickstart() -> tuple[list[str], list[str]]:
    """(commands, Python blocks) of the hour; what follows is for the reader's own videos."""
    text = (ROOT / "docs" / "quickstart.md").read_text().partition("## Your own videos")[0]
    lines = [line for block in blocks_of(text, "bash") for line in lines_of(block)]
    return [line for line in lines if not line.startswith("pip ")], blocks_of(text, "python")


def test_the_quickstart_uses_what_it_has_made():
    commands_, _ = quickstart()
    made: set[str] = set()
    for line in commands_:
        words = shlex.split(line)
        used = [words[2]] if words[1] in ("finetune", "eval", "predict", "export") else []
        for flag in ("--data", "--videos", "--student", "--against"):
            used += words[words.index(flag) + 1 :][:1] if flag in words else []
        assert {Path(name).parts[0] for name in used} <= made, line
        if "--out" in words:
            made.add(words[words.index("--out") + 1])
    heads = {line.split()[1] for line in commands_}
    assert {"convert", "finetune", "eval", "predict", "export", "distill"} <= heads


@pytest.mark.slow
def test_the_quickstart_runs_as_it_is_written(shelf, monkeypatch):
    commands_, program = quickstart()
    folder, said = shelf.run(commands_, monkeypatch)
    top1 = [float(figure) for text in said for figure in re.findall(r"^top-1 ([\d.]+)", text, re.M)]
    assert top1 and top1[0] > 0.6, "the model of the page sees motion"
    printed = {words_of(line) for text in said for line in text.splitlines()}
    shown = blocks(ROOT / "docs" / "quickstart.md", "text")
    assert [one for one in "".join(shown).splitlines() if words_of(one) not in printed] == []
    assert all((folder / name).exists() for name in ("mine", "mine.onnx", "distilled"))
    for block in program:
        exec(compile(block, "quickstart.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_the_python_page_runs_as_it_is_written(whole, shelf, monkeypatch):
    page = ROOT / "docs" / "python.md"
    program = blocks(page, "python")
    if not whole:
        program = program[:-1]
        assert "vidinit.distill(" not in "".join(program), "what takes longest comes last"
    shelf.run(lines_of(blocks(page, "bash")[0]), monkeypatch)
    names: dict[str, object] = {}
    for block in program:
        exec(compile(block, str(page), "exec"), names)
    assert names["report"].exact and names["told"]["classes"][0] == "pan down"


def test_the_python_page_has_every_public_name():
    page = ROOT / "docs" / "python.md"
    table = set(re.findall(r"^\| `vidinit\.(\w+)`", page.read_text(), flags=re.M))
    assert table == set(vidinit.__all__)
    program = "".join(blocks(page, "python"))
    assert [name for name in vidinit.__all__ if f"vidinit.{name}" not in program] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_tables_are_what_the_program_has(page):
    text = page.read_text()
    assert rewritten(text) == text, "run `python -m tests.option_tables`"


def test_options_have_the_defaults_of_the_settings_they_stand_for():
    usual, found = FinetuneConfig.defaults(), effective_defaults("finetune")
    assert found["epochs"] == usual["train"]["epochs"] and found["lr"] == usual["train"]["lr"]
    assert found["batch_size"] == usual["data"]["batch_size"] and found["device"] == "auto"
    assert effective_defaults("predict") == {}
    text = (GUIDES / "finetune.md").read_text()
    assert f"| `--epochs N` | `{usual['train']['epochs']}` | Passes over the training clips" in text
    table = text[text.index("<!-- options: finetune -->") :]
    empty = re.findall(r"^\| `(--[^`]*)` \| *\|", table, flags=re.M)
    assert empty == [], "every option says what holds without it"


def test_a_default_is_an_options_own_or_its_settings_or_what_its_text_says():
    for given, expected in (
        ((3, 5, "text; default 7.", False), "`3`"),
        ((None, 5, "text; default 7.", False), "`5`"),
        ((None, None, "text; default: a <part> of it, mostly.", False), r"a \<part> of it"),
        ((None, None, "classify (default), or detect.", False), "classify"),
        ((None, None, "text.", False), "none"),
        ((False, None, "text.", False), "off"),
        ((None, None, "text.", True), ""),
    ):
        assert default_of(*given) == expected


def test_a_changed_option_would_be_seen(tmp_path):
    text = (GUIDES / "finetune.md").read_text()
    assert "| `--shots N` |" in text
    assert rewritten(text.replace("| `--shots N` |", "| `--shoots N` |")) == text

"""Text of others on a terminal: it is shown, whatever is in it, and never obeyed."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.table import Table
from vidinit.commands import options

from vidinit import console
from vidinit.errors import UsageError, VidinitError, escaped

ROOT = Path(__file__).parents[1]
NASTY = "a\x1b[31mred\x1b]0;title\x07\r\n\u202egnp.\u2028[bold]x[/] :smile: \x9b2J\udcff\x7f"
SHOWN = r"a\x1b[31mred\x1b]0;title\x07\r\n\u202egnp.\u2028[bold]x[/] :smile: \x9b2J\udcff\x7f"


@pytest.mark.parametrize(("text", "shown"), [
    (NASTY, SHOWN),
    ("plain name.mp4", "plain name.mp4"),
    ("two  spaces", "two  spaces"),
    ("tab\there", r"tab\there"),
    ("Ünï çödé 視頻 ویدیو видео 🎬", "Ünï çödé 視頻 ویدیو видео 🎬"),
    ("می\u200cخواهم 👩\u200d🚀", "می\u200cخواهم 👩\u200d🚀"),  # noqa: RUF001
    ("Screenshot 1.02.03\u202fPM\u3000", "Screenshot 1.02.03\u202fPM\u3000"),
    ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
    ("\u2066x\u2069 \u061c \u200f", r"\u2066x\u2069 \u061c \u200f"),
    ("", ""),
])  # fmt: skip
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert escaped(shown) == shown, "what is safe stays as it is"


def test_all_characters_that_a_terminal_obeys_are_written_out() -> None:
    for code in [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]:
        assert escaped(chr(code)) == repr(chr(code))[1:-1] and escaped(chr(code)).isascii()


def test_errors_are_one_line() -> None:
    error = UsageError(f"no such file: {NASTY}", f"look for {NASTY}")
    assert str(error) == f"no such file: {SHOWN}; look for {SHOWN}"
    assert error.message.endswith(NASTY), "in Python the name is whole"
    assert str(VidinitError("a  b\nc")) == r"a  b\nc"


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(NASTY)
    assert capsys.readouterr().err == f"{SHOWN}\n"
    console.with_messages(lambda: warnings.warn(NASTY, stacklevel=1))
    assert capsys.readouterr().err == f"note: {SHOWN}\n"


def test_lines_of_results(capsys: pytest.CaptureFixture[str]) -> None:
    options.put(NASTY)
    assert capsys.readouterr().out == f"{SHOWN}\n"
    options.print_json({NASTY: [NASTY]})
    out = capsys.readouterr().out
    assert out.isascii() and escaped(out.replace("\n", "")) == out.replace("\n", "")
    assert json.loads(out) == {NASTY: [NASTY]}, "JSON keeps the names whole"


def test_tables_obey_no_markup() -> None:
    text = io.StringIO()
    table = Table(NASTY, title=NASTY)
    table.add_row(NASTY)
    table.add_row("[red]x[/]")
    screen = console.PlainConsole(text, width=200, force_terminal=True, color_system="truecolor")
    screen.print(table)
    screen.print("[link=http://x]y[/link]", "[/]")
    assert text.getvalue().count(SHOWN) == 3
    assert "[red]x[/]" in text.getvalue() and "[link=http://x]y[/link] [/]" in text.getvalue()
    assert "\x1b]" not in text.getvalue() and "\u202e" not in text.getvalue()


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    screen = console.PlainConsole(text, width=300, force_terminal=True)
    monkeypatch.setattr(console, "console", lambda: screen)
    with console.ProgressBar(NASTY) as bar:
        bar.update(1, 2)
        assert bar.bar is not None
        bar.bar.refresh()
    assert SHOWN in text.getvalue() and "\x1b]0;" not in text.getvalue()


def test_warnings_that_python_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    console.escape_warnings()
    once = warnings.formatwarning
    console.escape_warnings()
    assert warnings.formatwarning is once
    shown = warnings.formatwarning(UserWarning(NASTY), UserWarning, "file.py", 3, "")
    assert SHOWN in shown and "\x1b" not in shown


def test_letters_that_a_terminal_has_no_code_for(tmp_path: Path) -> None:
    """Python would end in an error where stdout is ASCII or Latin-1 alone."""
    lines = "from vidinit.commands import app; app(['preset', 'check', '視頻\\udcff.yaml'])"
    (tmp_path / "視頻\udcff.yaml").write_text("train:\n  epochs: 3\n")
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=tmp_path,
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u8996\u983b\udcff.yaml: valid for" in done.stdout


# ------------------------------------------------------------------ the one way

ALLOWED = {
    "commands/app.py": 5,  # errors, tracebacks, help and the version
    "commands/options.py": 2,  # `put` and JSON
    "vidinit/console.py": 1,  # what messages are written to
    "vidinit/data/loading/quarantine.py": 2,
    "vidinit/engine/live_table.py": 1,  # asks whether stderr is a terminal
}
"""Files that write to the terminal themselves, and in how many places."""


def writes(tree: ast.AST) -> int:
    """Calls that write to stdout or stderr, and consoles of rich that obey markup."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            count += name in ("print", "typer.echo", "typer.secho", "click.echo", "Console")
            count += name in ("traceback.print_exc", "rich.print", "rprint")
            count += name.endswith(("stdout.write", "stderr.write", "stdout.writelines"))
    return count


def test_nothing_else_writes_to_the_terminal() -> None:
    found = {}
    for file in sorted([*(ROOT / "vidinit").rglob("*.py"), *(ROOT / "commands").rglob("*.py")]):
        place = str(file.relative_to(ROOT))
        count = writes(ast.parse(file.read_text("utf-8")))
        if count > ALLOWED.get(place, 0):
            found[place] = count
    assert found == {}, "use say, put, print_json, or a console of vidinit.console"


@pytest.mark.parametrize("code", ["print(x)", "typer.echo(x)", "Console()", "sys.stdout.write(x)"])
def test_another_way_is_found(code: str) -> None:
    assert writes(ast.parse(f"def f(x):\n    {code}")) == 1

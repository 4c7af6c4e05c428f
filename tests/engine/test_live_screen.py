from __future__ import annotations

import io
import re
import sys

import pytest
from engine.showing import CPU, Clock, Terminal, losses, train
from rich.console import Console

from vidinit.engine import timing as timing_module
from vidinit.engine.live import Live
from vidinit.engine.live_table import number, table


def test_a_terminal_gets_a_table(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    live = Live("finetune", epochs=1, steps=100, device=CPU)
    drawn = []
    with live.epoch(1) as epoch:
        for _ in epoch.batches(clock.batches(*[0.0] * 100)):
            clock.now += 0.0625
            before = len(terminal.getvalue())
            epoch.step(losses(0.5), lr=0.01, clips=8)
            drawn.append(len(terminal.getvalue()) > before)
    assert sum(drawn) == 25, "in 6.25 s"
    text = terminal.getvalue()
    assert "data wait" in text and "clips/s" in text and "100/100" not in text[: len(text) // 2]
    last = text.rsplit("\n", 2)[-2]
    assert last.startswith(("finetune  epoch 1/1  step 100/100", "\x1b"))
    assert "step 100/100  loss 0.500" in text and sys.stderr is terminal


def test_no_color(clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    live = Live("finetune", epochs=1, steps=2, device=CPU)
    train(live, clock, [1.0] * 2, 1.0)
    colors = r"\x1b\[[\d;]*38;5;\d+"
    assert re.search(colors, terminal.getvalue())
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    live = Live("finetune", epochs=1, steps=2, device=CPU)
    train(live, clock, [1.0] * 2, 1.0)
    assert "2/2" in terminal.getvalue() and not re.search(colors, terminal.getvalue())


@pytest.mark.parametrize("settings", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}])
def test_plain_lines_where_no_cursor_moves(
    clock: Clock,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if "FORCE_COLOR" in settings:  # a log file whose writer wants colors
        monkeypatch.setattr(terminal, "isatty", lambda: False, raising=False)
    train(Live("finetune", epochs=1, steps=2, device=CPU), clock, [1.0] * 2, 1.0)
    assert re.search(r"finetune  epoch 1/1  step 2/2", terminal.getvalue())
    assert not re.search(r"\x1b\[\d*[A-Z]|\x1b\[\?", terminal.getvalue())


def test_an_error_leaves_the_terminal_as_it_was(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    asked: list[int] = []
    monkeypatch.setattr(timing_module.RecentMeans, "request", lambda self: asked.append(1))
    live = Live("finetune", epochs=1, steps=5, device=CPU)
    live.due = clock.now + 100
    with pytest.raises(RuntimeError, match="device failed"), live.epoch(1) as epoch:
        clock.now += 1
        epoch.step(losses(0.5), lr=0.01, clips=8)
        raise RuntimeError("device failed")
    assert sys.stderr is terminal
    assert not asked, "a device that has failed is not asked"
    text = terminal.getvalue()
    assert "\x1b[?25h" in text and "step 1/5" in text.splitlines()[-1]


FACTS = {"loss": "1.234", "lr": "0.01", "clips/s": "88.1", "data wait": "12%"}


@pytest.mark.parametrize(("width", "rows"), [(100, 3), (40, 3), (30, 5), (12, 5)])
def test_the_table_fits_its_terminal(width: int, rows: int) -> None:
    screen = Console(file=io.StringIO(), width=width, color_system=None)
    screen.print(table("finetune  epoch 1/10", 20, 40, FACTS, width=width))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == rows and max(map(len, lines)) <= width
    assert "20/40" in lines[0]
    assert ("━" in lines[0]) == (width >= 40)
    assert any("12%" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456, "1.235"),
        (0.0, "0.000"),
        (2e-5, "2.00e-05"),
        (float("nan"), "nan"),
        (1e7, "1.00e+07"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text

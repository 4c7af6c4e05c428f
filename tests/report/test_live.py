from __future__ import annotations

import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode

from vidinit.report import live as live_module
from vidinit.report import recent as recent_module
from vidinit.report import waiting as waiting_module
from vidinit.report.live import Live
from vidinit.report.recent import Recent
from vidinit.report.table import number, table
from vidinit.report.waiting import WaitTimer

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def batches(self, *waits: float) -> Iterator[int]:
        for index, wait in enumerate(waits):
            self.now += wait
            yield index


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live_module, "perf_counter", clock)
    monkeypatch.setattr(waiting_module, "perf_counter", clock)
    return clock


class Terminal(io.StringIO):
    """To be put in the place of stderr inside a test: before it, pytest puts its own there."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def losses(value: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(value, requires_grad=True)}


def train(live: Live, clock: Clock, waits: list[float], work: float, number: int = 1) -> None:
    with live.epoch(number) as epoch:
        for index in epoch.batches(clock.batches(*waits)):
            clock.now += work
            epoch.step(losses(float(index)), lr=0.01, clips=8)


def test_lines_come_every_15_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live("finetune", epochs=2, steps=40, device=CPU)
    train(live, clock, [0.25] * 40, 0.75)
    lines = capsys.readouterr().err.splitlines()
    assert [re.findall(r"step (\d+)/40", line) for line in lines] == [["15"], ["30"], ["40"]]
    # Steps 20 to 39 of the last line's mean; the second epoch is 40 more steps of a second.
    words = re.sub(r"memory \d+ MiB|memory [\d.]+ GiB", "memory", lines[-1])
    assert words == (
        "finetune  epoch 1/2  step 40/40  loss 29.500  lr 0.01  8.0 clips/s  data wait 25%  "
        "memory  run left 0:00:40"
    )
    assert "epoch left 0:00:25  run left 0:01:05" in lines[0]


def test_a_line_is_not_said_twice_and_an_empty_epoch_says_none(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live("finetune", epochs=1, steps=15, device=CPU)
    train(live, clock, [0.0] * 15, 1.0)
    with live.epoch(2, start=15):
        pass
    assert capsys.readouterr().err.count("step 15/15") == 1
    assert live.rates() == {}


def test_time_left_counts_what_happens_between_epochs(clock: Clock) -> None:
    live = Live("finetune", epochs=4, steps=10, device=CPU)
    train(live, clock, [0.0] * 10, 2.0)
    clock.now += 7.0  # an evaluation
    train(live, clock, [0.0] * 10, 2.0, number=2)
    assert live.seconds_left(2, 4, 2.0) == (8.0, 8.0 + 2 * (20.0 + 7.0))


class Operations(TorchDispatchMode):
    """Counts what tensors are asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_before_a_line_is_due(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live("finetune", epochs=1, steps=20, device=CPU)
    values = losses(1.0)
    with live.epoch(1) as epoch:
        with Operations() as quiet:
            for _ in range(14):
                clock.now += 1
                epoch.step(values, lr=0.01, clips=8)
        assert set(quiet.seen) == {"detach"}
        with Operations() as due:
            clock.now += 1
            epoch.step(values, lr=0.01, clips=8)
        assert due.seen["_local_scalar_dense"] == 1, "one number is read when a line is due"
    assert "loss 1.000" in capsys.readouterr().err


def test_recent_keeps_what_is_rare() -> None:
    recent = Recent(span=4)
    recent.add({"loss": torch.tensor(9.0), "images": torch.tensor(3.0)})
    for value in range(10):
        recent.add({"loss": torch.tensor(float(value)), "videos": torch.tensor(float(value))})
    recent.ask()
    assert recent.here()
    assert recent.means == {"loss": 7.5, "images": 3.0, "videos": 7.5}
    assert list(recent.means) == ["loss", "images", "videos"]


class Device:
    """A device with a queue, as its events show it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.free = clock, clock.now

    def queue(self, seconds: float) -> None:
        self.free = max(self.free, self.clock.now) + seconds

    def event(self, enable_timing: bool = False) -> Event:
        return Event(self)


class Event:
    def __init__(self, device: Device) -> None:
        self.device, self.time = device, 0.0

    def record(self) -> None:
        self.device.queue(0.0)
        self.time = self.device.free

    def query(self) -> bool:
        return self.time <= self.device.clock.now

    def synchronize(self) -> None:
        self.device.clock.now = max(self.device.clock.now, self.time)

    def elapsed_time(self, later: Event) -> float:
        return 1000 * (later.time - self.time)


@pytest.mark.parametrize(("work", "idle"), [(1.0, 0.0), (0.5, 1.2)])
def test_a_busy_device_does_not_wait(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, work: float, idle: float
) -> None:
    device = Device(clock)
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    timer = WaitTimer(torch.device("cuda"))
    for _ in range(5):  # a batch takes 0.8 s, queueing a step none, the device ``work``
        with timer.waiting():
            clock.now += 0.8
        device.queue(work)
    assert timer.first == pytest.approx(0.8)
    assert timer.settle() == pytest.approx(0.8 + idle)


def test_the_device_is_not_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(clock)
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    timer = WaitTimer(torch.device("cuda"))
    began = clock.now
    for _ in range(5):
        with timer.waiting():
            pass
        device.queue(10.0)
        assert timer.seconds == 0
    assert clock.now == began


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_waits_on_a_gpu() -> None:
    import time

    device = torch.device("cuda")
    matrix = torch.randn(8192, 8192, device=device)

    def waits(pause: float, products: int) -> float:
        timer = WaitTimer(device)
        for _ in range(6):
            with timer.waiting():
                time.sleep(pause)
            for _ in range(products):
                torch.mm(matrix, matrix)
        return timer.settle() - (timer.first or 0.0)

    waits(0.0, 1)
    assert waits(0.02, 40) < 0.02, "more than 0.02 s of work is queued in each step"
    assert waits(0.1, 1) > 0.3
    recent = Recent()
    recent.add({"loss": matrix.sum() * 0 + 2})
    recent.ask()
    assert recent.here(wait=True) and recent.means == {"loss": 2.0}


def test_rates_and_totals(clock: Clock) -> None:
    live = Live("finetune", epochs=2, steps=4, device=CPU)
    train(live, clock, [3.0, 1.0, 1.0, 1.0], 1.0)
    assert live.rates() == {"data_wait": 0.6, "clips_per_second": 3.2}
    clock.now += 5.0
    train(live, clock, [0.0] * 4, 2.5, number=2)
    assert live.rates() == {"data_wait": 0.0, "clips_per_second": 3.2}
    assert live.totals() == {
        "seconds": 25.0,
        "data_wait": pytest.approx(0.3),
        "clips_per_second": pytest.approx(3.2),
    }


def test_the_slowest_process_counts(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_gathered", lambda mine: [mine, (9.0, 8.0)])
    live = Live("finetune", epochs=1, steps=10, device=CPU, advice=lambda share: f"wait {share}")
    train(live, clock, [1.0] * 10, 1.0)
    assert live.rates()["data_wait"] == 0.5
    monkeypatch.setattr(live_module, "_gathered", lambda mine: [mine, (12.0, 8.0)])
    assert live.rates()["data_wait"] == 0.6


MEMBER = """
import sys, torch
from vidinit.report.live import _gathered
rank, file = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=file, rank=rank, world_size=2)
print(_gathered((float(rank), 2.0)))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_tell_each_other(tmp_path: Path) -> None:
    given = [sys.executable, "-c", MEMBER]
    place = f"file://{tmp_path}/group"
    members = [
        subprocess.Popen([*given, str(rank), place], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    told = [member.communicate(timeout=60)[0].strip() for member in members]
    assert told == ["[(0.0, 2.0), (1.0, 2.0)]"] * 2


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        ([1.0] * 30, 1),  # 29 s of 59 s, without the first batch
        ([0.3] * 30, 0),  # under a third
        ([100.0] + [0.1] * 29, 0),  # only the first batch
        ([9.0] * 4, 0),  # too few steps to tell
    ],
)
def test_advice(
    clock: Clock, capsys: pytest.CaptureFixture[str], waits: list[float], said: int
) -> None:
    live = Live(
        "finetune",
        epochs=3,
        steps=len(waits),
        device=CPU,
        advice=lambda share: f"bound {share:.2f}",
    )
    for number_ in (1, 2):
        train(live, clock, waits, 1.0, number_)
        live.rates()
    assert capsys.readouterr().err.count("bound 0.49") == said


def test_advice_does_not_wait_for_the_end_of_a_long_epoch(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live("distill", epochs=1, steps=999, device=CPU, advice=lambda share: f"b {share:.2f}")
    train(live, clock, [1.0] * 80, 1.0)
    lines = capsys.readouterr().err.splitlines()
    assert "b 0.50" in lines[:-1] and lines.index("b 0.50") < 10


def test_short_epochs_are_taken_together(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    live = Live("finetune", epochs=9, steps=4, device=CPU, advice=lambda share: "bound")
    for number_ in range(1, 6):
        train(live, clock, [1.0] * 4, 1.0, number_)
        live.rates()
        assert capsys.readouterr().err.count("bound") == (number_ == 3)  # 7 s are counted of each


def test_only_the_main_process_shows(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    live = Live("finetune", epochs=1, steps=40, device=CPU, advice=lambda share: "bound")
    train(live, clock, [1.0] * 40, 1.0)
    assert live.rates() == {"data_wait": 0.5, "clips_per_second": 4.0}
    assert capsys.readouterr() == ("", "")


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
    monkeypatch.setattr(recent_module.Recent, "ask", lambda self: asked.append(1))
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


def test_leaving_early_closes_the_loader() -> None:
    closed = []

    def loader() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    live = Live("finetune", epochs=1, steps=9, device=CPU)
    with pytest.raises(ValueError, match="stop"), live.epoch(1) as epoch:
        for _ in epoch.batches(loader()):
            raise ValueError("stop")
    assert closed


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


def test_the_last_line_of_an_epoch_is_up_to_date(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live("finetune", epochs=1, steps=2, device=CPU)
    with live.epoch(1) as epoch:
        clock.now += 1
        epoch.step(losses(1.0), lr=0.01, clips=8)
        live.recent.ask()  # still on its way when the epoch ends
        epoch.step(losses(3.0), lr=0.01, clips=8)
    assert "loss 2.000" in capsys.readouterr().err

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.showing import CPU, Clock, losses, train
from torch.utils._python_dispatch import TorchDispatchMode

from vidinit.engine import live as live_module
from vidinit.engine.live import Live


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


def test_a_run_that_goes_on_counts_from_its_first_start(clock: Clock) -> None:
    first = Live("finetune", epochs=2, steps=4, device=CPU)
    train(first, clock, [3.0, 1.0, 1.0, 1.0], 1.0)
    first.rates()
    clock.now += 5.0
    with first.epoch(2) as epoch:  # is saved in its middle
        for _ in epoch.batches(clock.batches(0.5, 0.5)):
            clock.now += 2.0
            epoch.step(losses(1.0), lr=0.01, clips=8)
        spent = first.spent()
    assert spent == {"seconds": 20.0, "training": 15.0, "waited": 7.0, "clips": 48}
    second = Live("finetune", epochs=2, steps=4, device=CPU)
    second.continue_from(spent)
    train(second, clock, [1.0, 1.0], 1.5, number=2)
    assert second.rates() == {"data_wait": 0.4, "clips_per_second": 3.2}, "of what it did itself"
    assert second.totals() == {
        "seconds": 25.0,
        "data_wait": pytest.approx(9 / 20),
        "clips_per_second": pytest.approx(64 / 20),
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
from vidinit.engine.live import _gathered
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


def test_the_last_line_of_an_epoch_is_up_to_date(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live("finetune", epochs=1, steps=2, device=CPU)
    with live.epoch(1) as epoch:
        clock.now += 1
        epoch.step(losses(1.0), lr=0.01, clips=8)
        live.losses.request()  # still on its way when the epoch ends
        epoch.step(losses(3.0), lr=0.01, clips=8)
    assert "loss 2.000" in capsys.readouterr().err

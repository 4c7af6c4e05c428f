from __future__ import annotations

import importlib.machinery
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from support import MODEL, SMALL, imported_by, logged

from vidinit.engine.trackers import Trackers, check_trackers
from vidinit.errors import UsageError

CONFIG = {"command": "finetune", "train": {"epochs": 2, "lr": 0.1}}


@pytest.fixture(autouse=True)
def _state() -> Iterator[None]:
    """Accelerate's trackers ask it which process this is; in a run the Accelerator is there."""
    fresh = not PartialState._shared_state
    PartialState(cpu=True)
    yield
    if fresh:
        PartialState._reset_state()


def module(name: str, **parts: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, loader=None, origin=f"{name}.py")
    vars(made).update(parts)
    return made


class Writer:
    """TensorBoard's writer, where that is not installed."""

    made: list[Writer]

    def __init__(self, folder: str, **options: Any) -> None:
        self.folder, self.options = Path(folder), options
        self.scalars: list[tuple[str, float, int]] = []
        self.texts: dict[str, str] = {}
        self.closed = 0
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, global_step: int) -> None:
        self.scalars.append((name, value, global_step))

    def add_text(self, name: str, text: str, global_step: int) -> None:
        self.texts[name] = text

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


class Run:
    """A run of W&B, where that is not installed."""

    def __init__(self, **options: Any) -> None:
        self.options, self.config = options, {}
        self.lines: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def log(self, values: dict[str, float], step: int) -> None:
        if "broken" in values:
            raise OSError("no space left\nat all")
        self.lines.append((values, step))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    import torch.utils

    Writer.made = []
    fake = module("torch.utils.tensorboard", SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "tensorboard", module("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(torch.utils, "tensorboard", fake, raising=False)
    return Writer.made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    made: list[Run] = []

    def update(values: dict[str, Any], allow_val_change: bool) -> None:
        assert allow_val_change, "a resumed run may differ in what is free to change"
        made[-1].config.update(values)

    def init(**options: Any) -> Run:
        if options["dir"].endswith("logged-out"):
            raise RuntimeError("api_key not configured (no-tty)\nsee the docs")
        made.append(Run(**options))
        return made[-1]

    fake = module("wandb", init=init, config=types.SimpleNamespace(update=update))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return made


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_said_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=rf"{name} is not installed.*\[{name}\]'"):
        check_trackers([name])
    (tmp_path / name).mkdir()  # as W&B leaves one behind
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match="not installed"):
        check_trackers([name])


def test_nothing_is_imported_unless_asked_for() -> None:
    code = (
        "from pathlib import Path; from vidinit.engine.trackers import Trackers\n"
        "with Trackers.open([], Path('.'), config={}) as t: t.log({'loss': 1.0}, 1)"
    )
    assert imported_by(code, "torch", "accelerate", "tensorboard", "wandb") == []


def test_tensorboard_gets_all_scalars(boards: list[Writer], tmp_path: Path) -> None:
    with Trackers.open(["tensorboard"], tmp_path, config=CONFIG) as trackers:
        trackers.log({"epoch": 1, "step": 7, "loss": 0.5, "top1": None, "note": "x", "on": True}, 7)
    (board,) = boards
    assert board.folder == tmp_path / "events" and board.options == {}
    assert board.scalars == [("epoch", 1, 7), ("loss", 0.5, 7)]
    assert "    command: finetune\n" in board.texts["config"] and "lr: 0.1" in board.texts["config"]
    assert board.closed == 1
    trackers.close()
    assert board.closed == 1


def test_tensorboard_forgets_what_a_resumed_run_does_again(
    boards: list[Writer], tmp_path: Path
) -> None:
    Trackers.open(["tensorboard"], tmp_path, config=CONFIG, step=40).close()
    assert boards[0].options == {"purge_step": 41}


def test_wandb_writes_into_the_run(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    with Trackers.open(["wandb"], tmp_path, config=CONFIG) as trackers:
        trackers.log({"loss": 0.5}, 3)
    (run,) = runs
    assert run.options["project"] == "vidinit" and run.options["dir"] == str(tmp_path)
    assert run.options["resume"] is None and run.config == CONFIG
    assert run.lines == [({"loss": 0.5}, 3)] and run.finished == 1
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    Trackers.open(["wandb"], tmp_path, config=CONFIG, step=40).close()
    assert runs[1].options["id"] == run.options["id"] and runs[1].options["resume"] == "allow"
    assert runs[1].options["project"] == "mine"
    Trackers.open(["wandb"], tmp_path, config=CONFIG).close()
    assert runs[2].options["id"] != run.options["id"] and runs[2].options["resume"] is None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_closed_on_errors(
    boards: list[Writer], runs: list[Run], tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), Trackers.open(["tensorboard", "wandb"], tmp_path, config=CONFIG):
        raise error
    assert boards[0].closed == 1 and runs[0].finished == 1


def test_a_tracker_that_does_not_start_is_said(
    boards: list[Writer], runs: list[Run], tmp_path: Path
) -> None:
    (tmp_path / "logged-out").mkdir()
    with pytest.raises(UsageError, match=r"wandb does not start \(api_key.*\); .*WANDB_MODE"):
        Trackers.open(["tensorboard", "wandb"], tmp_path / "logged-out", config=CONFIG)
    assert boards[0].closed == 1, "the other one is closed"


def test_a_tracker_that_fails_does_not_end_the_run(
    boards: list[Writer], runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Trackers.open(["wandb", "tensorboard"], tmp_path, config=CONFIG) as trackers:
        trackers.log({"broken": 1.0}, 1)
        trackers.log({"loss": 1.0}, 2)
    assert capsys.readouterr().err == "wandb failed and gets no more metrics (no space left)\n"
    assert runs[0].lines == [] and boards[0].scalars == [("broken", 1.0, 1), ("loss", 1.0, 2)]


def test_only_the_main_process_tracks(
    boards: list[Writer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with Trackers.open(["tensorboard"], tmp_path, config=CONFIG) as trackers:
        trackers.log({"loss": 1.0}, 1)
    assert boards == []


def test_tensorboard_itself(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step, value in ((0, 0.5), (4, 0.25)):
        with Trackers.open(["tensorboard"], tmp_path, config=CONFIG, step=step) as trackers:
            for later in range(1, 9 - step):
                trackers.log({"loss": value}, step + later)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        *((step, 0.5) for step in range(1, 5)),
        *((step, 0.25) for step in range(5, 9)),
    ]


def test_a_run_draws_what_it_writes(motion_set: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    import vidinit

    run = tmp_path / "run"
    given = [*SMALL, "train.log_every=1", "train.trackers=[tensorboard]"]
    vidinit.finetune(MODEL, data=motion_set, out=run, overrides=given, epochs=2)
    written: dict[str, list[tuple[int, float]]] = {}
    for row in logged(run):
        step = row.pop("step")
        for name, value in row.items():
            written.setdefault(name, []).append((step, pytest.approx(value, rel=1e-6)))
    events = EventAccumulator(str(run / "events")).Reload()
    drawn = {n: [(e.step, e.value) for e in events.Scalars(n)] for n in events.Tags()["scalars"]}
    assert drawn == written and {"loss", "lr", "top1", "clips_per_second"} <= set(drawn)
    assert [step for step, _ in drawn["loss"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_wandb_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step, value in ((0, 0.515625), (1, 0.265625)):
        time.sleep(1.1 * step)  # W&B names folders by the second
        with Trackers.open(["wandb"], tmp_path, config=CONFIG, step=step) as trackers:
            trackers.log({"loss": value}, step + 1)
    name = (tmp_path / "wandb" / "run-id").read_text()
    files = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{name}.wandb"))
    assert len(files) == 2, "a resumed run is sent to the same curves"
    for file, value in zip(files, (b"0.515625", b"0.265625"), strict=True):
        # A log of protobufs, whose values are JSON.
        assert value in file.read_bytes() and b"finetune" in file.read_bytes()

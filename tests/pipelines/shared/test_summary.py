from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from vidinit.commands import app

from vidinit.config import TrainRunConfig
from vidinit.pipelines.cotrain.settings import CotrainConfig
from vidinit.pipelines.distill.settings import DistillConfig
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.shared.summary import describe_batch, input_advice, summary

RESULT = {"steps": 400, "best": 0.7125, "videos": 1234, "skipped": 3}
TIMES = {"epochs": 10, "seconds": 3723.4, "clips_per_second": 88.06, "data_wait": 0.123}


def run_of(command: str, config: TrainRunConfig, folder: Path) -> Path:
    folder.mkdir()
    dumped = {"command": command, **config.model_dump(mode="json")}
    (folder / "config.yaml").write_text(yaml.safe_dump(dumped))
    return folder


def finetuned(**data: Any) -> FinetuneConfig:
    config = FinetuneConfig(model="r3d-18")
    for name, value in data.items():
        setattr(config.data, name, value)
    return config


def parsed(line: str) -> dict[str, Any]:
    """Options of a `vidinit ...` line, as the command line reads them."""
    program, command, *words = shlex.split(line)
    assert program == "vidinit"
    group = typer.main.get_command(app)
    found = group.get_command(typer.Context(group), command)  # type: ignore[attr-defined]
    return dict(found.make_context(command, words).params)


def test_summary(tmp_path: Path) -> None:
    config = finetuned(train="my videos")
    config.train.trackers = ["tensorboard"]
    out = run_of("finetune", config, tmp_path / "run")
    assert summary({"out": str(out), **RESULT, **TIMES}) == [
        "400 steps on 1234 videos, 10 epochs in 1:02:03: 88.1 clips/s, "
        "12% of the time waiting for data",
        "best validation score 0.713",
        f"3 clips replaced, see {out}/data_health.json",
        f"model: {out}/model   report: {out}/report.html",
        f"curves: tensorboard --logdir {out}/events",
        f"next: vidinit eval {out} --data 'my videos'",
    ]


def test_best_and_last_stand_beside_each_other(tmp_path: Path) -> None:
    out = str(run_of("finetune", finetuned(train="videos"), tmp_path / "run"))
    best = {"epoch": 3, "top1": 0.82, "interval": [0.722, 0.89]}
    last = {"epoch": 10, "top1": 0.8, "interval": [0.7, 0.873]}
    told = {"out": out, **RESULT, "scores": {"best": best, "last": last, "clips": 78}}
    assert summary(told)[1] == (
        "validation: best epoch 3: top1 0.820 (95 %: 0.722 to 0.890), last epoch 10: top1 0.800 "
        "(95 %: 0.700 to 0.873) on 78 validation videos"
    )
    told["scores"] = {"best": best, "last": best, "clips": 78}
    told["test"] = {"top1": 0.79, "interval": [0.68, 0.87], "videos": 70}
    assert summary(told)[1:3] == [
        "validation: top1 0.820 (95 %: 0.722 to 0.890) on 78 validation videos, epoch 3",
        "test, once, with the kept model: top1 0.790 (95 %: 0.680 to 0.870) on 70 videos",
    ]


def test_summary_of_what_was_done_before(tmp_path: Path) -> None:
    out = run_of("distill", DistillConfig(), tmp_path / "run")
    assert summary({"out": str(out), **RESULT, "best": None, "skipped": 0}) == [
        "400 steps on 1234 videos",
        f"model: {out}/model   report: {out}/report.html",
        f"next: vidinit finetune {out} --data LABELED_VIDEOS",
    ]


def test_next_scores_the_same_data() -> None:
    config = finetuned(
        train=["a", "b"], val=["c d", "e"], root="r", class_names="names.txt", split=2
    )
    words = parsed(config.next_command("runs/x"))
    assert words["model"] == "runs/x"
    assert words["val"] == [Path("c d"), Path("e")] and not words["data"]
    assert words["root"] == Path("r")
    assert words["overrides"] == ["data.class_names=names.txt", "data.split=2"]
    config = finetuned(train=["a", "b"])
    words = parsed(config.next_command("runs/x"))
    assert words["data"] == [Path("a"), Path("b")] and not words["val"] and words["root"] is None


def test_next_scores_the_primary_source() -> None:
    config = CotrainConfig(
        model="r3d-18",
        sources=[
            {"name": "k", "data": "k.csv", "root": "clips"},
            {"name": "i", "data": "images", "kind": "image"},
        ],
    )
    words = parsed(config.next_command("runs/x"))
    assert words["data"] == [Path("k.csv")] and words["root"] == Path("clips")


def test_next_after_distillation_is_a_finetuning() -> None:
    line = DistillConfig().next_command("runs/x")
    words = parsed(line)
    assert words["model"] == "runs/x" and words["data"] == [Path("LABELED_VIDEOS")]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            (8, 1, 1, 0.01, None),
            "8 clips a step (data.batch_size=8), peak learning rate 0.01 (train.lr)",
        ),
        (
            (4, 2, 3, 0.1, 64),
            "24 clips a step (data.batch_size=4 x 2 processes x train.accumulate=3), "
            "peak learning rate 0.0375 (train.lr=0.1 x 24 / train.lr_batch=64)",
        ),
    ],
)
def test_describe_batch(given: tuple[Any, ...], line: str) -> None:
    assert describe_batch(*given) == line


def test_advice_says_what_can_still_be_raised() -> None:
    given = {"processes": 2, "cores": 16, "decode_side": None}
    line = input_advice(0.456, workers=4, **given)  # type: ignore[arg-type]
    assert line.startswith("input-bound: 46% of the time")
    assert "raise data.workers (4 x 2 now, 16 cores)" in line and "decode_side" in line
    line = input_advice(0.456, workers=8, processes=2, cores=16, decode_side=128)
    assert "data.workers is 8 x 2 already" in line and "decode_side" not in line
    assert "vidinit data prepare" in line

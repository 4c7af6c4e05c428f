"""Scores of models from the folders of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import MODEL

from vidinit.checkpoint import save_model
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.profile.run_scores import read_scores, score_of
from vidinit.zoo.build import create_model


def write(folder: Path, config: Any, result: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def evaluated(folder: Path, model: str, **result: Any) -> Path:
    config = {"command": "eval", "model": model}
    return write(folder, config, {"top1": 0.5, "views": 1, "top1_interval": [0.4, 0.6], **result})


@pytest.fixture(scope="module")
def model() -> Any:
    return create_model(MODEL, num_classes=3)


def test_what_runs_say(tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write(tmp_path / "runs" / "a", {"command": "finetune", "model": MODEL}, {"best": 0.9})
    save_model(model, run / "model")
    evaluated(tmp_path / "runs" / "b", "runs/a", top1=0.7, views=30)
    evaluated(tmp_path / "runs" / "c", "sts-r3d50", top1=0.1)
    monkeypatch.chdir(run)  # the paths of evaluations count from where they were started
    scores = {score.file.parent.name: score for score in read_scores(tmp_path / "runs")}
    assert set(scores) == {"a", "b", "c"}
    own, score, random = scores["a"], scores["b"], scores["c"]
    assert (own.metric, own.score, own.views, own.interval) == ("best", 0.9, 1, None)
    assert (score.metric, score.score, score.views) == ("top1", 0.7, 30)
    assert score.interval == (0.4, 0.6) and score.folder == own.folder == run / "model"
    assert {own.name, score.name} == {MODEL} and random.folder is None

    everything = list(scores.values())
    assert score_of(MODEL, everything) is score, "an evaluation goes before the validation"
    assert score_of(str(run), everything) is score
    assert score_of("sts-slowonly-r50", everything) is random, "an alias is the same model"
    assert score_of("r3d-18", everything) is None
    assert score_of(MODEL, [own, random]) is own
    assert score.as_dict()["result"] == str(tmp_path / "runs" / "b" / "result.json")


def test_the_highest_of_several(tmp_path: Path) -> None:
    for name, top1 in (("a", 0.3), ("b", 0.6), ("c", 0.2)):
        evaluated(tmp_path / name, "r3d-18", top1=top1)
    best = score_of("r3d-18", read_scores(tmp_path))
    assert best is not None and best.score == 0.6


def test_several_labels_are_scored_by_their_precision(tmp_path: Path) -> None:
    evaluated(tmp_path / "a", "r3d-18", map=0.4)
    (score,) = read_scores(tmp_path)
    assert (score.metric, score.score, score.interval) == ("map", 0.4, None)


def test_what_is_no_score_is_passed(tmp_path: Path) -> None:
    write(tmp_path / "distilled", {"command": "distill", "model": MODEL}, {"best": 1.0})
    write(tmp_path / "unfinished", {"command": "finetune", "model": MODEL}, {"best": None})
    write(tmp_path / "other", ["a list"], {"top1": 1.0})
    write(tmp_path / "text", {"command": "eval", "model": "vit_x", "zero_shot": True}, {"top1": 1})
    evaluated(tmp_path / "splits", "r3d-18", runs=[])
    two = {"command": "eval", "model": "r3d-18", "fuse": "runs/flow"}
    write(tmp_path / "two streams", two, {"top1": 1.0, "views": 2})
    evaluated(tmp_path / "gone", "runs/deleted")
    evaluated(tmp_path / "whole videos", "r3d-18", views="dense")
    evaluated(tmp_path / "damaged", "r3d-18", top1=None)
    write(tmp_path / "list", {"command": "finetune", "model": MODEL}, [1])
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "result.json").write_text("{")
    with pytest.raises(DataError, match="holds no result"):
        read_scores(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        read_scores(tmp_path / "missing")

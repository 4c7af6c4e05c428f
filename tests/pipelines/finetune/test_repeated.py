"""Folds, seeds, and clips that are scored once: whole runs on a small set with groups."""

from __future__ import annotations

import json
import statistics

import pytest
from support import SMALL, moving_bar, write_video

import vidinit
from vidinit.checkpoint import read_card
from vidinit.config.build import build
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.scoring.metrics import wilson

MODEL = "s3d-test_resnet"  # small
FEW = [*SMALL, "train.freeze=trunk", "data.flip=false"]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Two classes filmed by four cameras, two clips each, and a test part from a fifth."""
    root = tmp_path_factory.mktemp("filmed")
    rows = ["path,label,group,split"]
    for camera in range(5):
        for name, step in (("one", -4), ("two", 4)):
            for i in range(2):
                path = f"{camera}{name}{i}.mp4"
                seed = camera * 10 + i + (5 if step > 0 else 0)
                write_video(root / path, moving_bar(step, seed, frames=6, side=32))
                rows.append(f"{path},{name},cam{camera},{'test' if camera == 4 else 'train'}")
    (root / "all.csv").write_text("\n".join(rows) + "\n")
    return root


def train(filmed, out, **options):
    return vidinit.finetune(
        MODEL, data=filmed / "all.csv", out=out, epochs=1, overrides=FEW, **options
    )


def test_folds_are_runs_whose_validation_clips_make_the_whole(filmed, tmp_path):
    told = train(filmed, tmp_path / "folds", folds=2)
    assert (told["varies"], [one["run"] for one in told["runs"]]) == ("fold", ["fold-1", "fold-2"])
    held = []
    for one in ("fold-1", "fold-2"):
        split = json.loads((tmp_path / "folds" / one / "split.json").read_text())
        held.append({path.rpartition("/")[2][0] for path, *_ in split["val"]})
    assert held[0] | held[1] == set("0123") and not held[0] & held[1], "whole cameras"
    assert [one["result"]["videos"] for one in told["runs"]] == [8, 8]
    top1 = [one["figures"]["top1"] for one in told["runs"]]
    assert told["mean"]["top1"] == pytest.approx(statistics.fmean(top1), abs=1e-6)
    assert told["range"]["top1"] == [min(top1), max(top1)]
    assert "least" in (tmp_path / "folds" / "report.html").read_text()


@pytest.mark.slow
def test_seeds_are_runs_with_the_next_seeds(filmed, tmp_path, capsys):
    told = train(filmed, tmp_path / "seeds", seeds=2, seed=3)
    assert [one["value"] for one in told["runs"]] == [3, 4]
    assert "held out by the seed, others in each run" in capsys.readouterr().err
    told = train(filmed, tmp_path / "same", seeds=2, val=filmed / "all.csv")
    assert "others in each run" not in capsys.readouterr().err
    assert len(told["range"]["top1"]) == 2


def test_the_kept_model_is_scored_once_on_the_test_part(filmed, tmp_path, capsys):
    out = tmp_path / "tested"
    told = train(filmed, out, test=filmed / "all.csv")
    test = told["test"]
    assert (test["videos"], test["missing"], test["overlap"]) == (4, 0, 0)
    assert test["interval"] == pytest.approx(list(wilson(test["top1"], 4)), abs=1e-6)
    # The same as an evaluation of the model folder on these clips.
    (tmp_path / "t.csv").write_text(
        "path,label\n" + "".join(f"4{n}{i}.mp4,{n}\n" for n in ("one", "two") for i in range(2))
    )
    scored = vidinit.evaluate(
        out,
        data=tmp_path / "t.csv",
        root=filmed,
        out=tmp_path / "eval",
        overrides=["eval.resamples=0"],
    )
    assert scored["top1"] == pytest.approx(test["top1"])
    assert read_card(out / "model").lineage[-1]["step"] == "finetune"
    assert all(one["check"] != "selection" for one in told["health"])


def test_test_clips_that_are_trained_on_are_said_and_unknown_classes_refused(filmed, tmp_path):
    rows = "path,label\n0one0.mp4,one\n4two0.mp4,three\n"
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(DataError, match="class 'three'"):
        train(filmed, tmp_path / "no", test=tmp_path / "t.csv", root=filmed)
    assert not (tmp_path / "no").exists(), "said before anything is trained"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["folds=3", "seeds=2"], "runs differ in one thing at a time"),
        (["folds=3", "data.val=x"], "folds=3 holds out training clips, and data.val names others"),
        (["fold=3/2"], "there are 2 folds"),
        (["test=x", "train.probes=[ridge]"], "name the test data as val"),
        (["seeds=2", "data.split=all"], "runs differ in one thing at a time"),
    ],
)
def test_sets_that_contradict_one_another_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        build(FinetuneConfig, overrides=["model=x", *settings])

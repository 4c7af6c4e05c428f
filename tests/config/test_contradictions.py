from __future__ import annotations

import pytest

from vidinit.config.build import build, check_file
from vidinit.errors import UsageError
from vidinit.pipelines.cotrain.settings import CotrainConfig
from vidinit.pipelines.distill.settings import DistillConfig
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.registry import config_classes

CONFIGS = config_classes()

ALL = """\
model: r3d50
train:
  lr: 0.1
  min_lr: 0.2
  warmup_lr: 1
  epochs: 3
  warmup_epochs: 3.5
  lr_steps: [2, 1, 9]
  patience: 3
eval:
  every: 0
"""
SENTENCES = [
    "train.min_lr=0.2 is above train.lr=0.1, the peak (in {0}:4 and {0}:3)",
    "train.warmup_lr=1 is above train.lr=0.1, the peak (in {0}:5 and {0}:3)",
    "train.warmup_epochs=3.5 is more than train.epochs=3 (in {0}:7 and {0}:6)",
    "train.lr_steps=[2, 1, 9] must ascend from above 0 (in {0}:8)",
    "train.lr_steps=[2, 1, 9] goes beyond train.epochs=3 (in {0}:8 and {0}:6)",
    "train.patience=3 counts evaluations, and eval.every=0 makes none (in {0}:9 and {0}:11)",
]


def refused(cls, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        build(cls, overrides=["model=r3d50", *overrides])
    return str(caught.value)


def test_all_contradictions_are_told_at_once(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(ALL)
    with pytest.raises(UsageError) as caught:
        build(FinetuneConfig, file=file)
    assert str(caught.value).split("; ") == [sentence.format(file) for sentence in SENTENCES]
    with pytest.raises(UsageError, match="must ascend"):
        check_file(file, CONFIGS)


def test_beside_wrong_values_and_unknown_keys(tmp_path):
    """A contradiction with a value that is wrong anyway is not worth a word."""
    file = tmp_path / "my.yaml"
    file.write_text(ALL.replace("lr: 0.1", "lr: fast", 1) + "  evry: 1\n")
    with pytest.raises(UsageError) as caught:
        build(FinetuneConfig, file=file)
    text = str(caught.value)
    assert "train.lr in" in text and "unknown key 'eval.evry'" in text
    assert [s for s in SENTENCES if s.format(file) not in text] == SENTENCES[:2]
    assert "is above" not in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.min_lr=0.02"], "train.min_lr=0.02 is above train.lr=0.01, the peak (in the arg"),
        (["train.epochs=4", "train.warmup_epochs=5"], "warmup_epochs=5 is more than train.epochs"),
        (["train.lr_steps=[3, 3]"], "lr_steps=[3, 3] must ascend"),
        (["train.lr_steps=[0, 3]"], "lr_steps=[0, 3] must ascend from above 0"),
        (["train.lr_steps=[3, 10.5]"], "lr_steps=[3, 10.5] goes beyond train.epochs=10"),
    ],
)
@pytest.mark.parametrize("command", ["cotrain", "distill", "finetune"])
def test_schedules_that_cannot_be(command, overrides, said):
    text = refused(CONFIGS[command], *overrides)
    assert said in text and ";" not in text


def test_patience_without_evaluation():
    assert "eval.every=0 makes none" in refused(CotrainConfig, "train.patience=2", "eval.every=0")
    assert "this command makes none" in refused(DistillConfig, "train.patience=2")
    assert build(FinetuneConfig, overrides=["model=r3d50", "train.patience=2"]).train.patience == 2


def test_what_touches_is_no_contradiction():
    overrides = {
        "model": "r3d50",
        "train.lr": 0.1,
        "train.min_lr": 0.1,
        "train.warmup_lr": 0.1,
        "train.epochs": 5,
        "train.warmup_epochs": 5,
        "train.lr_steps": [0.5, 5],
        "eval.every": 0,  # of which the last weights come, whatever is selected
        "train.select": "best",
    }
    assert build(FinetuneConfig, overrides=overrides).train.lr_steps == [0.5, 5]


def test_classes_are_evened_out_once():
    both = ["data.balance=classes", "train.class_weights=auto"]
    for cls in (FinetuneConfig, CotrainConfig):
        assert "would count them too much" in refused(cls, *both)
    build(FinetuneConfig, overrides=["model=r3d50", both[0], "train.class_weights=mine.yaml"])
    own = {"model": "r3d50", "sources": [{"name": "a", "data": "x", "balance": "classes"}]}
    assert build(CotrainConfig, overrides=own).sources[0].balance == "classes"
    with pytest.raises(UsageError, match="source 'a': balance=classes draws"):
        build(CotrainConfig, overrides={**own, "train.class_weights": "auto"})
    own["sources"][0]["class_weights"] = "none"
    build(CotrainConfig, overrides={**own, "train.class_weights": "auto"})


def test_a_distillation_reads_no_labels_to_go_by():
    text = refused(DistillConfig, "data.balance=classes", "train.class_weights=w.csv")
    assert "data.balance=classes goes by labels, which are not read" in text
    assert "train.class_weights=w.csv are for a loss of labels, which are not read" in text

"""Sources of a co-training whose classes are skewed, or that train on what others validate on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SMALL, json_of, logged, run_cli
from torch.nn import CrossEntropyLoss

import vidinit
from vidinit.data.label_spaces import label_spaces
from vidinit.data.rows import Row, Rows
from vidinit.pipelines.cotrain.mixing import Mixture
from vidinit.pipelines.cotrain.settings import CotrainConfig, SourceConfig
from vidinit.pipelines.cotrain.source import make_source
from vidinit.pipelines.cotrain.task import CotrainTask
from vidinit.pipelines.shared.clips import Checked, CheckedSplit
from vidinit.pipelines.shared.on_device import soft_targets
from vidinit.zoo.spec import ClipSpec

MODEL = "s3d-test_resnet"  # small


def test_a_source_draws_its_own_classes_equally_often(motion_set):
    """Through all its epochs, which do not end with those of the run; the other one stays."""
    files = sorted((motion_set / "train" / "left").iterdir())
    rows = Rows(tuple(Row(str(file), int(n == 5)) for n, file in enumerate(files)), ("a", "b"))
    split = CheckedSplit(rows, None, Checked(rows, {}))
    config = CotrainConfig(model=MODEL)
    config.data.batch_size, config.data.workers = 2, 0
    sources = [
        make_source(SourceConfig(name=name, data="x", **own), split, config, ClipSpec(2, 1, 16), 1)
        for name, own in (("one", {"balance": "classes", "steps": 5}), ("two", {"steps": 3}))
    ]
    mixed = Mixture(sources, config)

    def taken(epoch: int, start: int = 0) -> list[tuple[str, list[int]]]:
        groups = mixed.steps(epoch, start)
        return [(batch["source"], batch["index"].tolist()) for (batch,) in groups]

    drawn: dict[str, Counter[int]] = {"one": Counter(), "two": Counter()}
    for epoch in range(3):
        for name, indices in taken(epoch):
            drawn[name].update(indices)
    assert drawn["one"][5] == 15, "half of 15 batches of 2"
    assert [drawn["one"][n] for n in range(5)] == [3] * 5, "each clip of the other class as often"
    assert sorted(drawn["two"].values()) == [3] * 6
    assert taken(1, 4) == taken(1)[4:]


def test_the_loss_of_a_source_weighs_its_own_classes():
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=3)
    spaces = label_spaces({"a": ["run", "jump"], "b": ["Jump", "sit"]}, {"a": "ab", "b": "ab"})
    weights = {"b": [4.0, 0.5]}
    task = CotrainTask(
        model, spaces, image_sources=set(), label_smoothing=0.1, class_weights=weights
    ).eval()
    clip, label = torch.randn(4, 3, 4, 32, 32), torch.tensor([0, 1, 1, 0])
    logits = task.logits(clip, "a")
    plain = CrossEntropyLoss(label_smoothing=0.1)
    assert torch.equal(task({"clip": clip, "label": label, "source": "a"})["a"],
                       plain(logits, label))  # fmt: skip
    # Of the head's classes run, jump and sit, b has the last two.
    weighted = CrossEntropyLoss(weight=torch.tensor([1.0, 4.0, 0.5]), label_smoothing=0.1)
    batch = {"clip": clip, "label": label, "source": "b"}
    want = weighted(logits, label + 1)
    assert torch.equal(task(batch)["b"], want)
    target = soft_targets(label, 2)
    hard = CrossEntropyLoss(weight=torch.tensor([1.0, 4.0, 0.5]))(logits, label + 1)
    assert torch.allclose(task({**batch, "target": target})["b"], hard)


def test_what_is_said_of_sources(motion_set, tmp_path, capsys):
    settings = [*SMALL, "train.freeze=trunk", "train.class_weights=auto"]
    result = vidinit.cotrain(
        MODEL,
        sources=[
            f"a={motion_set},flip=false",
            f"b={motion_set}/val,val={motion_set}/val,balance=classes,class_weights=none,"
            "flip=false",
        ],
        out=tmp_path / "run",
        overrides=settings,
        epochs=1,
    )
    said = capsys.readouterr().err
    assert {name: own["overlap"] for name, own in result["sources"].items()} == {"a": 6, "b": 6}
    assert result["sources"]["b"]["class_clips"] == {"rarest": 3, "most_frequent": 3}
    assert [note.partition(" validation")[0] for note in result["notes"]] == [
        "a: all 6",
        "b: all 6",
    ]
    assert "trained on, too, as clips of b" in result["notes"][0]
    assert all(f"note: {note}\n" in said for note in result["notes"])
    assert "a: class weights from 1 ('left') to 1 ('right')\n" in said
    assert "b: class weights" not in said
    assert "all 6 validation clips" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [["train.accumulate=2"], ["cotrain.schedule=use_all"], ["cotrain.merge_labels=true"]],
    ids=lambda words: words[0].split("=")[-1],
)
def test_two_processes_have_the_losses_of_one(more, motion_set, tmp_path):
    files = sorted((motion_set / "train").glob("*/*"))
    data = tmp_path / "skewed.csv"
    rows = [f"{file},{'left' if n else 'right'}" for n, file in enumerate(files)]
    data.write_text("\n".join(["path,label", *rows]))
    line = ["cotrain", MODEL, *SMALL[:3], "data.workers=0", "cotrain.norms=frozen", *more]
    line += ["--source", f"a={motion_set},flip=false", "train.class_weights=auto", "train.lr=0.1"]
    line += ["--source", f"b={data},val={motion_set}/val,flip=false", "--epochs", "2"]
    line += ["train.momentum=0", "train.log_every=1", "train.freeze=trunk", "--json"]
    told: list[list[dict[str, Any]]] = []
    for world in (1, 2):
        out: Path = tmp_path / str(world)
        size = f"data.batch_size={4 // world}"
        json_of(run_cli(*line, size, "--out", out, "--processes", world))
        steps = [row for row in logged(out) if "loss" in row]
        told.append([{k: v for k, v in row.items() if k.startswith("loss")} for row in steps])
    assert len(told[0]) == len(told[1]) > 2
    for one, two in zip(*told, strict=True):
        assert two == pytest.approx(one, rel=1e-5)

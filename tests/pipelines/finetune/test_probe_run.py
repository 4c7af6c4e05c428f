"""Probes from end to end: trained side by side, the best one kept, scored and resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support import SMALL, logged, run_cli
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.engine import checkpoint_folders as folders
from vidinit.errors import UsageError
from vidinit.pipelines import run as pipelines
from vidinit.pipelines.finetune.probes import ProbeTask

MODEL = "s3d-test_resnet"  # narrow, so that its poolers are small
PROBES = ["linear", "attentive:lr=0.002,heads=4", "linear:lr=0.5"]
NAMES = ["linear", "attentive", "linear:lr=0.5"]
TIMES = {"clips_per_second", "data_wait"}


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in logged(run) if not TIMES & set(row)]


def test_the_chosen_probe_is_what_is_saved(motion_set, tmp_path, capsys):
    """It is the best on training clips that nothing else saw; the folder is scored as it was."""
    out = tmp_path / "run"
    result = vidinit.finetune(
        MODEL, data=motion_set, probe=PROBES, out=out, overrides=SMALL, epochs=2
    )
    assert list(result["probes"]) == NAMES and result["probe"] in NAMES
    assert result["best"] == result["probes"][result["probe"]]
    chosen_by = result["choice"]["scores"]
    assert list(chosen_by) == NAMES and result["choice"]["clips"] == 2
    assert result["probe"] == max(NAMES, key=lambda name: chosen_by[name]), "the first of equals"
    said = capsys.readouterr().err
    assert (
        f"probe {result['probe']}: top1 {result['best']:.3f}, {chosen_by[result['probe']]:.3f} on "
        "the held-out training clips, in the model folder"
    ) in said
    assert "2 of 12 training clips are held out to choose among 3 probes" in said
    held = json.loads((out / "held_out.json").read_text())
    assert (held["share"], held["seed"], len(held["clips"])) == (0.1, 0, 2)
    assert {Path(path).parent.name for path, _, _ in held["clips"]} == {"left", "right"}
    assert result["videos"] == 10 and result["steps"] == 4, "they are not trained on"
    losses = [row for row in rows_of(out) if "loss" in row]
    assert {f"loss_{name}" for name in NAMES} < set(losses[0])
    scored = [row for row in rows_of(out) if "top1" in row]
    assert len(scored) == 2
    for row in scored:
        chosen = max(NAMES, key=lambda name: row[f"choice_{name}"])
        assert (row["top1"], row["choice"]) == (row[f"top1_{chosen}"], row[f"choice_{chosen}"])
    card = yaml.safe_load((out / "model" / "model.yaml").read_text())
    assert card["lineage"][-1]["probe"] == result["probe"]
    assert ("pooler" in card) == (result["probe"] == "attentive")
    assert card["lineage"][-1]["choice"] == max(row["choice"] for row in scored)
    found = vidinit.evaluate(out, data=motion_set, out=tmp_path / "eval")
    assert found["top1"] == pytest.approx(result["best"], abs=1e-6)


@pytest.fixture(scope="module")
def attentive(motion_set, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("probed") / "run"
    more = ["train.ema=0.5", "train.accumulate=2", "data.mixup=0.2", "data.batch_size=2"]
    vidinit.finetune(
        *(MODEL,),
        data=motion_set,
        out=out,
        probe="attentive:blocks=2,lr=0.01",
        overrides=[*SMALL, *more],
        epochs=1,
    )
    return out


def test_an_attentive_model_does_what_models_do(attentive, motion_set, tmp_path):
    model = vidinit.load(attentive)
    form = {"form": "vjepa2", "blocks": 2, "heads": 1, "time": "none"}  # its trunk knows time
    assert model.pooler is not None and model.pooler.settings() == form
    file = next((motion_set / "val").rglob("*.mp4"))
    assert {name for name, _ in model.predict(file)} == {"left", "right"}
    scored = vidinit.evaluate(attentive, data=motion_set, out=tmp_path / "eval")
    best = [row["top1"] for row in rows_of(attentive) if "top1" in row]
    assert scored["top1"] == pytest.approx(best[0], abs=1e-6)
    # Trained on as a whole, pooler and trunk and all.
    more = vidinit.finetune(
        attentive, data=motion_set, out=tmp_path / "more", overrides=SMALL, epochs=1
    )
    after = vidinit.load(tmp_path / "more")
    assert more["steps"] == 3 and after.pooler is not None
    assert not torch.equal(after.pooler.query_tokens, model.pooler.query_tokens)
    with pytest.raises(UsageError, match="pools by attention"):
        vidinit.export(attentive, layout="torchvision", out=tmp_path / "x.pth")


def test_a_broken_run_goes_on_to_the_same_bits(motion_set, tmp_path, monkeypatch):
    def train(out: Path, **more) -> dict[str, Any]:
        return vidinit.finetune(
            MODEL,
            data=motion_set,
            out=out,
            probe=PROBES,
            overrides=[
                *SMALL,
                *("train.dropout=0.3", "train.ema=0.8", "train.accumulate=2", "train.save_steps=2"),
                *("data.batch_size=2", "train.optimizer=adamw", "train.lr=0.01"),
            ],
            epochs=2,
            **more,
        )

    whole = train(tmp_path / "whole")
    calls = []
    forward = ProbeTask.forward

    def dying(self, batch):
        calls.append(1)
        if len(calls) == 6:  # in the second epoch, between two checkpoints
            raise RuntimeError("killed")
        return forward(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(ProbeTask, "forward", dying)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path / "broken")
    resumed = train(tmp_path / "broken", resume=True)
    for key in ("steps", "best", "probe", "probes", "choice"):
        assert resumed[key] == whole[key], key
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")
    states = []
    for run in ("whole", "broken"):
        last = folders.pointed(tmp_path / run / "checkpoints", "last")
        average = load_file(last / "averages.safetensors")
        states.append(
            {
                **load_file(last / "model.safetensors"),
                **{f"average of {key}": value for key, value in average.items()},
                **load_file(tmp_path / run / "model" / "model.safetensors"),
            }
        )
    assert states[0].keys() == states[1].keys() and any("average" in key for key in states[0])
    saved = {key for key in load_file(last / "model.safetensors") if key.startswith("model.")}
    assert saved == {"model.head.weight", "model.head.bias"} and "digest" in states[0]
    with pytest.raises(UsageError, match="checkpoint of probes, and holds nothing of their trunk"):
        vidinit.finetune(MODEL, data=motion_set, init_from=last, overrides=SMALL)
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@pytest.fixture
def several(motion_set: Path, tmp_path: Path) -> Path:
    """A list of the training clips with one or two labels each."""
    with open(tmp_path / "multi.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels"])
        for folder in ("left", "right"):
            for i in range(6):
                writer.writerow([f"train/{folder}/{i}.mp4", f"{folder};bar" if i else folder])
    return tmp_path / "multi.csv"


@pytest.mark.slow
def test_several_labels_a_clip(several, motion_set, tmp_path):
    run = tmp_path / "run"
    result = vidinit.finetune(
        MODEL, data=several, root=motion_set, out=run, probe="linear", overrides=SMALL, epochs=1
    )
    assert result["probe"] == "linear" and result["probes"]["linear"] == result["best"]
    row = next(row for row in rows_of(run) if "map" in row)
    assert row["map"] == row["map_linear"] and row["top1"] == row["top1_linear"]
    scored = vidinit.evaluate(run, data=several, root=motion_set, out=tmp_path / "eval")
    assert scored["map"] == pytest.approx(result["best"], abs=1e-6)
    assert vidinit.load(run).label_kind == "multi"


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["train.freeze=['trunk.*']"], "train.freeze names parts of it"),
        (["train.drop_path=0.1"], "train.drop_path=0.1 is for a trunk that is trained"),
        (["train.precise_bn=4"], "train.precise_bn=4 is for a trunk that is trained"),
        (["train.layer_decay=0.7"], "train.layer_decay=0.7 is for a trunk that is trained"),
        (["train.clip_grad=1"], "train.clip_grad=1 clips by the gradients of all"),
        (["train.optimizer=lamb"], "train.optimizer=lamb goes by the gradients of all"),
        (["train.probes=[linaer]"], "no probe"),
    ],
)
def test_what_contradicts_probes(overrides, why, tmp_path):
    probes = None if "probes" in overrides[0] else ["linear", "attentive"]
    with pytest.raises(UsageError, match=why):
        vidinit.finetune(
            MODEL, data=tmp_path, probe=probes, overrides=overrides, out=tmp_path / "run"
        )


def test_probes_are_for_finetuning():
    with pytest.raises(UsageError, match=r"train\.probes are for vidinit finetune"):
        vidinit.distill(videos="x", overrides={"train.probes": ["linear"]})


def test_words_of_the_command_line(monkeypatch):
    """Both options are repeated; one word freezes the trunk, others are patterns."""
    seen = []

    def note(command: str, config: Any, *_: Any, **__: Any) -> dict[str, Any]:
        seen.append(config.train)
        return {}

    monkeypatch.setattr(pipelines, "run_training", note)

    def train(*words: str) -> Any:
        result = CliRunner().invoke(app, ["finetune", MODEL, "--json", *words])
        assert result.exit_code == 0, result.output
        return seen[-1]

    assert train("--probe", "linear", "--probe", "linear:lr=0.5").probes == [
        "linear",
        "linear:lr=0.5",
    ]
    assert train("--freeze", "trunk").freeze == "trunk" and train().freeze == "none"
    assert train("--freeze", "stem*", "--freeze", "layer1.*").freeze == ["stem*", "layer1.*"]
    assert train("--freeze", "stem*").freeze == ["stem*"]
    vidinit.finetune(MODEL, freeze="trunk", probe="linear")
    assert (seen[-1].freeze, seen[-1].probes) == ("trunk", ["linear"])


@pytest.mark.slow
def test_two_processes(motion_set, tmp_path):
    """Two of batch 2 take the steps that one of batch 4 takes."""
    words = [word for probe in PROBES for word in ("--probe", probe)]

    def losses(name: str, *more: str) -> list[dict[str, Any]]:
        done = run_cli(
            *("finetune", MODEL, "--data", motion_set, "--out", tmp_path / name, "--epochs", "2"),
            *(*SMALL, "train.log_every=1", "data.flip=false", *words, *more),
        )
        assert done.returncode == 0, done.stderr
        return [row for row in rows_of(tmp_path / name) if "loss" in row]

    one = losses("one")
    two = losses("two", "data.batch_size=2", "--processes", "2")
    assert len(one) == len(two) == 6
    for first, second in zip(one, two, strict=True):
        for name in NAMES:
            key = f"loss_{name}"
            assert first[key] == pytest.approx(second[key], rel=1e-4)
    assert vidinit.load(tmp_path / "two").classes == ["left", "right"]

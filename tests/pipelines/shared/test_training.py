"""What all trainings share: options of a zoo name, and what a run records of its epochs."""

from __future__ import annotations

import json

import pytest
from pipelines.distill.distill_support import tiny_teacher
from support import MODEL, SMALL, logged

import vidinit
from vidinit.checkpoint import model_folder
from vidinit.errors import UsageError


def test_a_run_records_training_and_validation_of_each_epoch(motion_set, tmp_path, capsys):
    out = tmp_path / "run"
    every = [*SMALL, "train.log_every=1", "train.temporal_lr_scale=10"]
    done = vidinit.finetune(MODEL, data=motion_set, out=out, overrides=every, epochs=2)
    rows = logged(out)
    for epoch in (1, 2):
        own = [row for row in rows if row["epoch"] == epoch]
        losses = [row["loss"] for row in own if "loss" in row]
        (ended,) = (row for row in own if "train_loss" in row)
        assert len(losses) == 3 and ended["train_loss"] == sum(losses) / 3
        assert ended["train_top1"] * 12 == pytest.approx(round(ended["train_top1"] * 12))
        (scored,) = (row for row in own if "val_loss" in row)
        assert 0 < scored["val_loss"] < 10 and 0.5 <= scored["most_predicted"] <= 1
        assert "top5" not in scored, "of two classes it says nothing"
    # Warm-up and schedule apart, the rate that was set is shown, not the temporal kernels'.
    assert rows[0]["lr"] == pytest.approx(0.01)
    assert done == json.loads((out / "result.json").read_text())
    best = max((row for row in rows if "top1" in row), key=lambda row: row["top1"])
    assert done["scores"]["best"]["epoch"] == best["epoch"] and done["scores"]["clips"] == 6
    low, high = done["scores"]["best"]["interval"]
    assert low < best["top1"] <= high <= 1
    said = capsys.readouterr().err
    for finding in done["health"]:
        assert f"health: {finding['text']}; {finding['advice']}\n" in said
    assert "train_loss" in said and "val_loss" in said


def test_a_checkpoint_is_no_model_and_says_whose_it_is(trained):
    with pytest.raises(UsageError, match="is a checkpoint, the state of a training") as error:
        model_folder(trained / "checkpoints" / "last")
    assert f"name its run, {trained};" in error.value.hint


@pytest.mark.slow
def test_nothing_is_chosen_where_nothing_is_scored(motion_set, tmp_path):
    done = vidinit.finetune(
        MODEL,
        data=motion_set,
        out=tmp_path / "run",
        overrides=[*SMALL, "eval.every=0"],
        epochs=2,
    )
    assert done["notes"] == []


def rehearsed(option: str | None) -> int:
    found = vidinit.finetune(MODEL, option=option, overrides=SMALL[:3], batch_size=2, dry_run=True)
    return int(found["params"])


def test_a_network_is_made_with_its_options():
    assert rehearsed("gating=true") > rehearsed(None) > rehearsed("cut=top:2")


@pytest.mark.slow
def test_a_run_keeps_the_options_of_its_network(motion_set, tmp_path):
    out = tmp_path / "run"
    vidinit.finetune(
        MODEL,
        data=motion_set,
        out=out,
        option=["time_padding=replicate", "cut=top:2"],
        overrides=SMALL,
        epochs=1,
    )
    model = vidinit.load(out)
    assert (model.options["time_padding"], model.options["cut"]) == ("replicate", "top:2")
    with pytest.raises(UsageError, match=r"--option cut=top:1 is for a zoo name, and .* its own"):
        vidinit.finetune(out, data=motion_set, option="cut=top:1", overrides=SMALL)
    taught = vidinit.distill(
        MODEL,
        videos=motion_set / "val",
        teacher=tiny_teacher(tmp_path / "tiny.pth"),
        option="gating=true",
        out=tmp_path / "taught",
        overrides=SMALL,
        epochs=1,
    )
    assert vidinit.load(taught["out"]).options["gating"] is True


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("gates=true", "has no option 'gates'"),
        ("gating=often", "option 'gating' of '.*' cannot be 'often'"),
        ("gating", "--option gating is no option; write --option KEY=VALUE"),
        ("cut=top:99", "99"),
    ],
)
def test_wrong_options_are_told_before_files_are_probed(option, message, motion_set, capsys):
    with pytest.raises(UsageError, match=message):
        vidinit.finetune(MODEL, data=motion_set, option=option, overrides=SMALL)
    assert "checking" not in capsys.readouterr().err

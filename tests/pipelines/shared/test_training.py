"""What all trainings share: options of a zoo name, and what a chosen epoch says of its figures."""

from __future__ import annotations

import json

import pytest
from pipelines.distill.distill_support import tiny_teacher
from support import MODEL, SMALL

import vidinit
from vidinit.errors import UsageError

NOTE = "the epoch that is kept is the best of 2 by top1 on the validation clips"


def test_a_chosen_epoch_says_that_its_figures_flatter(motion_set, tmp_path, capsys):
    out = tmp_path / "best"
    done = vidinit.finetune(MODEL, data=motion_set, out=out, overrides=SMALL, epochs=2)
    assert capsys.readouterr().err.count(f"note: {NOTE}") == 1
    assert [note for note in done["notes"] if NOTE in note] == done["notes"][-1:]
    assert json.loads((out / "result.json").read_text())["notes"] == done["notes"]
    assert NOTE in (out / "report.html").read_text()


@pytest.mark.slow
def test_an_epoch_that_was_not_chosen_says_nothing(motion_set, tmp_path, capsys):
    for name, more, epochs in (("last", ["train.select=last"], 2), ("one", [], 1)):
        where = tmp_path / name
        found = vidinit.finetune(
            MODEL, data=motion_set, out=where, overrides=[*SMALL, *more], epochs=epochs
        )
        assert not any("flatter" in note for note in found["notes"])
    assert "flatter" not in capsys.readouterr().err


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

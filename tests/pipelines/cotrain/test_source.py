"""What is done with the sources of a co-training: merged, scored one by one, gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from data.kinetics_classes import kinetics
from support import MODEL, SMALL, logged

import vidinit
from vidinit.data.rows import Rows
from vidinit.errors import DataError, UsageError
from vidinit.pipelines.cotrain.settings import CotrainConfig, CotrainSection, SourceConfig
from vidinit.pipelines.cotrain.source import spaces_of
from vidinit.pipelines.shared.clips import Checked, CheckedSplit

SETTINGS = [*SMALL, "train.log_every=1"]


@pytest.fixture(scope="module")
def more_motion(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two classes under other spellings, one more, and clips the first set validates on.

    Names are Kinetics': an id and when the clip begins and ends.
    """
    root = tmp_path_factory.mktemp("more")
    for source, name in (("right", "Right"), ("left", "LEFT"), ("left", "still")):
        for place, file in enumerate(sorted((motion_set / "train" / source).iterdir())):
            new = root / "train" / name / f"{name:A<6}{place:05}_000001_000011.mp4"
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, new)
    for file in sorted((root / "train" / "still").iterdir())[:2]:
        new = root / "val" / "Right" / file.name
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, new)
    return root


@pytest.fixture(scope="module")
def joint(motion_set, more_motion, picture_set, tmp_path_factory) -> Path:
    """A run on two video sets with one head, and pictures; each with clips of its own."""
    out = tmp_path_factory.mktemp("joint") / "run"
    vidinit.cotrain(
        MODEL,
        sources=[f"a={motion_set},flip=false", f"b={more_motion},frames=2,flip=false"],
        images=[f"color={picture_set},batch_size=4"],
        merge_labels=True,
        out=out,
        overrides=[*SETTINGS, "train.select=last", "cotrain.norms=separate"],
        epochs=1,
    )
    return out


@pytest.mark.slow
def test_sources_of_one_head(joint, capsys):
    whole = vidinit.load(joint)
    assert whole.classes == ["left", "right", "still"]
    assert whole.still == "sum"
    own = vidinit.load(joint, head="b")
    assert own.classes == ["LEFT", "Right", "still"] and own.spec.frames == 2
    assert torch.equal(own.head.weight, whole.head.weight)
    assert vidinit.load(joint, head="a").num_classes == 2
    assert vidinit.load(joint, head="color").spec.frames == 1
    rows = logged(joint)
    assert {"top1_a", "top1_b", "top1_color"} <= set(rows[-1])
    result = json.loads((joint / "result.json").read_text())
    # Of the 18 clips of b, 2 are validated on.
    assert result["videos"] == 12 + 16 + 18
    assert result["sources"]["a"]["passes_per_epoch"] == 1.0


@pytest.mark.slow
def test_all_sources_are_scored_with_their_own_heads(joint, tmp_path):
    told = vidinit.evaluate(
        joint, all_sources=True, out=tmp_path / "eval", overrides=["data.workers=0"]
    )
    assert list(told["sources"]) == ["a", "b", "color"]
    rows = logged(joint)
    for name, own in told["sources"].items():
        assert own["top1"] == pytest.approx(rows[-1][f"top1_{name}"], abs=1e-5), name
    assert told["sources"]["color"]["videos"] == 6, "the pictures that the run held out"
    assert told["mean_top1"] == pytest.approx(
        sum(own["top1"] for own in told["sources"].values()) / 3, abs=1e-5
    )
    assert (tmp_path / "eval" / "sources" / "b" / "predictions.csv").is_file()


@pytest.mark.slow
def test_training_goes_on_with_one_source(joint, tmp_path, capsys):
    out = tmp_path / "run"
    result = vidinit.finetune(joint, source="b", out=out, overrides=SMALL[2:], epochs=1, lr=1e-9)
    assert "new head" not in capsys.readouterr().err
    assert result["videos"] == 18
    model = vidinit.load(out)
    assert model.classes == ["LEFT", "Right", "still"] and model.spec.frames == 2
    start = vidinit.load(joint, head="b")
    assert torch.allclose(model.head.weight, start.head.weight, atol=1e-6)
    config = (out / "config.yaml").read_text()
    assert "source: b" in config


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: vidinit.finetune(run, source="c"), "has no source 'c'; it has a, b, color"),
        (lambda run: vidinit.finetune(source="c"), "--source is one of a co-trained MODEL"),
        (lambda run: vidinit.evaluate(run, all_sources=True, head="a"), "by its own head"),
        (lambda run: vidinit.evaluate(MODEL, all_sources=True), "is no run folder"),
    ],
)
def test_sources_that_are_not_there(call, message, joint):
    with pytest.raises(UsageError, match=message):
        call(joint)


@pytest.mark.parametrize(
    ("sources", "images", "more", "message"),
    [
        (["a={m}", "a={m}"], [], [], "two sources are called 'a'"),
        (["a={m}"], [], [], "needs at least two sources, not 1"),
        (["a={m}"], ["b={m}"], [], "no image"),
        (["a={m},share=0.6", "b={m}"], ["c={p},share=0.4"], [], "leave nothing"),
        (["a={m},share=0.5,steps=3", "b={m}"], [], [], "has a share and steps"),
        (["a={m},weight=2", "b={m}"], [], [], "has a weight, and with"),
        (["a={m},share=0.5", "b={m}"], [], ["cotrain.schedule=use_all"], "has share, and with"),
        (["a={m},share=0.0001", "b={m}"], [], [], None),
        (["a={m}", "b={e}"], [], [], "no video"),
        (["a={m}", "b={x}"], [], [], "can be read|unreadable|readable"),
        (["a={m},frame=3", "b={m}"], [], [], "unknown setting 'frame=3' of source 'a'"),
    ],
)
def test_sources_that_cannot_be(sources, images, more, message, motion_set, picture_set, tmp_path):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    for name in ("u", "v"):
        (broken / name).mkdir(parents=True)
        for i in range(3):
            (broken / name / f"{i}.mp4").write_bytes(b"no video")
    places = {"m": motion_set, "p": picture_set, "e": empty, "x": broken}
    given = {
        "sources": [text.format(**places) for text in sources],
        "images": [text.format(**places) for text in images],
        "overrides": [*SETTINGS, *more],
        "out": tmp_path / "out",
    }
    if message is None:  # a share so small that the other one gets nearly all: no error
        given["dry_run"] = True
        assert vidinit.cotrain(MODEL, **given)["steps_per_epoch"] > 1000
        return
    with pytest.raises((UsageError, DataError), match=message):
        vidinit.cotrain(MODEL, **given)
    assert not (tmp_path / "out").exists()


def test_a_label_that_means_two_things(motion_set, tmp_path):
    twice = tmp_path / "twice"
    for name in ("left", "Left"):
        shutil.copytree(motion_set / "train" / "left", twice / name)
    with pytest.raises(DataError, match="'Left' and 'left', which a merged head would take for"):
        vidinit.cotrain(
            MODEL,
            sources=[f"a={motion_set}", f"b={twice}"],
            merge_labels=True,
            overrides=SETTINGS,
            out=tmp_path / "out",
        )


def test_images_alone_train_a_video_model(picture_set, tmp_path):
    """The first stage of STS: with center taps, what is left of a video model sees images."""
    out = tmp_path / "run"
    vidinit.cotrain(
        "sts-resnet14t",
        images=[f"color={picture_set},batch_size=6"],
        overrides=[*SETTINGS, "cotrain.still=center"],
        out=out,
        epochs=1,
    )
    model = vidinit.load(out)
    assert model.still == "center"
    assert model(torch.randn(1, 3, 4, 32, 32)).shape == (1, 3), "all keys are a video model's"


@pytest.mark.parametrize("schedule", ["use_one", pytest.param("use_all", marks=pytest.mark.slow)])
def test_a_dry_run_tells_the_plan_that_the_run_follows(schedule, motion_set, picture_set, tmp_path):
    given = {
        "sources": [f"a={motion_set},batch_size=3"],
        "images": [f"color={picture_set},batch_size=4"],
        "overrides": [*SETTINGS, f"cotrain.schedule={schedule}"],
        "epochs": 1,
    }
    plan = vidinit.cotrain(MODEL, **given, dry_run=True)
    result = vidinit.cotrain(MODEL, **given, out=tmp_path / "run")
    rows = logged(tmp_path / "run")
    for name, told in plan["sources"].items():
        assert told.pop("seconds_per_step") > 0
        assert told == result["sources"][name]
        done = sum(
            row.get("loss" if schedule == "use_all" else f"loss_{name}") is not None for row in rows
        )
        assert done == told["steps_per_epoch"]
    assert result["steps"] == plan["steps_per_epoch"]
    assert 0 < plan["epoch_seconds"] < 60


def test_one_head_for_kinetics_says_what_it_took_for_one(capsys):
    sets = kinetics()
    clips = {
        name: CheckedSplit(Rows((), tuple(classes)), None, Checked(Rows(()), {}))
        for name, classes in sets.items()
    }
    config = CotrainConfig(
        model=MODEL,
        sources=[SourceConfig(name=name, data=name) for name in sets],
        cotrain=CotrainSection(merge_labels=True),
    )
    head = "k400+k600+k700"
    assert len(spaces_of(config, clips).classes[head]) == 710
    said = capsys.readouterr().err
    assert f"{head}: one head of 710 classes for k400, k600, k700, which have 1700 in all" in said
    assert f"note: {head}: one class each in editions of Kinetics: 'balloon blowing' and" in said
    assert (
        "'hugging' and 'hugging (not baby)'" in said and "'hugging' and 'hugging baby'" not in said
    )

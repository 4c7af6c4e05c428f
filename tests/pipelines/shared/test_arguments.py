"""Forms of data and kinds of labels from end to end: trained on, scored, resumed."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from support import MODEL, SMALL

import vidinit
from vidinit.checkpoint import load_pair
from vidinit.data.readers import open_video


@pytest.fixture
def listed(motion_set: Path, tmp_path: Path):
    """Writes a list of the training clips, with other labels than their folders."""

    def write(name: str, header: str, label) -> Path:
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            for folder in ("left", "right"):
                for i in range(6):
                    writer.writerow([f"train/{folder}/{i}.mp4", *label(folder, i)])
        return tmp_path / name

    return write


def test_two_labels_a_clip(listed, motion_set, tmp_path):
    data = listed("pair.csv", "path,verb,noun", lambda folder, i: ("push", folder))
    result = vidinit.finetune(
        MODEL, data=data, root=motion_set, out=tmp_path / "run", overrides=SMALL, epochs=1
    )
    assert result["videos"] + 2 == 12
    pair = load_pair(tmp_path / "run")
    assert (pair.model.classes, pair.nouns) == (["push"], ["left", "right"])
    scored = vidinit.evaluate(tmp_path / "run", data=data, root=motion_set, out=tmp_path / "eval")
    assert scored["videos"] == 2 and scored["top1_verb"] == 1.0
    assert scored["top1"] == scored["top1_noun"]
    whole = json.loads((tmp_path / "eval" / "analysis.json").read_text())
    assert whole["verb"]["confusion"] == [[2]] and sum(map(sum, whole["noun"]["confusion"])) == 2
    empty = [one for one in whole["noun"]["classes"] if not one["videos"]]
    assert scored["empty_classes"] == len(empty)
    page = (tmp_path / "eval" / "report.html").read_text()
    assert "<h2>Confusion matrix: noun</h2>" in page and page.count("data:image/webp") >= 2
    with pytest.raises(vidinit.VidinitError, match="one label a clip, training had two"):
        vidinit.evaluate(tmp_path / "run", data=motion_set, out=tmp_path / "other")
    # Trained on, the head of the nouns is the one it had.
    vidinit.finetune(
        tmp_path / "run",
        data=data,
        root=motion_set,
        out=tmp_path / "more",
        overrides=[*SMALL, "train.lr=1e-9"],
        epochs=1,
    )
    assert load_pair(tmp_path / "more").noun.weight.allclose(pair.noun.weight, atol=1e-6)


@pytest.mark.slow
def test_several_labels_a_clip_with_mixing(listed, motion_set, tmp_path):
    labels = {True: "{};bar", False: "{}"}
    data = listed("multi.csv", "path,labels", lambda folder, i: [labels[i > 0].format(folder)])
    vidinit.finetune(
        MODEL,
        data=data,
        root=motion_set,
        out=tmp_path / "run",
        overrides=[*SMALL, "data.mixup=0.5", "data.cutmix=0.5", "data.repeats=2"],
        epochs=1,
    )
    model = vidinit.load(tmp_path / "run")
    assert (model.classes, model.label_kind) == (["bar", "left", "right"], "multi")
    scored = vidinit.evaluate(tmp_path / "run", data=data, root=motion_set, out=tmp_path / "eval")
    assert 0 < scored["map"] <= 1
    page = (tmp_path / "eval" / "report.html").read_text()
    assert "<h2>Average precision per class</h2>" in page and "data:image/webp" in page
    with pytest.raises(vidinit.VidinitError, match="kind 'single', the model gives 'multi'"):
        vidinit.evaluate(tmp_path / "run", data=motion_set, out=tmp_path / "other")


def test_shards_frame_folders_and_images_are_trained_on_together(motion_set, tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for name in ("left", "right"):
            for i in range(3):
                (tmp_path / "label.txt").write_text(name)
                shard.add(motion_set / "train" / name / f"{i}.mp4", f"{name}{i}.mp4")
                shard.add(tmp_path / "label.txt", f"{name}{i}.txt")
    for name in ("left", "right"):
        frames = open_video(motion_set / "train" / name / "5.mp4").get(range(8))
        folder = tmp_path / "frames" / name / "clip"
        folder.mkdir(parents=True)
        for number, frame in enumerate(frames, start=7):
            Image.fromarray(frame).save(folder / f"img_{number}.png")
        Image.fromarray(frames[0]).save(tmp_path / "frames" / name / "still.jpg")
    result = vidinit.finetune(
        MODEL,
        data=[tmp_path / "shard.tar", tmp_path / "frames"],
        val=motion_set / "val",
        out=tmp_path / "run",
        overrides=[*SMALL, "data.sampling=uniform", "data.short=hold"],
        epochs=1,
    )
    assert (result["videos"], result["skipped"]) == (10, 0)
    model = vidinit.load(tmp_path / "run")
    assert (model.classes, model.spec.sampling, model.spec.short) == (
        ["left", "right"],
        "uniform",
        "hold",
    )
    assert len(model.predict(motion_set / "val" / "left" / "0.mp4")) == 2


def test_few_shots(motion_set, tmp_path):
    result = vidinit.finetune(
        MODEL, data=motion_set, shots=2, out=tmp_path / "run", overrides=SMALL, epochs=1
    )
    assert result["videos"] == 4

"""`finetune --task detect` and `eval` of its models, end to end on two colors of patches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boxes_support import write_boxes
from pipelines.detect.conftest import SMALL
from safetensors.torch import load_file
from support import MODEL, json_of, logged, run_cli

import vidinit
from vidinit.checkpoint import is_detector, load_detector
from vidinit.data.boxes import read_boxes
from vidinit.detection import frame_ap
from vidinit.errors import DataError, UsageError
from vidinit.scoring.detections import load


@pytest.fixture(scope="module")
def evaluated(detector_run: Path, box_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evals") / "one"
    result = vidinit.evaluate(detector_run, data=box_set, out=out, overrides=["data.workers=0"])
    assert result == json.loads((out / "result.json").read_text())
    return out


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_a_run_has_all_that_runs_have(detector_run: Path) -> None:
    result = result_of(detector_run)
    assert result["task"] == "detect" and result["steps"] == 2
    assert (result["key_frames"], result["boxes"], result["videos"]) == (8, 16, 4)
    scores = [row["frame_ap"] for row in logged(detector_run) if "frame_ap" in row]
    assert len(scores) == 1 and result["best"] == max(scores) == result["frame_ap"]
    assert result["scores"]["best"]["frame_ap"] == max(scores)
    assert set(result["by_class"]) == {"red", "blue"} and result["protocol"] == "voc"
    assert is_detector(detector_run)
    detector = load_detector(detector_run)
    assert detector.classes == ["blue", "red"] and detector.kind == "single"
    assert detector.settings.stride is None and detector.spec.size == 32
    assert detector.lineage[-1]["task"] == "detect"
    page = (detector_run / "report.html").read_text()
    assert "Average precision of classes" in page and "boxes are given" in page


def test_eval_gives_what_training_gave_and_what_the_records_give(
    detector_run: Path, evaluated: Path, box_set: Path
) -> None:
    result, trained = result_of(evaluated), result_of(detector_run)
    assert result["frame_ap"] == pytest.approx(trained["frame_ap"], abs=1e-6)
    assert result["by_class"] == trained["by_class"]
    found = load(evaluated)
    truth = {part.name: part for part in read_boxes(box_set)}["val"]
    records = truth.boxes.records(truth.rows.rows)
    for protocol, folder in (("voc", evaluated), ("act", None)):
        wanted = frame_ap(records, found.records(pixels=True), protocol=protocol)
        if folder is None:
            folder = evaluated.with_name("act")
            vidinit.evaluate(predictions=evaluated, protocol="act", out=folder)
        assert result_of(folder)["frame_ap"] == pytest.approx(wanted["mean"], abs=1e-6)
        assert result_of(folder)["protocol"] == protocol
    assert set(result["video_ap_at"]) == {"0.2", "0.5", "0.75", "0.5:0.95"}
    assert result["given"] == "boxes are given: the true ones"


def test_the_same_scores_by_the_detector_itself(detector_run: Path, evaluated: Path) -> None:
    """A box of the file, classified by hand from the frames around its key frame."""
    from vidinit.data.boxes.clips import around
    from vidinit.data.pixels.batch import normalize
    from vidinit.data.pixels.boxes import letterbox
    from vidinit.data.readers.opening import open_video

    found, detector = load(evaluated), load_detector(detector_run)
    spec, one = detector.spec, 5
    video = open_video(found.paths[found.row[one]])
    frames = video.get(around(int(found.frame[one]), video.num_frames, spec.seen, video.fps))
    bars = [round(255 * m) for m in spec.mean]
    clip, affine = letterbox(torch.from_numpy(frames), (32, 32), bars, spec.interpolation)
    pixels = affine.boxes(found.box[[one]] * np.array([64, 48, 64, 48]))
    box = torch.cat([torch.zeros(1, 1), torch.from_numpy(pixels)], dim=1)
    with torch.no_grad():
        logits = detector(normalize(clip[None], spec.mean, spec.std), box)
    assert logits.softmax(1)[0, :2].numpy() == pytest.approx(found.scores[one], abs=1e-5)


def test_boxes_of_a_file_in_place_of_the_true_ones(
    detector_run: Path, box_set: Path, tmp_path: Path
) -> None:
    """Boxes that lie beside are wrong at 0.5, and one that nobody is sure of is left out."""
    lines = ["path,frame,x1,y1,x2,y2,score"]
    for line in box_set.read_text().splitlines()[1:]:
        name, frame, *corners = line.split(",")[:6]
        x1, y1, x2, y2 = map(int, corners)
        lines.append(f"{box_set.parent / name},{frame},{x1 + 4},{y1},{x2 + 4},{y2},0.9")
    lines.append(f"{box_set.parent / '4.mp4'},4,0,0,9,9,0.2")
    (tmp_path / "found.csv").write_text("\n".join(lines) + "\n")
    options = {"data": box_set, "boxes": tmp_path / "found.csv"}
    small = ["data.workers=0", "detect.min_score=0.5"]
    result = vidinit.evaluate(detector_run, out=tmp_path / "out", overrides=small, **options)
    assert result["boxes"] == 8 and result["given"] == f"boxes of {tmp_path / 'found.csv'}"
    # Moved by a quarter of their side they have an IoU of 0.6.
    assert result["frame_ap_at"]["0.75"] == 0 < result["frame_ap_at"]["0.5"]
    assert np.isclose(load(tmp_path / "out").person, 0.9).all()


def test_errors_name_what_to_do(
    detector_run: Path, box_set: Path, evaluated: Path, tmp_path: Path, motion_set: Path
) -> None:
    with pytest.raises(DataError, match="column 'x1' says that these are boxes") as error:
        vidinit.finetune(MODEL, data=box_set, out=tmp_path / "a")
    assert "--task detect" in str(error.value.hint)
    with pytest.raises(DataError, match="holds no boxes in a known form"):
        vidinit.finetune(MODEL, task="detect", data=motion_set, out=tmp_path / "a")
    for setting, text in (
        ("data.mixup=0.2", "data.mixup=0.2 mixes two clips"),
        ("data.randaug=rand-m7", "boxes do not follow"),
        ("data.flip=swap", "data.flip=swap exchanges the labels of clips"),
        ("train.loss=bce", "train.loss=bce is for whole clips"),
        ("eval.clips=3", "eval.clips=3 is for whole videos"),
    ):
        with pytest.raises(UsageError, match=text):
            vidinit.finetune(MODEL, task="detect", data=box_set, overrides=[setting])
    with pytest.raises(UsageError, match=r"detect\.context=True is for boxes: add --task detect"):
        vidinit.finetune(MODEL, data=motion_set, overrides=["detect.context=true"])
    with pytest.raises(UsageError, match=r"detect\.regress learns nothing from boxes"):
        settings = ["detect.regress=true", "detect.shake=0"]
        vidinit.finetune(MODEL, task="detect", data=box_set, overrides=settings)
    with pytest.raises(UsageError, match=r"none\.csv does not exist"):
        vidinit.evaluate(detector_run, data=box_set, boxes=tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"eval\.clips is for whole clips, and .* boxes"):
        vidinit.evaluate(detector_run, data=box_set, clips=3, out=tmp_path / "b")
    with pytest.raises(UsageError, match=r"data\.size is not for saved detections"):
        vidinit.evaluate(predictions=evaluated, overrides=["data.size=32"])
    other = box_set.read_text().replace("blue", "green")
    (box_set.parent / "green.csv").write_text(other)
    with pytest.raises(DataError, match=r"class 'green' of .* is unknown to the model"):
        vidinit.evaluate(detector_run, val=box_set.parent / "green.csv", out=tmp_path / "c")


@pytest.mark.slow
def test_a_dry_run_with_and_without_data(box_set: Path) -> None:
    auto = [*SMALL, "data.batch_size=auto"]
    result = vidinit.finetune(MODEL, task="detect", data=box_set, overrides=auto, dry_run=True)
    assert 1 <= result["batch"] <= 8
    assert result["clips"] == 8 and result["shapes"]["logits"][1] == 3
    assert result["losses"]["loss"] > 0
    overrides = [*SMALL, "detect.regress=true", "detect.kind=multi", "detect.hidden=8"]
    result = vidinit.finetune(MODEL, task="detect", overrides=overrides, dry_run=True)
    assert result["clips"] is None and set(result["losses"]) == {"classes", "boxes"}
    assert result["shapes"]["logits"][1] == 400


@pytest.mark.slow
def test_a_resumed_run_is_the_same_to_the_bit(
    box_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose last checkpoints are gone goes on from the one in the middle of an epoch."""
    settings = [*SMALL, "train.save_steps=1", "train.keep=9", "data.color_jitter=0.2"]
    options = {"task": "detect", "data": box_set, "epochs": 2, "overrides": settings}
    whole = tmp_path / "whole"
    vidinit.finetune(MODEL, out=whole, **options)
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    for place in (cut / "checkpoints").iterdir():
        if not place.name.endswith("1"):
            place.unlink() if place.is_symlink() or place.is_file() else shutil.rmtree(place)
    shutil.rmtree(cut / "model")
    vidinit.finetune(MODEL, out=cut, resume=True, **options)
    assert "resuming from epoch 0, step 1" in capsys.readouterr().err
    one, other = (load_file(run / "model" / "model.safetensors") for run in (whole, cut))
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    assert result_of(whole)["by_class"] == result_of(cut)["by_class"]


@pytest.mark.slow
def test_two_processes_are_one(box_set: Path, detector_run: Path, tmp_path: Path) -> None:
    """The same losses, boxes weighing alike wherever they are, and the same figures of an eval."""
    runs = {}
    frozen = ["train.freeze=trunk", "train.optimizer=sgd", "data.val_fraction=0.2"]
    for world, batch in ((1, 4), (2, 2)):
        out = tmp_path / f"of-{world}"
        small = [s for s in SMALL if "batch_size" not in s]
        done = run_cli(
            *("finetune", MODEL, "--task", "detect", "--data", box_set, "--out", out),
            *("--epochs", "1", "--processes", str(world), f"data.batch_size={batch}"),
            *small,
            *frozen,
            "train.log_every=1",
            "data.visible=0.9",
        )
        assert done.returncode == 0, done.stderr
        runs[world] = [row["loss"] for row in logged(out) if "loss" in row]
    assert runs[1] == pytest.approx(runs[2], rel=2e-4) and len(runs[1]) == 2
    scores = [
        json_of(
            run_cli(
                *("eval", detector_run, "--data", box_set, "--out", tmp_path / f"e{world}"),
                *("--processes", str(world), "data.workers=0", "data.batch_size=3", "--json"),
            )
        )
        for world in (1, 2)
    ]
    for one in scores:
        one.pop("out")
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_several_classes_a_box_context_whole_frames_and_moved_boxes(tmp_path: Path) -> None:
    file = write_boxes(tmp_path / "set", train=3, val=1)
    file.write_text(file.read_text().replace(",red,", ",red;warm,"))
    out = tmp_path / "run"
    settings = [
        *(*SMALL, "detect.regress=true", "detect.context=true", "detect.hidden=16"),
        *("detect.time=max", "data.fit=whole", "data.min_area=1", "data.batch_size=2"),
        *("train.ema=0.9", "train.accumulate=2"),
    ]
    result = vidinit.finetune(
        MODEL, task="detect", data=file, out=out, epochs=1, overrides=settings
    )
    assert set(result["by_class"]) == {"blue", "red", "warm"}
    assert {"loss_classes", "loss_boxes"} <= logged(out)[0].keys()
    detector = load_detector(out)
    assert detector.kind == "multi" and detector.settings.fit == "whole"
    evaluation = vidinit.evaluate(out, data=file, out=tmp_path / "e", overrides=["data.workers=0"])
    assert evaluation["frame_ap"] == result["frame_ap"]
    found = load(tmp_path / "e")
    assert not np.array_equal(found.box, found.truth.box)  # moved, if only a little
    assert np.abs(found.box - found.truth.box).max() < 0.2
    again = vidinit.finetune(
        out, task="detect", data=file, out=tmp_path / "more", epochs=1, overrides=settings
    )
    assert again["steps"] and load_detector(tmp_path / "more").settings == detector.settings

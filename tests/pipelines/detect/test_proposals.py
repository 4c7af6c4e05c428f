"""`detect.proposals=rpn`: a detector that is trained, scored and asked without given boxes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from boxes_support import write_boxes
from pipelines.detect.conftest import SMALL
from safetensors.torch import load_file
from support import MODEL
from torchvision.ops import nms

import vidinit
from vidinit.checkpoint import load_detector
from vidinit.config import DataConfig, DetectConfig, EvalConfig, TrainConfig
from vidinit.data.pixels.batch import normalize
from vidinit.data.readers import probe
from vidinit.engine.accelerators import make_accelerator
from vidinit.pipelines.detect.data import keyframes, scored_parts
from vidinit.pipelines.detect.score import detect_key_frames, views_of
from vidinit.pipelines.detect.settings import contradictions
from vidinit.pipelines.detect.task import DetectTask
from vidinit.pipelines.evaluate.settings import EvaluateConfig
from vidinit.scoring.detections import load
from vidinit.zoo.detector import DetectSettings, as_detector

NETWORK = "test_resnet"
GIVEN = "boxes are the model's own proposals"
OWN = [
    *SMALL,
    "data.size=64",
    "data.min_area=1",
    "detect.proposals=rpn",
    f"detect.image_model={NETWORK}",
    "detect.image_weights=random",
]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_second_stage_learns_from_the_boxes_that_were_drawn(kind: str) -> None:
    """The losses by hand, of the same draw: nobody is the last class, or has no class."""
    torch.manual_seed(0)
    trunk = vidinit.create_model(MODEL)
    trunk.spec = replace(trunk.spec, frames=2, size=32)
    settings = DetectSettings(kind=kind, regress=True, dropout=0.0, proposals=NETWORK)  # type: ignore[arg-type]
    detector = as_detector(trunk, ["red", "blue"], settings)
    torch.nn.init.normal_(detector.head.regress.weight, std=0.05)  # type: ignore[union-attr]
    task = DetectTask(detector).eval()
    goals = torch.tensor([[[3.0, 4, 20, 22], [10, 10, 30, 30]], [[0.0, 0, 0, 0], [0, 0, 0, 0]]])
    batch = {
        "clip": torch.randn(2, 3, 2, 32, 32),
        "boxes": goals,
        "goals": goals,
        "targets": torch.tensor([[[1.0, 0], [0, 0]], [[0.0, 0], [0, 0]]]),
        "valid": torch.tensor([[True, True], [False, False]]),
    }
    with torch.no_grad():
        torch.manual_seed(3)
        losses = task(batch)
        torch.manual_seed(3)
        assert detector.proposals is not None
        drawn = detector.proposals.sample(
            batch["clip"], detector.spec, goals[0], torch.zeros(2), batch["targets"][0]
        )
        logits, moves = detector.outputs(batch["clip"], drawn.boxes)
    assert set(losses) == {"classes", "boxes", "objectness", "proposals"}
    assert drawn.boxes[:, 0].unique().tolist() == [0, 1]
    acts = drawn.targets[:, 0] > 0
    assert acts.any() and not drawn.targets[drawn.boxes[:, 0] == 1].any()
    if kind == "single":
        wanted = F.cross_entropy(logits, torch.where(acts, 0, 2))
    else:
        wanted = F.binary_cross_entropy_with_logits(logits, drawn.targets)
    assert losses["classes"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert (drawn.goals[acts] == goals[0, 0]).all()
    far = moves[acts] - detector.deltas_to(drawn.boxes[acts], drawn.goals[acts])  # type: ignore[index]
    smooth = torch.where(far.abs() < 1, far**2 / 2, far.abs() - 0.5).sum() / len(logits)
    assert losses["boxes"].item() == pytest.approx(smooth.item(), rel=1e-4)
    assert losses["objectness"] == drawn.losses["objectness"]
    assert {"heads.classify.weight", "proposals.proposer.head.cls_logits.weight"} < (
        task.head_parameters()
    )


def test_settings_that_contradict_one_another() -> None:
    def told(**settings: object) -> list[str]:
        parts = DataConfig(), TrainConfig(), EvalConfig(), DetectConfig(**settings)  # type: ignore[arg-type]
        return [text for _, text in contradictions(*parts)]

    assert told(proposals="rpn", image_model=NETWORK) == []
    assert "none are" in told(proposals="rpn", shake=0.1)[0]
    assert "set detect.proposals=rpn" in told(image_model=NETWORK)[0]


def test_own_boxes_are_moved_weighed_and_each_there_once(box_set: Path) -> None:
    """By hand from the detector; in the bars beside a picture of 64 x 48 there is no box."""
    torch.manual_seed(0)
    trunk = vidinit.create_model(MODEL)
    trunk.spec = replace(trunk.spec, frames=2, size=64)
    settings = DetectSettings(kind="single", regress=True, proposals=NETWORK)
    detector = as_detector(trunk, ["red", "blue"], settings).eval()
    parts = scored_parts(DataConfig(train=str(box_set)))
    known = {row.path: probe(row.path) for row in parts[0].rows.rows}
    people = keyframes(parts, known, origin=None)
    least = 0.3
    accelerator = make_accelerator(EvaluateConfig(model="", device="cpu"), seed=0)
    found = detect_key_frames(detector, people, accelerator, own=least, batch_size=3)
    assert not found.errors and set(found.key) == set(range(4))
    item = views_of(people, detector.spec)[2]
    clip = normalize(item["clip"][None], detector.spec.mean, detector.spec.std)
    with torch.no_grad():
        boxes, sure = detector.own_boxes(clip)
        boxes, sure = boxes[sure >= least], sure[sure >= least]
        logits, moves = detector.outputs(clip, boxes)
        corners = detector.moved(boxes, moves)[:, 1:]  # type: ignore[arg-type]
    scores = logits.softmax(1)[:, :2] * sure[:, None]
    best = nms(corners, scores.amax(1), 0.5).sort().values
    x, y, left, top = item["place"]
    wanted = (corners[best] - torch.stack([left, top] * 2)) / torch.stack([x, y] * 2)
    wanted = wanted.clamp(0, 1)
    fine = (wanted[:, 2:] > wanted[:, :2]).all(1)
    assert top == 8 and 0 < len(best) < len(boxes)
    own = found.key == 2
    assert np.allclose(found.box[own], wanted[fine], atol=1e-4)
    assert np.allclose(found.scores[own], scores[best][fine], atol=1e-5)
    assert np.allclose(found.person[own], sure[best][fine], atol=1e-5)


@pytest.mark.slow
def test_trained_scored_asked_and_resumed_without_given_boxes(tmp_path: Path) -> None:
    boxes = write_boxes(tmp_path / "set", train=4, val=2, every=5)
    settings = [*OWN, "train.save_steps=1", "train.keep=9"]
    options = {"task": "detect", "data": boxes, "overrides": settings, "epochs": 2}
    whole = tmp_path / "whole"
    result = vidinit.finetune(MODEL, out=whole, **options)
    assert result["given"] == GIVEN
    detector = load_detector(whole)
    assert detector.settings.proposals == NETWORK and detector.settings.regress
    assert detector.proposals is not None and detector.proposals.sides.tolist() == [8, 16, 32, 64]

    scored = vidinit.evaluate(
        whole, data=boxes, out=tmp_path / "eval", overrides=["data.workers=0"]
    )
    assert scored["frame_ap"] == pytest.approx(result["frame_ap"], abs=1e-6)
    own = load(tmp_path / "eval")
    assert own.given == GIVEN and len(own) > 8  # more than the true ones
    assert np.isfinite(own.person).all() and own.box.min() >= 0 and own.box.max() <= 1
    overrides = ["data.workers=0", f"detect.boxes={boxes}"]
    told = vidinit.evaluate(whole, data=boxes, out=tmp_path / "given", overrides=overrides)
    assert told["given"] == f"boxes of {boxes}" and len(load(tmp_path / "given")) == 8

    (asked,) = vidinit.predict(
        whole, tmp_path / "set/5.mp4", out=tmp_path / "asked", every=0.1, video=False
    )
    assert load(tmp_path / "asked").given == GIVEN and asked.boxes

    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    for place in (cut / "checkpoints").iterdir():
        if not place.name.endswith("1"):
            place.unlink() if place.is_symlink() or place.is_file() else shutil.rmtree(place)
    shutil.rmtree(cut / "model")
    vidinit.finetune(MODEL, out=cut, resume=True, **options)
    one, other = (load_file(run / "model" / "model.safetensors") for run in (whole, cut))
    assert any(name.startswith("detect.proposals.network.") for name in one)
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)

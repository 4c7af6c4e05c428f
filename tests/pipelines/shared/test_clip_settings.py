"""How a published model sees clips: set once, kept by its folder, followed by all that read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support import MODEL, SMALL

import vidinit
from vidinit.config import DataConfig
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling
from vidinit.errors import UsageError
from vidinit.pipelines.shared.modality import set_spec
from vidinit.zoo.spec import ClipSpec
from vidinit.zoo.view_outputs import logits_of, unprobed_views

THEIRS = {"short": "hold", "steps": "linspace", "fps": 30.0, "channels": "bgr"}
SETTINGS = [f"data.{key}={value}" for key, value in THEIRS.items()]


@pytest.fixture(scope="module")
def tuned(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "run"
    vidinit.finetune(MODEL, data=motion_set, out=out, overrides=SMALL + SETTINGS, epochs=1)
    return out


def test_what_is_not_set_is_not_in_the_folder():
    model = vidinit.create_model(MODEL, num_classes=2)
    before = model.spec.as_dict()
    assert before.keys() & {"steps", "fps", "channels"} == set()
    assert set_spec(model, DataConfig()).as_dict() == before
    assert model.spec.seen == Sampling(model.spec.frames, model.spec.stride)


def test_what_is_set_is_in_the_folder_and_can_be_taken_back(tuned: Path):
    clip = yaml.safe_load((tuned / "model" / "model.yaml").read_text())["clip"]
    assert {key: clip[key] for key in THEIRS} == THEIRS
    model = vidinit.load(tuned)
    assert ClipSpec.from_dict(clip) == model.spec
    assert model.spec.seen == Sampling(4, 1, short="hold", steps="linspace", fps=30.0)
    spec = set_spec(model, DataConfig(fps=0, steps="stride", channels="rgb"))
    assert spec.as_dict().keys() & {"steps", "fps", "channels"} == set()


@pytest.mark.slow
def test_a_folder_is_scored_and_asked_as_it_was_trained(tuned, motion_set, tmp_path):
    def logits(name: str, *overrides: str) -> np.ndarray:
        where = tmp_path / name
        vidinit.evaluate(tuned, data=motion_set, out=where, overrides=[*SMALL, *overrides])
        return np.load(where / "predictions.npz")["logits"]

    own = logits("own")
    assert np.array_equal(own, logits("said", *SETTINGS))
    for setting in ("data.channels=rgb", "data.fps=0", "eval.start=first"):
        assert not np.array_equal(own, logits(setting.partition("=")[0], setting)), setting
    files = sorted((motion_set / "val").rglob("*.mp4"))
    model = vidinit.load(tuned)
    with torch.no_grad():
        for file, row in zip(files, own, strict=True):
            views = unprobed_views(Rows((Row(str(file)),)), model.spec)[0]["views"]
            found = logits_of(model.eval(), views[None], model.spec)[0][0, 0].numpy()
            assert found == pytest.approx(row, abs=1e-5)


def test_a_prediction_starts_where_it_is_told(tuned, motion_set):
    file = next((motion_set / "val").rglob("*.mp4"))
    one = vidinit.predict(tuned, file, overrides=SMALL)[0].classes
    first = vidinit.predict(tuned, file, overrides=[*SMALL, "eval.start=first"])[0].classes
    assert one != first


def test_optical_flow_has_no_colors():
    model = vidinit.create_model(MODEL, num_classes=2)
    with pytest.raises(UsageError, match=r"data\.channels=bgr is for RGB, and .* sees optical"):
        set_spec(model, DataConfig(modality="flow", channels="bgr"))

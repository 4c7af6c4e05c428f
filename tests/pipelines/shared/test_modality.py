"""Optical flow as what a model sees, from distillation to prediction; its teachers see RGB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pipelines.distill.distill_support import losses, run, tiny_teacher, weights
from support import MODEL, SMALL, run_cli

import vidinit
from vidinit.config import DataConfig
from vidinit.data.flow.settings import STILL, Flow
from vidinit.data.loading.teacher_frames import CROPS
from vidinit.errors import UsageError
from vidinit.pipelines.distill.task import DistillTask
from vidinit.pipelines.distill.teachers import Teacher
from vidinit.pipelines.shared.init_from import initialize
from vidinit.pipelines.shared.modality import set_spec
from vidinit.zoo.spec import ClipSpec

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny.pth")


@pytest.fixture(scope="module")
def distilled(motion_set: Path, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow") / "distilled"
    run(motion_set, out, tiny, modality="flow", epochs=2)
    return out


# ------------------------------------------------------------------ a model's settings


def test_a_model_of_rgb_gets_kernels_for_flow_and_that_is_said(capsys):
    model = vidinit.create_model(MODEL, num_classes=2)
    rgb = model.spec
    first = next(m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)).detach()
    spec = set_spec(model, DataConfig(modality="flow", flow_bound=8.0))
    said = capsys.readouterr().err
    assert "its first kernels now take the 2 channels of optical flow" in said
    assert "sees optical flow (dis, up to 8 pixels a frame)" in said
    kernel = next(m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    assert torch.allclose(kernel, first.mean(1, keepdim=True).repeat(1, 2, 1, 1) * 1.5)
    assert (spec.flow, model.in_channels) == (Flow("dis", 8.0), 2)
    # A pixel at rest is zero, the scale is the mean of RGB's.
    assert spec.mean == (STILL / 255,) * 2
    assert spec.std == pytest.approx((sum(rgb.std) / 3,) * 2)
    assert ClipSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.as_dict()))) == spec
    assert model(torch.zeros(1, 2, 4, 32, 32)).shape == (1, 2)


def test_what_a_model_was_trained_on_stays_unless_it_is_said():
    model = vidinit.create_model(MODEL, num_classes=2, in_channels=2)
    set_spec(model, DataConfig(modality="flow", flow_bound=5.0, frames=4))
    kernels = [p.clone() for p in model.parameters()]
    spec = set_spec(model, DataConfig())
    assert (spec.flow, spec.frames) == (Flow("dis", 5.0), 4)
    assert all(map(torch.equal, kernels, model.parameters()))
    assert set_spec(model, DataConfig(flow_bound=9.0)).flow == Flow("dis", 9.0)


def test_frozen_kernels_stay_frozen():
    model = vidinit.create_model(MODEL, num_classes=2).requires_grad_(False)
    set_spec(model, DataConfig(modality="flow"))
    assert not any(p.requires_grad for p in model.parameters())


def test_how_frames_are_resized_can_be_set():
    model = vidinit.create_model(MODEL, num_classes=2)
    own = model.spec.interpolation
    other = {"bicubic": "bilinear", "bilinear": "bicubic"}[own]
    assert set_spec(model, DataConfig()).interpolation == own
    assert set_spec(model, DataConfig(interpolation=other)).interpolation == other
    assert model.spec.interpolation == other, "and the folder records it"


def test_an_rgb_model_is_as_it_was():
    model = vidinit.create_model(MODEL, num_classes=2)
    before = model.spec.as_dict()
    assert "flow" not in before
    assert set_spec(model, DataConfig(modality="rgb")).as_dict() == before


@pytest.mark.parametrize(
    ("channels", "flow", "settings", "message"),
    [
        (2, None, {}, "sees 2 channels, RGB has 3; pass --modality flow"),
        (2, Flow(), {"modality": "rgb"}, "was trained on optical flow; leave data.modality out"),
        (1, None, {"modality": "flow"}, "sees 1 channels, optical flow has 2"),
        (3, None, {"flow": "dis"}, "data.flow=dis is for optical flow, and .* sees RGB"),
        (3, None, {"flow_bound": 3}, "data.flow_bound=3.0 is for optical flow"),
        (3, None, {"modality": "flow", "flow_weights": "x.pth"}, "flow_weights=x.pth is for RAFT"),
    ],
)
def test_what_cannot_be_seen(
    channels: int, flow: Flow | None, settings: dict[str, Any], message: str
):
    model = vidinit.create_model(MODEL, num_classes=2, in_channels=channels)
    if flow is not None:
        model.spec = model.spec.of_flow(flow)
    with pytest.raises(UsageError, match=message):
        set_spec(model, DataConfig(**settings))


# ------------------------------------------------------------------ refused before anything starts


@pytest.mark.parametrize("setting", ["randaug=rand-m7-n2", "color_jitter=0.2", "erasing=0.1"])
def test_augmentations_of_color_are_refused(motion_set, tmp_path, setting):
    name = setting.partition("=")[0]
    with pytest.raises(UsageError, match=f"data.{name} is for RGB"):
        vidinit.finetune(
            MODEL,
            data=motion_set,
            modality="flow",
            out=tmp_path / "x",
            overrides=[f"data.{setting}"],
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_they_are_refused_for_a_model_of_flow_too(distilled, motion_set, tmp_path):
    with pytest.raises(UsageError, match=r"data.grayscale is for RGB"):
        vidinit.finetune(
            distilled,
            data=motion_set,
            out=tmp_path / "x",
            overrides=[*SMALL, "data.grayscale=0.2"],
        )
    assert not (tmp_path / "x").exists()


def test_images_have_no_flow(distilled, motion_set, picture_set, tmp_path):
    given = {
        "sources": {"moving": motion_set},
        "images": {"pictures": picture_set},
        "out": tmp_path / "x",
        "overrides": SMALL,
    }
    with pytest.raises(UsageError, match="source 'pictures' has images"):
        vidinit.cotrain(MODEL, modality="flow", **given)
    with pytest.raises(UsageError, match="source 'pictures' has images"):
        vidinit.cotrain(distilled, **given)


# ------------------------------------------------------------------ end to end


def test_a_folder_records_that_it_sees_flow(distilled):
    card = yaml.safe_load((distilled / "model" / "model.yaml").read_text())
    assert card["clip"]["flow"] == {"method": "dis", "bound": 20.0, "weights": None}
    assert card["options"] == {"in_channels": 2}
    model = vidinit.load(distilled)
    assert (model.in_channels, model.spec.flow) == (2, Flow())
    assert all(row["loss"] > 0 for row in losses(distilled))


@pytest.mark.slow
def test_teachers_say_of_a_flow_student_what_they_say_of_an_rgb_one(
    motion_set, tmp_path, tiny, monkeypatch
):
    """To rounding: the frames reach them by another normalization."""
    said: dict[str, list[torch.Tensor]] = {}
    channels = set()
    really = DistillTask.teacher_outputs

    def outputs(self: DistillTask, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        found = really(self, batch)
        kind = "flow" if CROPS in batch else "rgb"
        said.setdefault(kind, []).append(found["mobilenetv2_050"])
        channels.add((kind, batch["clip"].shape[1]))
        return found

    monkeypatch.setattr(DistillTask, "teacher_outputs", outputs)
    for modality in ("rgb", "flow"):
        run(motion_set, tmp_path / modality, tiny, modality=modality, picks="random:2")
    assert channels == {("rgb", 3), ("flow", 2)}
    assert len(said["rgb"]) == 5  # a step, and the report's looks at six clips, before and after
    assert torch.allclose(*(torch.cat(said[kind]) for kind in ("rgb", "flow")), atol=1e-4)


def test_a_teacher_of_whole_frames_is_given_none_but_them(motion_set, tmp_path, tiny, monkeypatch):
    shapes, really = [], Teacher.of_bytes

    def of_bytes(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        shapes.append(images.shape)
        return really(self, images)

    monkeypatch.setattr(Teacher, "of_bytes", of_bytes)
    run(motion_set, tmp_path / "run", tiny, modality="flow", overrides=["distill.view=frame"])
    # The report looks at all six clips before and after the step.
    assert shapes == [(n, 32, 32, 3) for n in (4, 2, 4, 4, 2)]


@pytest.mark.slow
def test_a_killed_distillation_resumes_to_the_same_bits(motion_set, tmp_path, tiny, monkeypatch):
    how = {"modality": "flow", "epochs": 2, "overrides": ["train.save_steps=1", "data.workers=1"]}
    run(motion_set, tmp_path / "whole", tiny, **{**how, "overrides": list(how["overrides"])})
    forward, calls = DistillTask.forward, []

    def dying(self: DistillTask, batch: dict[str, Any]) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return forward(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(DistillTask, "forward", dying)
        with pytest.raises(RuntimeError, match="killed"):
            run(motion_set, tmp_path / "broken", tiny, **how)
    run(motion_set, tmp_path / "broken", tiny, resume=True, **how)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_finetuned_scored_and_asked_without_a_word_of_flow(distilled, motion_set, tmp_path):
    out = tmp_path / "tuned"
    vidinit.finetune(distilled, data=motion_set, out=out, overrides=SMALL, epochs=1)
    scores = vidinit.evaluate(out, data=motion_set, out=tmp_path / "eval", overrides=SMALL)
    assert (scores["videos"], scores["missing"]) == (6, [])
    files = sorted((motion_set / "val" / "left").glob("*.mp4"))
    found = vidinit.predict(out, files, overrides=SMALL)
    rows = (tmp_path / "eval" / "predictions.csv").read_text().splitlines()[1:]
    told = {row.split(",")[0]: float(row.split(",")[3]) for row in rows}
    for file, one in zip(files, found, strict=True):
        assert one.error is None
        assert one.classes[0][1] == pytest.approx(told[str(file)], abs=1e-5)
        assert vidinit.load(out).predict(file)[0][1] == pytest.approx(told[str(file)], abs=1e-5)


def test_weights_of_a_flow_run_start_a_model_of_its_network(distilled, capsys):
    model = vidinit.create_model(MODEL, num_classes=2)
    initialize(model, str(distilled))
    own, given = model.state_dict(), vidinit.load(distilled).state_dict()
    assert all(torch.equal(own[key], given[key]) for key in own if not key.startswith("head."))
    assert "as new: head.weight, head.bias" in capsys.readouterr().err
    assert set_spec(model, DataConfig(modality="flow")).flow == Flow()


def test_sources_of_video_are_trained_on_together(distilled, motion_set, tmp_path, capsys):
    result = vidinit.cotrain(
        distilled,
        sources={"one": motion_set, "two": motion_set / "val"},
        out=tmp_path / "run",
        overrides=SMALL,
        epochs=1,
    )
    assert result["sources"].keys() == {"one", "two"}
    for head in ("one", "two"):
        assert vidinit.load(tmp_path / "run", head=head).spec.flow == Flow()
    assert "optical flow of all 12 videos is estimated by" in capsys.readouterr().err


def test_a_dry_run_without_data(capsys):
    found = vidinit.finetune(
        MODEL, modality="flow", overrides=SMALL[:3], batch_size=2, dry_run=True
    )
    assert found["shapes"]["clip"] == [2, 2, 4, 32, 32]


@pytest.mark.slow
def test_on_the_command_line(motion_set, tmp_path, tiny):
    """Copies with their flow, distilled from and fine-tuned on; each word as a user types it."""
    copies = tmp_path / "copies"
    done = run_cli("data", "prepare", motion_set, copies, "--flow", "dis", "--json")
    assert json.loads(done.stdout)["flow"]["done"] == 18
    data = ["--videos", copies / "train", "--modality", "flow"]
    small = [*SMALL, "--epochs", "1", "--out"]
    done = run_cli("distill", "--teacher", tiny, *data, *small, tmp_path / "first")
    assert done.returncode == 0, done.stderr
    assert "the optical flow of all 12 videos is on disk" in done.stderr
    words = ["finetune", tmp_path / "first", "--data", copies, "--json"]
    done = run_cli(*words, *small, tmp_path / "second")
    assert json.loads(done.stdout)["videos"] == 12

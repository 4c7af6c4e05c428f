"""Distillation by maps and by masked patches from settings to a model folder and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pipelines.distill.distill_support import losses, run, tiny_teacher, weights
from safetensors.torch import load_file
from support import SMALL

import vidinit
from vidinit.config.build import build
from vidinit.errors import UsageError
from vidinit.pipelines.distill.settings import DistillConfig
from vidinit.pipelines.distill.task import DistillTask

TOKENS = ["distill.target=tokens", "distill.hide=future:1"]
VIT = "timesformer-vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny.pth")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["target=tokns"], "'tokns' is no objective: take logits, tokens, masked"),
        (["target=tokens:0"], "the weight of tokens is a number above 0"),
        (["target=logits,logits"], "logits comes twice"),
        (["hide=all"], "none, future, past or random"),
        (["hide=future"], "distill.hide=future needs distill.target=tokens"),
        (["target=tokens", "mask=0.5"], "distill.mask=0.5 is for the target masked"),
        (["target=tokens,masked", "hide=past"], "both hide something"),
        (["target=tokens", "hidden_weight=0.5"], "distill.hide=none hides none"),
        (["teacher_every=2"], "distill.teacher_every=2 is for distill.target=tokens"),
        (["target=tokens", "keep=0.5"], "distill.keep goes by class logits"),
    ],
)
def test_contradictions(words, told):
    with pytest.raises(UsageError, match=told):
        build(DistillConfig, overrides=[f"distill.{word}" for word in words], flags={})
    held = ["distill.temporal_anchor=1", "train.temporal_lr_scale=0"]
    with pytest.raises(UsageError, match="nothing to anchor"):
        build(DistillConfig, overrides=held, flags={})


def test_what_is_learned_by_its_settings():
    def targets(*words: str) -> dict[str, float]:
        return build(DistillConfig, overrides=list(words), flags={}).distill.targets

    assert targets() == {"logits": 1.0} and targets("distill.mask=0.5") == {"masked": 1.0}
    assert targets("distill.target=tokens:0.5,logits") == {"logits": 1.0, "tokens": 0.5}


def test_hidden_frames_and_what_the_report_answers(motion_set, tmp_path, tiny, capsys):
    out = tmp_path / "run"
    result = run(motion_set, out, tiny, overrides=[*TOKENS, "distill.hold_out=3"])
    told = capsys.readouterr().err
    assert "3 videos are held out" in told and "the student learns tokens (weight 1)" in told
    assert "1 of 4 frames are hidden" in told and "its head is not trained" in told
    assert set(losses(out)[0]) == {"loss", "loss_mobilenetv2_050/tokens"}
    learned = result["learned"]
    assert result["videos"] == 3 and learned["held_out"] and learned["clips"] == 3
    assert set(learned["agreement"]) == {
        f"mobilenetv2_050: maps of {word} frames" for word in ("seen", "hidden")
    }
    assert learned["changes"]["reversed"] > 0 and learned["changes"]["shuffled"] > 0
    start = json.loads((out / "learned_start.json").read_text())
    assert start["agreement"].keys() == learned["agreement"].keys() and start != learned
    page = (out / "report.html").read_text()
    assert "Did it learn anything?" in page and "Nearest clips" in page
    assert "that were held out" in page and page.count("cosine 0.") + page.count("cosine 1.") >= 6
    state = load_file(out / "model" / "model.safetensors")
    assert not any("projection" in key for key in state)  # checkpoints have it


@pytest.mark.slow
def test_temporal_kernels_and_statistics_that_are_held(motion_set, tmp_path, tiny):
    held = [*TOKENS, "train.temporal_lr_scale=0", "distill.norms=frozen"]
    run(motion_set, tmp_path / "run", tiny, overrides=held)
    model = vidinit.load(tmp_path / "run")
    before = first_model(motion_set, tmp_path / "first", tiny)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not model.temporal_parameters() & moved
    assert not any("running" in key for key in moved)
    assert len(moved) > 20 and not any(key.startswith("head.") for key in moved)


def first_model(motion_set: Path, out: Path, tiny: str) -> dict[str, torch.Tensor]:
    """The student as it is before its first step."""
    kept: dict[str, torch.Tensor] = {}
    forward = DistillTask.forward

    def keeping(self: DistillTask, batch: dict[str, Any]) -> Any:
        if not kept:
            kept.update({k: v.clone() for k, v in self.model.state_dict().items()})
        return forward(self, batch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DistillTask, "forward", keeping)
        run(motion_set, out, tiny, overrides=[*TOKENS, "distill.norms=frozen"])
    return kept


@pytest.mark.slow
def test_a_killed_mixture_resumes_to_the_same_bits(motion_set, tmp_path, tiny, monkeypatch):
    how = {
        "epochs": 2,
        "overrides": [
            "distill.target=logits:1,tokens:0.5",
            "distill.hide=random:2",
            "distill.tokens_standardize=whiten",
            "distill.temporal_anchor=0.1",
            "train.save_steps=1",
        ],
    }
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
            run(
                motion_set,
                tmp_path / "broken",
                tiny,
                **{**how, "overrides": list(how["overrides"])},
            )
    run(motion_set, tmp_path / "broken", tiny, resume=True, **how)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    names = {"loss", "loss_mobilenetv2_050", "loss_mobilenetv2_050/tokens", "loss_anchor"}
    assert set(losses(tmp_path / "whole")[0]) == names
    assert np.load(tmp_path / "whole" / "first_pass.npz")["mobilenetv2_050/maps/mean"].shape == (
        1280,
    )


@pytest.mark.slow
def test_two_processes_learn_maps_as_one_does(motion_set, tmp_path, tiny):
    frozen = [*TOKENS, "distill.hide=random:2", "distill.norms=frozen"]
    run(motion_set, tmp_path / "one", tiny, overrides=frozen)
    two = [*frozen, "data.batch_size=2"]
    run(motion_set, tmp_path / "two", tiny, overrides=two, processes=2, device="cpu")
    one, both = (losses(tmp_path / name)[0]["loss"] for name in ("one", "two"))
    assert one == pytest.approx(both, rel=1e-5)


@pytest.mark.slow
def test_cached_maps_change_nothing(motion_set, tmp_path, tiny, capsys):
    frames = ["distill.target=tokens", "distill.view=frame", "distill.teacher_every=2"]
    for name in ("cold", "warm"):
        run(motion_set, tmp_path / name, tiny, overrides=frames, cache=tmp_path / "cache")
    told = capsys.readouterr().err
    assert "cache of maps of mobilenetv2_050: up to" in told and "frames are there" in told
    assert losses(tmp_path / "cold") == losses(tmp_path / "warm")
    assert weights(tmp_path / "cold") == weights(tmp_path / "warm")
    store = json.loads((tmp_path / "cache" / "mobilenetv2_050-maps" / "store.json").read_text())
    assert store["shape"] == [1, 1, 1280] and store["crop"] == "32/whole/bicubic"
    with pytest.raises(
        UsageError, match=r"distill\.picks=1 are others; set distill\.picks=uniform:2"
    ):
        run(motion_set, tmp_path / "no", tiny, overrides=[*frames, "distill.target=logits,tokens"])


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("vit") / "vit.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), file)
    return f"vit_tiny_patch16_224={file}"


@pytest.mark.slow
def test_masked_patches_of_a_vit(motion_set, tmp_path, vit, capsys):
    words = [
        *SMALL,
        "data.size=64",
        "distill.mask=0.75",
        "distill.mask_levels=2",
        "options=[attention=joint]",
    ]
    how = {"videos": motion_set / "val", "teacher": vit, "epochs": 1, "overrides": words}
    dry = vidinit.distill(VIT, dry_run=True, **how)
    assert set(dry["objectives"]) == {"student alone", "masked"}
    assert all(cost["activations_mb"] > 0 for cost in dry["objectives"].values())
    # 4 of 16 patches a frame: attention and MLPs on a quarter of the tokens.
    mb = {name: cost["activations_mb"] for name, cost in dry["objectives"].items()}
    assert mb["masked"] < 0.6 * mb["student alone"]
    out = tmp_path / "run"
    result = vidinit.distill(VIT, out=out, **how)
    told = capsys.readouterr().err
    assert "sees 4 of 16 patches of a frame, drawn by the teacher's attention" in told
    assert "the student's crop at 64 pixels" in told  # as many patches as the student has
    assert list(result["learned"]["agreement"]) == ["vit_tiny_patch16_224: patches that are seen"]
    state = load_file(out / "model" / "model.safetensors")
    assert not any("decoder" in key for key in state)
    with pytest.raises(UsageError, match="cannot leave patches out"):
        run(motion_set, tmp_path / "no", vit, overrides=["distill.mask=0.75"])

"""Device and precision of a run."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import yaml
from support import MODEL, SMALL

import vidinit
from vidinit.engine.accelerators import make_accelerator, resolve_precision
from vidinit.errors import UsageError
from vidinit.pipelines.evaluate.settings import EvaluateConfig
from vidinit.pipelines.finetune.settings import FinetuneConfig


def resolved(device: str, capability: tuple[int, int] = (0, 0), **settings: str) -> str:
    config = FinetuneConfig(model="r3d50", **settings)
    with mock.patch.object(torch.cuda, "get_device_capability", lambda: capability):
        resolve_precision(config, device)
    return config.precision


def test_auto_is_half_precision_only_where_it_is_fast(capsys):
    assert resolved("cpu") == "fp32"
    assert resolved("mps") == "fp32"
    assert resolved("cuda", (7, 5)) == "fp32"
    assert resolved("cuda", (9, 0)) == "bf16"
    assert capsys.readouterr().err.splitlines()[-1] == "precision bf16 (auto)"


def test_what_is_asked_for_is_taken(capsys):
    assert resolved("cpu", precision="bf16") == "bf16"
    assert resolved("cuda", (9, 0), precision="fp32") == "fp32"
    assert capsys.readouterr().err == ""


def test_auto_is_what_accelerate_launch_says(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert resolved("cpu") == "bf16"
    assert resolved("cpu", precision="fp32") == "fp32"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(UsageError, match="asks for mixed precision fp8"):
        resolved("cpu")


def test_fp16_needs_a_gpu():
    with pytest.raises(UsageError, match="precision fp16 needs a GPU"):
        resolved("cpu", precision="fp16")


def test_scores_are_in_float32_unless_asked():
    assert EvaluateConfig(model="r3d50").precision == "fp32"


def test_an_accumulation_of_the_launcher_does_not_divide_the_losses(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = make_accelerator(FinetuneConfig(model="r3d50", device="cpu"))
    weight = torch.ones((), requires_grad=True)
    accelerator.backward(weight * 3)
    assert float(weight.grad) == 3


def test_the_precision_of_a_run_is_in_its_configuration(motion_set, trained, tmp_path, capsys):
    assert yaml.safe_load((trained / "config.yaml").read_text())["precision"] == "fp32", "of auto"
    out = tmp_path / "run"
    overrides = [*SMALL, "eval.every=0", "train.freeze=trunk"]
    vidinit.finetune(
        MODEL, data=motion_set, out=out, overrides=overrides, epochs=1, precision="bf16"
    )
    assert yaml.safe_load((out / "config.yaml").read_text())["precision"] == "bf16"
    assert "warning: bf16 slows depthwise convolutions down on a CPU" in capsys.readouterr().err

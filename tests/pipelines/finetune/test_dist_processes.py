"""DiST models trained by processes that must be told of the layer that nothing reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pipelines.distill.distill_support import tiny_teacher
from support import json_of, run_cli

import vidinit
from vidinit.checkpoint import save_model
from vidinit.pipelines.cotrain.run import _leaves_unused
from vidinit.pipelines.cotrain.settings import CotrainConfig, CotrainSection, SourceConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = vidinit.create_model("dist-vit_tiny_patch16_224", dim=64, temporal_dim=16, pools=1)
    model.spec = replace(model.spec, frames=4, size=32)
    return save_model(model, tmp_path_factory.mktemp("models") / "m")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["distill", "cotrain"])
def test_two_processes_take_more_than_one_step(
    command: str, folder: Path, motion_set: Path, tmp_path: Path
) -> None:
    if command == "distill":
        line = ["distill", "--student", folder, "--videos", motion_set / "val"]
        line += ["--teacher", tiny_teacher(tmp_path / "teacher.pt")]
    else:
        line = ["cotrain", folder, "--source", f"a={motion_set}", "--source", f"b={motion_set}"]
        line += ["cotrain.schedule=use_all"]
    line += ["--epochs", "2", "--processes", "2", "--out", tmp_path / "run", "--json"]
    assert json_of(run_cli(*line, "data.batch_size=1", "data.workers=0"))["steps"] > 2


def test_what_a_cotraining_leaves_unused(folder: Path) -> None:
    both = [SourceConfig(name="a", data="x"), SourceConfig(name="b", data="y")]
    together = CotrainSection(schedule="use_all")
    for name, unused in ((str(folder), True), ("r3d-18", False)):
        config = CotrainConfig(model=name, sources=both, cotrain=together)
        assert _leaves_unused(config) is unused

"""Adapters in frozen vision transformers, trained from end to end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import ACCELERATE, FSDP, TORCHRUN, launch, losses, metrics
from safetensors.torch import load_file

import vidinit
from vidinit.checkpoint import load, save_model
from vidinit.engine import checkpoint_folders as folders
from vidinit.errors import UsageError
from vidinit.zoo.adapters.model import AdapterModel
from vidinit.zoo.adapters.tower_model import TowerModel

SETTINGS = ["data.batch_size=6", "data.workers=0", "train.log_every=1", "train.lr=0.01"]
SETTINGS += ["train.select=last"]
PLANS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "st-adapter": ({"width": 16}, []),
    "aim": ({}, ["train.drop_path=0.3", "train.layer_decay=0.8"]),
    "zero-cost": ({}, ["train.ema=0.9"]),
    "side4video": ({"fusion": "none"}, ["train.ema=0.5", "train.dropout=0.2"]),
}
BEFORE_A_NORM = {f"side.{name}.bias" for name in ("stem", "blocks.5.attn.out_proj", "blocks.5.fc2")}
"""Biases of Side4Video that a batch norm takes off again: their gradients are rounding, or 0."""


@pytest.fixture(scope="module", params=PLANS)
def start(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A small model with a random tower, and the settings of its training."""
    options, settings = PLANS[request.param]
    torch.manual_seed(0)
    model = vidinit.create_model(f"{request.param}-test_vit", num_classes=2, **options)
    model.spec = replace(model.spec, frames=4, size=32)
    model.classes = ["left", "right"]
    place = save_model(model, tmp_path_factory.mktemp("adapters") / "m")
    return place, [*SETTINGS, *settings]


def train(start: tuple[Path, list[str]], data: Path, out: Path, **more: Any) -> Any:
    return vidinit.finetune(
        str(start[0]), data=data, out=out, overrides=start[1], epochs=3, device="cpu", **more
    )


@pytest.mark.slow
def test_training_is_of_the_adapters_and_resumes_to_the_bit(
    start: tuple[Path, list[str]], motion_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(start, motion_set, run)
    before, after = load(start[0]), load(run)
    assert isinstance(before, TowerModel) and isinstance(after, TowerModel)
    for name, value in before.frozen_state().items():
        assert torch.equal(after.state_dict()[name], value), name
    trained = [name for name, p in before.named_parameters() if p.requires_grad]
    moved = [n for n in trained if not torch.equal(before.state_dict()[n], after.state_dict()[n])]
    assert set(trained) - set(moved) <= BEFORE_A_NORM
    newest = folders.newest(run / "checkpoints")
    assert newest is not None
    keys = set(load_file(newest / "model.safetensors"))
    frozen = {f"model.{key}" for key in before.frozen_state()}
    assert "model.tower.digest" in keys and not keys & frozen

    broken = tmp_path / "broken"
    shutil.copytree(run, broken, symlinks=True)
    shutil.rmtree(broken / "model")
    (broken / "result.json").unlink()
    for folder in folders.step_folders(broken / "checkpoints"):
        if folders.step_of(folder) > 2:
            shutil.rmtree(folder)
    train(start, motion_set, broken, resume=True)
    assert metrics(broken) == metrics(run)
    ours, theirs = (place / "model" / "model.safetensors" for place in (broken, run))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_model_folder_holds_the_tower_where_that_is_wanted(
    motion_set: Path, tmp_path: Path
) -> None:
    weights, start = tmp_path / "tower.pth", tmp_path / "start"
    image = vidinit.create_model("c2d-test_vit", num_classes=2).state_dict()
    torch.save({name.removeprefix("trunk."): value for name, value in image.items()}, weights)
    vidinit.convert(
        "test_vit", "st-adapter", weights=weights, whole=False, frames=2, size=32, out=start
    )
    how: dict[str, Any] = {"data": motion_set, "overrides": SETTINGS, "epochs": 1, "device": "cpu"}
    vidinit.finetune(start, probe="linear", out=tmp_path / "named", **how)
    vidinit.finetune(start, probe="linear", out=tmp_path / "whole", whole=True, **how)
    weights.unlink()
    with pytest.raises(UsageError, match=r"the frozen tower of .* is gone"):
        load(tmp_path / "named")
    model = load(tmp_path / "whole")
    assert isinstance(model, AdapterModel) and model.reference is None
    assert torch.equal(model.tower.vit.cls_token, image["trunk.cls_token"])
    with pytest.raises(UsageError, match="--whole stores a frozen tower, and s3d-test_resnet has"):
        vidinit.finetune("s3d-test_resnet", out=tmp_path / "none", whole=True, **how)


@pytest.mark.slow
def test_fsdp_has_the_losses_and_the_model_of_ddp(
    start: tuple[Path, list[str]], motion_set: Path, tmp_path: Path
) -> None:
    settings = [s for s in start[1] if not s.startswith("train.ema")]
    (tmp_path / "fsdp.yaml").write_text(FSDP)
    ways = {
        "fsdp": (ACCELERATE, ["--config_file", str(tmp_path / "fsdp.yaml")]),
        "ddp": (TORCHRUN, ["--standalone", "--nproc_per_node", "2"]),
    }
    for name, (launcher, flags) in ways.items():
        line = ["finetune", str(start[0]), *settings, "train.checkpointing=true"]
        line += ["--data", str(motion_set), "--out", str(tmp_path / name), "--epochs", "2"]
        code, told, err = launch(launcher, flags, [*line, "--json"])
        assert code == 0, err
        assert "Grad strides" not in err, "as DDP warns where gradients lie otherwise than weights"
        assert json.loads(told)["steps"] == 2
    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "ddp"), abs=1e-5)
    theirs, ours = (
        load_file(tmp_path / way / "model" / "model.safetensors") for way in ("ddp", "fsdp")
    )
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, atol=1e-4), name

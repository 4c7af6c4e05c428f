"""Frozen vision transformers with adapters: conversion, folders that name the tower, merging."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from adapter_models import PLANS, adapted, clips, small_vit, wake
from safetensors.torch import load_file, save_file
from torch import nn

from vidinit.checkpoint import load, save_model
from vidinit.conversion.plan_options import parse_options
from vidinit.errors import UsageError
from vidinit.pipelines.convert import convert
from vidinit.zoo.adapters.frozen import digest, towers_left_out
from vidinit.zoo.adapters.merging import why_not_merged
from vidinit.zoo.adapters.model import AdapterModel
from vidinit.zoo.adapters.tower_model import TowerModel

ARCH = "test_vit"  # timm's own smallest
SMALL: dict[str, Any] = {"frames": 4, "size": 32, "cut": "top:1"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model(ARCH, num_classes=10).state_dict(), path)
    return path


def converted(plan: str, weights: Path, out: Path | None = None, **more: Any) -> TowerModel:
    report = convert(ARCH, plan, weights=weights, out=out, **{**SMALL, **more})
    assert report.exact and report.max_difference is not None and report.max_difference < 1e-5
    model = report.model
    assert isinstance(model, TowerModel)
    return model


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIM whose folder names its tower by file; its last norm and adapters were trained."""
    root = tmp_path_factory.mktemp("models")
    model = wake(converted("aim", weights, root / "new", whole=False))  # type: ignore[arg-type]
    with torch.no_grad():
        model.tower.network.norm.weight.add_(0.5)  # type: ignore[union-attr, operator]
    return save_model(model, root / "trained")


@torch.no_grad()
def test_a_folder_names_its_tower_and_holds_what_is_trained(folder: Path, weights: Path) -> None:
    card = yaml.safe_load((folder / "model.yaml").read_text())
    assert card["tower"]["name"] == ARCH and card["tower"]["weights"] == str(weights)
    state = load_file(folder / "model.safetensors")
    towers = {key for key in state if key.startswith("tower.")}
    assert towers == {"tower.vit.norm.weight", "tower.vit.norm.bias"}
    model = load(folder)
    assert isinstance(model, AdapterModel) and not model.training and model.reference is not None
    file = torch.load(weights)
    loaded = model.tower.vit.state_dict()
    assert torch.equal(loaded["norm.weight"], file["norm.weight"] + 0.5)
    assert torch.equal(loaded["blocks.0.mlp.fc1.weight"], file["blocks.0.mlp.fc1.weight"])
    assert loaded["pos_embed"].shape == (1, 5, 64)  # of 32 pixels
    assert [p.requires_grad for p in model.tower.vit.norm.parameters()] == [True, True]


@torch.no_grad()
def test_a_folder_that_names_its_tower_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    video = clips(1, 4, 32)
    want = model(video)
    assert torch.equal(load(save_model(model, tmp_path / "again"))(video), want)
    model.reference = None  # type: ignore[assignment]
    whole = save_model(model, tmp_path / "whole")
    assert "tower" not in yaml.safe_load((whole / "model.yaml").read_text())
    assert torch.equal(load(whole)(video), want)


def test_folders_that_were_changed(folder: Path, weights: Path, tmp_path: Path) -> None:
    other, state = tmp_path / "m", load_file(folder / "model.safetensors")
    shutil.copytree(folder, other)
    del state["tower.vit.norm.weight"]  # trained: that of the tower as it was loaded is another
    save_file(state, other / "model.safetensors")
    with pytest.raises(UsageError, match=r"1 tensor is missing, tower\.vit\.norm\.weight"):
        load(other)
    file = torch.load(weights)
    file["blocks.0.mlp.fc1.bias"] += 1
    torch.save(file, folder / "tower.pth")
    try:
        with pytest.raises(UsageError, match="another one than it was made with"):
            load(folder)
    finally:
        (folder / "tower.pth").unlink()


def test_run_checkpoints_leave_out_what_is_frozen() -> None:
    vit = small_vit("clip")
    model, twin = wake(adapted(vit, "aim")), adapted(vit, "aim")
    with torch.no_grad():
        model.tower.vit.norm.weight.add_(1)
    with towers_left_out([model]):
        state = model.state_dict()
    towers = {key for key in state if key.startswith("tower.")}
    assert towers == {"tower.digest", "tower.vit.norm.weight", "tower.vit.norm.bias"}
    assert bytes(state["tower.digest"].tolist()).hex() == digest(
        vit, without=[k for k in vit.state_dict() if k.startswith(("norm.", "head."))]
    )
    twin.load_state_dict(state)  # strict: nothing is missing
    assert torch.equal(twin(clips()), model(clips()))
    twin.tower.vit.cls_token.data += 1
    with pytest.raises(UsageError, match="not the one of the saved state"):
        twin.load_state_dict(state)
    lacking = {key: value for key, value in state.items() if key != "tower.vit.norm.bias"}
    with pytest.raises(RuntimeError, match=r"Missing key.*norm\.bias"):
        adapted(vit, "aim").load_state_dict(lacking)


def test_a_reference_is_forgotten_with_the_tower() -> None:
    model = adapted(small_vit("clip"), "aim")
    model.reference = {"name": "x", "weights": "hub", "sha256": "0"}
    model.load_state_dict(model.own_state(), strict=False)
    assert model.reference is not None
    model.spec = replace(model.spec, size=40)  # once: as it is when the folder is loaded
    assert model.reference is not None
    model.spec = replace(model.spec, size=48)
    assert model.reference is None
    model.reference = {"name": "x", "weights": "hub", "sha256": "0"}
    model.load_state_dict(model.state_dict())
    assert model.reference is None


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_conversions_of_every_plan(plan: str, weights: Path) -> None:
    options = {"width": 8} if plan == "st-adapter" else {}
    model = converted(plan, weights, **options)
    assert model.num_classes == 10 and model.name == f"{plan}-{ARCH}"
    with pytest.raises(UsageError, match="sees RGB only"):
        converted(plan, weights, in_channels=2)


@pytest.mark.parametrize(
    "plan", [k if k == "st-adapter" else pytest.param(k, marks=pytest.mark.slow) for k in PLANS]
)
def test_a_converted_model_learns_with_all_that_is_trained(plan: str, weights: Path) -> None:
    """Of two layers in a row one starts at zero, not both: else neither would ever move."""
    model = converted(plan, weights)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    reached: set[str] = set()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(clips(2, 4, 32)), torch.tensor([0, 1])).backward()
        optimizer.step()
        reached |= {name for name, p in trained.items() if p.grad is not None and p.grad.any()}
    assert reached == set(trained)


@pytest.mark.slow
def test_rotary_positions_are_resized_with_the_frames(tmp_path: Path) -> None:
    name = "vit_small_patch16_dinov3"
    report = convert(name, "zero-cost", pretrained=False, frames=2, size=64, out=tmp_path / "m")
    assert report.exact
    assert any("from 16x16 to 4x4 patches" in note for note in report.notes)
    assert load(tmp_path / "m")(clips(1, 2, 64)).shape == (1, 400)


def test_options_that_do_not_go_together(weights: Path) -> None:
    with pytest.raises(UsageError, match="has the tower vit_base_patch16_clip_quickgelu_224"):
        convert("vit_base_patch16_clip_224", "aim-b16", pretrained=False)
    with pytest.raises(UsageError, match="--no-whole"):
        convert(ARCH, "aim", pretrained=False, whole=False)
    with pytest.raises(UsageError, match="--whole says where a frozen tower is kept"):
        convert("resnet10t", "c2d", pretrained=False, whole=True)
    with pytest.raises(UsageError, match="--to is missing"):
        convert(ARCH, pretrained=False)


# --------------------------------------------------------------------------- merging

MERGED = ("clip", "queries normed", "perception encoder", "eva", "registers", "siglip")


@torch.no_grad()
@pytest.mark.parametrize(
    "kind", [k if k == "clip" else pytest.param(k, marks=pytest.mark.slow) for k in MERGED]
)
def test_merged_adapters_are_the_unmerged_ones(kind: str) -> None:
    model = wake(adapted(small_vit(kind).double(), "zero-cost", scale=0.7))
    assert why_not_merged(model) == ""
    want = model(clips().double())
    merged = model.fuse()
    assert isinstance(merged, AdapterModel) and not list(merged.adapters.parameters())
    assert (merged(clips().double()) - want).abs().max() < 1e-11
    assert len(list(model.adapters.parameters())) == 2 * 4 * 4  # the model stays as it is
    # Rounding of adapters as large as these is not that of float32 alone.
    assert (model.float().fuse()(clips()) - model(clips())).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("dinov3", "its projections have no bias"),
        pytest.param("eva02 clip", "rotary positions stand between", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_merged(kind: str, reason: str) -> None:
    assert reason in why_not_merged(adapted(small_vit(kind), "zero-cost"))
    assert why_not_merged(adapted(small_vit(kind), "aim")) == "it has no linear adapters"


@torch.no_grad()
def test_a_folder_is_merged(weights: Path, tmp_path: Path) -> None:
    model = wake(converted("zero-cost", weights, whole=False))  # type: ignore[arg-type]
    other = nn.Linear(64, 3)
    classes = {"a": [str(i) for i in range(10)], "b": ["x", "y", "z"]}
    model.classes = classes["a"]
    save_model(model, tmp_path / "m", heads={"b": other}, head_classes=classes)
    report = convert(str(tmp_path / "m"), merge=True, out=tmp_path / "merged")
    assert report.exact and report.target == model.name
    assert report.max_difference is not None and 0 < report.max_difference < 1e-5
    merged = load(tmp_path / "merged")
    assert merged.options["merged"] is True and "scale" not in merged.options
    video = clips(1, 4, 32)
    assert (merged(video) - model(video)).abs().max() < 1e-5
    image: Any = timm.create_model(ARCH, num_classes=10, img_size=32)
    extra = 4 * 64  # the time embedding
    assert report.params == sum(p.numel() for p in image.parameters()) + extra
    assert "tower" not in yaml.safe_load((tmp_path / "merged" / "model.yaml").read_text())
    assert torch.equal(load(tmp_path / "merged", head="b").head.weight, other.weight)
    with pytest.raises(UsageError, match="merged already"):
        convert(str(tmp_path / "merged"), merge=True)


def test_what_is_not_merged(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be merged: it has no linear adapters"):
        convert(str(folder), merge=True)
    with pytest.raises(UsageError, match="zoo name without weights"):
        convert("zero-cost-b16", merge=True)
    with pytest.raises(UsageError, match="takes no --to"):
        convert(str(folder), "aim", merge=True)
    with pytest.raises(UsageError, match="takes no --option"):
        convert(str(folder), merge=True, scale=2.0)


def test_a_shift_on_the_command_line_is_no_number() -> None:
    """YAML 1.1 reads two numbers and a colon to the base of 60."""
    found = parse_options(["shift=+1:2", "kernel=3,1,1", "scale=1"], convert)
    assert found == {"shift": "+1:2", "kernel": "3,1,1", "scale": 1}

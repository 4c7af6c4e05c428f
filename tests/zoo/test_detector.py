"""The detector: what it reads of a box, its folder, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import adapter_models
import pytest
import torch
import torch.nn.functional as F
import yaml
from support import shake_norms
from torch import Tensor

import vidinit
from vidinit.checkpoint import (
    is_detector,
    load_classifier,
    load_detector,
    load_trunk,
    read_card,
    save_model,
)
from vidinit.errors import UsageError
from vidinit.zoo.detector import (
    Detector,
    DetectSettings,
    as_detector,
    default_stride,
    pixels_of_position,
)

CLASSES = ["run", "jump", "sit"]
BOXES = torch.tensor(
    [
        [0, 10.0, 5.0, 50.0, 60.0],
        [1, 0.0, 0.0, 96.0, 64.0],  # the whole frame
        [1, -20.0, 30.0, 40.0, 90.0],  # beyond it
        [0, 33.3, 20.7, 35.1, 21.2],  # tiny
        [0, 30.0, 30.0, 30.0, 30.0],  # empty
    ]
)


def clips(count: int = 2, frames: int = 4) -> Tensor:
    return torch.randn(count, 3, frames, 64, 96, generator=torch.Generator().manual_seed(0))


def small(name: str = "c2d-test_resnet", classes: list[str] | int = 3, **settings) -> Detector:
    torch.manual_seed(0)
    trunk = vidinit.create_model(name, num_classes=4)
    trunk.spec = replace(trunk.spec, frames=4, size=64)
    trunk.classes = ["a", "b", "c", "d"]
    shake_norms(trunk)
    model = as_detector(trunk, classes, DetectSettings(**settings)).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_()
    return model


def sampled(maps: Tensor, box: Tensor, step: float, grid: int, *, aligned: bool) -> Tensor:
    """RoIAlign of one box as Mask R-CNN's section 3 has it, point by point: (D, grid, grid)."""
    x1, y1, x2, y2 = (float(v) / step - 0.5 * aligned for v in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    rows, columns = (max(math.ceil(s / grid), 0) for s in (height, width))
    result = torch.zeros(maps.shape[0], grid, grid)
    for i in range(grid):
        for j in range(grid):
            total = torch.zeros(maps.shape[0])
            for r in range(rows):
                for c in range(columns):
                    y = y1 + height / grid * (i + (r + 0.5) / rows)
                    x = x1 + width / grid * (j + (c + 0.5) / columns)
                    total += bilinear(maps, y, x)
            result[:, i, j] = total / max(rows * columns, 1)
    return result


def bilinear(maps: Tensor, y: float, x: float) -> Tensor:
    height, width = maps.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(maps.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    low, right = min(top + 1, height - 1), min(left + 1, width - 1)
    b, a = y - top, x - left
    upper = maps[:, top, left] * (1 - a) + maps[:, top, right] * a
    lower = maps[:, low, left] * (1 - a) + maps[:, low, right] * a
    return upper * (1 - b) + lower * b


@pytest.mark.parametrize(
    "settings",
    [
        {"aligned": True},
        {"aligned": False, "time": "max", "resolution": 3, "hidden": 6},
        {"context": True, "stride": 16, "kind": "single"},
    ],
)
def test_logits_are_those_of_the_definition(settings):
    model, clip = small(**settings), clips()
    how, step = model.settings, 16 if "stride" in settings else 32
    with torch.no_grad():
        logits, maps = model(clip, BOXES), model.trunk.maps(clip)
        over_time = maps.mean(1) if how.time == "mean" else maps.max(1).values
        planes = over_time.permute(0, 3, 1, 2)
        assert planes.shape[2:] == (64 // step, 96 // step)
        for row, (number, *box) in zip(logits, BOXES.tolist(), strict=True):
            plane, corners = planes[int(number)], torch.tensor(box)
            read = sampled(plane, corners, step, how.resolution, aligned=how.aligned)
            features = read.flatten(1).max(1).values
            if how.context:
                frame = F.adaptive_avg_pool2d(plane, how.resolution).flatten(1).max(1).values
                features = torch.cat([features, frame])
            if model.head.hidden is not None:
                features = model.head.hidden(features).relu()
            want = model.head.classify(features)
            assert (row - want).abs().max() < 1e-4 * logits.abs().max()
    assert len(logits[0]) == model.num_outputs == (4 if how.kind == "single" else 3)
    if how.aligned and not how.context:
        assert torch.allclose(logits[-1], model.head.classify.bias)  # nothing is in an empty box


def test_clips_do_not_see_one_another_and_neither_do_boxes():
    model, clip = small(context=True), clips()
    with torch.no_grad():
        both = model(clip, BOXES)
        second = BOXES[BOXES[:, 0] == 1] - torch.tensor([1.0, 0, 0, 0, 0])
        alone = model(clip[1:], second)
        assert (both[BOXES[:, 0] == 1] - alone).abs().max() < 1e-4 * both.abs().max()
        assert torch.allclose(model(clip, BOXES.flip(0)).flip(0), both, atol=1e-5)
        maps = model.pooled_maps(clip)
        halves = [model.read(maps, part, (64, 96)).logits for part in BOXES.split(2)]
        assert torch.allclose(torch.cat(halves), both, atol=1e-4)


def test_no_boxes():
    model = small(regress=True).train()
    found = model.outputs(clips(), BOXES[:0])
    assert found.logits.shape == (0, 3) and found.deltas is not None
    assert found.deltas.shape == (0, 4)
    (found.logits.sum() + found.deltas.sum()).backward()
    assert model.head.classify.weight.grad is not None


@pytest.mark.parametrize(
    ("boxes", "why"),
    [
        (BOXES[:, :4], r"\(5, 4\)"),
        (BOXES[0], r"\(5,\)"),
        (BOXES.long(), "int64"),
        (BOXES.clone().index_fill_(0, torch.tensor([2]), float("nan")), "box 2 is"),
        (BOXES / torch.tensor([1.0, 1, 1, 0, 1]), "box 0 is .*inf"),
        (BOXES + torch.tensor([1.0, 0, 0, 0, 0]), "box 1 is .*0 to 1"),
        (BOXES - torch.tensor([1.0, 0, 0, 0, 0]), "box 0 is .*0 to 1"),
        (BOXES + torch.tensor([0.5, 0, 0, 0, 0]), "box 0 is .*number of a clip"),
    ],
)
def test_boxes_of_another_form(boxes, why):
    with pytest.raises(ValueError, match=why):
        small()(clips(), boxes)


def test_scores():
    logits = torch.tensor([[2.0, -1.0, 0.0, 3.0]])
    single, multi = small(kind="single"), small(classes=4)
    assert torch.allclose(single.scores(logits), logits.softmax(1)[:, :3])
    assert torch.allclose(multi.scores(logits), logits.sigmoid())


def test_boxes_move_by_their_deltas():
    model = small(regress=True)
    boxes = BOXES[:3]
    truth = boxes[:, 1:] + torch.tensor([3.0, -2.0, 8.0, 4.0])
    deltas = model.deltas_to(boxes, truth)
    # Fast R-CNN, appendix of R-CNN: t_x = (G_x - P_x) / P_w, t_w = log(G_w / P_w), times weights.
    width, grown = boxes[0, 3] - boxes[0, 1], truth[0, 2] - truth[0, 0]
    assert deltas[0, 0] == pytest.approx(10 * 5.5 / float(width), rel=1e-5)
    assert deltas[0, 2] == pytest.approx(5 * math.log(float(grown / width)), rel=1e-5)
    moved = model.moved(boxes, deltas)
    assert torch.equal(moved[:, 0], boxes[:, 0]) and torch.allclose(moved[:, 1:], truth, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "cells", "in_patches", "pixels"),
    [
        (224, 14, False, 16), (298, 19, False, 16), (98, 7, False, 16), (98, 7, True, 14),
        (33, 3, False, 16), (100, 6, False, 16), (30, 1, False, 32), (64, 64, False, 1),
        (518, 37, True, 14), (91, 13, False, 7),
    ],
)  # fmt: skip
def test_pixels_of_a_position(side, cells, in_patches, pixels):
    assert pixels_of_position(side, cells, in_patches=in_patches) == pixels


# ------------------------------------------------------------------ training


def test_what_is_trained_and_what_is_not():
    model = small(stride=16)
    assert model.unused_parameters() == {"trunk.head.weight", "trunk.head.bias"}
    model.freeze_unused()
    model(clips(), BOXES).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("trunk.head."), name
    ids = model.layer_ids()
    assert set(ids) == {name for name, _ in model.named_parameters()}
    assert {ids[name] for name in model.head_parameters()} == {max(ids.values())}


def test_layers_behind_the_one_that_is_read_are_unused():
    with torch.device("meta"):
        trunk = vidinit.create_model("s3d")
        model = as_detector(trunk, 3, DetectSettings(layer="Mixed_4e"))
    assert model.settings.layer == "mixed4e" and model.head.classify.in_features == 528
    parts = {name.split(".")[1] for name in model.unused_parameters()}
    assert parts == {"mixed4f", "mixed5b", "mixed5c", "head"}
    assert model.temporal_parameters() == {f"trunk.{n}" for n in trunk.temporal_parameters()}


# ------------------------------------------------------------------ folders


def test_a_folder_of_a_detector(tmp_path):
    folder, clip = tmp_path / "model", clips()
    model = small(classes=CLASSES, stride=16, hidden=5, regress=True, aligned=False, fit="whole")
    model.lineage.append({"step": "finetune"})
    save_model(model, folder)
    again = vidinit.load(folder)
    assert isinstance(again, Detector) and not again.training
    assert again.classes == CLASSES and again.settings == model.settings
    assert again.spec == model.spec and again.lineage == [{"step": "finetune"}]
    with torch.no_grad():
        ours, theirs = model.outputs(clip, BOXES), again.outputs(clip, BOXES)
        assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.deltas, theirs.deltas)
        # Its trunk is a classifier still, the one it came with.
        trunk = load_classifier(folder)
        assert torch.equal(trunk(clip), model.trunk(clip)) and trunk.classes == list("abcd")
    assert is_detector(folder) and read_card(folder).detect.num_classes == 3
    assert not is_detector("s3d")


def test_a_detector_on_a_tower_elsewhere(tmp_path):
    """The folder does not hold what is frozen, if it can be had."""
    trunk = adapter_models.adapted(adapter_models.small_vit("clip"), "st-adapter")
    trunk.name = "st-adapter-vit_base_patch16_clip_quickgelu_224"
    trunk.reference = {"name": "a", "weights": "hub", "sha256": "b"}
    model = as_detector(trunk, CLASSES, DetectSettings())
    from safetensors.torch import load_file

    save_model(model, tmp_path / "model")
    keys = set(load_file(tmp_path / "model" / "model.safetensors"))
    assert {"detect.classify.weight", "detect.classify.bias"} < keys
    assert not [key for key in keys if key.startswith("tower.vit.blocks.0.attn.qkv")]
    assert read_card(tmp_path / "model").tower is not None


def changed(folder: Path, **values) -> None:
    card = yaml.safe_load((folder / "model.yaml").read_text())
    card["detect"] |= values
    (folder / "model.yaml").write_text(yaml.safe_dump(card))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"resolution": 0}, "detect.resolution"),
        ({"kind": "both"}, "detect.kind"),
        ({"classes": ["run"]}, "detect.classes: 1 name for 3 classes"),
        ({"stride": 16}, "detect.stride: is 16, options.output_stride null"),
        ({"hidden": 4}, "classify.weight|missing"),
        ({"layer": "mixed4e"}, "no maps of a layer"),
        ({"dropped": 1}, "unknown key detect.dropped.*dropout"),
    ],
)
def test_a_damaged_section_is_told(tmp_path, values, why):
    folder = tmp_path / "model"
    save_model(small(), folder)
    changed(folder, **values)
    with pytest.raises(UsageError, match=why) as error:
        vidinit.load(folder)
    assert str(folder) in error.value.message


def test_folders_that_are_no_detectors(tmp_path):
    model = small()
    save_model(model.trunk, tmp_path / "plain")
    with pytest.raises(UsageError, match="no detector"):
        load_detector(tmp_path / "plain")
    model.trunk.reset_head(0)
    save_model(model, tmp_path / "boxes")
    assert isinstance(vidinit.load(tmp_path / "boxes"), Detector)
    with pytest.raises(UsageError, match="is a detector"):
        load_classifier(tmp_path / "boxes")
    assert load_trunk(tmp_path / "boxes").num_classes == 0


@pytest.mark.slow
def test_the_trunk_is_profiled(tmp_path):
    model = small(stride=16)
    (row,) = vidinit.profile([str(save_model(model, tmp_path / "model"))])
    (plain,) = vidinit.profile(["c2d-test_resnet"], frames=[4], size=64)
    assert row["params"] == sum(p.numel() for p in model.trunk.parameters())
    assert row["gmacs"] > plain["gmacs"]  # its last maps are four times as many


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"kind": "both"}, "detect.kind"), ({"time": "last"}, "detect.time"),
        ({"stride": 8}, "detect.stride"), ({"resolution": 0}, "detect.resolution"),
        ({"hidden": 0}, "detect.hidden"), ({"dropout": 1.0}, "detect.dropout"),
        ({"fit": "crop"}, "detect.fit"),
    ],
)  # fmt: skip
def test_wrong_settings(values, why):
    with pytest.raises(UsageError, match=why):
        DetectSettings(**values)


def test_what_a_trunk_has_not():
    with torch.device("meta"):
        trunk = vidinit.create_model("c2d-test_vit", num_classes=1)
        assert default_stride(trunk) is None
        with pytest.raises(UsageError, match="cut into patches"):
            as_detector(trunk, 3, DetectSettings(stride=16))
        with pytest.raises(UsageError, match="no maps of a layer"):
            as_detector(trunk, 3, DetectSettings(layer="mixed4e"))
        with pytest.raises(UsageError, match="at least one class"):
            as_detector(trunk, 0, DetectSettings())
        with pytest.raises(UsageError, match="twice"):
            as_detector(trunk, ["run", "run"], DetectSettings())

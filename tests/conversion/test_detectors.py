"""Detectors of pytorchvideo and PySlowFast: the same logits, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support import json_of, run_cli, shake_norms
from torch import Tensor, nn
from zoo_support import feed_pathways

import vidinit
from vidinit.checkpoint import save_model
from vidinit.conversion.output_names import name_outputs, read_output_names
from vidinit.errors import UsageError
from vidinit.zoo.detector import Detector, DetectSettings, as_detector

HEIGHT, WIDTH = 112, 96
BOUND = 3e-4  # of logits that spread by about 9
BOXES = torch.tensor(
    [
        [0, 16.0, 32.0, 80.0, 96.0],  # inside, on the grid
        [1, 0.0, 0.0, WIDTH, HEIGHT],  # the whole frame
        [0, 13.7, 21.3, 61.9, 90.1],  # off the grid
        [1, 40.0, 60.0, WIDTH, HEIGHT],  # to the border
        [0, -30.0, -10.0, 50.0, 130.0],  # beyond it
        [1, 20.0, 5.0, 21.5, 100.0],  # thin
        [0, 50.2, 50.4, 50.9, 50.8],  # tiny
        [1, 30.0, 30.0, 30.0, 30.0],  # empty
        [0, 200.0, 200.0, 240.0, 230.0],  # elsewhere
    ]
)


def clips(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.randn(2, 3, frames, height, width, generator=torch.Generator().manual_seed(0))


def peer(kind: str, frames: int, *, aligned: bool = False) -> Any:
    """pytorchvideo's network with weights that forgive nothing, and raw logits."""
    hub = pytest.importorskip("pytorchvideo.models.hub")
    from torchvision.ops import RoIAlign

    torch.manual_seed(0)
    if kind == "slow":
        made = hub.slow_r50_detection(head_pool_kernel_size=(frames, 1, 1), head_activation=None)
    else:
        pools = ((frames // 4, 1, 1), (frames, 1, 1))
        made = hub.slowfast_r50_detection(head_pool_kernel_sizes=pools, head_activation=None)
        feed_pathways(made.model, 4)
    shake_norms(made)
    made.detection_head.roi_layer = RoIAlign((7, 7), 1 / 16, 0, aligned=aligned)
    made.eval()
    with torch.no_grad():
        proj = made.detection_head.proj
        proj.weight.normal_()
        proj.bias.normal_()
        spread = made(clips(frames, 48, 64), BOXES).std()
        proj.weight.mul_(9 / spread)
    return made


STAGE = r"blocks\.(\d)\.(?:multipathway_blocks\.(\d)\.)?res_blocks\.(\d+)\."


def as_pyslowfast(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of pytorchvideo's detectors as PySlowFast's code has them."""
    renamed = {}
    for name, value in state.items():
        key = name.removeprefix("model.")
        key = key.replace("detection_head.proj", "head.projection")
        key = re.sub(STAGE, lambda m: f"s{int(m[1]) + 1}.pathway{m[2] or 0}_res{m[3]}.", key)
        key = re.sub(r"blocks\.0\.multipathway_blocks\.(\d)\.", r"s1.pathway\1_stem.", key)
        key = re.sub(r"blocks\.0\.(conv|norm)\b", r"s1.pathway0_stem.\1", key)
        key = re.sub(
            r"blocks\.(\d)\.multipathway_fusion\.", lambda m: f"s{int(m[1]) + 1}_fuse.", key
        )
        key = key.replace("conv_fast_to_slow", "conv_f2s").replace("_fuse.norm", "_fuse.bn")
        key = key.replace("stem.norm", "stem.bn")
        key = re.sub(r"branch2\.conv_([abc])", r"branch2.\1", key)
        key = re.sub(r"branch2\.norm_([abc])", r"branch2.\1_bn", key)
        key = key.replace("branch1_conv", "branch1").replace("branch1_norm", "branch1_bn")
        renamed[key] = value
    return renamed


def converted(made: nn.Module, layout: str, to: str, folder: Path, **options: Any) -> Any:
    state = made.state_dict()
    state = as_pyslowfast(state) if layout == "pyslowfast" else state
    torch.save({"model_state": state}, folder / "file.pyth")
    return vidinit.convert(str(folder / "file.pyth"), to, task="detect", **options)


def difference(ours: Detector, theirs: nn.Module, clip: Tensor, boxes: Tensor = BOXES) -> float:
    with torch.no_grad():
        a, b = ours(clip, boxes), theirs(clip, boxes)
    assert a.shape == b.shape == (len(boxes), 80) and b.std() > 4
    return float((a - b).abs().max())


def test_a_file_of_pytorchvideo(tmp_path):
    """The small case of the next test."""
    made, clip = peer("slow", 2), clips(2, 48, 64)
    report = converted(made, "pytorchvideo", "slowonly-r50", tmp_path)
    assert report.layout == "pytorchvideo" and isinstance(report.model, Detector)
    assert report.model.settings == DetectSettings(stride=16, aligned=False, fit="whole")
    assert report.missing == [] and report.read["new"] == [] and report.leftovers == []
    assert report.params == sum(p.numel() for p in made.parameters())
    assert difference(report.model, made, clip) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pytorchvideo", "pyslowfast"])
@pytest.mark.parametrize(
    ("kind", "to", "frames"), [("slow", "slowonly-r50", 4), ("slowfast", "slowfast-r50-8x8", 32)]
)
def test_logits_are_those_of_pytorchvideo(layout, kind, to, frames, tmp_path):
    aligned = layout == "pyslowfast"
    made = peer(kind, frames, aligned=aligned)
    report = converted(made, layout, to, tmp_path, out=tmp_path / "model")
    ours = report.model
    assert report.layout == layout and isinstance(ours, Detector)
    assert difference(ours, made, clips(frames)) < BOUND
    assert ours.settings == DetectSettings(stride=16, aligned=aligned, fit="whole")
    assert any(f"aligned={aligned}" in note for note in report.notes)
    assert next(row for row in report.rows if row.stage == "detect").kind == "copied"
    # In a frame that is no whole number of positions.
    rectangle = clips(frames, 90, 100)
    assert difference(ours, made, rectangle, BOXES[[0, 2, 4, 6]]) < BOUND
    again = vidinit.load(tmp_path / "model")
    assert difference(again, made, clips(frames)) < BOUND
    if layout == "pytorchvideo" and kind == "slow":
        other = converted(made, layout, to, tmp_path, aligned=True).model
        assert difference(other, made, clips(frames)) > 1  # it is not the same
        file = str(tmp_path / "file.pyth")
        fresh = vidinit.convert(file, to, task="detect", num_classes=3)
        assert fresh.model.num_classes == 3 and fresh.model.trunk.num_classes == 0
        assert any("for 80 classes of boxes is left behind" in note for note in fresh.notes)
        assert any("--task detect" in note for note in vidinit.convert(file, to).notes)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pytorchvideo", "pyslowfast"])
@pytest.mark.parametrize("name", ["slowonly-r50", "slowfast-r50-8x8"])
def test_a_detector_of_ours_goes_out_and_comes_back(layout, name, tmp_path):
    """Into pytorchvideo's network where it is of that, and back to the same logits."""
    torch.manual_seed(0)
    trunk = (
        vidinit.create_model(name, num_classes=5, slow_frames="linspace")
        if ("fast" in name)
        else vidinit.create_model(name, num_classes=5)
    )
    shake_norms(trunk)
    aligned, frames = layout == "pyslowfast", 8
    settings = DetectSettings(stride=16, aligned=aligned)
    model = as_detector(trunk, 80, settings).eval()
    save_model(model, tmp_path / "model")
    file = tmp_path / "out.pyth"
    told = json_of(
        run_cli("export", tmp_path / "model", "--out", file, "--layout", layout, "--json")
    )
    assert told["layout"] == layout
    state = torch.load(file, weights_only=True)
    assert told["tensors"] == len(state)
    theirs = peer("slowfast" if "fast" in name else "slow", frames, aligned=aligned)
    names = as_pyslowfast if aligned else dict
    assert set(names(theirs.state_dict())) == set(state)
    if not aligned:
        theirs.load_state_dict(state)
        with torch.no_grad():
            want = model(clips(frames), BOXES)
            assert (theirs(clips(frames), BOXES) - want).abs().max() < 1e-4 * want.abs().max()
    back = vidinit.convert(str(file), name, task="detect").model
    with torch.no_grad():
        want = model(clips(frames), BOXES)
        assert (back(clips(frames), BOXES) - want).abs().max() < 1e-5 * want.abs().max()


def test_what_no_layout_holds(tmp_path):
    from vidinit.conversion.detectors import write_detector
    from vidinit.conversion.layouts.read_write import write_layout

    with torch.device("meta"):
        trunk = vidinit.create_model("slowonly-r50", num_classes=5)
        model = as_detector(trunk, 3, DetectSettings(stride=16))
        other = as_detector(trunk, 3, DetectSettings(stride=16, context=True))
        assert set(write_detector(model, "pyslowfast")) >= {"head.projection.weight"}
        with pytest.raises(UsageError, match="aligned is False, here True"):
            write_detector(model, "pytorchvideo")
        with pytest.raises(UsageError, match="context is False, here True"):
            write_detector(other, "pyslowfast")
        with pytest.raises(UsageError, match="mmaction has no detectors"):
            write_detector(model, "mmaction")
        # Nor does a classifier's file hold the dilated trunk.
        with pytest.raises(UsageError, match="output_stride=16"):
            write_layout(trunk, "pyslowfast")


# ------------------------------------------------------------------ new heads


def label_map(file: Path, names: Mapping[int, str]) -> Path:
    items = (f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for number, name in names.items())
    file.write_text("".join(items))
    return file


def test_names_of_outputs(tmp_path):
    with torch.device("meta"):
        trunk = vidinit.create_model("c2d-test_resnet", num_classes=4)
        model = as_detector(trunk, 4, DetectSettings())
    ava = read_output_names(label_map(tmp_path / "ava.pbtxt", {1: "bend", 3: "crouch"}))
    assert "2 of the 4" in name_outputs(model, ava)[0]
    assert model.classes == ["bend", "2", "crouch", "4"]
    (tmp_path / "names.txt").write_text("run\njump\nsit\nstand\n")
    names = read_output_names(tmp_path / "names.txt")
    assert name_outputs(trunk, names) == [] and trunk.classes == ["run", "jump", "sit", "stand"]
    (tmp_path / "few.txt").write_text("run\njump\n")
    few, many = read_output_names(tmp_path / "few.txt"), label_map(tmp_path / "b.pbtxt", {5: "a"})
    for other in (few, read_output_names(many)):
        with pytest.raises(UsageError, match="the head has 4 outputs"):
            name_outputs(model, other)


def test_an_image_network_becomes_a_detector(tmp_path):
    out = tmp_path / "model"
    (tmp_path / "names.txt").write_text("run\njump\nsit\n")
    report = vidinit.convert(
        *("test_resnet", "s3d"),
        pretrained=False,
        task="detect",
        class_names=tmp_path / "names.txt",
        aligned=False,
        size=64,
        frames=4,
        out=out,
    )
    told = report.as_dict()
    assert told["exact"] is True  # of the trunk, before its last stage was dilated
    assert {"stage": "detect", "rule": "new, for 3 classes"}.items() <= told["rows"][-1].items()
    model = vidinit.load(out)
    assert isinstance(model, Detector) and model.classes == ["run", "jump", "sit"]
    assert model.settings == DetectSettings(stride=16, aligned=False)
    assert model.lineage[-1]["task"] == "detect" and model.trunk.num_classes == 1000
    clip = torch.randn(1, 3, 4, 64, 96)
    assert model.pooled_maps(clip).shape == (1, model.trunk.num_features, 4, 6)
    assert model(clip, torch.tensor([[0, 1.0, 2, 30, 40]])).shape == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"task": "detect"}, "--num-classes N"),
        ({"task": "track"}, "unknown task 'track'"),
        ({"aligned": False}, "--no-aligned"),
        ({"class_names": "nowhere.txt"}, "no such file: nowhere.txt"),
    ],
)
def test_wrong_options(arguments, why):
    with pytest.raises(UsageError) as error:
        vidinit.convert("resnet10t", "s3d", pretrained=False, **arguments)
    assert why in f"{error.value.message} {error.value.hint}"

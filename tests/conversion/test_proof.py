"""The verdict of the still clip: what it notices, and when it says that the weights do not tell."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import timm
import torch
import yaml
from support import shake_norms
from torch import Tensor, nn
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.conversion.proof import (
    moving_clip,
    order_sensitivity,
    prove,
    shaken,
    silent_parts,
    still_frames,
)
from vidinit.zoo.images.networks import load_image_model
from vidinit.zoo.temporal import VolumeConv

SMALL = {"frames": 4, "size": 64}


def saved(model: nn.Module, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


def trained(name: str = "resnet18", classes: int = 11) -> nn.Module:
    """A network with uneven norms and no part that is silent."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes).eval()
    shake_norms(model)
    assert not silent_parts(model)
    return model


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("resnet18", "tsm"),
        ("lcnet_050", "i3d"),
        *(
            pytest.param(name, plan, marks=pytest.mark.slow)
            for name, plan in (
                ("resnet18", "i3d"),
                ("lcnet_050", "tsm"),
                *(("convnext_atto", plan) for plan in ("tsm", "i3d")),
                *(("resnetv2_18", plan) for plan in ("tsm", "i3d")),
            )
        ),
    ],
)
def test_random_weights_are_no_excuse(name: str, plan: str) -> None:
    """Fresh residual branches return zero: what a shift does in them would not show."""
    report = vidinit.convert(name, plan, pretrained=False, **SMALL)
    assert report.exact is (plan == "i3d")
    assert report.proof is not None and report.proof.shaken
    assert report.as_dict()["random_gains"] is True
    assert any("random gains" in note for note in report.notes)


def test_mean_inflation_of_random_weights() -> None:
    report = vidinit.convert("convnext_atto", "i3d", inflate="mean", pretrained=False, **SMALL)
    assert report.exact is False
    padded = {"inflate": "mean", "time_padding": "replicate"}
    assert vidinit.convert("convnext_atto", "i3d", pretrained=False, **padded, **SMALL).exact


@pytest.mark.parametrize(("plan", "exact"), [("tsm", False), ("s3d", True)])
def test_a_file_of_fresh_weights(plan: str, exact: bool, tmp_path: Path) -> None:
    """As random as those of --no-pretrained, though nobody says so."""
    file = saved(timm.create_model("resnet18", num_classes=11), tmp_path / "fresh.pth")
    report = vidinit.convert("resnet18", plan, weights=file, **SMALL)
    assert report.exact is exact
    (note,) = [note for note in report.notes if "let nothing through" in note]
    assert note.startswith("layer1.0.bn2.weight and 7 more")


def test_silent_parts() -> None:
    names = silent_parts(timm.create_model("convnext_atto"))
    assert "stages.0.blocks.0.gamma" in names or "stages.0.blocks.0.mlp.grn.weight" in names
    assert silent_parts(timm.create_model("resnet18", zero_init_last=False)) == []
    assert silent_parts(load_image_model("tf_efficientnet_lite0").model) == []


@pytest.mark.parametrize(
    ("plan", "form"),
    [
        ("i3d", "zero head"),
        pytest.param("tsm", "zero head with a bias", marks=pytest.mark.slow),
        pytest.param("i3d", "dead stem", marks=pytest.mark.slow),
    ],
)
def test_weights_that_tell_nothing(plan: str, form: str, tmp_path: Path) -> None:
    model = trained()
    with torch.no_grad():
        if form == "dead stem":
            model.bn1.weight.zero_()
            model.bn1.bias.zero_()
        else:
            model.fc.weight.zero_()
            model.fc.bias.zero_()
            if "bias" in form:
                model.fc.bias.fill_(3.0)
    file, out = saved(model, tmp_path / "w.pth"), tmp_path / "out"
    report = vidinit.convert("resnet18", plan, weights=file, out=out, **SMALL)
    found = report.as_dict()
    reason = "the logits of these weights are the same for different images"
    assert found["exact"] is None and found["reason"] == reason
    step = yaml.safe_load((out / "model.yaml").read_text())["lineage"][-1]
    assert step["exact"] is None and step["reason"] == reason
    assert f"not told by these weights: {reason}" in (out / "report.html").read_text()
    assert "not exact" not in (out / "report.html").read_text()


def test_the_command_says_what_is_not_told(tmp_path: Path) -> None:
    model = trained()
    nn.init.zeros_(model.fc.weight)
    file = saved(model, tmp_path / "w.pth")
    line = ["convert", "resnet18", "--weights", str(file), "--to", "tsm", "--frames", "4"]
    line += ["--size", "64", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "still clip: not told by these weights (the logits of these weights are" in done.stdout
    assert "frames reversed" not in done.stdout


def test_logits_that_are_no_numbers(tmp_path: Path) -> None:
    model = trained()
    with torch.no_grad():
        model.layer4[1].bn2.weight.mul_(1e20)
        model.fc.weight.mul_(1e20)
    report = vidinit.convert("resnet18", "i3d", weights=saved(model, tmp_path / "w.pth"), **SMALL)
    assert report.exact is None and report.reason and "not finite" in report.reason


@pytest.mark.parametrize(
    "form", ["far from zero", *(pytest.param(x, marks=pytest.mark.slow) for x in ("tiny", "huge"))]
)
@pytest.mark.parametrize(("plan", "exact"), [("tsm", False), ("i3d", True)])
def test_the_scale_of_the_logits_does_not_matter(
    plan: str, exact: bool, form: str, tmp_path: Path
) -> None:
    model = trained()
    with torch.no_grad():
        if form == "far from zero":  # float32 has no digits left for what tells images apart
            model.fc.bias.fill_(1e4)
        else:
            model.fc.weight.mul_(1e-9 if form == "tiny" else 1e9)
            model.fc.bias.zero_()
    report = vidinit.convert("resnet18", plan, weights=saved(model, tmp_path / "w.pth"), **SMALL)
    assert report.exact is exact
    assert report.proof is not None
    if form == "far from zero" and exact:
        assert report.proof.double is not None and report.proof.double[0] < 1e-6


def test_a_small_fault_is_noticed() -> None:
    report = vidinit.convert("tf_efficientnet_lite0", "i3d", **SMALL)
    image = load_image_model("tf_efficientnet_lite0").model
    assert prove(image, report.model).exact
    volumes = [m for m in report.model.modules() if isinstance(m, VolumeConv)]
    for module in volumes[::6]:
        kept = module.weight.detach().clone()
        with torch.no_grad():
            module.weight[:, :, 1] *= 1.01  # of one kernel in seventeen
        assert prove(image, report.model).exact is False
        with torch.no_grad():
            module.weight.copy_(kept)


def test_order_of_frames() -> None:
    """Reversal moves the logits of a shift; kernels that begin as the identity see no order."""
    seen = {}
    for plan in ("i3d", "tsm"):
        report = vidinit.convert("mobilenetv2_035", plan, pretrained=False, **SMALL)
        assert report.proof is not None
        seen[plan] = report.proof.sees_order
    assert seen == {"i3d": False, "tsm": True}


def test_order_sensitivity_by_hand() -> None:
    """The share of the difference to another picture, from the model's own logits."""
    model = vidinit.convert("tf_efficientnet_lite0", "tsm", **SMALL).model
    clip, other = moving_clip(4, 64), still_frames(2, 64)[1:, :, None].expand(-1, -1, 4, -1, -1)
    with torch.no_grad():
        a, b, c = (model(x) for x in (clip, clip.flip(2), other))
    want = float((a - b).abs().max() / (a - c).abs().max())
    assert order_sensitivity(model) == pytest.approx(want, rel=1e-4) and want > 0.01
    moved = float((a - b).abs().max())
    assert order_sensitivity(model, spread=2.0) == pytest.approx(moved / 2, rel=1e-4)
    assert not torch.equal(clip[:, :, 0], clip[:, :, 1])
    # The window moves a sixteenth of the frame to the right and down at each step.
    assert torch.equal(clip[:, :, 0, 4:, 4:], clip[:, :, 1, :-4, :-4])


def test_copies_are_shaken_and_originals_are_not() -> None:
    torch.manual_seed(5)
    model = timm.create_model("resnet18", num_classes=11).eval()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    images = still_frames(4, 64)
    other = shaken(model, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not other.training and not silent_parts(other)
    assert torch.equal(other.conv1.weight, model.conv1.weight)
    assert other.layer1[0].bn2.weight.min().item() >= 0.5 and other.bn1.weight.max().item() <= 1.5
    with torch.no_grad():
        logits = other(images)
    assert 0.01 < float((logits[0] - logits[1]).abs().max()) < 1e3
    again = shaken(model, images).state_dict()
    assert all(torch.equal(again[key], value) for key, value in other.state_dict().items())


def test_the_model_that_is_returned_has_the_weights_of_the_source() -> None:
    """Copies alone are shaken."""
    torch.manual_seed(3)
    model = timm.create_model("resnet18")
    report = vidinit.convert("resnet18", "s3d", pretrained=False, seed=3, **SMALL)
    assert torch.equal(report.model.state_dict()["trunk.conv1.weight"], model.conv1.weight)
    assert silent_parts(report.model) and not silent_parts(shaken(model, still_frames(4, 64)))


# --------------------------------------------------------------- from outside the library

ARCHITECTURES = (
    *(
        "resnet10t",
        "resnet18",
        "resnet26d",
        "seresnet18",
        "resnext26ts",
        "resnetv2_18",
        "regnetx_002",
    ),
    *("regnety_002", "mobilenetv2_035", "mobilenetv3_small_050", "efficientnet_b0", "mnasnet_050"),
    *("tf_efficientnetv2_b0", "fbnetc_100", "ghostnet_050", "hardcorenas_a", "lcnet_050"),
    *("convnext_atto", "convnextv2_atto", "densenet121", "vgg11_bn", "dla34", "hrnet_w18_small"),
    *("vit_tiny_patch16_224", "deit_tiny_patch16_224", "vit_small_patch32_224"),
    *("eca_nfnet_l0", "repvgg_a0", "rexnet_100", "selecsls42"),
)
PLANS_OF_CNNS = ("i3d", "tsm", "s3d", "c2d")


def random_everything(model: nn.Module, seed: int) -> None:
    """Random weights and statistics, by a recipe that is not the library's."""
    generator = torch.Generator().manual_seed(seed)

    def rand(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.dtype.is_floating_point or value.dim() == 0:
                value.fill_(0.7) if value.dtype.is_floating_point else None
            elif name.endswith("running_var"):
                value.copy_(0.7 + 0.6 * rand(value))
            elif name.endswith(("running_mean", "bias")):
                value.copy_(0.1 * rand(value) - 0.05)
            elif value.dim() == 1:
                value.copy_(0.6 + 0.5 * rand(value))
            elif "embed" in name or "token" in name:
                value.copy_(0.2 * rand(value) - 0.1)
            elif "relative" not in name:
                fan_in = value[0].numel()
                value.copy_((2 * rand(value) - 1) * (3 / fan_in) ** 0.5)
        # Statistics of other pictures, or a deep network of small ones loses the image on its way.
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = 0.9
            norm.train()
        if norms:
            model(torch.randn(4, 3, 96, 96, generator=generator))
        model.eval()


@pytest.mark.parametrize(
    "name",
    [
        name if name == "mobilenetv2_035" else pytest.param(name, marks=pytest.mark.slow)
        for name in ARCHITECTURES
    ],
)
def test_the_verdict_is_that_of_timm(name: str, tmp_path: Path) -> None:
    """timm's own logits against those of the saved folder, on frames of the test's own."""
    image = timm.create_model(name, num_classes=7).eval()
    random_everything(image, seed=len(name))
    file = saved(image, tmp_path / "w.pth")
    is_vit = hasattr(image, "patch_embed") and hasattr(image, "blocks")
    size = 224 if is_vit else 96
    generator = torch.Generator().manual_seed(11)
    frames = torch.nn.functional.interpolate(
        torch.rand(3, 3, 12, 12, generator=generator), size=(size, size)
    ).double()
    verdicts = {}
    plans = ("timesformer", "c2d") if is_vit else PLANS_OF_CNNS
    if "nfnet" in name:  # its kernels are standardized at run time: none of them has a middle tap
        plans = ("tsm", "s3d", "c2d")
    for plan in plans:
        report = vidinit.convert(name, plan, weights=file, frames=3, size=size, out=tmp_path / plan)
        video = vidinit.load(tmp_path / plan).double().eval()
        with torch.no_grad():
            want = copy.deepcopy(image).double()(frames)
            got = video(frames.unsqueeze(2).expand(-1, -1, 3, -1, -1))
        spread = float((want[0] - want[1:]).abs().max())
        assert spread > 1e-5 * float(want.abs().max()), "these weights tell images apart"
        verdicts[plan] = (report.exact, float((got - want).abs().max()) < 1e-4 * spread)
    assert all(ours is theirs for ours, theirs in verdicts.values()), verdicts
    assert verdicts.get("tsm", (False,))[0] is False

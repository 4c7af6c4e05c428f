"""Image networks of other channels than RGB's three, and models of other channels than theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from support import shake_norms
from torch import nn

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.images.heads import channels_of
from vidinit.zoo.images.networks import clip_spec_of


def network(channels: int, name: str = "test_resnet", **arguments) -> nn.Module:
    torch.manual_seed(0)
    image = timm.create_model(name, in_chans=channels, num_classes=7, **arguments).eval()
    shake_norms(image)
    return image


def converted(image: nn.Module, to: str, folder: Path, **options) -> vidinit.ConversionReport:
    weights = folder / "image.pth"
    torch.save(image.state_dict(), weights)
    name = image.pretrained_cfg["architecture"]
    out = folder / "model"
    report = vidinit.convert(
        name, to, weights=weights, frames=2, out=out, overwrite=True, **options
    )
    loaded = vidinit.load(out).eval()
    clip = torch.randn(1, loaded.in_channels, 2, loaded.spec.size, loaded.spec.size)
    with torch.no_grad():
        assert torch.equal(loaded(clip), report.model(clip))
    return report


def still_logits(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(image.unsqueeze(2).expand(-1, -1, 2, -1, -1))


@pytest.mark.parametrize(("channels", "plan"), [(1, "i3d"), (4, "tsm")])
def test_a_network_of_other_channels_keeps_them(channels, plan, tmp_path):
    image = network(channels)
    report = converted(image, plan, tmp_path, size=64)
    assert report.exact is (plan != "tsm")
    assert report.model.in_channels == channels == len(report.model.spec.mean)
    assert report.model.spec.mean == report.model.spec.std == (0.5,) * channels
    (note,) = [note for note in report.notes if "as the source's" in note]
    assert "mean 0.500 and deviation 0.500" in note
    if plan == "i3d":
        frames = torch.randn(2, channels, 64, 64)
        with torch.no_grad():
            want = image(frames)
        assert torch.allclose(still_logits(report.model, frames), want, atol=1e-4)


def test_each_channel_gets_the_mean_of_the_statistics():
    with torch.device("meta"):
        gray = timm.create_model("resnet18", in_chans=1)
    spec = clip_spec_of(gray, frames=2, stride=1, size=None)
    assert spec.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert spec.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))


def test_the_same_number_is_kept_exactly(tmp_path):
    kept = converted(network(1), "c2d", tmp_path, size=64).model.state_dict()
    asked = converted(network(1), "c2d", tmp_path, size=64, in_channels=1).model.state_dict()
    assert all(torch.equal(kept[key], asked[key]) for key in kept)


def test_gray_becomes_rgb_that_sees_gray(tmp_path):
    image = network(1)
    report = converted(image, "c2d", tmp_path, size=64, in_channels=3)
    assert report.exact and report.model.in_channels == 3
    assert "the first kernels are the source's, repeated for 3 channels" in report.notes
    gray = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        want = image(gray)
    assert torch.allclose(still_logits(report.model, gray.expand(-1, 3, -1, -1)), want, atol=1e-4)


def test_five_channels_become_two_of_their_mean(tmp_path):
    image = network(5)
    report = converted(image, "c2d", tmp_path, size=64, in_channels=2)
    assert "the first kernels are the mean over the source's 5, repeated for 2 channels" in (
        report.notes
    )
    first = image.conv1[0] if isinstance(image.conv1, nn.Sequential) else image.conv1
    want = first.weight.mean(1, keepdim=True).expand(-1, 2, -1, -1) * 5 / 2
    got = next(p for p in report.model.parameters() if p.shape == want.shape)
    assert torch.allclose(got, want)


def check_pixels_side_by_side(name: str, folder: Path) -> None:
    """A network that lays neighboring pixels side by side sees gray as it saw it in RGB."""
    image = network(3, name)
    report = converted(image, "c2d", folder, size=64, in_channels=1)
    gray = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        want = image(gray.expand(-1, 3, -1, -1))
    assert torch.allclose(still_logits(report.model, gray), want, atol=1e-4 * float(want.std()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cs3darknet_focus_s", "tresnet_m"])
def test_pixels_side_by_side(name, tmp_path):
    check_pixels_side_by_side(name, tmp_path)


@pytest.mark.parametrize("name", ["tresnet_m", "cs3darknet_focus_s", "test_vit"])
def test_kernels_for_other_channels_have_the_shapes_of_timms(name):
    with torch.device("meta"):
        want = timm.create_model(name, in_chans=2, num_classes=0)
        model = vidinit.create_model(f"c2d-{name}", in_channels=2)
    assert channels_of(want) == channels_of(model.trunk) == model.in_channels == 2
    shapes = {key: value.shape for key, value in model.trunk.state_dict().items()}
    assert shapes == {key: value.shape for key, value in want.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("to", ["r3d-18", "r2plus1d-18"], ids=["3x3x3 kernels", "factored kernels"])
def test_families_take_them_too(to, tmp_path):
    report = converted(network(1, "resnet18"), to, tmp_path, size=64, stem="wide")
    assert report.exact and report.model.in_channels == 1


@pytest.mark.slow
def test_timesformer_takes_them_too(tmp_path):
    report = converted(network(1, "deit_tiny_patch16_224"), "timesformer", tmp_path)
    assert report.exact and report.model.in_channels == 1


def test_a_frozen_tower_sees_rgb_only(tmp_path):
    torch.save(network(1, "test_vit").state_dict(), tmp_path / "gray.pth")
    with pytest.raises(UsageError, match=r"1 input channels.*RGB only"):
        vidinit.convert("test_vit", "dist", weights=tmp_path / "gray.pth")

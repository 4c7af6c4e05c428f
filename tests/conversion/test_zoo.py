"""Image networks into the zoo's families: exact where it is possible, said where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from support import run_cli, shake_norms
from torch import nn
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.errors import UsageError, VidinitError
from vidinit.zoo.images.torchvision_models import googlenet


def settled(model: nn.Module, size: int = 64) -> nn.Module:
    """Norms with gains and shifts of their own, and statistics that fit what they see."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.momentum = 0.5
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    model.train()
    with torch.no_grad():
        for _ in range(6):
            model(torch.randn(4, 3, size, size))
    return model.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Files with the weights of image networks, named by architecture."""
    folder = tmp_path_factory.mktemp("images")
    made = {}
    for arch in ("resnet18", "resnet34", "resnet50", "googlenet"):
        model = googlenet(7) if arch == "googlenet" else timm.create_model(arch, num_classes=7)
        made[arch] = folder / f"{arch}.pth"
        torch.save(settled(model).state_dict(), made[arch])
    return made


EXACT = [
    ("resnet18", "mc3-18", {"stem": "wide"}),
    ("resnet50", "slowfast-r50-4x16", {}),
    ("googlenet", "s3d-g", {}),
]
SLOW_EXACT = [
    ("resnet18", "r2plus1d-18", {"stem": "wide"}),
    *(("resnet18", name, {"stem": "wide"}) for name in ("r3d-18", "rmc3-18", "mc5-18")),
    ("resnet34", "r2plus1d-34", {"stem": "wide"}),
    ("resnet50", "r3d-50", {"stem": "wide"}),
    ("resnet50", "sts-slowfast-r50-8x8", {}),
    ("resnet50", "i3d-r50", {}),
    ("resnet50", "c2d-r50", {}),
    *(("googlenet", name, {}) for name in ("s3d", "i3d", "i2d", "fast-s3d", "s3d-g@bottom:4")),
]


def check_exact(file: Path, target: str, options: dict, frames: int) -> None:
    report = vidinit.convert(str(file), target, frames=frames, size=64, **options)
    assert report.exact and report.max_difference < 1e-4
    assert report.proof.spread > 100 * report.max_difference, "the images look alike: no proof"
    assert sum(row.tensors for row in report.rows) == len(report.model.state_dict())


@pytest.mark.parametrize(("source", "target", "options"), EXACT)
def test_exact_families(files, source, target, options):
    check_exact(files[source], target, options, 14)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [8, 17])
@pytest.mark.parametrize(("source", "target", "options"), EXACT + SLOW_EXACT)
def test_every_exact_family_at_two_lengths(files, source, target, options, frames):
    check_exact(files[source], target, options, frames)


@pytest.mark.parametrize(
    ("source", "target", "options", "words"),
    [
        ("resnet18", "r3d-18", {}, "--stem wide"),
        pytest.param(
            *("resnet18", "r2plus1d-18", {}, "passes 45 channels instead of 64"),
            marks=pytest.mark.slow,
        ),
        pytest.param("resnet18", "tsm-r18", {}, "zeros", marks=pytest.mark.slow),
        ("resnet18", "i3d", {"inflate": "mean"}, "--time-padding replicate"),
    ],
)
def test_what_is_not_exact_says_why(files, source, target, options, words):
    report = vidinit.convert(str(files[source]), target, frames=4, size=64, **options)
    assert report.exact is False and report.max_difference > 1e-3
    assert words in " ".join(report.notes)


@pytest.mark.slow
def test_mean_inflation_with_replicate_padding_is_exact(files, tmp_path):
    report = vidinit.convert(
        str(files["resnet18"]),
        "i3d",
        inflate="mean",
        time_padding="replicate",
        frames=5,
        size=64,
        out=tmp_path / "m",
    )
    assert report.exact
    clip = torch.randn(1, 3, 5, 64, 64)
    assert torch.equal(vidinit.load(tmp_path / "m")(clip), report.model(clip))


def test_unused_middle_channels_can_learn(files):
    report = vidinit.convert(str(files["resnet18"]), "r2plus1d-18", stem="wide", frames=4, size=32)
    model = report.model.train()
    model(torch.randn(2, 3, 4, 32, 32)).square().sum().backward()
    *_, temporal = model.layer1[0].conv1[0]
    unused = temporal.weight.abs().sum(dim=(0, 2, 3)) == 0
    assert unused.sum() == 16  # 144 channels, twice 64 of them used
    assert (temporal.weight.grad[:, unused].abs().amax(dim=(0, 2, 3)) > 0).all()


@pytest.mark.slow
def test_new_heads_and_flow(files, tmp_path):
    report = vidinit.convert(
        str(files["resnet18"]), "i3d", num_classes=3, in_channels=2, frames=4, size=32,
        out=tmp_path / "m",
    )  # fmt: skip
    assert report.exact, "the proof is on the image model's own head"
    loaded = vidinit.load(tmp_path / "m")
    assert loaded.in_channels == 2 and len(loaded.spec.mean) == 2
    assert loaded(torch.randn(1, 2, 4, 32, 32)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"\(B, 2, T, H, W\)"):
        loaded(torch.randn(1, 3, 4, 32, 32))
    image = torch.load(files["resnet18"])["conv1.weight"].sum(dim=1)
    stem = loaded.trunk.conv1.weight[:, :, 1]
    assert torch.allclose(stem.sum(dim=1), image, atol=1e-5)


def test_files_tell_their_architecture(files):
    assert (
        vidinit.convert(str(files["resnet34"]), "s3d", frames=2, size=32).target == "s3d-resnet34"
    )
    with pytest.raises(UsageError, match="made of torchvision:googlenet, not of resnet18"):
        vidinit.convert(str(files["resnet18"]), "i2d")
    report = vidinit.convert(str(files["googlenet"]), "s3d", frames=14, size=48)
    assert report.target == "s3d" and report.model.spec.mean == (0.5,) * 3


def test_torchvision_sources_come_from_its_cache(files, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("vidinit.zoo.images.torchvision_models.reachable", lambda url: False)
    with pytest.raises(VidinitError, match="could not reach torchvision's weights of 'resnet18'"):
        vidinit.convert("torchvision:resnet18", "i3d")
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    image = timm.create_model("resnet18")
    shake_norms(image)
    torch.save(image.state_dict(), cache / "resnet18-f37072fd.pth")
    report = vidinit.convert("torchvision:resnet18", "i3d", frames=2, size=32)
    assert report.exact and report.weights == "torchvision, resnet18.IMAGENET1K_V1"
    assert report.model.classes[504] == "coffee mug"
    import torchvision

    video = torchvision.models.video.r3d_18()
    torch.save(video.state_dict(), cache / "r3d_18-b3b3357e.pth")
    report = vidinit.convert("torchvision:r3d_18", "r3d-18", frames=4, size=32)
    assert report.exact is None and report.max_difference is None
    assert report.layout == "torchvision" and report.model.classes[0] == "abseiling"
    clip = torch.randn(1, 3, 4, 32, 32)
    assert (video.eval()(clip) - report.model(clip)).abs().max() < 1e-4


def test_bad_requests_are_one_line_each(files, tmp_path):
    torch.manual_seed(0)
    import torchvision

    state = torchvision.models.video.r2plus1d_18().state_dict()
    file = tmp_path / "r2.pth"
    torch.save(state, file)
    for to, words in (
        ("c2d", "becomes a model of the zoo, not 'c2d'.*--to r2plus1d-18"),
        ("i3d", "it is r2plus1d-18, a network with other layers"),
        ("r2plus1d-l8", "did you mean|becomes a model of the zoo"),
    ):
        with pytest.raises(UsageError, match=words):
            vidinit.convert(str(file), to)
    for options, words in (
        ({"layout": "torchvison"}, "did you mean 'torchvision'"),
        ({"layout": "kylemin"}, "no kylemin video checkpoint"),
        ({"weights": file}, "a file already"),
        ({"num_classes": 0}, "--num-classes must be at least 1"),
        ({"time_padding": "same"}, "unknown time padding 'same'"),
    ):
        with pytest.raises(UsageError, match=words):
            vidinit.convert(str(file), "r2plus1d-18", **options)
    with pytest.raises(UsageError, match="--layout says how a file is laid out"):
        vidinit.convert("resnet18", "i3d", layout="timm", pretrained=False)
    state["extra.weight"] = state.pop("layer1.0.conv1.0.0.weight")
    torch.save(state, file)
    with pytest.raises(UsageError, match=r"layer1\.0\.conv1\.0\.0\.weight.*--allow-partial"):
        vidinit.convert(str(file), "r2plus1d-18")
    report = vidinit.convert(str(file), "r2plus1d-18", allow_partial=True)
    assert report.leftovers == ["extra.weight"] and len(report.missing) == 1
    assert (report.total("copied"), report.total("initialized")) == (223, 1)


@pytest.mark.slow
def test_export_and_back(tmp_path):
    def invoke(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    done = invoke(
        "convert", "torchvision:resnet18", "--to", "r3d-18", "--no-pretrained",
        "--out", tmp_path / "m", "--frames", "2", "--size", "32",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    line = ["export", tmp_path / "m", "--layout", "torchvision"]
    done = invoke(*line, "--out", tmp_path / "w.safetensors")
    assert done.exit_code == 0 and "122 tensors" in done.stdout
    report = vidinit.convert(str(tmp_path / "w.safetensors"), "r3d-18", frames=2, size=32)
    for key, value in vidinit.load(tmp_path / "m").state_dict().items():
        assert torch.equal(value, report.model.state_dict()[key]), key
    again = invoke(*line, "--out", tmp_path / "w.safetensors")
    assert again.exit_code == 2 and "--overwrite" in again.stderr


def test_lists():
    assert run_cli("list", "models", "s3d*").stdout.split()[::3][:1] == ["s3d"]
    assert "s3d@top:2" in run_cli("list", "models", "s3d@*").stdout
    assert "tsm" in run_cli("list", "plans").stdout
    assert "pytorchvideo" in run_cli("list", "layouts").stdout
    wrong = run_cli("list", "modles")
    assert wrong.returncode == 2 and "did you mean 'models'" in wrong.stderr

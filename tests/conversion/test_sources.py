"""Video files as people have them: wrapped, without a head, of detection, with split norms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.conversion.layouts.pyslowfast import joined_norms
from vidinit.conversion.layouts.read_write import write_layout
from vidinit.conversion.sources import VideoSource, open_source
from vidinit.errors import UsageError
from vidinit.zoo.base import VideoModel
from vidinit.zoo.images.state_dicts import WeightsFile

State = dict[str, Tensor]


def network(name: str, **options) -> VideoModel:
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=6, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return model.eval()


@pytest.fixture(scope="module")
def x3d() -> VideoModel:
    return network("x3d-s", norm_shortcut=True)


@pytest.fixture(scope="module")
def slowfast_file(x3d) -> State:
    """A file of PySlowFast's, of a network with few parameters."""
    return write_layout(x3d, "pyslowfast")


@pytest.fixture(scope="module")
def r3d() -> VideoModel:
    return network("mc3-18")


def convert(tmp_path: Path, held: object, to: str, **options):
    torch.save(held, tmp_path / "video.pth")
    return vidinit.convert(str(tmp_path / "video.pth"), to, frames=2, size=32, **options)


def same(found: VideoModel, wanted: VideoModel, but: str = "nothing") -> bool:
    own, want = found.state_dict(), wanted.state_dict()
    return all(torch.equal(own[key], want[key]) for key in want if not key.startswith(but))


def behind(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


WRAPPED = pytest.mark.slow
PREFIXES = ("module.", *(pytest.param(p, marks=WRAPPED) for p in ("_orig_mod.", "backbone.")))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_and_averages(tmp_path, x3d, slowfast_file, prefix):
    other = {key: torch.zeros_like(value) for key, value in slowfast_file.items()}
    held = {"model_state": other, "model_ema": behind(prefix, slowfast_file), "epoch": 3}
    report = convert(tmp_path, held, "x3d-s")
    assert same(report.model, x3d) and report.layout == "pyslowfast"
    assert report.read["key"] == "model_ema" and report.read["prefix"] == prefix
    assert "--no-ema, or --weights-key model_state" in " ".join(report.notes)


def test_a_head_in_a_sequential(tmp_path, r3d):
    """torchvision's users put a dropout in front: fc.1 is the classifier."""
    held = {k.replace("fc.", "fc.1."): v for k, v in write_layout(r3d, "torchvision").items()}
    report = convert(tmp_path, {"state_dict": held}, "mc3-18")
    assert same(report.model, r3d) and report.model.num_classes == 6
    assert "its classifier is fc.1" in " ".join(report.notes)


def test_a_file_without_a_head(tmp_path, r3d):
    state = write_layout(r3d, "torchvision")
    held = {k: v for k, v in state.items() if not k.startswith("fc.")}
    report = convert(tmp_path, held, "mc3-18", num_classes=3)
    assert same(report.model, r3d, but="head.") and report.model.num_classes == 3
    assert report.missing == ["head.weight", "head.bias"]
    assert "it has no classifier" in " ".join(report.notes)
    many = held | {"fc.0.weight": torch.ones(8, 512), "fc.2.weight": torch.ones(6, 8)}
    report = convert(tmp_path, many, "mc3-18")
    assert "its classifier (fc (2 tensors)) does not fit" in " ".join(report.notes)
    assert report.leftovers == ["fc.0.weight", "fc.2.weight"]


def test_the_backbone_beside_a_head_of_detection(tmp_path, x3d):
    held = write_layout(x3d_plain(), "pytorchvideo")
    body = {k: v for k, v in held.items() if "proj" not in k}
    detector = {**behind("model.", body), "detection_head.proj.weight": torch.ones(80, 2048)}
    report = convert(tmp_path, detector, "x3d-s")
    assert same(report.model, x3d_plain(), but="head.")
    assert report.read["left_out"] == ["detection_head.proj.weight"]
    words = " ".join(report.notes)
    assert "left out: detection_head.proj.weight" in words and "the head is new" in words


def x3d_plain() -> VideoModel:
    return network("x3d-s", norm_shortcut=False)


# ------------------------------------------------------------------ norms of parts of a batch


class SplitNorm(nn.Module):
    """The norm of PySlowFast that sees a batch in parts, as its paper's code base has it."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.bn = nn.BatchNorm3d(width, affine=False)
        self.split_bn = nn.BatchNorm3d(width * parts, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        x = self.split_bn(x.reshape(n // self.parts, c * self.parts, t, h, w))
        x = x.reshape(n, c, t, h, w)
        return x * self.weight.view(1, -1, 1, 1, 1) + self.bias.view(1, -1, 1, 1, 1)


def test_statistics_of_parts_are_those_of_the_whole():
    """Over equal parts the mean of means and the law of total variance are exact."""
    torch.manual_seed(0)
    norm = SplitNorm(5, 2)
    norm.split_bn.momentum = 1.0  # the statistics of this very batch
    x = torch.randn(4, 5, 2, 3, 3, dtype=torch.float64) * 3 + torch.arange(5.0).view(1, 5, 1, 1, 1)
    norm.double().train()(x)
    state, notes = joined_norms({f"stem.bn.{k}": v for k, v in norm.state_dict().items()})
    # A batch norm divides by n - 1, here in parts of 36 values each.
    parts = x.reshape(2, 10, 2, 3, 3).transpose(0, 1).reshape(2, 5, -1)
    mean = parts.mean(dim=2).mean(dim=0)
    spread = parts.var(dim=2).mean(dim=0) + parts.mean(dim=2).var(dim=0, unbiased=False)
    assert torch.allclose(state["stem.bn.running_mean"], mean)
    assert torch.allclose(state["stem.bn.running_var"], spread)
    assert set(state) == {
        f"stem.bn.{leaf}"
        for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert "1 norm had statistics of parts of a batch" in notes[0]


def test_a_file_with_split_norms(tmp_path, x3d, slowfast_file):
    held: State = {}
    for key, value in slowfast_file.items():
        norm, _, leaf = key.rpartition(".")
        if leaf not in ("running_mean", "running_var", "num_batches_tracked"):
            held[key] = value
            continue
        if leaf == "num_batches_tracked":
            held[f"{norm}.bn.{leaf}"] = held[f"{norm}.split_bn.{leaf}"] = value
        else:
            # Not aggregated yet: ``bn`` is as it was made.
            held[f"{norm}.bn.{leaf}"] = torch.full_like(value, float(leaf == "running_var"))
            held[f"{norm}.split_bn.{leaf}"] = value.repeat(2)
    assert "s1.pathway0_stem.bn.bn.running_mean" in held
    report = convert(tmp_path, {"model_state": held}, "x3d-s")
    assert same(report.model, x3d) and report.missing == [] and report.leftovers == []
    assert "sub-batch norms" in " ".join(report.notes)


def test_statistics_that_stay_as_they_were_made_are_said(tmp_path, slowfast_file):
    held = {k: v for k, v in slowfast_file.items() if "running" not in k}
    with pytest.raises(UsageError, match=r"\d+ tensors are missing"):
        convert(tmp_path, held, "x3d-s")
    report = convert(tmp_path, held, "x3d-s", allow_partial=True)
    assert "statistics of norms that the file lacks" in " ".join(report.notes)


# ------------------------------------------------------------------ STS or mmaction2


@pytest.mark.parametrize("name", ["sts-slowfast-r50-4x16", "sts-slowonly-r50", "sts-x3d-s"])
def test_a_target_of_sts_decides_how_shared_names_are_read(name):
    with torch.device("meta"):  # names and shapes alone
        state = write_layout(vidinit.create_model(name), "sts-image")
    # The second half of the layout: what the repository fine-tunes has mmaction2's names.
    named = {
        k.replace("get_feature.", "backbone.")
        .replace("classifier.", "cls_head.fc2." if "x3d" in name else "cls_head.fc_cls.")
        .replace("fc1.", "cls_head.fc1." if "se_module" not in k else "fc1."): v
        for k, v in state.items()
    }
    source = open_weights_of(named, name, None)
    assert source.found.layout == "sts-image" and source.found.options.get("sts", True)
    assert "read as the latter's, as --to says" in " ".join(source.notes)
    plain = open_weights_of(named, name.removeprefix("sts-"), None)
    assert plain.found.layout == "mmaction"
    asked = open_weights_of(named, name, "mmaction")
    assert asked.found.layout == "mmaction" and "sts=False" in " ".join(asked.notes)


def open_weights_of(state: State, to: str, layout: str | None) -> VideoSource:
    from vidinit.conversion.sources import _from_file

    found = _from_file(WeightsFile("video.pth", {"": state}), to, layout)
    assert isinstance(found, VideoSource)
    return found


@pytest.mark.slow
def test_a_file_of_the_sts_repository_gives_its_logits(tmp_path):
    model = network("sts-slowfast-r50-4x16")
    held = write_layout(model, "sts-image")
    named = {k.replace("get_feature.", "backbone."): v for k, v in held.items()}
    for leaf in ("weight", "bias"):
        value = named.pop(f"classifier.{leaf}")
        # What is fine-tuned has the fast pathway's features first.
        named[f"cls_head.fc_cls.{leaf}"] = value.roll(256, 1) if leaf == "weight" else value
    torch.save(named, tmp_path / "sts.pth")
    clip = torch.randn(1, 3, 32, 64, 64)
    report = vidinit.convert(str(tmp_path / "sts.pth"), model.name, frames=32, size=64)
    assert report.layout == "sts-image" and torch.equal(report.model(clip), model(clip))


# ------------------------------------------------------------------ what is refused


def test_values_no_network_could_use(tmp_path, slowfast_file):
    wrong = {"s2.pathway0_res0.branch2.a.weight": torch.full((54, 24, 1, 1, 1), float("nan"))}
    with pytest.raises(UsageError, match=r"s2\.pathway0_res0\.branch2\.a\.weight .* NaN"):
        convert(tmp_path, slowfast_file | wrong, "x3d-s")


def test_options_of_files_need_a_file(tmp_path):
    for option in ({"weights_key": "model"}, {"ema": True}):
        with pytest.raises(UsageError, match="says which state dict of a file is meant"):
            vidinit.convert("test_resnet", "c2d", pretrained=False, **option)


def test_what_was_read_is_in_json_and_in_the_folder(tmp_path, slowfast_file):
    held = {"model_state": slowfast_file, "model_ema": behind("module.", slowfast_file)}
    torch.save(held, tmp_path / "video.pth")
    out = tmp_path / "out"
    command = ["convert", str(tmp_path / "video.pth"), "--to", "x3d-s", "--out", str(out)]
    options = ["--no-ema", "--frames", "2", "--size", "32", "--json"]
    told = json.loads(CliRunner().invoke(app, [*command, *options]).stdout)
    assert told["read"]["key"] == "model_state" and told["read"]["kind"] == "plain"
    assert vidinit.load(out).lineage[-1]["read"] == told["read"]
    shown = CliRunner().invoke(app, [*command, "--overwrite", "--frames", "2", "--size", "32"])
    assert "EMA weights of model_ema" in " ".join(shown.stdout.split())


def test_an_unknown_video_network_shows_its_names(tmp_path):
    torch.save({"model.a.conv.weight": torch.ones(2, 3, 3, 3, 3)}, tmp_path / "video.pth")
    with pytest.raises(UsageError, match="its names begin with model"):
        open_source(str(tmp_path / "video.pth"), "c2d", weights=None, layout=None, pretrained=True)

"""A temporal plan is one file and one line: a toy one is added so, and everything works with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo import names, plans
from vidinit.zoo.names import Entry, PlanFile
from vidinit.zoo.plans.plan import load_plan

FILE = '''
"""``toy``: a depthwise convolution in time behind every k x k one, whose taps are an option."""

from __future__ import annotations

from torch import nn

from ...errors import UsageError
from ..spec import Origin
from ..temporal import TemporalConv
from .inflate import InflatedNet, Inflation
from .plan import Plan


def toy(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    gating: bool = False,
    taps: int = 3,
) -> InflatedNet:
    if taps % 2 == 0:
        raise UsageError(f"taps={taps}: a kernel needs a middle", "use an odd number")
    work = Inflation("toy", image_model, num_classes)
    for layer in work.cut(work.network.layers, cut):
        width = layer.conv.out_channels
        conv = TemporalConv(width, width, taps, work.frames, groups=width)
        conv = conv.to(layer.conv.weight.device)
        work.note(conv.weight, Origin(None, "dirac"))
        work.follow(layer, conv, gating=gating)
    work.note_single_frames()
    return work.finish()


PLAN = Plan(toy)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file, as if it lay beside the other plans, and its line."""
    (tmp_path / "toy.py").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(plans, "__path__", [*plans.__path__, str(tmp_path)])
    monkeypatch.setitem(names.PLANS, "toy", PlanFile("toy", "a plan of the tests", gated=True))
    yield
    sys.modules.pop(f"{plans.__name__}.toy", None)
    vars(plans).pop("toy", None)


@pytest.mark.usefixtures("toy")
def test_it_makes_models():
    model = vidinit.create_model("toy-resnet18", num_classes=4).eval()
    assert model(torch.randn(2, 3, 4, 32, 32)).shape == (2, 4)
    assert len(model.temporal_parameters()) == 17
    cut = vidinit.create_model("toy-g@top:2-resnet18", num_classes=4, taps=5)
    shapes = [cut.get_parameter(name).shape for name in sorted(cut.temporal_parameters())]
    assert shapes == [(512, 512), (512, 1, 5, 1)] * 2, "each with its gate"


@pytest.mark.usefixtures("toy")
def test_a_conversion_is_proved_and_its_folder_loads(tmp_path: Path):
    report = vidinit.convert(
        "resnet18",
        "toy@stages:4",
        pretrained=False,
        size=32,
        frames=3,
        device="cpu",
        out=tmp_path / "model",
    )
    assert (
        report.exact
        and report.max_difference < 1e-4 * report.proof.spread
        and report.target == "toy@stages:4-resnet18"
    )
    rows = {(row.stage, row.rule): row.tensors for row in report.rows}
    assert rows["layer4", "identity kernel"] == 4
    clip = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(vidinit.load(tmp_path / "model")(clip), report.model(clip))


@pytest.mark.usefixtures("toy")
def test_options_names_and_networks_are_checked():
    with pytest.raises(UsageError, match=r"has no option 'tap'.*did you mean 'taps'"):
        vidinit.create_model("toy-resnet18", tap=3)
    with pytest.raises(UsageError, match=r"taps=4: a kernel needs a middle"):
        vidinit.create_model("toy-resnet18", taps=4)
    with pytest.raises(UsageError, match=r"option 'taps' of 'toy-resnet18' cannot be 'many'"):
        vidinit.convert("resnet18", "toy", pretrained=False, taps="many")
    with pytest.raises(UsageError, match=r"unknown model 'toy-resnet1'.*toy-resnet1"):
        vidinit.create_model("toy-resnet1")
    with pytest.raises(UsageError, match=r"plan toy has 17 layers in resnet18"):
        vidinit.create_model("toy@top:18-resnet18")
    with pytest.raises(UsageError, match=r"plan toy finds no k x k convolution"):
        vidinit.create_model("toy-vit_tiny_patch16_224")
    with pytest.raises(UsageError, match=r"did you mean 'toy'"):
        vidinit.convert("resnet18", "toyy", pretrained=False)


@pytest.mark.usefixtures("toy")
def test_it_is_listed(monkeypatch: pytest.MonkeyPatch):
    shown = CliRunner().invoke(app, ["list", "plans", "t*"])
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["tsm", "timesformer", "toy"]
    assert "a plan of the tests" in shown.stdout
    assert vidinit.list_models("toy*") == []
    monkeypatch.setitem(names.ZOO, "toy-r18", Entry("resnet18", "toy", size=112))
    assert vidinit.list_models("toy*") == ["toy-r18"]
    assert vidinit.create_model("toy-r18", num_classes=2).spec.size == 112


@pytest.mark.parametrize("name", list(names.PLANS))
def test_a_plan_and_its_line_agree(name: str):
    options = load_plan(name).options
    assert ("gating" in options) == names.PLANS[name].gated
    assert load_plan(name).no_cut == "" or "cut" not in options

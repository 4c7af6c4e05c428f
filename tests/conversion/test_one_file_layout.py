"""A public layout is one file and one line: a toy one is added so, read, and written back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.conversion import layouts
from vidinit.conversion.layouts.read_write import recognize, write_layout
from vidinit.errors import UsageError

FILE = '''
"""A code base of the tests: its R3D has a body and a head, which comes first."""

from __future__ import annotations

from ...zoo.spec import ClipSpec
from .public_file import BASIC, Candidate, PublicFile
from .scheme import Scheme


def _public_key(key: str) -> str:
    return f"top.{key.removeprefix('head.')}" if key.startswith("head.") else f"body.{key}"


def _recognize(file: PublicFile) -> Candidate | None:
    depth = BASIC.get(file.blocks("conv2.1.weight"))
    is_mine = depth is not None and file.taps("stem.0.weight") == 3
    return Candidate(f"r3d-{depth}", notes=("a note of the tests",)) if is_mine else None


PIXELS = ClipSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
SCHEMES = (Scheme("toy", _recognize, _public_key, r"r3d-\\d+", PIXELS, 1e-3, head_first=True),)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file, as if it lay beside the other layouts, and its line."""
    (tmp_path / "toy.py").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    monkeypatch.setitem(layouts.LAYOUTS, "toy", "toy")
    yield
    sys.modules.pop(f"{layouts.__name__}.toy", None)
    vars(layouts).pop("toy", None)


@pytest.fixture
def state(toy: None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return write_layout(vidinit.create_model("r3d-18", num_classes=5, bn_eps=1e-3), "toy")


def test_it_is_recognized_read_and_written_back(state: dict[str, Tensor], tmp_path: Path):
    assert list(state)[:2] == ["top.weight", "top.bias"] and "body.stem.0.weight" in state
    found = recognize(state)
    assert found is not None
    assert (found.layout, found.target, found.num_classes) == ("toy", "r3d-18", 5)
    assert found.options == {"bn_eps": 1e-3}, "which no state dict holds"
    torch.save(state, tmp_path / "toy.pth")
    report = vidinit.convert(str(tmp_path / "toy.pth"), "r3d-18", size=32, frames=4)
    assert report.layout == "toy" and report.notes == ["a note of the tests"]
    assert report.model.spec.mean == (0.1, 0.2, 0.3) and not report.leftovers + report.missing
    back = write_layout(report.model, "toy")
    assert list(back) == list(state) and all(torch.equal(back[key], state[key]) for key in state)


def test_other_files_and_models_are_refused(state: dict[str, Tensor], tmp_path: Path):
    with pytest.raises(UsageError, match=r"layout toy cannot hold this .*norms there have eps"):
        write_layout(vidinit.create_model("r3d-18", num_classes=5), "toy")
    with pytest.raises(UsageError, match="it is another family"):
        write_layout(vidinit.create_model("mc3-18", num_classes=5), "toy")
    assert recognize(state, "torchvision") is None
    del state["body.layer4.1.conv2.0.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(UsageError, match=r"toy file does not fit: 1 tensor is missing, body\."):
        vidinit.convert(str(tmp_path / "short.pth"), "r3d-18")


@pytest.mark.usefixtures("toy")
def test_its_name_is_known():
    shown = CliRunner().invoke(app, ["list", "layouts", "t*"])
    names = [line.split()[0] for line in shown.stdout.splitlines()]
    assert names == ["torchvision", "timesformer", "transformers", "toy", "timm"]
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        vidinit.convert("nothing.pth", "r3d-18", layout="toyy")

"""`vidinit export`: files for other programs, what is in them, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import UsageError, VidinitError
from vidinit.exports import export as module
from vidinit.exports.formats import ONNX_PACKAGES
from vidinit.zoo.spec import ClipSpec


def run(*words: object):
    return CliRunner().invoke(app, ["export", *map(str, words)])


@pytest.fixture(scope="module")
def onnx_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("onnx") / "deep" / "small.onnx"
    done = run(folder, "--out", out, "--batch-check", "1,3", "--json")
    assert done.exit_code == 0, done.stderr
    return out, json.loads(done.stdout)


def test_an_onnx_file_says_what_it_does(folder, onnx_file):
    out, report = onnx_file
    assert report["format"] == "onnx" and report["batches"] == [1, 3]
    assert 0 < report["max_difference"] < 1e-4 and report["scale"] > 0.1
    assert [p.name for p in out.parent.iterdir()] == ["small.onnx"]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.name == "clip" and given.shape == ["batch", 3, 2, 32, 32]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    clips = torch.randn(5, 3, 2, 32, 32)
    with torch.no_grad():
        want = vidinit.load(folder)(clips).numpy()
    assert np.abs(session.run(None, {"clip": clips.numpy()})[0] - want).max() < 1e-4


def test_preprocessing_is_in_the_file(folder, onnx_file):
    told = vidinit.export_metadata(onnx_file[0])
    spec = vidinit.load(folder).spec
    assert ClipSpec.from_dict(told["clip"]) == spec and spec.stride == 5
    assert told["classes"] == ["änd", "bow", "cut|off"] and told["kind"] == "single"
    assert told["model"] == "c2d-resnet10t" and told["outputs"] == ["logits"]
    assert told["input"]["shape"] == ["batch", 3, 2, 32, 32]


def test_a_file_above_the_bound_is_not_kept(folder, onnx_file, tmp_path):
    out = tmp_path / "mine.onnx"
    out.write_bytes(b"an earlier one")
    done = run(folder, "--out", out, "--overwrite", "--tolerance", "1e-12")
    assert done.exit_code == 1
    assert re.search(r"error: the exported file differs from the model by \d\.\de-\d+", done.stderr)
    assert done.stderr.count("\n") == 1
    assert out.read_bytes() == b"an earlier one" and list(tmp_path.iterdir()) == [out]


def test_a_program_of_torch_export(folder, tmp_path):
    out = tmp_path / "small.pt2"
    done = run(folder, "--out", out, "--fuse")
    assert done.exit_code == 0, done.stderr
    assert "largest difference from the model" in done.stdout and str(out) in done.stdout
    told = vidinit.export_metadata(out)
    assert told["fused"] and told["classes"][1] == "bow"
    clips = torch.randn(4, 3, 2, 32, 32)
    with torch.no_grad():
        got = torch.export.load(out).module()(clips)
        assert (got - vidinit.load(folder)(clips)).abs().max() < 1e-4


def test_own_weights_make_the_model_again(folder, tmp_path):
    out = tmp_path / "own.safetensors"
    report = vidinit.export(folder, out=out)
    told, state = vidinit.export_metadata(out), load_file(out)
    assert report["tensors"] == len(state) and report["layout"] is None
    again = vidinit.create_model(told["model"], num_classes=told["num_classes"], **told["options"])
    again.load_state_dict(state)
    clips = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(clips), vidinit.load(folder)(clips))
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE((folder / "model.yaml").stat().st_mode)


def test_weights_of_another_code_base_say_whose_keys_they_have(tmp_path):
    model = vidinit.create_model("mc3-18", num_classes=2).eval()
    model.classes = ["a", "b"]
    save_model(model, tmp_path / "model")
    for name in ("mc3.safetensors", "mc3.pth", "mc3.pyth"):
        report = vidinit.export(tmp_path / "model", layout="torchvision", out=tmp_path / name)
        assert report["layout"] == "torchvision"
    assert vidinit.export_metadata(tmp_path / "mc3.safetensors")["layout"] == "torchvision"
    safe = load_file(tmp_path / "mc3.safetensors")
    for name in ("mc3.pth", "mc3.pyth"):
        pickled = torch.load(tmp_path / name, weights_only=True)
        assert "stem.0.weight" in safe and set(safe) == set(pickled)


def test_the_head_of_a_source(tmp_path):
    model = vidinit.create_model("c2d-resnet10t", num_classes=2, frames=2)
    model.spec, model.classes = replace(model.spec, size=32), ["a", "b"]
    other = torch.nn.Linear(model.num_features, 3)
    names = {"first": ["a", "b"], "second": ["x", "y", "z"]}
    save_model(model, tmp_path / "model", {"second": other}, head_classes=names)
    out = tmp_path / "second.pt2"
    vidinit.export(tmp_path / "model", out=out, head="second")
    assert vidinit.export_metadata(out)["classes"] == ["x", "y", "z"]
    assert torch.export.load(out).module()(torch.zeros(1, 3, 2, 32, 32)).shape == (1, 3)
    with pytest.raises(UsageError, match="no head 'third'"):
        vidinit.export(tmp_path / "model", out=tmp_path / "x.pt2", head="third")


def test_a_zoo_name_is_traced_with_random_weights_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = {}
    monkeypatch.setattr(module, "_graph", lambda *given: seen.update(given=given) or {})
    done = run("x3d-xs", "--format", "torch")
    assert done.exit_code == 0, done.stderr
    assert seen["given"][1] == Path("runs/export-x3d-xs-1.pt2")
    model, _ = module._open("x3d-xs", None, False)
    assert model.name == "x3d-xs" and not model.training


CASES = {
    "nothing to do": ((), "pass --out FILE, or --push-to-hub"),
    "unknown format": (("--format", "onx"), "did you mean 'onnx'"),
    "another suffix": (("--format", "onnx", "--out", "a.pt2"), "is no .onnx file"),
    "unknown suffix": (("--out", "a.bin"), "use .onnx, .pt2, .safetensors"),
    "a pickle without a layout": (("--out", "a.pth"), "with --layout"),
    "unknown layout": (("--out", "a.pth", "--layout", "torchvison"), "did you mean 'torchvision'"),
    "a graph with a layout": (("--out", "a.onnx", "--layout", "torchvision"), "holds a graph"),
    "fused weights": (("--out", "a.safetensors", "--fuse"), "use it with a graph"),
    "a batch of none": (("--out", "a.pt2", "--batch-check", "0,1"), "at least 1"),
    "a batch in words": (("--out", "a.pt2", "--batch-check", "one"), "not whole numbers"),
    "no tolerance": (("--out", "a.pt2", "--tolerance", "0"), "above 0"),
    "a folder": (("--out", "there.onnx"), "is there already"),
    "public without a repository": (("--out", "a.pt2", "--public"), "--push-to-hub"),
    "no repository": (("--push-to-hub", "mine"), "mine' is no repository"),
    "a head without a file": (("--push-to-hub", "a/b", "--head", "x"), "pass --out FILE"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused(case, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").mkdir()
    words, told = CASES[case]
    done = run(folder, *words)
    assert done.exit_code == 2 and told in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["there.onnx"]


def test_weights_of_a_zoo_name_are_nothing_to_export(tmp_path):
    with pytest.raises(UsageError, match="zoo name without weights"):
        vidinit.export("x3d-s", out=tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ONNX_PACKAGES)
def test_a_missing_package_is_named_with_how_to_get_it(name, folder, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *rest: None if n == name else found(n, *rest)
    )
    done = run(folder, "--out", tmp_path / "a.onnx")
    assert done.exit_code == 2 and f"ONNX needs {name}, not" in done.stderr
    assert "pip install 'onnx>=1.16' 'onnxruntime>=1.18' 'onnxscript>=0.5'" in done.stderr


def test_the_extra_brings_these_packages():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extra = re.search(r"^onnx = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert extra and all(f'"{name}' in extra[1] for name in ONNX_PACKAGES)


def test_metadata_of_files_that_have_none(folder, tmp_path):
    torch.save({}, tmp_path / "a.pth")
    (tmp_path / "b.onnx").write_bytes(b"\xff\xff no such thing")
    (tmp_path / "c.pt2").write_bytes(b"no zip")
    for name, told in (
        ("a.pth", "is no exported model"),
        ("b.onnx", "it is damaged"),
        ("c.pt2", "it is damaged"),
        ("d.onnx", "no such file"),
    ):
        with pytest.raises(UsageError, match=told):
            vidinit.export_metadata(tmp_path / name)
    with pytest.raises(UsageError, match="no metadata of vidinit"):
        vidinit.export_metadata(folder / "model.safetensors")


def test_a_full_disk_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(*given: object) -> None:
        given[1].write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vidinit.exports.weights.write_weights", full)
    with pytest.raises(VidinitError, match="No space left on device"):
        vidinit.export(folder, out=tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []

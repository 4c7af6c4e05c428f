"""`--option KEY=VALUE`: what a plan knows beside the flags, checked before any weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.conversion.plan_options import checked_options, parse_options
from vidinit.errors import UsageError


def run(*words: object):
    return CliRunner().invoke(app, ["convert", *map(str, words)])


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("weights are read before the options are checked")

    monkeypatch.setattr("vidinit.pipelines.convert.open_source", never)


@pytest.mark.slow
def test_options_reach_the_model_and_its_folder(tmp_path: Path):
    words = ["vit_tiny_patch16_224", "--no-pretrained", "--to", "dist", "--size", 32, "--whole"]
    words += ["--option", "pools=4", "--option", "gamma=4", "--option", "blocks=[3, 11]"]
    done = run(*words, "--option", "dim=64", "--out", tmp_path / "model")
    assert done.exit_code == 0, done.stderr
    model = vidinit.load(tmp_path / "model")
    assert len(model.side.pools) == 4 and model.side.gamma == 4 and model.tower.blocks == [3, 11]
    assert model.options["pools"] == 4 and model.spec.frames == 32


CASES = {
    "of another plan": ("resnet18 --to i3d --option pools=4", "did you mean 'pool'?"),
    "misspelled": ("vit_tiny_patch16_224 --to dist --option pols=4", "did you mean 'pools'?"),
    "of another type": ("vit_tiny_patch16_224 --to dist --option pools=many", "valid integer"),
    "not finite": ("vit_tiny_patch16_224 --to aim --option scale=nan", "cannot be 'nan'; give a"),
    "out of range": ("vit_tiny_patch16_224 --to dist --option pools=0", "pools must be at least 1"),
    "of a choice": ("resnet18 --to r3d-18 --option midplanes=none", "midplanes"),
    "with a flag": ("resnet18 --to i3d --option frames=4", "--frames sets it"),
    "without a value": ("resnet18 --to i3d --option pool", "write --option KEY=VALUE"),
    "twice": ("resnet18 --to i3d --option pool=true --option pool=false", "pool is given twice"),
    "no yaml": ("resnet18 --to i3d --option pool=[", "quote the value for YAML"),
    "of a file": ("none.pth --to s3d --option windw=7", "has no option 'windw'"),
    "of a file's unknown target": ("none.pth --to s3dd --option window=7", "unknown target 's3dd'"),
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("case", CASES)
def test_wrong_ones_cost_nothing(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, told = CASES[case]
    done = run(*line.split())
    assert done.exit_code == 2 and told in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_values_are_yaml():
    texts = ["a=1e-5", "b=[1, 2]", "c=true", "d=top:2", "e = null"]
    found = parse_options(texts, lambda: None)
    assert found == {"a": "1e-5", "b": [1, 2], "c": True, "d": "top:2", "e": None}
    # YAML 1.1 takes the first for a text; the option knows better.
    assert checked_options("resnet18", "r3d-18", {"bn_eps": "1e-5"}) == {"bn_eps": 1e-5}


def test_a_file_may_hold_what_either_kind_of_network_takes():
    assert checked_options("x.pth", "s3d", {"gating": True}) == {"gating": True}
    assert checked_options("x.pth", "s3d", {"window": 7}) == {"window": 7}
    assert checked_options("x.pth", "i3d-resnet50", {"pool": True}) == {"pool": True}
    assert checked_options("x.pth", "dist-b16", {"pools": 4}) == {"pools": 4}
    with pytest.raises(UsageError, match="no option 'window'"):
        checked_options("x.pth", "i3d-resnet50", {"window": 7})

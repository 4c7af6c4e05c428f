"""Graphs of every family compute what the model does, at batch sizes they were not traced with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dist_models import small_dist
from dist_models import small_vit as tower
from side4video_models import awake
from side4video_models import converted as beside
from support import shake_norms
from torch import Tensor, nn
from vit_support import converted, small_vit, wake
from zoo_support import FAMILIES

import vidinit
from vidinit.errors import VidinitError
from vidinit.exports import programs
from vidinit.exports.metadata import describe
from vidinit.zoo.attentive import AttentivePooler
from vidinit.zoo.pair import PairModel
from vidinit.zoo.poolers import GatedPooler

BATCHES = (1, 3)
SMALL: dict[str, Callable[[], Any]] = {
    "timesformer divided": lambda: wake(converted(small_vit("augreg"), frames=4)),
    "timesformer joint": lambda: wake(
        converted(small_vit("registers"), frames=4, attention="joint")
    ),
    "timesformer space": lambda: wake(
        converted(small_vit("siglip"), frames=4, attention="space"), time=False
    ),
    "dist": small_dist,
    "shallow dist": lambda: small_dist(tower(depth=1), pools=1),
    "dist with text": lambda: with_text(small_dist()),
    "dist with a class": lambda: with_head(small_dist()),
    "side4video": lambda: in_clips_of_four(awake(beside(small_vit("registers")))),
    "attentive": lambda: attentive(zoo_model("c2d-resnet10t")),
    "recurrent": lambda: recurrent(zoo_model("c2d-test_resnet")),
    "pair": lambda: pair(zoo_model("c2d-resnet10t")),
}


def zoo_model(name: str) -> Any:
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=5).eval()
    shake_norms(model)
    frames = 8 if "slowfast" in name else 4
    model.spec = replace(model.spec, frames=frames, size=32)
    return with_head(model)


def in_clips_of_four(model: Any) -> Any:
    model.spec = replace(model.spec, frames=4)
    return model


def with_head(model: Any) -> Any:
    """Logits of an ordinary size."""
    model.reset_head(5)
    with torch.no_grad():
        model.head.weight.mul_(100)
    return model.eval()


def with_text(model: Any) -> Any:
    model.set_text(torch.randn(3, model.num_features), ["a", "b", "c"])
    return model


def attentive(model: Any) -> Any:
    model.pooler = AttentivePooler(model.num_features, blocks=2)
    return model.eval()


def recurrent(model: Any) -> Any:
    model.set_pooler(GatedPooler(model.num_features, blocks=1, readout=16))
    with torch.no_grad():
        model.head.weight.mul_(100)
    return model.eval()


def pair(model: Any) -> Any:
    model.classes = list("abcde")
    nouns = nn.Linear(model.num_features, 2)
    return PairModel(model, nouns, ["x", "y"]).eval()


def written(model: Any, path: Path) -> Callable[[Tensor], list[Tensor]]:
    """A file of a model, opened again."""
    trunk = getattr(model, "model", model)
    spec = trunk.spec
    shape = (3, spec.frames, spec.size, spec.size)
    program, metadata = programs.trace(model, shape), describe(model)
    if path.suffix == ".onnx":
        programs.write_onnx(program, shape, path, metadata)
        return programs.open_onnx(path)
    programs.write_program(program, path, metadata)
    return programs.open_program(path)


def check(model: Any, path: Path) -> None:
    run = written(model, path)
    spec = getattr(model, "model", model).spec
    generator = torch.Generator().manual_seed(7)
    for batch in BATCHES:
        clips = torch.randn(batch, 3, spec.frames, spec.size, spec.size, generator=generator)
        with torch.no_grad():
            want = programs.outputs_of(model(clips))
        got = run(clips)
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert a.shape == b.shape and b.abs().max() > 0.05
            assert (a - b).abs().max() <= 1e-4 * max(1.0, float(b.abs().max()))


QUICK = ("sts-resnet14t.pt2",)


@pytest.mark.parametrize(
    "case",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for model in (*FAMILIES, "sts-slowfast-r50-4x16", *SMALL)
        for name in (f"{model}.pt2", f"{model}.onnx")
    ],
)
def test_a_family_as_a_graph(case, tmp_path):
    name, _, suffix = case.rpartition(".")
    model = SMALL[name]() if name in SMALL else zoo_model(name)
    check(model, tmp_path / f"model.{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_a_fused_model_as_a_graph(suffix, tmp_path):
    model = zoo_model("r2plus1d-18")
    check(model.fuse(), tmp_path / f"model.{suffix}")


def test_what_depends_on_values_is_refused_with_the_reason():
    class Moody(nn.Module):
        def forward(self, clip: Tensor) -> Tensor:
            return clip.mean((1, 2, 3, 4)) if clip.sum() > 0 else clip.amax((1, 2, 3, 4))

    with pytest.raises(VidinitError, match=r"torch\.export does not take this model; it says: .+"):
        programs.trace(Moody().eval(), (3, 2, 4, 4))


def test_a_batch_size_that_became_a_constant_is_refused():
    class Fixed(nn.Module):
        def forward(self, clip: Tensor) -> Tensor:
            return clip.flatten(1).sum(1) * len(clip)

    with pytest.raises(VidinitError, match=r"torch\.export does not take this model"):
        programs.trace(Fixed().eval(), (3, 2, 4, 4))


def test_a_file_is_compared_with_the_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 4)).eval()
    other = copy.deepcopy(model)
    shape = (3, 2, 2, 2)
    same = programs.compare(model, lambda x: [other(x).detach()], shape, BATCHES)
    assert same.max_difference == 0 and same.within(1e-9) and same.batches == [1, 3]
    with torch.no_grad():
        other[1].bias[0] += 0.001
    off = programs.compare(model, lambda x: [other(x).detach()], shape, BATCHES)
    assert off.max_difference == pytest.approx(0.001, rel=1e-3)
    assert off.within(0.01) and not off.within(1e-4)
    with torch.no_grad():
        other[1].bias[0] = float("nan")
    broken = programs.compare(model, lambda x: [other(x).detach()], shape, BATCHES)
    assert not broken.within(1e9)
    with pytest.raises(VidinitError, match=r"returns \(1, 3\) for 1 clips, the model \(1, 4\)"):
        programs.compare(model, lambda x: [other(x).detach()[:, 1:]], shape, BATCHES)


def test_small_outputs_are_compared_by_their_size():
    assert programs.Comparison([1], 5e-5, 0.1).within(1e-4)
    assert not programs.Comparison([1], 5e-5, 0.001).within(1e-4)
    assert programs.Comparison([1], 5e-3, 100.0).within(1e-4)
    assert not programs.Comparison([1], 5e-2, 100.0).within(1e-4)


def test_a_graph_tells_nothing_of_this_machine(tmp_path):
    written(zoo_model("c2d-resnet10t"), tmp_path / "model.pt2")
    assert str(Path(vidinit.__file__).parent).encode() not in (tmp_path / "model.pt2").read_bytes()

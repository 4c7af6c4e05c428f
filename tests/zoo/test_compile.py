"""`torch.compile` takes whole models, for any clip length; `torch.export` any batch size."""

from __future__ import annotations

import shutil

import pytest
import torch
from support import shake_norms
from zoo_support import families

import vidinit

CLIPS = [(1, 4), (2, 7)]  # (B, T)


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", families("sts-resnet14t"))
def test_one_graph_per_clip_length(name):
    model = vidinit.create_model(name, num_classes=5).eval()
    shake_norms(model)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        for batch, frames in [*CLIPS, CLIPS[0]]:
            clip = torch.randn(batch, 3, frames, 32, 32)
            got = compiled(clip)
            assert type(model.frames.value) is int
            assert (got - model(clip)).abs().max() < 1e-5


@pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.slow
def test_gradients_of_a_compiled_model(checkpointing):
    """The compiler decides itself what it recomputes."""
    model = vidinit.create_model("s3d-resnet10t", num_classes=5)
    model.set_grad_checkpointing(checkpointing)
    clip = torch.randn(2, 3, 3, 32, 32)
    model(clip).square().sum().backward()
    want = {key: p.grad for key, p in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, fullgraph=True, backend="aot_eager")(clip).square().sum().backward()
    for key, p in model.named_parameters():
        assert (p.grad - want[key]).abs().max() <= 1e-4 * want[key].abs().max(), key


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "cl")), reason="no C++ compiler"
)
def test_inductor():
    model = vidinit.create_model("s3d-resnet10t", num_classes=5).eval()
    shake_norms(model)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        for batch, frames in CLIPS:
            clip = torch.randn(batch, 3, frames, 32, 32)
            want = model(clip)
            assert (compiled(clip) - want).abs().max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("s3d-resnet10t", 0),
        ("s3d-resnet10t", 2),  # without strides in time any clip length, too
        pytest.param("r2plus1d-18", 0, marks=pytest.mark.slow),
        pytest.param("x3d-s", 0, marks=pytest.mark.slow),
        pytest.param("slowfast-r50-4x16", 0, marks=pytest.mark.slow),
        pytest.param("ir-csn-50", 0, marks=pytest.mark.slow),
        pytest.param("s3d-g", 0, marks=pytest.mark.slow),
    ],
)
def test_export_with_a_free_axis(name, axis):
    model = vidinit.create_model(name, num_classes=5).eval()
    shake_norms(model)
    shape = [2, 3, 4, 32, 32]
    free = ({axis: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.randn(shape),), dynamic_shapes=free).module()
    shape[axis] += 1
    clip = torch.randn(shape)
    with torch.no_grad():
        want = model(clip)
        assert (program(clip) - want).abs().max() < 1e-5 * want.abs().max()

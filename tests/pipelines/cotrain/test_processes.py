"""Co-training in several processes has the gradients of one (facts on co-training, F12, F13)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import MODEL, SMALL, json_of, logged, run_cli

from vidinit.checkpoint import load
from vidinit.pipelines.cotrain.run import _leaves_unused
from vidinit.pipelines.cotrain.settings import CotrainConfig, SourceConfig

# A step of plain gradient descent moves a weight by its gradient. Statistics of norms stay, so a
# clip's gradient does not depend on which others are in its batch.
DESCENT = [
    *SMALL,
    *("cotrain.norms=frozen", "train.momentum=0", "train.weight_decay=0", "train.lr=0.1"),
    *("train.schedule=constant", "train.log_every=1", "train.select=last", "eval.every=0"),
]


def losses(run: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if key.startswith("loss")}
        for row in logged(run)
        if "loss" in row
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["cotrain.schedule=use_one"],
        ["cotrain.schedule=use_one", "train.accumulate=2"],
        ["cotrain.schedule=use_all"],
        ["cotrain.schedule=use_one", "train.checkpointing=true"],
    ],
    ids=lambda words: "-".join(word.split("=")[-1] for word in words),
)
def test_two_processes_have_the_gradients_of_one(more, motion_set, picture_set, tmp_path):
    """Heads that a step does not use included: they stay as they are in both."""
    line = ["cotrain", MODEL, *DESCENT, *more, "--epochs", "2", "--json"]
    line += ["--source", f"motion={motion_set},flip=false", "--images", f"color={picture_set}"]
    models = []
    for world in (1, 2):
        out = tmp_path / str(world)
        size = 4 // world
        json_of(run_cli(*line, "--out", out, "--processes", world, "--batch-size", size))
        models.append({name: load(out, head=name) for name in ("motion", "color")})
    told = [losses(tmp_path / str(world)) for world in (1, 2)]
    assert len(told[0]) == len(told[1]) > 3
    for one, two in zip(*told, strict=True):
        assert one.keys() == two.keys()
        assert two == pytest.approx(one, rel=1e-5)
    for name, one in models[0].items():
        for key, value in one.state_dict().items():
            other = models[1][name].state_dict()[key]
            assert torch.allclose(value, other, atol=1e-6, rtol=1e-5), (name, key)


@pytest.mark.parametrize(
    ("schedule", "kinds", "want"),
    [
        ("use_one", ["video", "video"], True),
        ("use_one", ["video", "image"], True),
        ("use_one", ["image"], True),
        ("use_all", ["video", "image"], False),
        ("use_all", ["image", "image"], True),  # a second frame would be what queries compare
    ],
)
def test_where_data_parallel_training_must_look_for_unused_parameters(schedule, kinds, want):
    sources = [SourceConfig(name=str(n), data="x", kind=kind) for n, kind in enumerate(kinds)]
    config = CotrainConfig(model=MODEL, sources=sources)
    config.cotrain.schedule = schedule
    assert _leaves_unused(config) == want

"""A run folder whose model says something else of each clip, for tests of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from support import moving_bar

import vidinit
from vidinit import checkpoint
from vidinit.data.pixels.batch import normalize
from vidinit.zoo.base import VideoModel


def enliven(model: VideoModel) -> VideoModel:
    """The model, with statistics and a head that tell moving bars apart; for 4 frames of 32 px."""
    spec = model.spec
    bars = np.stack(
        [moving_bar(step, seed, frames=4, side=32) for step in (-8, 8) for seed in (1, 2)]
    )
    clips = normalize(torch.from_numpy(bars), spec.mean, spec.std)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(clips)
        model.eval()
        model.head.weight.normal_()
        model.head.weight /= model(clips).std()
        model.head.bias -= model(clips).mean(dim=0)
    return model


def lively(folder: Path) -> VideoModel:
    """The model of a run of `finetune`, made to tell moving bars apart."""
    model = vidinit.load(folder)
    torch.manual_seed(0)
    return enliven(model)


def lively_run(trained: Path, root: Path) -> Path:
    """A run folder as `finetune` leaves it behind, with a `lively` model."""
    checkpoint.save_model(lively(trained), root / "model")
    return root

"""What follows from the published values: batches of all GPUs, and rates over a run."""

from __future__ import annotations

import pytest
from published_transformers import DISTS, TIMESFORMERS

from vidinit.config import TrainConfig
from vidinit.config.build import build
from vidinit.engine.optimizer import lr_factor
from vidinit.pipelines.registry import config_classes

CONFIGS = config_classes()

GPUS, STEPS = 8, 50  # of the originals, and of an epoch


def made_for(name):
    return build(CONFIGS["finetune"], preset=name)


def rate(train: TrainConfig, epoch: float) -> float:
    return train.lr * lr_factor(round(epoch * STEPS), STEPS, train)


@pytest.mark.parametrize("name", [*TIMESFORMERS, *DISTS])
def test_the_batch_is_the_one_that_the_rate_is_for(name):
    config = made_for(name)
    clips = config.data.batch_size * config.train.accumulate * GPUS
    assert clips == config.train.lr_batch == (64 if name in TIMESFORMERS else 256)


@pytest.mark.parametrize("name", TIMESFORMERS)
def test_timesformers_rate_falls_twice(name):
    train = made_for(name).train
    rates = [rate(train, epoch) for epoch in range(train.epochs)]
    assert rates == pytest.approx([5e-3] * 11 + [5e-4] * 3 + [5e-5])


@pytest.mark.parametrize("name", DISTS)
def test_dists_rate_peaks_behind_its_warm_up(name):
    train = made_for(name).train
    assert rate(train, 0) == pytest.approx(8e-7)
    assert rate(train, 6) == pytest.approx(2.9856e-4, rel=1e-4)
    assert rate(train, 36) == pytest.approx(0, abs=1e-12)
    rates = [rate(train, step / STEPS) for step in range(train.epochs * STEPS)]
    assert max(rates) < 1.02 * rate(train, 6) and rates.index(max(rates)) == 6 * STEPS - 1

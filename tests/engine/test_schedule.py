from __future__ import annotations

import math

import pytest
import torch

from vidinit.config import TrainConfig
from vidinit.engine.optimizer import lr_factor, make_optimizer, peak_lr, set_lr


def rates(config: TrainConfig, per_epoch: int) -> list[float]:
    steps = range(config.epochs * per_epoch)
    return [config.lr * lr_factor(step, per_epoch, config) for step in steps]


def test_cosine_with_a_warm_up_from_zero():
    config = TrainConfig(lr=1, epochs=10, warmup_epochs=2)
    values = rates(config, 5)
    assert values[:10] == [(i + 1) / 11 for i in range(10)]
    assert values[10] == 1.0 and values[30] == pytest.approx(0.5) and 0 < values[-1] < 0.01
    assert values[10:] == [0.5 * (1 + math.cos(math.pi * (i - 10) / 40)) for i in range(10, 50)]


def test_cosine_between_given_rates():
    """VideoMAE's line from the warm-up's rate at step 0, and its cosine to the least one."""
    config = TrainConfig(lr=5e-4, epochs=10, warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5)
    values = rates(config, 5)
    assert values[0] == pytest.approx(1e-6)
    assert values[5] == pytest.approx((1e-6 + 5e-4) / 2)
    assert values[10] == 5e-4 and values[30] == pytest.approx((5e-4 + 1e-5) / 2)
    assert config.lr * lr_factor(50, 5, config) == pytest.approx(1e-5)


def test_steps():
    config = TrainConfig(lr=1, epochs=9, schedule="step", step_epochs=3)
    assert [lr_factor(s, 4, config) for s in (0, 11, 12, 35)] == pytest.approx([1, 1, 0.1, 0.01])
    assert lr_factor(7, 4, TrainConfig(schedule="constant")) == 1.0
    # TimeSformer's: 1, 0.1 and 0.01 from epochs 0, 11 and 14 of 15.
    config = TrainConfig(lr=1, epochs=15, schedule="step", lr_steps=[11, 14])
    by_epoch = [1.0] * 11 + [0.1] * 3 + [0.01]
    assert rates(config, 2) == pytest.approx([rate for rate in by_epoch for _ in range(2)])
    config = TrainConfig(lr=1, epochs=2, schedule="step", lr_steps=[0.5, 1.5], lr_gamma=0.5)
    assert rates(config, 4) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def mmcv(config: TrainConfig, per_epoch: int, epoch: int, iteration: int) -> float:
    """CosineAnnealing by epoch with a linear warm-up by iteration, as its code goes."""
    low = config.min_lr
    regular = low + (config.lr - low) * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    done = epoch * per_epoch + iteration
    warmup = config.warmup_epochs * per_epoch
    if done >= warmup:
        return regular
    missing = (1 - done / warmup) * (1 - config.warmup_lr / config.lr)
    return regular * (1 - missing)


def test_by_epoch_is_mmcvs_schedule():
    """Fine-tuning of the STS paper: 50 epochs, 5 of warm-up from a tenth of the rate."""
    config = TrainConfig(lr=0.02, epochs=50, warmup_epochs=5, warmup_lr=0.002, by_epoch=True)
    wanted = [mmcv(config, 7, epoch, i) for epoch in range(50) for i in range(7)]
    assert rates(config, 7) == pytest.approx(wanted)
    assert wanted[0] == pytest.approx(0.002) and len(set(wanted[35:42])) == 1
    config = TrainConfig(lr=1, epochs=4, schedule="step", lr_steps=[1.5], by_epoch=True)
    assert rates(config, 2) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])


def test_dist():
    """Its three rates: 36 epochs, cosine from epoch 0, 6 of warm-up, new layers at ten times.

    DiST moves the rate step by step, and its warm-up is one straight line from 8e-8 up to the
    cosine's value at epoch 6; here the rate stays for an epoch, and the line is bent by the cosine
    of the epochs it goes through, by at most 7 %. At epochs 0, 6 and 36 they are the same.
    """
    config = TrainConfig(
        lr=3.2e-5, epochs=36, warmup_epochs=6, warmup_lr=8e-8, by_epoch=True, head_lr_scale=10
    )
    per_epoch = 4
    base = config.lr * config.head_lr_scale

    def rate(epoch: int) -> float:
        return base * lr_factor(epoch * per_epoch, per_epoch, config)

    assert rate(0) == pytest.approx(8e-7)
    assert rate(6) == pytest.approx(2.9856e-4, abs=1e-8)
    assert rate(36) == pytest.approx(0, abs=1e-12)
    for epoch in range(1, 6):
        straight = 8e-7 + (rate(6) - 8e-7) * epoch / 6
        assert straight <= rate(epoch) < 1.07 * straight


def test_rates_scale_with_the_batch():
    assert peak_lr(0.1, None, 512) == 0.1
    config = TrainConfig(lr=5e-4, lr_batch=256, min_lr=1e-6, warmup_lr=1e-6, warmup_epochs=5)
    peak = peak_lr(config.lr, config.lr_batch, 384)
    assert peak == pytest.approx(7.5e-4)
    # The least rate and the warm-up's are scaled alike.
    assert peak * lr_factor(0, 10, config) == pytest.approx(1.5e-6)
    assert peak * lr_factor(100, 10, config) == pytest.approx(1.5e-6)


def test_set_lr_keeps_the_ratios_of_the_groups():
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.4)]
    optimizer = make_optimizer(groups, TrainConfig(lr=0.1))
    for factor in (0.5, 0.1, 1.0):
        set_lr(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
            [0.1 * factor, 0.4 * factor]
        )

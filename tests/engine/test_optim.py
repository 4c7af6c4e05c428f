from __future__ import annotations

import pytest
import torch
from support import MODEL

import vidinit
from vidinit.config import TrainConfig
from vidinit.engine.optim import lr_factor, make_optimizer, parameter_groups, set_lr
from vidinit.tasks.classify import ClassifyTask


def test_every_parameter_is_in_one_group_with_its_rate_and_decay():
    task = ClassifyTask(vidinit.create_model(MODEL, num_classes=3))
    config = TrainConfig(lr=0.1, head_lr_scale=2, temporal_lr_scale=20, weight_decay=0.05)
    groups = parameter_groups(
        task, config, heads=task.head_parameters(), temporal=task.temporal_parameters()
    )
    rates: dict[int, tuple[float, float]] = {}
    for group in groups:
        for parameter in group["params"]:
            assert id(parameter) not in rates
            rates[id(parameter)] = (group["lr"], group["weight_decay"])
    assert len(rates) == len(list(task.parameters()))
    temporal = task.temporal_parameters()
    for name, parameter in task.named_parameters():
        scale = 2 if ".head." in name else 20 if name in temporal else 1
        decay = 0.05 if parameter.dim() > 1 else 0.0
        assert rates[id(parameter)] == (pytest.approx(0.1 * scale), decay), name


def test_schedules():
    cosine = TrainConfig(epochs=10, warmup_epochs=2)
    values = [lr_factor(step, 5, cosine) for step in range(50)]
    assert values[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert values[10] == 1.0 and values[30] == pytest.approx(0.5) and 0 < values[-1] < 0.01
    assert values[10:] == sorted(values[10:], reverse=True)
    step = TrainConfig(epochs=9, schedule="step", step_epochs=3)
    assert [lr_factor(s, 4, step) for s in (0, 11, 12, 35)] == pytest.approx([1, 1, 0.1, 0.01])
    assert lr_factor(7, 4, TrainConfig(schedule="constant")) == 1.0


def test_set_lr_keeps_the_ratios_of_the_groups():
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.4)]
    optimizer = make_optimizer(groups, TrainConfig(lr=0.1))
    for factor in (0.5, 0.1, 1.0):
        set_lr(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
            [0.1 * factor, 0.4 * factor]
        )

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from vidinit.engine import resume
from vidinit.engine.averages import MovingAverage
from vidinit.engine.resume import Progress


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    made[3].weight.requires_grad_(False)
    return made


def train(module: nn.Module, average: MovingAverage, steps: int) -> list[dict[str, torch.Tensor]]:
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(5, 3, 2, 2)).square().sum().backward()
        optimizer.step()
        average.update()
        seen.append(values(module))
    return seen


def values(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_averages_are_the_weighted_sum_of_the_weights():
    module = net(0)
    start = values(module)
    average = MovingAverage(module, 0.75)
    seen = train(module, average, 3)
    with average.applied():
        found = values(module)
    for name, parameter in module.named_parameters():
        wanted = start[name]
        for weights in seen:
            wanted = 0.75 * wanted + 0.25 * weights[name]
        torch.testing.assert_close(found[name], wanted)
        assert torch.equal(found[name], parameter) != parameter.requires_grad
    assert not torch.equal(seen[-1]["0.weight"], start["0.weight"])
    for name, buffer in module.named_buffers():  # batch norms' statistics are the module's own
        assert torch.equal(found[name], buffer)


def test_the_module_is_as_before_after_its_averages_were_applied():
    module = net(0)
    average = MovingAverage(module, 0.9)
    train(module, average, 2)
    before, averages = values(module), {k: v.clone() for k, v in average.state_dict().items()}
    with pytest.raises(ZeroDivisionError), average.applied():
        module[1].running_mean.add_(1)  # what evaluation may do to the statistics
        with pytest.raises(RuntimeError, match="averages for weights"):
            average.update()
        with pytest.raises(RuntimeError, match="averages for weights"):
            average.state_dict()
        raise ZeroDivisionError
    assert same(values(module), before) and same(average.state_dict(), averages)


def test_a_checkpoint_brings_the_averages_back_to_the_bit(tmp_path: Path):
    def start(seed: int) -> tuple[nn.Module, MovingAverage, Accelerator]:
        module = net(seed)
        accelerator = Accelerator(cpu=True)
        module = accelerator.prepare(module)
        return module, MovingAverage(module, 0.9), accelerator

    module, average, accelerator = start(0)
    train(module, average, 2)
    resume.save(accelerator, tmp_path, Progress(step=2), average=average)
    other, restored, accelerator = start(1)
    assert not same(restored.state_dict(), average.state_dict())
    resume.restore(accelerator, tmp_path, restored)
    assert same(restored.state_dict(), average.state_dict())
    for one, its in ((module, average), (other, restored)):  # and they go on alike
        torch.manual_seed(2)
        train(one, its, 2)
    assert same(values(other), values(module))
    assert same(restored.state_dict(), average.state_dict())


def test_averages_of_another_network_are_refused():
    state = MovingAverage(net(0), 0.9).state_dict()
    del state["0.bias"]
    with pytest.raises(KeyError, match=r"0\.bias"):
        MovingAverage(net(0), 0.9).load_state_dict(state)

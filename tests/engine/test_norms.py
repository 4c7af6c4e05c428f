from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vidinit
from vidinit.engine.norms import precise_statistics
from vidinit.zoo.base import VideoModel
from vidinit.zoo.plans.inflate import InflatedNet

SIZE = (2, 3, 2, 32, 32)


class Alone:
    """What the function needs of an accelerator, for one process."""

    def autocast(self) -> Any:
        return contextlib.nullcontext()

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        self.last = tensor.clone()
        return tensor


class WithAnother(Alone):
    """Two processes, of which the other has sums already."""

    def __init__(self, other: Tensor) -> None:
        self.other = other

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return super().reduce(tensor, reduction) + self.other


def network(seed: int = 0) -> VideoModel:
    torch.manual_seed(seed)
    return vidinit.create_model("c2d-resnet10t", num_classes=3)


def clips(count: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Batches of different means: the spread of the means is part of the variance.
    return [torch.randn(SIZE, generator=generator) + i for i in range(count)]


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k or "num_b" in k}


def test_statistics_are_those_of_all_values():
    model, batches = network(), clips(3)
    seen: dict[str, list[Tensor]] = {}
    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    handles = [
        norm.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].detach().double())
        )
        for name, norm in norms.items()
    ]
    precise_statistics(model, batches, Alone())
    for handle in handles:
        handle.remove()
    assert len(norms) > 10 and seen.keys() == norms.keys()
    for name, norm in norms.items():
        values = torch.cat(seen[name]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean.double(), values.mean(1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), values.var(1), rtol=1e-5, atol=1e-6)
    # Inputs of the norms are those of training: normalized by the moments of their own batch.
    model.eval()
    assert not torch.allclose(model(batches[0]), model.train()(batches[0]), atol=1e-3)


def test_nothing_else_changes():
    model = network()
    model.dropout.p = 0.9
    model.train()
    model.trunk.layer1.eval()
    model.trunk.layer2.requires_grad_(False)  # frozen norms keep their statistics
    model.trunk.layer2[0].conv1.weight.requires_grad_(True)
    before = statistics(model)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    modes = {n: m.training for n, m in model.named_modules()}
    needs = {n: p.requires_grad for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    precise_statistics(model, clips(2), Alone())
    assert torch.equal(torch.get_rng_state(), state)  # no dropout, no drop path
    assert modes == {n: m.training for n, m in model.named_modules()}
    assert needs == {n: p.requires_grad for n, p in model.named_parameters()}
    assert all(torch.equal(p, weights[n]) and p.grad is None for n, p in model.named_parameters())
    for key, value in statistics(model).items():
        moved = not torch.equal(value, before[key])
        assert moved == ("running" in key and ".layer2." not in key), key


def test_processes_are_averaged():
    one, two = network(), network()
    both = network()
    mine, others = clips(2, seed=1), clips(2, seed=2)
    alone = Alone()
    precise_statistics(one, others, alone)
    precise_statistics(two, mine, WithAnother(alone.last))
    precise_statistics(both, mine + others, Alone())
    for key, value in statistics(both).items():
        torch.testing.assert_close(statistics(two)[key], value)


def test_no_batches_and_no_norms():
    model = network()
    before = statistics(model)
    precise_statistics(model, [], Alone())
    assert all(torch.equal(value, before[key]) for key, value in statistics(model).items())

    def unread() -> Any:
        raise AssertionError("batches were read for nothing")
        yield

    precise_statistics(InflatedNet(nn.Linear(4, 4), 4, 2), unread(), Alone())


@pytest.mark.slow
def test_two_processes():
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launcher, __file__], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal in 2 processes") == 2


def _check_in_process() -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, single = network(), network()
    precise_statistics(model, clips(2, seed=accelerator.process_index), accelerator)
    precise_statistics(single, clips(2, seed=0) + clips(2, seed=1), Alone())
    for key, value in statistics(single).items():
        torch.testing.assert_close(statistics(model)[key], value)
    print(f"equal in {accelerator.num_processes} processes", flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _check_in_process()

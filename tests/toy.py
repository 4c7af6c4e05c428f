"""A model small enough to save a hundred times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def make(width: int = 8, *, seed: int = 0) -> tuple[Any, Callable[[], None]]:
    """An accelerator with a model and Adam in it, and what takes a step with random data."""
    torch.manual_seed(seed)
    AcceleratorState._reset_state()  # an earlier run of this process may have been in bf16
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(width, width)
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        accelerator.backward(model(torch.randn(2, width)).square().mean())
        optimizer.step()

    return accelerator, step


def weights(accelerator: Any) -> torch.Tensor:
    return accelerator._models[0].state_dict()["weight"].clone()

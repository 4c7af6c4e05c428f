"""Runs that are shown while time stands still."""

from __future__ import annotations

import io
from collections.abc import Iterator

import torch

from vidinit.engine.live import Live

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def batches(self, *waits: float) -> Iterator[int]:
        for index, wait in enumerate(waits):
            self.now += wait
            yield index


class Terminal(io.StringIO):
    """To be put in the place of stderr inside a test: before it, pytest puts its own there."""

    def isatty(self) -> bool:
        return True


def losses(value: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(value, requires_grad=True)}


def train(live: Live, clock: Clock, waits: list[float], work: float, number: int = 1) -> None:
    with live.epoch(number) as epoch:
        for index in epoch.batches(clock.batches(*waits)):
            clock.now += work
            epoch.step(losses(float(index)), lr=0.01, clips=8)

"""What every task is: a module from a batch to named losses, around one video model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ..zoo.base import VideoModel
from ..zoo.freezing import hold_frozen_norms


class Task(nn.Module, ABC):
    """A video model with what it takes to train it.

    A task owns its heads and nothing else; the loop minimizes the sum of its losses.

    Args:
        model: the video model, ``model`` in the names of parameters.
    """

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by name."""

    def train(self, mode: bool = True) -> Task:
        """Train mode, but for norms that are frozen."""
        super().train(mode)
        hold_frozen_norms(self)
        return self

    def head_parameters(self) -> set[str]:
        """Names of the parameters of all heads."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.startswith(("model.head.", "heads."))
        }

    def temporal_parameters(self) -> set[str]:
        """Names of the parameters of temporal kernels."""
        return {f"model.{name}" for name in self.model.temporal_parameters()}

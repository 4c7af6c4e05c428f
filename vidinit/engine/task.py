"""The base class of tasks: a module from a batch to named losses, around one video model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..zoo.base import VideoModel
from ..zoo.modify.freezing import hold_frozen_norms


class Rates(NamedTuple):
    """Peak learning rate and weight decay of a parameter; None for those of the configuration."""

    lr: float | None = None
    weight_decay: float | None = None


class Task(nn.Module, ABC):
    """A video model with what it takes to train it.

    A task owns its heads and nothing else; the loop minimizes the sum of its losses.

    Args:
        model: the video model, ``model`` in the names of parameters.

    Attributes:
        right: of the clips of the last batch, the share that was classified right, scalar tensors
            by metric; empty where a task does not classify, or clips were mixed.
    """

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model
        self.right: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by name."""

    def train(self, mode: bool = True) -> Task:
        """Train mode, but for norms that are frozen."""
        super().train(mode)
        hold_frozen_norms(self)
        return self

    def frozen_networks(self) -> list[nn.Module]:
        """Frozen networks on the device that are no part of the task, teachers for instance."""
        return []

    def head_parameters(self) -> set[str]:
        """Names of the parameters of all heads."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.startswith(("model.head.", "heads."))
        }

    def classifiers(self) -> dict[str, nn.Module]:
        """The modules that return logits, by name; the model's own head has none."""
        heads = {name.rpartition(".")[0] for name in self.head_parameters()}
        return {
            "" if name == "model.head" else name.rpartition(".")[2]: self.get_submodule(name)
            for name in sorted(heads)
        }

    def own_rates(self) -> dict[str, Rates]:
        """Rates that the configuration sets for single parameters, by name."""
        return {}

    def temporal_parameters(self) -> set[str]:
        """Names of the parameters of temporal kernels."""
        return {f"model.{name}" for name in self.model.temporal_parameters()}

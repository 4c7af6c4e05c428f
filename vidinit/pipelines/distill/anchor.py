"""A penalty that keeps temporal kernels near their start.

"L2-SP" of Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks",
ICML 2018, https://arxiv.org/abs/1802.01483, for the kernels that look across time alone: single
frames' targets give them little to learn but that time does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...zoo.base import VideoModel
from ..shared.heads import module_keys


class TemporalAnchor(nn.Module):
    """a / 2 * sum over temporal parameters of |w - w_start|^2.

    The start goes into checkpoints, so that a run that goes on is held by what the first part of it
    began with.

    Args:
        model: as it is when training starts.
        strength: a.

    Raises:
        UsageError: the model has no temporal parameters.
    """

    def __init__(self, model: VideoModel, strength: float) -> None:
        super().__init__()
        self.strength = strength
        names = sorted(model.temporal_parameters())
        if not names:
            raise UsageError(
                f"distill.temporal_anchor={strength:g}: {model.name} has no temporal kernels",
                "leave it out",
            )
        self._keys = module_keys(names)
        parameters = dict(model.named_parameters())
        for name in names:
            self.register_buffer(self._keys[name], parameters[name].detach().clone())

    def forward(self, model: VideoModel) -> Tensor:
        """The penalty of a model with these parameters."""
        parameters = dict(model.named_parameters())
        apart = [
            (parameters[name].float() - self.get_buffer(key).float()).square().sum()
            for name, key in self._keys.items()
        ]
        return self.strength / 2 * torch.stack(apart).sum()

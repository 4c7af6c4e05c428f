"""transformers' video models as peers for `models.py`: same clips in, logits out."""

from __future__ import annotations

import types
from collections.abc import Callable

from torch import Tensor, nn


def timesformer(frames: int, size: int, classes: int = 400) -> Callable[[], nn.Module]:
    """A constructor of TimeSformer-B/16, as its class ships, with weights that all matter.

    Its blocks take the number of frames from the configuration, and its own random weights leave
    biases and embeddings at zero.
    """

    def make() -> nn.Module:
        from torch.nn.init import normal_
        from transformers import TimesformerConfig, TimesformerForVideoClassification

        config = TimesformerConfig(num_frames=frames, image_size=size, num_labels=classes)
        peer = TimesformerForVideoClassification(config)
        for parameter in peer.parameters():
            if parameter.dim() == 1 or not parameter.any():
                normal_(parameter, mean=parameter.detach().mean().item(), std=0.05)
        peer.forward = types.MethodType(_logits, peer)  # type: ignore[method-assign]
        return peer

    return make


def _logits(peer: nn.Module, clip: Tensor) -> Tensor:
    """(B, 3, T, H, W) to logits: there frames come before channels, and logits in an object."""
    out: Tensor = type(peer).forward(peer, clip.transpose(1, 2)).logits
    return out

"""Videos against text embeddings: logits of classes that no head was trained for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..zoo.dist_network.model import LOGIT_SCALE

if TYPE_CHECKING:
    from ..zoo.base import VideoModel
    from ..zoo.dist_network.model import DistModel


def has_text_head(model: nn.Module) -> TypeGuard[DistModel]:
    """True for a model that takes text embeddings in place of a linear head."""
    return hasattr(model, "set_text")


class ZeroShot(nn.Module):
    """A model whose embedding of a clip is compared with text embeddings.

    Of a model that returns the mean of its frames' embeddings in the space of image and text
    (``c2d`` made from CLIP) this is the frame-averaged baseline. Of DiST it is the video embedding,
    with ``ensemble`` as in its zero-shot path (arXiv 2309.07911):
    ``(1 - ensemble) * DiST's logits + ensemble * mean over frames of the tower's logits``.

    Args:
        model: in eval mode.
        table: unit text embeddings (K, J).
        ensemble: share of the image tower's logits, 0 to 1.
    """

    table: Tensor

    def __init__(self, model: VideoModel, table: Tensor, ensemble: float = 0.0) -> None:
        super().__init__()
        self.model, self.ensemble = model, ensemble
        self.register_buffer("table", table, persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalized clips to logits (B, K), float32."""
        if not has_text_head(self.model):
            return self._logits(F.normalize(self.model(clip).float(), dim=-1))
        if not self.ensemble:
            return self._logits(F.normalize(self.model.embed(clip).float(), dim=-1))
        video, frames = self.model.embed_both(clip)
        own = self._logits(F.normalize(video.float(), dim=-1))
        # A mean of unit vectors: its products are the mean of the frames' cosines.
        return torch.lerp(own, self._logits(frames.float()), self.ensemble)

    def _logits(self, embeddings: Tensor) -> Tensor:
        # bfloat16 has steps of 0.125 where the logits are: larger than what tells classes apart.
        with torch.autocast(embeddings.device.type, enabled=False):
            return LOGIT_SCALE * embeddings @ self.table.mT

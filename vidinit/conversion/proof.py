"""The proof of a conversion: on a still clip the video model equals the image model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..zoo.base import VideoModel
from ..zoo.modify.eval_mode import in_eval_mode

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Proof:
    """Measurements of the still-clip check.

    Attributes:
        max_difference: largest difference of two logits, video against image.
        scale: largest logit of the image model, for comparison.
        spread: largest difference between two images' logits: where it is no larger than
            ``max_difference``, the check says little.
        frames: length of the clip.
        size: side of the frame in pixels.
        isolated: of a frozen tower, whose blocks' outputs are compared in place of logits: True
            where no gradient reached it, and all of the side network that is read got one.
    """

    max_difference: float
    scale: float
    spread: float
    frames: int
    size: int
    isolated: bool | None = None

    @property
    def exact(self) -> bool:
        """True where the difference is rounding: below 1e-4, or 1e-4 of the largest logit.

        Of a frozen tower: where there is none, and the tower is isolated.
        """
        if self.isolated is not None:
            return self.max_difference == 0.0 and self.isolated
        return self.max_difference < TOLERANCE * max(1.0, self.scale)


def still_frames(count: int, size: int) -> Tensor:
    """Normalized test frames (count, 3, size, size): smooth blobs plus grain, always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return smooth + 0.2 * torch.randn(count, 3, size, size, generator=generator)


@torch.no_grad()
def prove(
    image_model: nn.Module,
    video_model: VideoModel,
    device: torch.device | str = "cpu",
    count: int = 2,
) -> Proof:
    """Compare logits on clips made of one repeated frame, in eval mode and float32, as converted.

    Of an image network without a classifier (``num_classes`` of 0) the features are compared. Both
    models end up on the CPU.

    Args:
        image_model: takes (N, 3, S, S), returns logits (N, classes).
        video_model: the converted model; its `spec` gives frames and size.
        device: where to compute.
        count: number of different frames.
    """
    image_model.to(device).eval()
    video_model.to(device)
    frames, size = video_model.spec.frames, video_model.spec.size
    images = still_frames(count, size).to(device)
    want = image_model(images)
    clips = images.unsqueeze(2).expand(-1, -1, frames, -1, -1)
    has_logits = getattr(image_model, "num_classes", 1) != 0
    with in_eval_mode(video_model):
        got = video_model(clips) if has_logits else video_model.embed(clips)
    image_model.cpu()
    video_model.cpu()
    difference = float((got - want).abs().max())
    spread = float((want[0] - want[-1]).abs().max())
    return Proof(difference, float(want.abs().max()), spread, frames, size)

"""``aim``: a frozen vision transformer whose attention looks over time, too, with adapters.

Yang et al., "AIM: Adapting Image Models for Efficient Video Action Recognition", ICLR 2023,
https://arxiv.org/abs/2302.03024; the block: `vidinit.zoo.adapters.blocks.TimeBlock`. Every adapter
starts at zero: a new model's logits are the mean of the image network's over the frames, on any
clip. The network's last norm is trained.
"""

from __future__ import annotations

from torch import nn

from ...errors import UsageError
from ..adapters.blocks import DROP, Bottleneck, TimeBlock
from ..adapters.model import AdapterModel, adapt, adaptable, trained_norm
from ..folding import FrameCount
from ..modify.drop_path import ClipDropPath
from .plan import Plan


def aim(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    scale: float = 0.5,
    time_adapters: int = 1,
) -> AdapterModel:
    """Let the attention of a frozen vision transformer look over time, with adapters around it.

    Args:
        image_model: a timm vision transformer without classifier; it becomes the frozen tower.
        num_classes: size of the new head.
        cut: which blocks look over time: ``all``, ``top:K`` (the last K) or ``bottom:K``.
        scale: of the adapter beside the MLP; published: 0.5, and 1 for Something-Something.
        time_adapters: 1, behind the attention over time, or 2, before it too (published for ViT-B
            on Something-Something).

    Returns:
        The model with `origins` filled.

    Raises:
        UsageError: for other networks, with the reason.
    """
    if time_adapters not in (1, 2):
        raise UsageError(f"time_adapters={time_adapters}: there are 1 or 2 in a block", "use 1")
    adaptable(image_model, "aim")
    places = ("time", "time_in", "space", "mlp") if time_adapters == 2 else ("time", "space", "mlp")
    width = int(image_model.embed_dim)  # type: ignore[arg-type]

    def adapted(number: int, block: nn.Module, frames: FrameCount) -> TimeBlock:
        own = nn.ModuleDict({place: Bottleneck(width, gelu=True) for place in places})
        own[DROP] = ClipDropPath(frames)
        return TimeBlock(block, own, frames, scale)

    return adapt(
        image_model,
        "aim",
        cut,
        num_classes,
        adapted,
        averaged="descriptors",
        time_embed=True,
        in_time=("time", "time_in"),
        zeros=r"^time_embed$|\.up\.",
        trained=trained_norm(image_model),
    )


PLAN = Plan(aim, frozen_tower=True)

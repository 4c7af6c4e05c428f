"""``st-adapter``: small kernels over space and time on the stream of a frozen vision transformer.

Pan et al., "ST-Adapter: Parameter-Efficient Image-to-Video Transfer Learning", NeurIPS 2022,
https://arxiv.org/abs/2206.13559; the block: `vidinit.zoo.adapters.blocks.ClipAdapterBlock`. Kernels
start at zero: a new model is the image network on any clip, to the bit, with the frames averaged
where it reads a class token, in front of the last norm.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import UsageError
from ..adapters.blocks import ClipAdapter, ClipAdapterBlock
from ..adapters.model import AdapterModel, adapt, adaptable
from ..folding import FrameCount
from ..names import check_option
from .plan import Plan

PLACES = ("both", "mlp")


def st_adapter(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    width: int = 384,
    kernel: str | tuple[int, int, int] = "3,1,1",
    places: str = "both",
    unread: bool = False,
) -> AdapterModel:
    """Put adapters with kernels over the clip on the patches of a frozen vision transformer.

    Where a class token is all that the head reads, patches behind the last attention are read by
    nobody, and the adapter before the last MLP is left out; the official code has it, untrained.

    Args:
        image_model: a timm vision transformer without classifier; it becomes the frozen tower.
        num_classes: size of the new head.
        cut: which blocks get adapters: ``all``, ``top:K`` (the last K) or ``bottom:K``.
        width: of the bottleneck.
        kernel: its frames, height and width, odd: ``3,1,1``.
        places: ``both``, before attention and MLP (published for Something-Something), or ``mlp``
            alone (for Kinetics).
        unread: have the adapter that nobody reads, as published files do; it is not trained.

    Returns:
        The model with `origins` filled.

    Raises:
        UsageError: for other networks, with the reason, and for numbers that make no kernel.
    """
    check_option("places", places, PLACES)
    adaptable(image_model, "st-adapter")
    sides = _sides(kernel)
    if width < 1:
        raise UsageError(f"width must be at least 1, not {width}")
    vit: Any = image_model
    dead = (len(vit.blocks) - 1, "before_mlp") if vit.global_pool == "token" else None

    def adapted(number: int, block: nn.Module, frames: FrameCount) -> ClipAdapterBlock:
        own = nn.ModuleDict()
        for place in ("before_mlp",) if places == "mlp" else ("before_attention", "before_mlp"):
            is_dead = (number, place) == dead
            if unread or not is_dead:
                own[place] = ClipAdapter(int(vit.embed_dim), width, sides, frames, unread=is_dead)
        return ClipAdapterBlock(block, own, frames)

    model = adapt(
        image_model,
        "st-adapter",
        cut,
        num_classes,
        adapted,
        averaged="tokens",
        time_embed=False,
        in_time=("before_attention", "before_mlp"),
        zeros=r"\.conv\.",
    )
    if not any(p.requires_grad for p in model.adapters.parameters()):
        raise UsageError(
            f"cut {cut} with places={places} leaves no adapter that the head would see",
            "use places=both, or a larger cut",
        )
    return model


def _sides(kernel: str | tuple[int, int, int]) -> tuple[int, int, int]:
    """``3,1,1`` as numbers; UsageError for other text."""
    parts = kernel.split(",") if isinstance(kernel, str) else kernel
    try:
        time, height, width = (int(part) for part in parts)
    except ValueError:
        time = height = width = 0
    if any(side < 1 or side % 2 == 0 for side in (time, height, width)):
        raise UsageError(
            f"kernel={kernel} is no kernel of odd frames, height and width", "write it like 3,1,1"
        )
    return time, height, width


PLAN = Plan(st_adapter, frozen_tower=True)

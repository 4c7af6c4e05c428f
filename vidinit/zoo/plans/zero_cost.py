"""``zero-cost``: heads of a frozen vision transformer that look at neighboring frames.

ZeroI2V: Li et al., "ZeroI2V: Zero-Cost Adaptation of Pre-trained Transformers from Image to Video",
ECCV 2024, https://arxiv.org/abs/2310.01324; the block: `vidinit.zoo.adapters.blocks.ShiftedBlock`.
Linear adapters start at zero, and the heads look at other frames from the start: a new model is the
image network on a still clip. Its adapters can be merged into the network (`convert --merge`),
which leaves the image network's parameters and multiply-adds. The last norm is trained.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import UsageError
from ..adapters.attention import default_shift, read_shift, why_not_shifted
from ..adapters.blocks import Bottleneck, ShiftedBlock
from ..adapters.model import AdapterModel, adapt, adaptable, trained_norm
from ..adapters.tower import arch_of
from ..folding import FrameCount
from .plan import Plan

PLACES = ("attention_in", "attention_out", "mlp_in", "mlp_out")


def zero_cost(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    scale: float = 0.5,
    shift: str | None = None,
    dropout: float = 0.1,
    merged: bool = False,
) -> AdapterModel:
    """Let heads of a frozen vision transformer look at neighboring frames, with linear adapters.

    Args:
        image_model: a timm vision transformer without classifier; it becomes the frozen tower.
        num_classes: size of the new head.
        cut: which blocks look at other frames: ``all``, ``top:K`` (the last K) or ``bottom:K``.
        scale: of the adapters; published: 0.5, and 1 for Something-Something.
        shift: frame offsets and how many heads have each, ``-1:1,+1:1``; default: the published
            one for Kinetics-400, an eighth of the heads each way, one of 12.
        dropout: inside the adapters in training; published: 0.1, and 0 for ViT-B on
            Something-Something.
        merged: without adapters, as `convert --merge` leaves it.

    Returns:
        The model with `origins` filled.

    Raises:
        UsageError: for other networks, with the reason, and for a shift of more heads than it has.
    """
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout={dropout} is no share below 1", "use 0.1, or 0 for none")
    adaptable(image_model, "zero-cost")
    vit: Any = image_model
    reason = next((why for b in vit.blocks if (why := why_not_shifted(b.attn))), "")
    if reason:
        raise UsageError(f"{arch_of(vit)} cannot take the plan zero-cost: {reason}")

    def adapted(number: int, block: nn.Module, frames: FrameCount) -> ShiftedBlock:
        heads = int(vit.blocks[number].attn.num_heads)
        shifts = read_shift(default_shift(heads) if shift is None else shift, heads)
        own = nn.ModuleDict()
        for place in () if merged else PLACES:
            own[place] = Bottleneck(int(vit.embed_dim), gelu=False, dropout=dropout)
        return ShiftedBlock(block, own, frames, shifts, scale)

    return adapt(
        image_model,
        "zero-cost",
        cut,
        num_classes,
        adapted,
        averaged="descriptors",
        time_embed=True,
        in_time=("attention_in",),
        zeros=r"^time_embed$|\.up\.",
        trained=trained_norm(image_model),
    )


PLAN = Plan(zero_cost, frozen_tower=True)

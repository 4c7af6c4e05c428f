"""``c2d``: no temporal kernels, each frame by itself, the mean of their features at the end.

So any network that makes one vector of an image will do, vision transformers included. The C2D of
the I3D and SlowFast line (Wang et al., "Non-local Neural Networks", 2018) has a temporal pool too.
"""

from __future__ import annotations

from torch import nn

from .inflate import InflatedNet, Inflation
from .plan import Plan


def c2d(image_model: nn.Module, *, num_classes: int, pool: bool = False) -> InflatedNet:
    """Run an image network frame by frame.

    Args:
        image_model: timm network without classifier; it becomes the trunk.
        num_classes: size of the new head.
        pool: a 2x1x1 max-pool after the first stage, on ResNets only.

    Raises:
        UsageError: for a network that does not make one vector of an image, and for a pool without
            a stage it could stand behind.
    """
    work = Inflation("c2d", image_model, num_classes, any_network=True)
    if pool:
        work.add_pool()
    return work.finish()


PLAN = Plan(c2d, no_cut="plan c2d has no layer that sees time")

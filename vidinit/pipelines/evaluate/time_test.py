"""Which models are asked whether their data needs time, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ...checkpoint import with_mean_pool
from ...config.probe_text import LINEAR, SOLVED
from ...console import say
from ...text.compare import ZeroShot, has_text_head
from ...zoo.adapters.tower_model import TowerModel
from ...zoo.base import VideoModel
from ...zoo.dist_network.model import TextHead
from ...zoo.spec import ClipSpec


def has_frozen_trunk(model: VideoModel) -> bool:
    """True for a model that a frozen trunk, or an image network frame by frame, is the body of."""
    probed = bool(model.lineage) and "probe" in model.lineage[-1]
    return isinstance(model, TowerModel) or probed or model.name.startswith("c2d-")


def has_order(spec: ClipSpec) -> bool:
    """True for clips of more than one frame, that is also of whole videos."""
    return spec.frames > 1 or spec.sampling == "all"


def is_mean_pool(model: VideoModel) -> bool:
    """True for a model that classifies by the mean of its trunk's features itself."""
    probe = str(model.lineage[-1].get("probe", "")) if model.lineage else ""
    linear = probe.startswith((LINEAR, *SOLVED))
    return model.pooler is None and (linear or model.name.startswith("c2d-"))


def mean_pool_beside(classifier: nn.Module, model: VideoModel, ref: str) -> nn.Module | None:
    """A classifier of the mean of the same trunk's features; None where there is none.

    Of a probe's folder it is the linear head that was trained beside; of DiST with text embeddings
    the tower's own embeddings of the frames.

    Args:
        classifier: that is scored.
        model: the video model in it.
        ref: the folder it is from.
    """
    if isinstance(classifier, ZeroShot):
        return ZeroShot(model, classifier.table, 1.0) if has_text_head(model) else None
    if isinstance(model.head, TextHead):
        return ZeroShot(model, model.head.get_buffer("embeddings"), 1.0)
    return with_mean_pool(model, ref)


def say_cost(passes: Sequence[str]) -> None:
    """Tell what a time test costs, and how to do without.

    Args:
        passes: what the clips are shown to beside what was asked for, in words.
    """
    if passes:
        plural = "es" if len(passes) > 1 else ""
        say(
            f"does it need time? {len(passes)} more pass{plural} over the clips: "
            f"{', '.join(passes)} (eval.time_test=false: none)"
        )

"""A temporal plan as the rest of the library sees it, and how it is found by its name.

`vidinit.zoo.names.PLANS` has one line for each plan: its name, its file in this folder, its help.
The file holds a builder and a `Plan`, under the name ``PLAN``, which says how the builder is to be
used. Nothing else in the library knows a plan by its name.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..names import CLASSES, PLANS

if TYPE_CHECKING:
    from ..base import VideoModel


def _always_exact(model: VideoModel) -> str:
    return ""


@dataclass(frozen=True)
class Plan:
    """A temporal plan.

    Attributes:
        build: (timm network, *, num_classes, **options) to a `VideoModel` with `origins`. It
            changes the network in place, chooses the layers, checks its options, and raises
            UsageError, with the reason, for networks that do not suit. Its keyword-only arguments
            are the plan's options, types and defaults included. Two of them names can set: ``cut``
            (``@top:2``) and, where the plan's line says so, ``gating`` (``-g``).
        no_cut: why there are no cuts, for a plan without the option ``cut``; empty for no reason
            but that it has no such option.
        why_inexact: of a converted model: why a still clip does not get the image network's logits,
            whatever the weights; empty where it does.
        keeps_classifier: True where ``build`` takes the network with its classifier, which may be a
            projection; all other plans take it without (``num_classes=0``).
        sets_clip: True where ``build`` chooses the frames and size of a clip itself; the others
            have those of their zoo entry, and the image network's size and pixel statistics.
        frozen_tower: True where the image network is frozen: the model is a `TowerModel`, whose
            folder and checkpoints name the network instead of holding it.
        proof: what a proof compares: ``logits``, or of networks that are only read the outputs of
            their ``blocks``, with a look for gradients.
        leaves_unused: True where a parameter gets no gradient in any step.
        default_classes: size of the head of a new model; 0 for none.
    """

    build: Callable[..., VideoModel]
    no_cut: str = ""
    why_inexact: Callable[[Any], str] = _always_exact
    keeps_classifier: bool = False
    sets_clip: bool = False
    frozen_tower: bool = False
    proof: Literal["logits", "blocks"] = "logits"
    leaves_unused: bool = False
    default_classes: int = CLASSES

    @property
    def options(self) -> list[str]:
        """Names of the options, in the builder's order."""
        return [name for name in keyword_options(self.build) if name != "num_classes"]


def keyword_options(build: Callable[..., VideoModel]) -> list[str]:
    """The keyword-only arguments of a builder, which are the options of what it makes."""
    parameters = inspect.signature(build).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def load_plan(name: str) -> Plan:
    """The plan of a name in `PLANS`; its file is imported now."""
    module = importlib.import_module(f".{PLANS[name].module}", __package__)
    plan: Plan = module.PLAN
    return plan

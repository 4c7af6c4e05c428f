"""How the classifier of an image network becomes the head of a video model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ..zoo.images.heads import LinearHead, head_keys, linear_head, single_layer
from ..zoo.images.networks import ImageSource, build_image_model
from ..zoo.images.torchvision_models import is_torchvision
from .table import ComputedTensor


@dataclass
class Classifier:
    """The treatment of an image network's classifier.

    Attributes:
        layer: name of the one layer that it is, which is copied; None where it is none.
        keys: its tensors, where they are computed into one linear layer.
        tokens: class tokens that must be side by side in the features for that; 0 for none.
        notes: what a user should know about it.
    """

    layer: str | None = None
    keys: Sequence[str] = ()
    tokens: int = 0
    notes: list[str] = field(default_factory=list)

    def values(self, image_model: nn.Module) -> dict[str, ComputedTensor]:
        """The head's tensors that are computed from the weights of an image network."""
        if not self.keys:
            return {}
        found = linear_head(image_model, self.keys)
        assert isinstance(found, LinearHead), found
        rule = "join-heads" if found.classifiers > 1 else "fold-norm"
        sources = tuple(self.keys)
        return {
            "head.weight": ComputedTensor(found.weight, rule, sources),
            "head.bias": ComputedTensor(found.bias, rule, sources),
        }


def read_classifier(image: ImageSource, bare: nn.Module | None = None) -> Classifier:
    """Find out what the classifier of an image network is, and take off one that is not linear.

    Args:
        image: `ImageSource.model` loses its classifier where it cannot be a linear layer on the
            features. The features are then what a proof compares.
        bare: the same network without classifier; it is built, without memory, where there is none.
    """
    arch, model = image.arch, image.model
    if not image.num_classes:
        note = f"{arch} has no classifier: features are compared, the head is random"
        return Classifier(notes=[note])
    if is_torchvision(arch):
        return Classifier("fc")
    if bare is None:
        with torch.device("meta"):
            bare = build_image_model(arch, num_classes=0)
    keys = head_keys(model, bare)
    layer = single_layer(model, keys)
    if layer:
        return Classifier(layer)
    found = linear_head(model, keys)
    if isinstance(found, str):
        model.reset_classifier(0)  # type: ignore[operator]
        return Classifier(
            notes=[
                f"the classifier of {arch} {found}: it is left out ({len(keys)} tensors), features "
                "are compared, the head is random"
            ]
        )
    return Classifier(keys=keys, tokens=found.tokens, notes=[_what_it_became(arch, found)])


def _what_it_became(arch: str, head: LinearHead) -> str:
    if head.classifiers == 1:
        return f"the norm in the classifier of {arch} is folded into the head"
    norms = ", with their norms" if head.has_norm else ""
    text = f"the {head.classifiers} classifiers of {arch} are one head here{norms}"
    if head.tokens:
        return f"{text}, on {head.tokens} class tokens side by side"
    return f"{text}, as it joins them in eval mode"

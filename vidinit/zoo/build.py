"""From a name to a model."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import UsageError, suggest
from .base import VideoModel, to_channels_last
from .image import build_image_model, clip_spec_of, timm_module
from .inflate import InflatedNet, inflate
from .names import ALIASES, ZOO, Entry, find_entry


def create_model(
    name: str, *, num_classes: int = 400, frames: int | None = None, **options: Any
) -> VideoModel:
    """A zoo model with random weights.

    Args:
        name: a zoo name (`list_models`) or ``<plan>-<timm name>``.
        num_classes: size of the head.
        frames: frames of a clip by default; the convolutional models take any number.
        options: extra arguments of the plan, ``sts=False`` for example.

    Returns:
        The model in train mode, its 4-D weights in channels_last memory. It takes normalized clips
        (B, 3, T, H, W) and returns logits (B, num_classes).

    Raises:
        UsageError: for an unknown name or option, with a suggestion.
    """
    entry = find_entry(name)
    if entry.builder is not None:
        _check_options(name, options, ())
        module, function = entry.builder.split(":")
        model: VideoModel = getattr(importlib.import_module(f".{module}", __package__), function)(
            num_classes
        )
        model.name = name
    else:
        assert entry.backbone is not None
        check_backbone(name, entry.backbone)
        image_model = build_image_model(entry.backbone, num_classes=0)
        model = assemble(image_model, entry, num_classes=num_classes, name=name, **options)
    if frames is not None:
        if frames < 1:
            raise UsageError(f"frames must be at least 1, not {frames}")
        model.spec = replace(model.spec, frames=frames)
    return to_channels_last(model)


def check_backbone(name: str, backbone: str) -> None:
    """Raise UsageError unless timm knows the image network of ``<plan>-<timm name>``.

    The suggestion looks among zoo names too: ``sts-r3d5`` is nearer to one than to a timm name.
    """
    timm = timm_module()
    if timm.is_model(backbone.split(".")[0]):
        return
    plan = name.partition("-")[0]
    known = [*ZOO, *ALIASES, *(f"{plan}-{arch}" for arch in timm.list_models())]
    raise UsageError(f"unknown model '{name}'", suggest(name, known) or "see timm.list_models()")


def assemble(
    image_model: nn.Module, entry: Entry, *, num_classes: int, name: str, **options: Any
) -> InflatedNet:
    """A timm CNN without classifier, with the entry's plan put on it."""
    assert entry.plan is not None
    allowed = {"sts": ("sts",), "c2d": ("pool",)}.get(entry.plan, ())
    _check_options(name, options, allowed)
    model = inflate(
        image_model, entry.plan, num_classes=num_classes, **{**entry.options, **options}
    )
    model.name = name
    model.options = dict(options)
    model.spec = clip_spec_of(
        image_model, frames=entry.frames, stride=entry.stride, size=entry.size
    )
    return model


def _check_options(name: str, options: dict[str, Any], allowed: tuple[str, ...]) -> None:
    known = set(inspect.signature(inflate).parameters) - {"image_model", "plan", "num_classes"}
    for option in options:
        if option not in allowed:
            has = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise UsageError(
                f"model '{name}' has no option '{option}'", suggest(option, known) or has
            )

"""From a name to a model."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import UsageError, suggest
from .base import VideoModel, to_channels_last
from .dist_network.model import DistModel, dist
from .families.timesformer import timesformer
from .images.networks import build_image_model, clip_spec_of, timm_module
from .names import ALIASES, ZOO, Entry, find_entry
from .plans.inflate import inflate
from .temporal import VolumeConv

PLAN_OPTIONS = {
    "c2d": ("pool",),
    "dist": ("gamma", "pools", "dim", "temporal_dim", "blocks", "projection", "tower_precision"),
    "i3d": ("cut", "gating", "time_padding", "bottleneck", "pool"),
    "s3d": ("cut", "gating", "time_padding"),
    "sts": ("cut", "gating", "time_padding", "sts", "aligned"),
    "tsm": ("cut",),
    "timesformer": ("cut", "attention", "resizing", "image_time"),
}
"""Which arguments of `inflate`, or of its own builder, each plan knows."""

CLASSES = 400


def create_model(
    name: str, *, num_classes: int | None = None, frames: int | None = None, **options: Any
) -> VideoModel:
    """A zoo model with random weights.

    Args:
        name: a zoo name (`list_models`) or ``<plan>-<timm name>``.
        num_classes: size of the head; default: 400, and none for DiST, which embeds clips then.
        frames: frames of a clip by default; the convolutional models take any number.
        options: arguments of the plan or the family, ``sts=False`` for example, and for every model
            ``in_channels`` (3; 2 for optical flow).

    Returns:
        The model in train mode, its 4-D weights in channels_last memory. It takes normalized clips
        (B, 3, T, H, W) and returns logits (B, num_classes).

    Raises:
        UsageError: for an unknown name or option, with a suggestion.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, not {frames}")
    entry = find_entry(name)
    image_model = None
    if entry.builder is None:
        assert entry.backbone is not None
        check_backbone(name, entry.backbone)
        # The classifier of a tower may be its projection into a space of image and text.
        image_model = build_image_model(entry.backbone, None if entry.plan == "dist" else 0)
    if num_classes is None:
        num_classes = 0 if entry.plan == "dist" else CLASSES
    model = assemble(image_model, entry, num_classes=num_classes, name=name, **options)
    if frames is not None:
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
    image_model: nn.Module | None, entry: Entry, *, num_classes: int, name: str, **options: Any
) -> VideoModel:
    """The model of an entry.

    Args:
        image_model: for plans: a timm network without classifier, which becomes the trunk (for
            ``dist`` with it, which becomes the tower). Unused where the entry has a builder.
        entry: from `find_entry` or `find_target`.
        num_classes: size of the head.
        name: the model's name.
        options: as for `create_model`; they overrule the entry's.
    """
    given = dict(options)
    channels = options.pop("in_channels", 3)
    check_options(name, entry, options)
    make = maker_of(entry)
    if entry.builder is not None:
        model: VideoModel = make(num_classes, **{**entry.options, **options})
        if entry.size is not None:
            model.spec = replace(
                model.spec, frames=entry.frames, stride=entry.stride, size=entry.size
            )
    else:
        assert entry.plan is not None and image_model is not None
        if make is inflate:
            options["plan"] = entry.plan
        model = make(image_model, num_classes=num_classes, **{**entry.options, **options})
        if entry.plan != "dist":  # it sees the frames of its tower
            model.spec = clip_spec_of(
                image_model, frames=entry.frames, stride=entry.stride, size=entry.size
            )
    model.name = name
    model.options = given
    if channels != 3:
        set_input_channels(model, channels)
    return model


def maker_of(entry: Entry) -> Callable[..., VideoModel]:
    """The function whose keywords are the options of an entry."""
    if entry.builder is not None:
        return builder_of(entry)
    own: dict[str | None, Callable[..., VideoModel]] = {"dist": dist, "timesformer": timesformer}
    return own.get(entry.plan, inflate)


def builder_of(entry: Entry) -> Callable[..., VideoModel]:
    """The function that makes a family's models."""
    assert entry.builder is not None
    module, function = entry.builder.split(":")
    found: Callable[..., VideoModel] = getattr(
        importlib.import_module(f".families.{module}", __package__), function
    )
    return found


def builder_options(build: Callable[..., VideoModel]) -> list[str]:
    """Keyword-only arguments of a builder: its options."""
    parameters = inspect.signature(build).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def set_input_channels(model: VideoModel, channels: int) -> None:
    """Kernels for other inputs than RGB (2 channels of optical flow): mean over RGB, repeated.

    Scaled by 3 / channels, so that inputs of the same size give responses of the same size. The
    pixel statistics become the mean of RGB's.

    Raises:
        UsageError: for a channel count below 1.
    """
    if channels < 1:
        raise UsageError(f"in_channels must be at least 1, not {channels}")
    if isinstance(model, DistModel):
        raise UsageError(f"in_channels={channels}: a frozen tower sees RGB only", "leave it out")
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, (nn.Conv2d, VolumeConv)) or weight is None:
            continue
        if weight.shape[1] != 3 or module.groups != 1:
            continue
        mean = weight.detach().mean(dim=1, keepdim=True) * (3 / channels)
        shape = [1, channels] + [1] * (weight.dim() - 2)
        module.weight = nn.Parameter(mean.repeat(shape), requires_grad=weight.requires_grad)
        if isinstance(module, nn.Conv2d):
            module.in_channels = channels
    model.spec = model.spec.for_channels(channels)
    model.in_channels = channels
    model.options["in_channels"] = channels


def check_options(name: str, entry: Entry, options: Iterable[str]) -> None:
    """Raise UsageError, with a suggestion, for options that an entry's model does not know."""
    if entry.builder is not None:
        allowed = builder_options(builder_of(entry))
    else:
        assert entry.plan is not None
        allowed = list(PLAN_OPTIONS[entry.plan])
        if entry.plan == "dist":  # it has no cuts
            options = [*entry.options, *options]
    for option in options:
        if option not in allowed:
            has = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise UsageError(
                f"model '{name}' has no option '{option}'", suggest(option, allowed) or has
            )

"""From a name to a model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..errors import UsageError, suggest
from .base import VideoModel, to_channels_last
from .images.heads import channels_of
from .images.networks import build_image_model, clip_spec_of, timm_module
from .modify.output_stride import set_output_stride
from .names import ALIASES, CLASSES, ZOO, Entry, find_entry
from .plans.inflate import InflatedNet
from .plans.plan import Plan, keyword_options, load_plan
from .temporal import VolumeConv


def create_model(
    name: str, *, num_classes: int | None = None, frames: int | None = None, **options: Any
) -> VideoModel:
    """A zoo model with random weights.

    Args:
        name: a zoo name (`list_models`) or ``<plan>-<timm name>``.
        num_classes: size of the head; default: 400, and none for DiST, which embeds clips then.
        frames: frames of a clip by default; the convolutional models take any number.
        options: arguments of the plan or the family, ``sts=False`` for example, and for every model
            ``in_channels`` (3; 2 for optical flow) and ``output_stride`` (16: the last stage is
            dilated, and its maps are as fine as those before); of a plan also ``network``,
            arguments of timm's function for the image network (``{"global_pool": "avg"}``), and
            ``class_tokens`` (2: a distilled network's are side by side in a descriptor, not
            averaged).

    Returns:
        The model in train mode, its 4-D weights in channels_last memory. It takes normalized clips
        (B, 3, T, H, W) and returns logits (B, num_classes).

    Raises:
        UsageError: for an unknown name or option, with a suggestion.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, not {frames}")
    entry = find_entry(name)
    plan = plan_of(entry)
    image_model = None
    if plan is not None:
        assert entry.backbone is not None
        check_backbone(name, entry.backbone)
        classes = None if plan.keeps_classifier else 0
        image_model = build_image_model(entry.backbone, classes, **options.get("network", {}))
    if num_classes is None:
        num_classes = default_classes(entry)
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
    plan = name.removesuffix(f"-{backbone}").removesuffix("-g")
    known = [*ZOO, *ALIASES, *(f"{plan}-{arch}" for arch in timm.list_models())]
    raise UsageError(f"unknown model '{name}'", suggest(name, known) or "see timm.list_models()")


def assemble(
    image_model: nn.Module | None, entry: Entry, *, num_classes: int, name: str, **options: Any
) -> VideoModel:
    """The model of an entry.

    Args:
        image_model: for plans: a timm network, changed in place; without its classifier, unless
            the plan keeps that. Its input channels are the model's, unless ``in_channels`` says
            otherwise. Unused where the entry has a builder.
        entry: from `find_entry` or `find_target`.
        num_classes: size of the head.
        name: the model's name.
        options: as for `create_model`; they overrule the entry's.
    """
    model_options = dict(options)
    channels = options.pop("in_channels", None)
    tokens = options.pop("class_tokens", 0)
    output_stride = options.pop("output_stride", None)
    if entry.plan is not None:
        options.pop("network", None)  # it was built with them
    check_options(name, entry, options)
    make, plan = maker_of(entry), plan_of(entry)
    if plan is None:
        model = make(num_classes, **{**entry.options, **options})
        if entry.size is not None:
            model.spec = replace(
                model.spec, frames=entry.frames, stride=entry.stride, size=entry.size
            )
    else:
        assert image_model is not None
        model = make(image_model, num_classes=num_classes, **{**entry.options, **options})
        if not plan.sets_clip:
            model.spec = clip_spec_of(
                image_model, frames=entry.frames, stride=entry.stride, size=entry.size
            )
    if tokens:
        if not isinstance(model, InflatedNet):
            raise UsageError(f"model '{name}' has no option 'class_tokens'")
        model.join_class_tokens(tokens)
    model.name = name
    model.options = model_options
    given = 3 if image_model is None or plan is None else channels_of(image_model)
    if given != 3:
        _check_input_channels(model, given)
        model.in_channels = model.options["in_channels"] = given
    if channels not in (None, given):
        set_input_channels(model, channels)
    if output_stride is not None:
        set_output_stride(model, output_stride)
    return model


def plan_of(entry: Entry) -> Plan | None:
    """The temporal plan of an entry; None where a family's builder makes its model."""
    return None if entry.plan is None else load_plan(entry.plan)


def maker_of(entry: Entry) -> Callable[..., VideoModel]:
    """The function whose keyword-only arguments are the options of an entry."""
    plan = plan_of(entry)
    return builder_of(entry) if plan is None else plan.build


def options_of(entry: Entry) -> list[str]:
    """Options that `create_model` takes for an entry, but ``in_channels``, which all take."""
    plan = plan_of(entry)
    return keyword_options(builder_of(entry)) if plan is None else plan.options


def default_classes(entry: Entry) -> int:
    """Default size of a new model's head; 0 for none."""
    plan = plan_of(entry)
    return CLASSES if plan is None else plan.default_classes


def has_frozen_tower(entry: Entry) -> bool:
    """True for an entry whose image network is frozen; see `Plan.frozen_tower`."""
    plan = plan_of(entry)
    return plan is not None and plan.frozen_tower


def builder_of(entry: Entry) -> Callable[..., VideoModel]:
    """The function that makes a family's models."""
    assert entry.builder is not None
    module, function = entry.builder.split(":")
    found: Callable[..., VideoModel] = getattr(
        importlib.import_module(f".families.{module}", __package__), function
    )
    return found


def set_input_channels(model: VideoModel, channels: int) -> None:
    """Kernels for other inputs (2 channels of optical flow): the mean over the old ones, repeated.

    Scaled by the old number of channels over the new one, so that inputs of the same size give
    responses of the same size. The pixel statistics become the mean of the old ones.

    Raises:
        UsageError: for a channel count below 1, and a model whose inputs can be nothing but RGB.
    """
    _check_input_channels(model, channels)
    old = model.in_channels
    for layer in _input_layers(model):
        weight: Tensor = layer.weight  # type: ignore[assignment]
        # (O, I, ...): some networks lay neighboring pixels side by side, each with its channels.
        pixels = weight.detach().unflatten(1, (-1, old))
        mean = pixels.mean(dim=2, keepdim=True) * (old / channels)
        repeated = mean.repeat(1, 1, channels, *(1 for _ in weight.shape[2:])).flatten(1, 2)
        layer.weight = nn.Parameter(repeated, requires_grad=weight.requires_grad)
        if isinstance(layer, nn.Conv2d):
            layer.in_channels = repeated.shape[1]
    for module in model.modules():
        if getattr(module, "in_chans", None) == old:  # timm's networks and patch embeddings
            module.in_chans = channels  # type: ignore[assignment]
    model.spec = model.spec.for_channels(channels)
    model.in_channels = channels
    model.options["in_channels"] = channels


def _check_input_channels(model: VideoModel, channels: int) -> None:
    if channels < 1:
        raise UsageError(f"in_channels must be at least 1, not {channels}")
    if model.only_rgb:
        raise UsageError(f"in_channels={channels}: {model.only_rgb}", "leave it out")


def _input_layers(model: VideoModel) -> list[nn.Module]:
    """The layers that read pixels."""
    cfg = getattr(getattr(model, "trunk", None), "pretrained_cfg", None) or {}
    first = cfg.get("first_conv") or ()
    names = (first,) if isinstance(first, str) else first
    found = {
        key.rpartition(".")[0]
        for key, origin in model.origins.items()
        if origin.source in [f"{name}.weight" for name in names]
    }
    if found:
        return [model.get_submodule(name) for name in sorted(found)]
    return [
        module
        for module in model.modules()
        if isinstance(module, (nn.Conv2d, VolumeConv))
        and module.groups == 1
        and module.weight.shape[1] == model.in_channels
    ]


def check_options(name: str, entry: Entry, options: Iterable[str]) -> None:
    """Raise UsageError, with a suggestion, for options that an entry's model does not know."""
    plan, allowed = plan_of(entry), options_of(entry)
    if plan is not None:  # its name may set options, too
        if plan.no_cut and "cut" in entry.options:
            raise UsageError(
                f"{plan.no_cut}, so no cut {entry.options['cut']}", f"use {entry.plan}"
            )
        options = [*entry.options, *options]
    for option in options:
        if option not in allowed:
            has = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise UsageError(
                f"model '{name}' has no option '{option}'", suggest(option, allowed) or has
            )

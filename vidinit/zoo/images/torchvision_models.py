"""`torchvision:NAME` as a source: image networks under timm's names, GoogLeNet, video networks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError, VidinitError, suggest
from .fitting import fit_image
from .hub import reachable
from .networks import ImageSource, build_image_model, image_of, timm_module
from .state_dicts import WeightsFile, open_weights

PREFIX = "torchvision:"
RANDOM = "random weights"
GOOGLENET = f"{PREFIX}googlenet"


def is_torchvision(source: str) -> bool:
    """True for a source written ``torchvision:NAME``."""
    return source.startswith(PREFIX)


def is_video(source: str) -> bool:
    """True where ``torchvision:NAME`` is one of torchvision's video networks.

    Raises:
        UsageError: for a name torchvision does not know, with a suggestion.
    """
    models = _torchvision()
    name = source.removeprefix(PREFIX).split(".")[0]
    known = models.list_models()
    if name not in known:
        hint = suggest(name, known) or "see torchvision.models.list_models()"
        raise UsageError(f"torchvision has no model '{name}'", hint)
    return name in models.list_models(module=models.video)


def googlenet(num_classes: int) -> nn.Module:
    """Torchvision's GoogLeNet without auxiliary classifiers; it takes pixels in [-1, 1].

    With its published weights torchvision rescales ImageNet-normalized input to that range; the
    network behind is fed directly here.
    """
    made: Any = _torchvision().googlenet(
        weights=None,
        num_classes=num_classes,
        aux_logits=False,
        transform_input=False,
        init_weights=False,
    )
    made.num_classes = num_classes  # as timm's models have it
    made.pretrained_cfg = {"classifier": "fc", "first_conv": "conv1.conv"}
    return made


def is_googlenet(file: WeightsFile) -> bool:
    """True for the names of torchvision's GoogLeNet."""
    return any("inception3a.branch1.conv.weight" in part.state for part in file.candidates())


def googlenet_source(file: WeightsFile, classes: list[str] | None = None) -> ImageSource:
    """GoogLeNet from a file; the auxiliary classifiers are left out.

    Raises:
        UsageError: for another network's, or one without its classifier.
    """
    fitted = fit_image(GOOGLENET, lambda num_classes=1000: googlenet(num_classes), file)
    model = googlenet(**fitted.arguments) if fitted.arguments else googlenet(1000)
    model.load_state_dict(fitted.state, strict=False)
    return ImageSource(
        GOOGLENET,
        model.eval(),
        file.origin,
        True,
        classes,
        notes=list(fitted.notes),
        read=fitted.read,
    )


def published_state(source: str) -> tuple[dict[str, Tensor], str, list[str] | None]:
    """The published weights of ``torchvision:NAME[.WEIGHTS]``: (state dict, where from, classes).

    Raises:
        UsageError: unknown weights.
        VidinitError: when they are neither cached nor within reach.
    """
    models = _torchvision()
    name, _, tag = source.removeprefix(PREFIX).partition(".")
    options = models.get_model_weights(name)
    if tag and tag not in options.__members__:
        hint = suggest(tag, list(options.__members__)) or f"it has {', '.join(options.__members__)}"
        raise UsageError(f"torchvision's {name} has no weights '{tag}'", hint)
    chosen = options[tag] if tag else options.DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(chosen.url).name
    ways = "pass a local file with --weights FILE"
    if not is_video(source):
        ways += ", or --no-pretrained for random weights"
    if not cached.is_file() and not reachable(chosen.url):
        raise VidinitError(f"could not reach torchvision's weights of '{name}'", ways)
    try:
        state = chosen.get_state_dict(progress=False)
    except Exception as error:  # network and file errors of many kinds
        reason = " ".join(str(error).split())[:120]
        raise VidinitError(
            f"could not get torchvision's weights of '{name}'", f"{ways} ({reason})"
        ) from error
    return dict(state), f"torchvision, {name}.{chosen.name}", chosen.meta.get("categories")


def image_source(
    source: str,
    weights: str | Path | None,
    pretrained: bool,
    *,
    key: str | None = None,
    ema: bool | None = None,
) -> ImageSource:
    """An image network of torchvision.

    All but GoogLeNet are run as timm's network of the same name, whose keys are the same.

    Args:
        source: ``torchvision:NAME``.
        weights: a local file; None for the published ones.
        pretrained: False for random weights.
        key, ema: which state dict of the file is meant; see `state_dicts.open_weights`.

    Raises:
        UsageError: where timm has no such network, or the weights do not fit.
        VidinitError: weights that cannot be fetched.
    """
    name = source.removeprefix(PREFIX).split(".")[0]
    is_own = name == "googlenet"
    if not is_own and not timm_module().is_model(name):
        raise UsageError(
            f"torchvision's '{name}' has no counterpart in timm", "use a timm name as SOURCE"
        )
    classes = None
    if weights is not None:
        file = open_weights(weights, key=key, ema=ema)
    elif pretrained:
        state, origin, classes = published_state(source)
        file = WeightsFile(origin, {"": state})
    elif is_own:
        return ImageSource(GOOGLENET, googlenet(1000).eval(), RANDOM, False)
    else:
        return ImageSource(name, build_image_model(name).eval(), RANDOM, False)
    if is_own:
        return googlenet_source(file, classes)
    fitted = fit_image(name, functools.partial(build_image_model, name), file)
    made = image_of(name, fitted, file)
    made.classes = classes or made.classes
    return made


def _torchvision() -> Any:
    timm_module()  # one clear error where torch and torchvision do not match
    import torchvision

    return torchvision.models

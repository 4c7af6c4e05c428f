"""`torchvision:NAME` as a source: image networks under timm's names, GoogLeNet, video networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError, VidinitError, suggest
from .hub import reachable
from .networks import (
    ImageSource,
    build_image_model,
    load_exactly,
    read_state_dict,
    strip_prefixes,
    timm_module,
)

PREFIX = "torchvision:"
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
    return made


def is_googlenet(state: dict[str, Tensor]) -> bool:
    """True for the keys of torchvision's GoogLeNet."""
    return "inception3a.branch1.conv.weight" in state


def googlenet_source(
    state: dict[str, Tensor], weights: str, classes: list[str] | None = None
) -> ImageSource:
    """GoogLeNet from its state dict; the auxiliary classifiers are left out."""
    kept = {k: v for k, v in state.items() if not k.startswith(("aux1.", "aux2."))}
    if "fc.weight" not in kept:
        raise UsageError(f"{weights} lacks fc.weight", "a GoogLeNet with its classifier is needed")
    model = googlenet(int(kept["fc.weight"].shape[0]))
    load_exactly(model, kept, weights)
    return ImageSource(GOOGLENET, model.eval(), weights, True, classes)


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


def image_source(source: str, weights: str | Path | None, pretrained: bool) -> ImageSource:
    """An image network of torchvision.

    All but GoogLeNet are run as timm's network of the same name, whose keys are the same.

    Raises:
        UsageError: where timm has no such network, or the weights do not fit.
        VidinitError: weights that cannot be fetched.
    """
    name = source.removeprefix(PREFIX).split(".")[0]
    classes = None
    if weights is not None:
        state, origin = strip_prefixes(read_state_dict(Path(weights))), str(weights)
    elif pretrained:
        state, origin, classes = published_state(source)
    else:
        state, origin = {}, "random weights"
    if name == "googlenet":
        if not state:
            return ImageSource(GOOGLENET, googlenet(1000).eval(), origin, False)
        return googlenet_source(state, origin, classes)
    if not timm_module().is_model(name):
        raise UsageError(
            f"torchvision's '{name}' has no counterpart in timm", "use a timm name as SOURCE"
        )
    if not state:
        return ImageSource(name, build_image_model(name).eval(), origin, False)
    head = next((v for k, v in reversed(state.items()) if k.endswith(".bias")), None)
    model = build_image_model(name, num_classes=None if head is None else len(head))
    load_exactly(model, state, origin)
    return ImageSource(name, model.eval(), origin, True, classes)


def _torchvision() -> Any:
    timm_module()  # one clear error where torch and torchvision do not match
    import torchvision

    return torchvision.models

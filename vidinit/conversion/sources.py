"""SOURCE of a conversion: an image network, or a video checkpoint of a known layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UsageError
from ..zoo.images.networks import (
    ImageSource,
    build_image_model,
    load_exactly,
    load_image_model,
    read_state_dict,
    strip_prefixes,
)
from ..zoo.images.torchvision_models import (
    GOOGLENET,
    PREFIX,
    googlenet_source,
    image_source,
    is_googlenet,
    is_torchvision,
    is_video,
    published_state,
)
from ..zoo.names import ALIASES, check_option, find_entry, find_target
from .layouts import LAYOUTS
from .layouts.read_write import Found, recognize

IMAGE_LAYOUTS = ("timm", "torchvision")
FILE_KINDS = (".pth", ".pt", ".safetensors", ".bin", ".pyth", ".tar", ".pkl")
SKIPPED = "num_batches_tracked"
RECOGNIZED_IMAGES = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "resnet50d", "regnety_016"),
    *("densenet121", "mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_b0"),
    *("tf_efficientnet_lite0", "convnext_tiny", "vgg16", "inception_v3"),
)
"""Image networks that a file without an architecture is compared with."""


@dataclass
class VideoSource:
    """A video checkpoint.

    Attributes:
        state: its tensors by public key.
        found: layout, likely zoo name and what they imply.
        weights: where it came from, as a phrase for people.
        classes: names of the logits where the source tells them.
    """

    state: dict[str, Tensor]
    found: Found
    weights: str
    classes: list[str] | None = None


def is_file(source: str) -> bool:
    """True for a source that names a file of weights."""
    return Path(source).suffix in FILE_KINDS or Path(source).is_file()


def check_layout(layout: str | None) -> None:
    """Raise UsageError, with a suggestion, unless the layout is known."""
    if layout is not None:
        check_option("layout", layout, sorted({*LAYOUTS, *IMAGE_LAYOUTS}))


def open_source(
    source: str, to: str, *, weights: str | Path | None, layout: str | None, pretrained: bool
) -> ImageSource | VideoSource:
    """The network or checkpoint that SOURCE means.

    Args:
        source: timm name, ``torchvision:NAME``, or a file.
        to: target of the conversion, which may tell a file's architecture.
        weights: file with the weights of a named source.
        layout: of a file whose keys cannot tell.
        pretrained: False for random weights of a named image network.

    Raises:
        UsageError: for unknown names, and files that are not understood.
        VidinitError: weights that cannot be fetched.
    """
    if is_file(source):
        if weights is not None:
            raise UsageError(
                f"'{source}' is a file already, and --weights names another",
                "give the architecture as SOURCE, or leave --weights out",
            )
        state = read_state_dict(Path(source))
        return _from_state(state, source, to, layout)
    if is_torchvision(source):
        if not is_video(source):
            return image_source(source, weights, pretrained)
        if weights is not None:
            return _video(read_state_dict(Path(weights)), str(weights), layout or "torchvision")
        if not pretrained:
            raise UsageError(
                f"'{source}' without its weights is nothing to convert",
                f"create it: vidinit.create_model('{source.removeprefix(PREFIX)}')",
            )
        state, origin, classes = published_state(source)
        found = _video(state, origin, "torchvision")
        found.classes = classes
        return found
    return load_image_model(source, weights=weights, pretrained=pretrained)


def _video(state: dict[str, Tensor], origin: str, layout: str | None) -> VideoSource:
    state = strip_prefixes(state, keep_backbone=True)
    found = recognize(state, layout)
    if found is None:
        raise UsageError(
            f"{origin} is no video checkpoint of the layout {layout}",
            f"leave --layout out, or use one of {', '.join(LAYOUTS)}",
        )
    return VideoSource(state, found, origin)


def _from_state(
    state: dict[str, Tensor], origin: str, to: str, layout: str | None
) -> ImageSource | VideoSource:
    kept = strip_prefixes(state, keep_backbone=True)
    found = None if layout == "timm" else recognize(kept, layout)
    if found is not None:
        return VideoSource(kept, found, origin)
    if layout is not None and layout not in IMAGE_LAYOUTS:
        raise UsageError(
            f"{origin} is no {layout} video checkpoint", "leave --layout out to have it recognized"
        )
    if any(value.dim() == 5 for value in state.values()):
        raise UsageError(
            f"{origin} holds a video network of a layout that is not known",
            f"known are {', '.join(LAYOUTS)}; its first key is {next(iter(kept))}",
        )
    state = strip_prefixes(state)
    if is_googlenet(state):
        return googlenet_source(state, origin)
    for arch in _candidates(to):
        found_model = _image_of(arch, state, origin)
        if found_model is not None:
            return found_model
    raise UsageError(
        f"'{origin}' is an image network that its keys do not tell; its architecture is needed too",
        f"vidinit convert ARCH --weights {origin} --to {to}",
    )


def _candidates(to: str) -> list[str]:
    """Architectures a file may hold: the target's own, else the common ones."""
    _, entry = find_target(to, "")
    backbone = entry.backbone or ""
    if backbone in ("", GOOGLENET):
        return list(RECOGNIZED_IMAGES)
    return [backbone]


def _image_of(arch: str, state: Mapping[str, Tensor], origin: str) -> ImageSource | None:
    """The network, where keys and shapes are those of ``arch``."""
    with torch.device("meta"):
        blank = ImageSource(arch, build_image_model(arch), origin, True)
    head = state.get(f"{blank.classifier}.weight")
    want = {
        key: value.shape
        for key, value in blank.model.state_dict().items()
        if not key.startswith(blank.classifier + ".") and not key.endswith(SKIPPED)
    }
    rest = {key: value.shape for key, value in state.items() if not key.endswith(SKIPPED)}
    rest = {key: shape for key, shape in rest.items() if not key.startswith(blank.classifier + ".")}
    if head is None or rest != want:
        return None
    model = build_image_model(arch, num_classes=int(head.shape[0]))
    load_exactly(model, state, origin)
    return ImageSource(arch, model.eval(), origin, True)


def video_target(to: str, found: Found) -> str:
    """The zoo name meant by ``--to`` for a video checkpoint: ``i3d`` and ``s3d`` are zoo names.

    Raises:
        UsageError: for a plan, which a video checkpoint has already.
    """
    try:
        find_entry(to)
    except UsageError as error:
        raise UsageError(
            f"a video checkpoint becomes a model of the zoo, not '{to}'",
            f"this one looks like {found.target}: --to {found.target}",
        ) from error
    return ALIASES.get(to, to)

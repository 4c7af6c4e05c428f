"""SOURCE of a conversion: an image network, or a video checkpoint of a known layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UsageError
from ..zoo.images.fitting import OWN_NAMES
from ..zoo.images.networks import ImageSource, image_of_unknown, labels_of, load_image_model
from ..zoo.images.openclip_names import LAYOUT as OPENCLIP
from ..zoo.images.state_dicts import (
    WeightsFile,
    begins,
    is_weights_folder,
    open_weights,
    read_json,
    told,
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
from .layouts import IMAGES, LAYOUTS
from .layouts.mmaction import LAYOUT as MMACTION
from .layouts.pyslowfast import joined_norms
from .layouts.read_write import Found, recognize
from .layouts.sts_image import LAYOUT as STS

FILE_KINDS = (".pth", ".pt", ".safetensors", ".bin", ".pyth", ".tar", ".pkl")


@dataclass
class VideoSource:
    """A video checkpoint.

    Attributes:
        state: its tensors by public key.
        found: layout, likely zoo name and what they imply.
        weights: where it came from, as a phrase for people.
        classes: names of the logits where the source tells them.
        notes: which of the file's tensors these are, one sentence each.
        read: the same for scripts: ``key``, ``prefix``, ``kind``, ``layout``, ``left_out``,
            ``new``.
        outside: tensors beside the network's in the same state dict, by their names in the file.
    """

    state: dict[str, Tensor]
    found: Found
    weights: str
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)
    outside: dict[str, Tensor] = field(default_factory=dict, repr=False)


def is_file(source: str) -> bool:
    """True for a source that names a file of weights, or a folder of transformers'."""
    path = Path(source)
    return path.is_file() or is_weights_folder(path) or path.suffix in FILE_KINDS


def check_layout(layout: str | None) -> None:
    """Raise UsageError, with a suggestion, unless the layout is known."""
    if layout is not None:
        check_option("layout", layout, sorted({*LAYOUTS, *IMAGES}))


def open_source(
    source: str,
    to: str,
    *,
    weights: str | Path | None,
    layout: str | None,
    pretrained: bool,
    key: str | None = None,
    ema: bool | None = None,
) -> ImageSource | VideoSource:
    """The network or checkpoint that SOURCE means.

    Args:
        source: timm name, ``torchvision:NAME``, a file, or a folder of transformers'.
        to: target of the conversion, which may tell a file's architecture.
        weights: file with the weights of a named source.
        layout: of a file whose keys cannot tell.
        pretrained: False for random weights of a named image network.
        key: the state dict in the file that is meant, ``model_ema`` for example.
        ema: moving averages, or plain weights; None for averages where there are any.

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
        if Path(source).is_dir() and "architecture" in read_json(Path(source) / "config.json"):
            return load_image_model(f"local-dir:{source}")  # as timm saves them
        return _from_file(open_weights(source, key=key, ema=ema), to, layout)
    if weights is None and (key is not None or ema is not None):
        option = "--weights-key" if key is not None else "--ema" if ema else "--no-ema"
        raise UsageError(
            f"{option} says which state dict of a file is meant, and '{source}' is none",
            "leave it out, or give a file",
        )
    if is_torchvision(source):
        if not is_video(source):
            return image_source(source, weights, pretrained, key=key, ema=ema)
        if weights is not None:
            file = open_weights(weights, key=key, ema=ema)
            return _video_of(file, layout or "torchvision", to)
        if not pretrained:
            raise UsageError(
                f"'{source}' without its weights is nothing to convert",
                f"create it: vidinit.create_model('{source.removeprefix(PREFIX)}')",
            )
        state, origin, classes = published_state(source)
        found = _video_of(WeightsFile(origin, {"": state}), "torchvision", to)
        found.classes = classes
        return found
    return load_image_model(
        source, weights=weights, layout=layout, key=key, ema=ema, pretrained=pretrained
    )


def _video_of(file: WeightsFile, layout: str, to: str) -> VideoSource:
    found = _find_video(file, layout, to)
    if found is None:
        raise UsageError(
            f"{file.origin} is no video checkpoint of the layout {layout}",
            f"leave --layout out, or use one of {', '.join(LAYOUTS)}",
        )
    return found


def _find_video(file: WeightsFile, layout: str | None, to: str) -> VideoSource | None:
    """The video checkpoint in a file; None where there is none of a layout that is known."""
    for part in file.candidates():
        state, joined = joined_norms(part.state)
        found, read_as = _recognized(state, layout, to)
        if found is None:
            continue
        notes = [*file.said(part), *joined, *read_as]
        if part.outside:
            notes.append(f"left out: {told(part.outside)}")
        read = {
            "key": part.key or None,
            "prefix": part.prefix or None,
            "kind": part.kind,
            "layout": found.layout,
            "left_out": list(part.outside),
            "new": [],
        }
        classes = labels_of(file.config, found.num_classes)
        outside = {name: file.dicts[part.key][name] for name in part.outside}
        return VideoSource(state, found, file.origin, classes, notes, read, outside)
    return None


def _recognized(
    state: Mapping[str, Tensor], layout: str | None, to: str
) -> tuple[Found | None, list[str]]:
    """A video checkpoint, and how its names were read where they are two code bases'."""
    found = recognize(state, layout)
    if not ALIASES.get(to, to).startswith("sts-") or found is None or found.layout != MMACTION:
        return found, []
    if layout == MMACTION:
        return found, ["read as mmaction2's, whose kernels are plain: sts=False"]
    as_sts = recognize(state, STS)
    if as_sts is None:
        return found, []
    note = (
        "mmaction2 and the STS repository have the same names: read as the latter's, as --to says"
    )
    return as_sts, [note]


def _from_file(file: WeightsFile, to: str, layout: str | None) -> ImageSource | VideoSource:
    if layout not in (*OWN_NAMES, OPENCLIP) or layout in LAYOUTS:
        found = _find_video(file, layout, to)
        if found is not None:
            return found
    if layout is not None and layout not in IMAGES:
        raise UsageError(
            f"{file.origin} is no {layout} video checkpoint",
            "leave --layout out to have it recognized",
        )
    first = next(file.candidates())
    if any(value.dim() == 5 for value in first.state.values()):
        raise UsageError(
            f"{file.origin} holds a video network of a layout that is not known",
            f"known are {', '.join(LAYOUTS)}; its names begin with {begins(first.state)}; a video "
            "encoder of transformers is taken as it is by finetune --probe and eval",
        )
    if is_googlenet(file):
        return googlenet_source(file)
    _, entry = find_target(to, "")
    if entry.backbone and entry.backbone != GOOGLENET:
        return load_image_model(entry.backbone, weights=file, layout=layout)
    known = image_of_unknown(file, layout)
    if known is not None:
        return known
    raise UsageError(
        f"'{file.origin}' is an image network that its keys do not tell (they begin with "
        f"{begins(first.state)}); its architecture is needed too",
        f"vidinit convert ARCH --weights {file.origin} --to {to}",
    )


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

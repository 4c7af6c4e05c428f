"""From a folder of transformers to a model: its card, its network and weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...console import say
from ...errors import UsageError
from ...version import __version__
from ..adapters.frozen import digest
from ..adapters.reference import HUB
from .clips import clip_of
from .folder import (
    CONFIG,
    INDEX,
    WEIGHTS,
    check,
    encoder_folder,
    is_encoder,
    pickled,
    read_json,
    shards_of,
)
from .kinds import KINDS, NAME, NO_SETTINGS

if TYPE_CHECKING:
    from ..card import Card
    from ..families.video_encoder import VideoEncoder


def read_encoder(folder: Path) -> Card:
    """The model of a folder of transformers, as model.yaml would describe it.

    Raises:
        UsageError: it is refused, see `check`; its weights are pickled, or a file is damaged.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[Card, list[str]]:
    """`read_encoder`, and what there is to say of its clips."""
    from ..card import FORMAT, checked

    config = read_json(folder / CONFIG)
    kind = check(config, folder)
    if not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise pickled(folder)
    if not (folder / WEIGHTS).is_file():
        shards_of(folder / INDEX)
    named = config.get("architectures")
    classifies = isinstance(named, list) and KINDS[kind].classifier in named
    classes = _classes(config, folder) if classifies else None
    clip, notes = clip_of(kind, config, folder)
    options: dict[str, Any] = {"config": {k: v for k, v in config.items() if k not in NO_SETTINGS}}
    if classifies:
        options["classifier"] = True
    values = {
        "format": FORMAT,
        "vidinit": __version__,
        "name": f"{NAME}{kind}",
        "options": options,
        "num_classes": len(classes or ()),
        "clip": clip.as_dict(),
        "classes": classes,
        "lineage": [{"step": "transformers", "source": str(folder)}],
    }
    return checked(values, str(folder)), notes


def _classes(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Class names in the order of the logits.

    Raises:
        UsageError: their numbers have gaps.
    """
    labels = config.get("id2label") or {f"{i}": f"LABEL_{i}" for i in range(2)}
    try:
        named = {int(number): str(name) for number, name in labels.items()}
        return [named[number] for number in range(len(named))]
    except (AttributeError, ValueError, KeyError) as error:
        raise UsageError(f"{folder / CONFIG}: id2label does not number the classes") from error


def open_encoder(folder: Path, source: str) -> VideoEncoder:
    """The model of a folder of transformers, in eval mode.

    Args:
        folder: a local one.
        source: what the user named it by; lineage has it.

    Raises:
        UsageError: as `read_encoder`, and where transformers does not open it or is not installed.
    """
    card, notes = _read(folder)
    model, left_out = _opened(folder, card, card.num_classes)
    model.spec = card.clip
    model.classes = card.classes
    model.lineage = [{"step": "transformers", "source": source}]
    if is_encoder(source):
        model.reference = {
            "name": f"{source.partition('@')[0]}@{folder.name}",
            "weights": HUB,
            "sha256": digest(model.tower.network),
        }
    kind, spec = model.kind, card.clip
    if left_out:
        notes.append(f"{len(left_out)} tensors are no part of the encoder, {left_out[0]} the first")
    say(
        f"{source}: {kind.title} of transformers, frozen; clips of {spec.frames} frames, "
        f"{spec.stride} apart, {spec.size} pixels{''.join(f'; {note}' for note in notes)}"
    )
    return model.eval()


def rebuild_encoder(place: Path, card: Card, num_classes: int) -> VideoEncoder:
    """The model of a model folder that names its encoder; only the encoder has its values.

    Args:
        place: the model folder.
        card: its card, which has a ``tower``.
        num_classes: of the head.

    Raises:
        UsageError: weights that are others than those the head learned with.
        VidinitError: weights that cannot be fetched.
    """
    assert card.tower is not None
    name = card.tower.name
    if not is_encoder(name):
        raise UsageError(f"{place} names the encoder '{name}'", "it was changed: take a whole copy")
    model, _ = _opened(encoder_folder(name), card, num_classes)
    if digest(model.tower.network) != card.tower.sha256:
        raise UsageError(
            f"the encoder of {place} is another one than it was made with: the weights of {name} "
            "have another sha256",
            "take the revision that it was made with",
        )
    model.reference = card.tower.model_dump()
    return model


def _opened(folder: Path, card: Card, num_classes: int) -> tuple[VideoEncoder, list[str]]:
    """The model of a card with the network of a folder, and names of tensors without a place."""
    from ..families.video_encoder import VideoEncoder, open_network

    kind = card.name.removeprefix(NAME)
    network, left_out = open_network(
        kind, folder, card.options["config"], num_classes, classifier="classifier" in card.options
    )
    model = VideoEncoder(kind, network, num_classes)
    model.name, model.options = card.name, dict(card.options)
    return model, left_out

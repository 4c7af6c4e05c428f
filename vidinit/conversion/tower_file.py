"""The frozen tower of a video checkpoint that holds what was trained beside it, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..zoo.adapters.reference import reference_to
from ..zoo.adapters.tower_model import TowerModel
from ..zoo.base import VideoModel
from ..zoo.build import assemble
from ..zoo.images.fitting import image_parts
from ..zoo.images.networks import ImageSource, load_image_model
from ..zoo.images.state_dicts import WeightsFile, begins, open_weights
from ..zoo.images.vit_sizes import VitSizes, check_heads, read_sizes, sizes_of_name
from ..zoo.names import Entry, find_entry
from .frozen_tower import tower_notes
from .layouts.read_write import Found

TAG = "openai"
"""Of the weights on timm's hub that published checkpoints were trained with."""
FORM = "CLIP's image tower as OpenAI, open_clip or timm name its tensors"


def on_tower(
    origin: str,
    found: Found,
    name: str,
    options: dict[str, Any],
    path: str | Path | None,
    whole: bool | None,
) -> tuple[VideoModel, list[str]]:
    """A model with its tower's weights, all else at random, for a checkpoint without the tower.

    Args:
        origin: the checkpoint, for messages.
        found: what is known of it.
        name: of the model.
        options: of the model.
        path: file with the tower's weights; None for those on timm's hub.
        whole: True where a model folder is to hold the tower, too, not only its name and digest.

    Returns:
        The model, and what is to be said of its tower, one sentence each.

    Raises:
        UsageError: a file that is no such tower, or one of other sizes.
        VidinitError: weights that cannot be fetched.
    """
    assert found.tower is not None
    entry = find_entry(name)
    image, source = _tower(origin, found.tower, entry, path, options.get("network", {}))
    reference = None if whole else reference_to(image, source, path)
    if image.arguments:
        options = {**options, "network": image.arguments}
    vit: Any = image.model
    vit.reset_classifier(0)
    model = assemble(vit, entry, num_classes=found.num_classes, name=name, **options)
    assert isinstance(model, TowerModel)
    model.reference = reference
    origin = f"its frozen tower is {image.arch} from {image.weights}"
    of_tower = [f"of the tower: {note}" for note in image.notes]
    return model, [origin, *of_tower, *tower_notes(image, model)]


def _tower(
    origin: str,
    wanted: tuple[int, int],
    entry: Entry,
    path: str | Path | None,
    network: Mapping[str, Any],
) -> tuple[ImageSource, str]:
    """The tower for a checkpoint without it.

    Args:
        origin: the checkpoint, for messages.
        wanted: width and number of blocks of the tower beside which it was trained.
        entry: of the model.
        path: file with the tower's weights; None for those on timm's hub.
        network: arguments of timm's function that shapes do not tell.

    Returns:
        The network, and the timm name it was loaded by.

    Raises:
        UsageError: a file that is no such tower, or one of other sizes.
        VidinitError: weights that cannot be fetched.
    """
    assert entry.backbone is not None
    width, depth = wanted
    needs = f"{origin} holds what was trained alone, beside a tower of {depth} blocks {width} wide"
    if path is None:
        own = sizes_of_name(entry.backbone)
        if (own.width, own.depth) != wanted:
            raise UsageError(needs, f"give it: --tower FILE, {FORM}")
        name = f"{entry.backbone}.{TAG}"
        ways = (f"give it: --tower FILE, {FORM}",)
        return load_image_model(name, ways=ways), name
    file = open_weights(path)
    found = _in_file(file)
    sizes = None if found is None else found[0]
    if found is None or sizes is None or sizes.problem:
        first = next(iter(file.dicts.values()))
        reason = f"its names begin with {begins(first)}" if sizes is None else sizes.problem
        raise UsageError(f"--tower {path} is no tower of {entry.backbone}'s kind: {reason}", FORM)
    if (sizes.width, sizes.depth) != wanted:
        raise UsageError(
            f"--tower {path} has {sizes.depth} blocks {sizes.width} wide: {needs}",
            "give that tower's file",
        )
    arguments = {**sizes.arguments(entry.backbone), **network}
    check_heads(arguments, f"--tower {path}")
    return load_image_model(entry.backbone, weights=found[1], arguments=arguments), entry.backbone


def _in_file(file: WeightsFile) -> tuple[VitSizes, WeightsFile] | None:
    """Sizes of the vision transformer in a file, and the file without the prefix of its names."""
    for part in file.candidates():
        for named in (*image_parts(part), part):
            sizes = read_sizes(named.state.get)
            if sizes is not None:
                return sizes, replace(file, dicts={part.key: part.state})
    return None

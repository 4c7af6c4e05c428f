"""Score a model by text embeddings of classes that it has no head for."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...checkpoint import load_classifier, model_folder
from ...console import say
from ...data.rows import Rows, align
from ...data.sources.classes import read_class_names
from ...errors import DataError, UsageError, VidinitError, suggest
from ...text.templates import match
from ...text.towers import activation_note, is_image_tower, quick_name
from ..shared.clips import data_name
from ..shared.text_head import class_embeddings, own_tower
from .settings import EvaluateConfig

if TYPE_CHECKING:
    from ...text.compare import ZeroShot
    from ...zoo.base import VideoModel


def open_zero_shot(config: EvaluateConfig, classes: list[str], accelerator: Any) -> ZeroShot:
    """Open the model of an evaluation, with text embeddings of these classes for its head.

    Raises:
        UsageError: a model without embeddings to compare, or texts of another dimension.
    """
    from ...text.compare import ZeroShot, has_text_head

    model = _opened(config.model)
    tower = own_tower(model) if model is not None else None
    table = class_embeddings(classes, config.text, tower, config.model, accelerator)
    if model is None:
        model = _random(config.model, table.shape[1])
    _check(model, table.shape[1], config.model)
    if config.ensemble and not has_text_head(model):
        raise UsageError(
            f"{config.model} is its image tower, and an ensemble is of two",
            "leave --ensemble out: it is for DiST models",
        )
    return ZeroShot(model, table, config.ensemble)


def relabel(rows: Rows, config: EvaluateConfig) -> Rows:
    """Rows with labels that index the classes asked for, matched by name (`text.templates.match`).

    Raises:
        UsageError: labels that are not one class a clip.
        DataError: a class with clips in it is not among them.
    """
    where = data_name(config.data.val or config.data.train)
    if rows.kind != "single":
        raise UsageError(
            f"{where} has several labels a clip, and zero-shot gives one class a clip",
            "score data with one label",
        )
    if config.classes is None or rows.classes is None:
        return align(rows, rows.classes or (), where=where)
    wanted = config.classes
    file = os.path.expanduser(wanted) if isinstance(wanted, str) else None
    classes = tuple(wanted) if file is None else read_class_names(file).names
    places = match(rows.classes, classes)
    used = {row.label for row in rows.rows}
    for label, (name, place) in enumerate(zip(rows.classes, places, strict=True)):
        if place < 0 and label in used:
            raise DataError(
                f"class '{name}' of {where} is not among those of {file or '--classes'}",
                suggest(name, classes) or f"they are {len(classes)}, '{classes[0]}' first",
            )
    known = [classes[i] if i >= 0 else name for name, i in zip(rows.classes, places, strict=True)]
    return align(replace(rows, classes=tuple(known)), classes, where=where)


def _opened(ref: str) -> VideoModel | None:
    """The model of a folder or an image tower; None for a zoo name, whose weights are random."""
    if is_image_tower(ref):
        from ..convert import convert

        name = quick_name(ref)
        note = "" if name == ref else f" as {name}, with the activation it was trained with"
        say(f"{ref}: an image tower{note}; its embeddings of the frames are averaged")
        try:
            return convert(name, "c2d").trunk
        except VidinitError as error:
            arch = name.partition(".")[0]
            hint = f"of a local file: vidinit convert {arch} --weights FILE --to c2d --out DIR"
            raise VidinitError(error.message, f"make a model folder {hint}") from error
    if model_folder(ref) is None:
        return None
    model = load_classifier(ref)
    for source in (str(step.get("source")) for step in model.lineage):
        if note := activation_note(source):
            say(f"note: {ref}: {note}")
    return model


def _random(ref: str, dimension: int) -> VideoModel:
    """The model of a zoo name, with a projection to as many numbers as text embeddings have."""
    from ...text.compare import has_text_head
    from ...zoo.build import create_model

    say(f"{ref}: a zoo name, so its weights are random; a model folder has trained ones")
    model = create_model(ref, num_classes=dimension)
    if has_text_head(model):
        model.reset_head(0)
    return model.eval()


def _check(model: VideoModel, dimension: int, ref: str) -> None:
    """Refuse models that give no embeddings, or embeddings of another dimension than the texts'."""
    from torch import nn

    from ...text.compare import has_text_head

    text_head = has_text_head(model)
    if isinstance(model.head, nn.Linear) if text_head else model.classes is not None:
        raise UsageError(
            f"{ref} is a classifier of {model.num_classes} classes: nothing in it was trained to "
            "be compared with texts",
            "leave --zero-shot out, or give a DiST model with a text head, or an image-text model",
        )
    own = model.num_features if text_head else model.num_classes
    if own != dimension:
        raise UsageError(
            f"{ref} embeds videos in {own} dimensions, the text embeddings have {dimension}",
            "take those of the text tower that belongs to its image tower",
        )

"""Text embeddings of classes as the configuration wants them, for zero-shot and for text heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import RunConfig, TextSection
from ...console import say
from ...engine.collectives import from_main
from ...errors import UsageError
from ...text.embeddings import text_embeddings
from ...text.tables import check_file
from ...text.templates import read_templates
from ...text.towers import find_tower, is_image_tower, require_open_clip, tower_of
from ..evaluate.settings import EvaluateConfig
from ..finetune.settings import FinetuneConfig

if TYPE_CHECKING:
    from torch import Tensor

    from ...data.rows import Rows
    from ...zoo.base import VideoModel

AUTO = "auto"


def check_text(config: RunConfig, *, embeds: bool = True) -> None:
    """Refuse what a configuration's texts cannot be, before anything heavy is imported.

    Args:
        config: of any command.
        embeds: whether text embeddings will be made: not in a dry run without data.

    Raises:
        UsageError: settings that do not go together, unknown names, files that are not there, a
            text tower without open_clip.
    """
    if not isinstance(config, (EvaluateConfig, FinetuneConfig)):
        return
    text, zero_shot = config.text, isinstance(config, EvaluateConfig) and config.zero_shot
    if isinstance(config, EvaluateConfig) and not zero_shot:
        if config.ensemble or config.classes or text != TextSection():
            raise UsageError("classes and texts are given, but --zero-shot is not", "pass it")
        return
    if isinstance(config, EvaluateConfig):
        _check_zero_shot(config)
    if text.file is not None and text.model is not None:
        raise UsageError("a text tower and a file of text embeddings are given", "pass one of them")
    if text.file is not None and text.templates != TextSection().templates:
        raise UsageError(
            "templates are for a text tower, and a file of text embeddings is given",
            "leave them out",
        )
    read_templates(text.templates)
    if text.file is not None:
        check_file(text.file)
    elif zero_shot or text.model is not None:
        if text.model not in (None, AUTO):
            find_tower(str(text.model))
        if embeds:
            require_open_clip()
    elif text != TextSection():
        raise UsageError(
            "text.templates alone make no text head", "set text.model=auto, or text.model=NAME"
        )


def _check_zero_shot(config: EvaluateConfig) -> None:
    if config.head is not None:
        raise UsageError("--zero-shot takes the place of a head", "leave --head out")
    if tower_of(config.model) is not None and not is_image_tower(config.model):
        raise UsageError(
            f"{config.model} has no linear projection into the space of image and text",
            "take a CLIP tower, or make a DiST model of it: vidinit convert --to dist",
        )
    if isinstance(config.classes, str) and not Path(config.classes).expanduser().is_file():
        raise UsageError(f"no such file of class names: {config.classes}", "check the path")


def own_tower(model: VideoModel) -> str | None:
    """The text tower that was trained with a model's image tower, if its lineage tells."""
    for step in reversed(model.lineage):
        # The hub's phrase names the tag where the source left it to timm.
        for name in (str(step.get("source")), str(step.get("weights")).rpartition(", ")[2]):
            if (tower := tower_of(name)) is not None:
                return str(tower)
    return None


def class_embeddings(
    classes: Sequence[str], text: TextSection, tower: str | None, ref: str, accelerator: Any
) -> Tensor:
    """The text embeddings of classes (K, J), the same on all processes; what they are of is said.

    Args:
        classes: the K names.
        text: where the embeddings come from.
        tower: the text tower that ``auto`` means, where it is known.
        ref: the model, for messages.
        accelerator: gives the device and the processes.

    Raises:
        UsageError: no text tower is named, and the model does not tell its own.
    """
    if text.file is not None:
        say(f"text embeddings of {len(classes)} classes from {text.file}")
        return from_main(accelerator, lambda: text_embeddings(classes, file=text.file))
    name = tower if text.model in (None, AUTO) else text.model
    if name is None:
        raise UsageError(
            f"{ref} does not tell which text tower belongs to it",
            "name it, as --text-model ViT-B-16-quickgelu/openai (text.model), or pass a file of "
            "text embeddings with --text (text.file)",
        )
    count = len(read_templates(text.templates))
    texts = "1 text" if count == 1 else f"{count} texts"
    say(f"text embeddings of {len(classes)} classes by {name}, {texts} a class")
    return from_main(
        accelerator,
        lambda: text_embeddings(
            classes, model=name, templates=text.templates, device=accelerator.device
        ),
    )


def set_text_head(
    model: VideoModel, rows: Rows, config: FinetuneConfig, accelerator: Any, *, real: bool
) -> None:
    """Give a model that can have one the text head that the configuration asks for; say which.

    Without a text section a linear head, or the text head that the model came with, is kept.

    Args:
        model: changed in place.
        rows: what it is trained on.
        config: its text section says where the embeddings come from.
        accelerator: gives the device and the processes.
        real: whether the rows are data; random clips (a dry run's) get random embeddings.

    Raises:
        UsageError: a text head for a model that cannot have one, or for labels that are not one
            class a clip, or nothing left to train.
    """
    import torch

    from ...text.compare import has_text_head

    text, ref, classes = config.text, config.model, list(rows.classes or ())
    if text.model is None and text.file is None:
        if has_text_head(model):
            kind = "a linear head" if isinstance(model.head, torch.nn.Linear) else "its text head"
            say(f"{ref}: trained with {kind}; text.model=auto or text.file=FILE sets a text head")
        return
    if not has_text_head(model):
        raise UsageError(
            f"{ref} has no text head, and text.{'file' if text.file else 'model'} is set",
            "leave the text section out, or use a DiST model",
        )
    if rows.kind != "single":
        raise UsageError("a text head gives one class a clip", "leave the text section out")
    if config.train.freeze == "trunk":
        raise UsageError(
            "train.freeze=trunk leaves nothing to train under a text head",
            "leave it out: the image tower of DiST is always frozen",
        )
    if real:
        table = class_embeddings(classes, text, own_tower(model), ref, accelerator)
    else:
        table = torch.randn(len(classes), model.num_features)
    model.set_text(table, classes)
    say(f"{ref}: its head is the text embeddings of the {len(classes)} classes")

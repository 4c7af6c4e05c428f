"""Settings of evaluation, and of the texts that classes are compared with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Section


class EvalConfig(Section):
    """Views of a video that is scored."""

    every: int = Field(1, ge=0)
    """Epochs between two evaluations while training; 0 for none."""
    clips: int = Field(1, ge=1)
    """Clips spread over a video."""
    crops: Literal[1, 3] = 1
    """Crops of each clip: the center, or left, center and right."""
    start: Literal["center", "first"] = "center"
    """Dense clips lie in the middle of equal parts of a video, or begin with them."""
    average: Literal["softmax", "logits"] = "softmax"
    """Over the views of a video: their probabilities, or their logits before the softmax."""


class FrozenEvalConfig(EvalConfig):
    """Views of a video that is scored by what was trained on a frozen trunk, too."""

    time_test: bool = True
    """Of frozen trunks: score with shuffled frames and by the mean of the features, too."""


class TextSection(Section):
    """Text embeddings of the classes, for zero-shot and for text heads."""

    model: str | None = None
    """auto (that of the model's image tower), timm's name of one, MODEL/TAG or MODEL=FILE."""
    file: str | None = None
    """Text embeddings in a file (.npz, .safetensors, .pt) in place of a text tower."""
    templates: str | list[str] = "raw"
    """raw, video or action; a file; or texts with a {} where the class name goes."""

"""A model with a head for verbs and one for nouns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .base import VideoModel
from .spec import ClipSpec

VERB, NOUN = "verb", "noun"
"""The two heads of a `PairModel`, in its losses and in its model folder."""


class PairModel(nn.Module):
    """A model with two heads: what is done in a clip, and with what.

    Args:
        model: its own head is the verbs', and its ``classes`` are their names.
        noun: the second head.
        nouns: names of its outputs.
    """

    def __init__(self, model: VideoModel, noun: nn.Linear, nouns: Sequence[str]) -> None:
        super().__init__()
        self.model, self.noun = model, noun
        self.nouns = list(nouns)
        self.training = model.training

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """(B, 3, T, H, W) normalized clips to logits: (B, verbs) and (B, nouns), by head."""
        embedding = self.model.dropout(self.model.embed(clip))
        return {VERB: self.model.head(embedding), NOUN: self.noun(embedding)}

    @property
    def spec(self) -> ClipSpec:
        """How clips are cut and normalized."""
        return self.model.spec

    def class_names_by_head(self) -> dict[str, list[str]]:
        """Class names of ``verbs`` and ``nouns``, in the order of the probabilities."""
        return {"verbs": self.model.class_names_by_head()["classes"], "nouns": self.nouns}

    def save_options(self) -> dict[str, Any]:
        """Arguments of `checkpoint.save_model` beside the model and the folder."""
        return {
            "heads": {NOUN: self.noun},
            "head_classes": {VERB: list(self.model.classes or ()), NOUN: self.nouns},
        }


def trunk_of(model: VideoModel | PairModel) -> VideoModel:
    """The video model in a model of two heads, or itself."""
    return model.model if isinstance(model, PairModel) else model

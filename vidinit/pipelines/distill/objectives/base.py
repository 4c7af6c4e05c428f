"""The interface of an objective, and one pass of the student that several of them read.

An objective is a module: what it learns beside the student (a projection, a decoder) are its
parameters, which checkpoints keep and the model folder does not get. In a step each objective first
asks the teachers (`DistillObjective.ask`, without gradients, beside the student on a GPU), then
compares. Everything random in it comes with the batch, counted by `counted.Counted`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from ....errors import UsageError
from ....zoo.base import VideoModel
from ...shared.heads import Heads

HIDDEN = "hidden"
"""In a batch: frames that the student does not see, bool (B, T)."""

Answers = dict[str, Tensor]


class StudentPass:
    """The outputs of a student for a batch, each part computed when it is first asked for.

    Args:
        model: the student.
        batch: with ``clip`` (B, C, T, H, W), normalized, and `HIDDEN` where frames are hidden.
        heads: of the teachers with logits; None for none.
        tokens: True where somebody will ask for `maps`, so that one pass gives both.
    """

    def __init__(
        self, model: VideoModel, batch: dict[str, Any], heads: Heads | None, *, tokens: bool
    ) -> None:
        self.model, self.batch, self.heads = model, batch, heads
        self._with_tokens = tokens

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor | None]:
        clip: Tensor = self.batch["clip"]
        hidden = self.batch.get(HIDDEN)
        if hidden is not None:  # zero is the mean pixel: clips are normalized
            clip = clip.masked_fill(hidden[:, None, :, None, None], 0.0)
        if self._with_tokens:
            return self.model.embed_with_tokens(clip)
        return self.model.embed(clip), None

    @property
    def embedding(self) -> Tensor:
        """Descriptors, (B, C)."""
        return self._parts[0]

    @property
    def maps(self) -> Tensor:
        """The last maps per time step, (B, T', H', W', C)."""
        tokens = self._parts[1]
        assert tokens is not None
        return as_grid(self.model.by_frame(tokens), self.model.name)

    def logits(self, name: str) -> Tensor:
        """Outputs of the head for a teacher, (B, its width)."""
        assert self.heads is not None
        return self.heads.logits(self.model, self.embedding, name)


class DistillObjective(nn.Module, ABC):
    """One thing that a student learns, and its loss.

    Attributes:
        name: one of `objective_text.OBJECTIVES`.
        reads_tokens: True where it asks the pass for `StudentPass.maps`.
        weight: factor of its losses.
    """

    name: ClassVar[str]
    reads_tokens: ClassVar[bool] = False

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def ask(self, batch: dict[str, Any]) -> Answers:
        """The answers of the teachers, without gradients."""

    def prepare(self, seen: StudentPass) -> None:
        """Start the student's pass, before the teachers' answers are waited for."""
        _ = seen.embedding

    @abstractmethod
    def forward(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """Losses by name, scalars, times ``weight``.

        Args:
            seen: the student's pass, with its batch.
            answers: of `ask` for the same batch.
        """

    @abstractmethod
    def agreement(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """How much the student says what the teachers say, by name, of each clip: (B,).

        From -1 or 0 to 1; NaN where a clip has nothing to compare.
        """


def as_grid(tokens: Tensor, name: str) -> Tensor:
    """Tokens of square clips, (B, T', N, C), row by row, as (B, T', H', W', C).

    Raises:
        UsageError: they are no square grid.
    """
    side = round(tokens.shape[2] ** 0.5)
    if side * side != tokens.shape[2]:
        raise UsageError(
            f"{name or 'the student'} has {tokens.shape[2]} tokens a frame, which are no grid",
            "distill.target=logits needs none",
        )
    return tokens.unflatten(2, (side, side))

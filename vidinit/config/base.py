"""What the configurations of all commands have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from . import contradictions as wrong
from .contradictions import Contradiction
from .data import DataConfig
from .scoring import EvalConfig
from .section import Section
from .train import TrainConfig

DEFAULT = "default"
"""The place of a value that nobody has set."""


class RunConfig(Section):
    """What all configured commands share.

    Attributes:
        command: the command that the class configures.
    """

    command: ClassVar[str]

    model: str
    """Zoo name, model folder or run folder."""
    out: str | None = None
    """Folder to write; default: runs/<command>-<model>-<n>."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward pass; weights stay float32. auto: bf16 on GPUs that are fast at it."""
    data: DataConfig = Field(default_factory=DataConfig)
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key to the place where its value comes from; `DEFAULT` where it is not in it."""
        return self._origins

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every setting, sections inside, as JSON has them; ``model`` is empty."""
        return cls.model_construct(model="").model_dump(mode="json")

    def contradictions(self) -> Iterator[Contradiction]:
        """What does not go together in a configuration whose values are all in range."""
        yield from ()

    def __eq__(self, other: object) -> bool:
        """Whether the settings are the same, wherever they come from."""
        return type(self) is type(other) and vars(self) == vars(other)


class TrainRunConfig(RunConfig):
    """What all training commands share."""

    init_from: str | None = None
    """Model, run or checkpoint folder whose weights MODEL starts with; the run itself is new."""
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="before")
    @classmethod
    def _model_of_its_weights(cls, values: Any) -> Any:
        """Where no network is named, it is that of the weights."""
        if isinstance(values, dict) and values.get("init_from") and "model" not in values:
            return {**values, "model": values["init_from"]}
        return values

    @property
    def evaluations(self) -> EvalConfig | None:
        """How the training evaluates; None for one that does not."""
        return getattr(self, "eval", None)

    def contradictions(self) -> Iterator[Contradiction]:
        """What does not go together in a configuration whose values are all in range.

        ``train.select=best`` without evaluation is none: the last weights are then kept.
        """
        yield from wrong.schedule_out_of_order(self.train)
        yield from wrong.synced_norms_out_of_reach(self.train)
        yield from wrong.colors_of_flow(self.data)
        yield from self.own_contradictions()
        yield from wrong.patience_without_evaluations(self.train, self.evaluations)

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Contradictions that only this kind of training knows."""
        if self.train.probes:
            yield ("train.probes",), "train.probes are for vidinit finetune"

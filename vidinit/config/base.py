"""Base classes of the configurations of commands."""

from __future__ import annotations

import shlex
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
    """Settings that all configured commands share.

    Attributes:
        command: the command that the class configures.
    """

    command: ClassVar[str]

    model: str
    """Zoo name, model folder or run folder."""
    out: str | None = None
    """Folder to write; default: runs/<command>-<model>-<n>."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on."""
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
        """Settings that do not go together, in a configuration whose values are all in range."""
        yield from ()

    def __eq__(self, other: object) -> bool:
        """True where the settings are the same, wherever they come from."""
        return type(self) is type(other) and vars(self) == vars(other)


class TrainRunConfig(RunConfig):
    """Settings that all trainings share."""

    options: list[str] = Field(default_factory=list)
    """KEY=VALUE: of the plan or family, where MODEL is a zoo name; `midplanes=per_conv`."""
    init_from: str | None = None
    """Model, run or checkpoint folder whose weights MODEL starts with; the run itself is new."""
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="before")
    @classmethod
    def _model_of_its_weights(cls, values: Any) -> Any:
        """Take the network of the weights where no other is named."""
        if isinstance(values, dict) and values.get("init_from") and "model" not in values:
            return {**values, "model": values["init_from"]}
        return values

    @property
    def evaluations(self) -> EvalConfig | None:
        """Settings of the evaluations while training; None for a training without any."""
        return getattr(self, "eval", None)

    def contradictions(self) -> Iterator[Contradiction]:
        """Settings that do not go together, in a configuration whose values are all in range.

        ``train.select=best`` without evaluation is none: the last weights are then kept.
        """
        yield from wrong.schedule_out_of_order(self.train)
        yield from wrong.synced_norms_out_of_reach(self.train)
        yield from wrong.colors_of_flow(self.data)
        yield from wrong.classes_evened_out_twice(self.data, self.train)
        yield from self.own_contradictions()
        yield from wrong.patience_without_evaluations(self.train, self.evaluations)

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Contradictions that only this kind of training knows."""
        if self.train.probes:
            yield ("train.probes",), "train.probes are for vidinit finetune"
        if self.data.split == "all":
            yield ("data.split",), "data.split=all is for vidinit finetune and vidinit eval"

    def next_command(self, out: str) -> str:
        """The command line to type after a run: score the model on its data.

        Args:
            out: the run's folder.
        """
        data = self.scored_data()
        words = ["vidinit", "eval", out]
        if data.class_names is not None:
            words.append(f"data.class_names={data.class_names}")
        if data.split != 1:
            words.append(f"data.split={data.split}")
        option, places = ("--val", data.val) if data.val is not None else ("--data", data.train)
        for place in [places] if isinstance(places, str) else places or []:
            words += [option, place]
        if data.root is not None:
            words += ["--root", data.root]
        return shlex.join(words)

    def scored_data(self) -> DataConfig:
        """The data that the model is to be scored on."""
        return self.data

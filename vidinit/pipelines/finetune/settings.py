"""Settings of `vidinit finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ...config.base import TrainRunConfig
from ...config.contradictions import Contradiction
from ...config.scoring import EvalConfig, TextSection


class FinetuneConfig(TrainRunConfig):
    """Configuration of `vidinit finetune`."""

    command: ClassVar[str] = "finetune"

    source: str | None = None
    """Which source of a co-trained MODEL to go on with: its head, and by default its data."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    text: TextSection = Field(default_factory=TextSection)

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Contradictions of probes."""
        if self.train.probes:
            yield from _probes(self)


def _probes(config: FinetuneConfig) -> Iterator[Contradiction]:
    """Probes keep the whole trunk as it is, and have nothing to do with one another."""
    train = config.train
    if isinstance(train.freeze, list):
        text = "train.probes freeze the whole trunk, train.freeze names parts of it"
        yield ("train.probes", "train.freeze"), text
    for name, off in (("drop_path", 0), ("precise_bn", 0), ("layer_decay", None)):
        if (value := getattr(train, name)) != off:
            text = f"train.{name}={value:g} is for a trunk that is trained, train.probes freeze it"
            yield ("train.probes", f"train.{name}"), text
    if train.compile and any(text.startswith("dist") for text in train.probes):
        text = "train.compile does not reach the outputs of blocks, which probe dist reads"
        yield ("train.probes", "train.compile"), text
    if config.text.model or config.text.file:
        yield ("train.probes", "text.model", "text.file"), "train.probes have heads of their own"
    if len(train.probes) == 1:
        return
    if train.clip_grad is not None:
        text = f"train.clip_grad={train.clip_grad:g} clips by the gradients of all train.probes"
        yield ("train.probes", "train.clip_grad"), f"{text}, which must not know of one another"
    if train.optimizer == "lamb":
        text = "train.optimizer=lamb goes by the gradients of all train.probes"
        yield ("train.probes", "train.optimizer"), f"{text}, which must not know of one another"

"""Settings of `vidinit finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ...config.base import TrainRunConfig
from ...config.contradictions import Contradiction
from ...config.probe_text import DIST, named_probes
from ...config.scoring import FrozenEvalConfig, TextSection


class FinetuneConfig(TrainRunConfig):
    """Configuration of `vidinit finetune`."""

    command: ClassVar[str] = "finetune"

    source: str | None = None
    """Which source of a co-trained MODEL to go on with: its head, and by default its data."""
    whole: bool = False
    """Store a frozen tower or video encoder in the model folder, where it would be named."""
    eval: FrozenEvalConfig = Field(default_factory=FrozenEvalConfig)
    text: TextSection = Field(default_factory=TextSection)

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Contradictions of probes."""
        if self.train.probes:
            yield from _probes(self)
        yield from _features(self)


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
    if train.compile and _has_dist(train.probes):
        text = "train.compile does not reach the outputs of blocks, which probe dist reads"
        yield ("train.probes", "train.compile"), text
    if config.text.model or config.text.file:
        yield ("train.probes", "text.model", "text.file"), "train.probes have heads of their own"
    if len(named_probes(train.probes)) == 1:
        return
    if train.clip_grad is not None:
        text = f"train.clip_grad={train.clip_grad:g} clips by the gradients of all train.probes"
        yield ("train.probes", "train.clip_grad"), f"{text}, which must not know of one another"
    if train.optimizer == "lamb":
        text = "train.optimizer=lamb goes by the gradients of all train.probes"
        yield ("train.probes", "train.optimizer"), f"{text}, which must not know of one another"


def _features(config: FinetuneConfig) -> Iterator[Contradiction]:
    """What a frozen trunk gives can be kept where it depends on one clip, and on nothing else."""
    train, data = config.train, config.data
    name = "train.feature_views" if train.feature_cache is None else "train.feature_cache"
    value = train.feature_views if train.feature_cache is None else train.feature_cache
    if value is not None and not train.probes:
        text = f"{name}={value} is for what a frozen trunk gives probes: add --probe"
        yield ("train.probes", name), text
    if train.feature_precision != "fp32" and not train.probes:
        text = "train.feature_precision is for what a frozen trunk gives probes: add --probe"
        yield ("train.probes", "train.feature_precision"), text
    if train.feature_precision != "fp32" and _has_dist(train.probes):
        text = "probe dist reads more of the trunk than train.feature_precision rounds"
        yield ("train.probes", "train.feature_precision"), text
    if train.feature_cache is None:
        return
    if _has_dist(train.probes):
        text = (
            "probe dist sees the clips themselves, which train.feature_cache does not keep; "
            "train.tap_cache is for models of the plan dist"
        )
        yield ("train.probes", "train.feature_cache"), text
    for key in ("mixup", "cutmix"):
        if getattr(data, key):
            text = f"data.{key}={getattr(data, key):g} makes a clip of two, none of which is kept"
            yield ("train.feature_cache", f"data.{key}"), text
    if data.flip == "swap":
        text = "data.flip=swap gives a clip a label by how it was drawn, which is not kept"
        yield ("train.feature_cache", "data.flip"), text
    if data.sampling == "all":
        text = "data.sampling=all makes clips of different lengths, which fit in no one store"
        yield ("train.feature_cache", "data.sampling"), text
    if train.tap_cache is not None:
        text = "train.tap_cache keeps the same for models that train beside their tower: name one"
        yield ("train.feature_cache", "train.tap_cache"), text


def _has_dist(probes: list[str]) -> bool:
    return any(entry.kind == DIST for entry in named_probes(probes).values())

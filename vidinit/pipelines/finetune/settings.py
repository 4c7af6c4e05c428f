"""Settings of `vidinit finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from ...config.base import TrainRunConfig
from ...config.contradictions import Contradiction
from ...config.detect import DetectConfig
from ...config.probe_text import DIST, SOLVED, named_probes
from ...config.scoring import FrozenEvalConfig, TextSection
from ..detect import settings as boxes


class FinetuneConfig(TrainRunConfig):
    """Configuration of `vidinit finetune`."""

    command: ClassVar[str] = "finetune"

    task: Literal["classify", "detect"] = "classify"
    """Actions of whole clips, or of the people in boxes, which the data then has."""
    source: str | None = None
    """Which source of a co-trained MODEL to go on with: its head, and by default its data."""
    whole: bool = False
    """Store a frozen tower or video encoder in the model folder, where it would be named."""
    test: str | list[str] | None = None
    """Data scored once, at the end, by the model that is kept; its test part where it has one."""
    folds: int | None = Field(None, ge=2)
    """Runs, each validated on another of so many parts: groups stay whole, classes even."""
    fold: str | None = Field(None, pattern=r"^[1-9]\d*/[1-9]\d*$")
    """K/N: the run that is validated on the K-th of N folds."""
    seeds: int | None = Field(None, ge=2)
    """Runs with so many seeds from train.seed on, and their mean and range."""
    eval: FrozenEvalConfig = Field(default_factory=FrozenEvalConfig)
    text: TextSection = Field(default_factory=TextSection)
    detect: DetectConfig = Field(default_factory=DetectConfig)

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Contradictions of probes, and of detection."""
        if self.task == "detect":
            yield from boxes.contradictions(self.data, self.train, self.eval, self.detect)
        else:
            yield from boxes.without_task(self.detect)
        if self.train.probes:
            yield from _probes(self)
        yield from _features(self)
        yield from _several_runs(self)


def _several_runs(config: FinetuneConfig) -> Iterator[Contradiction]:
    """Sets of runs by several things at once, and folds of data that is split already."""
    given = {name: getattr(config, name) for name in ("folds", "fold", "seeds")}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        named = " and ".join(f"{name}={value}" for name, value in given.items())
        yield tuple(given), f"{named}: runs differ in one thing at a time"
    for name in given:
        if config.data.split == "all":
            text = f"data.split=all and {name}={given[name]}: runs differ in one thing at a time"
            yield ("data.split", name), text
        if name != "seeds" and config.data.val is not None:
            text = f"{name}={given[name]} holds out training clips, and data.val names others"
            yield (name, "data.val"), text
    number, _, count = (config.fold or "1/1").partition("/")
    if int(number) > int(count):
        yield ("fold",), f"fold={config.fold}: there are {count} folds"
    if config.test is not None and config.task == "detect":
        yield ("test", "task"), "test is for clips with a class, task=detect has boxes: use eval"
    kinds = {entry.kind for entry in named_probes(config.train.probes).values()}
    if config.test is not None and kinds & set(SOLVED):
        text = "probes that are solved are chosen by cross-validation: name the test data as val"
        yield ("test", "train.probes"), text


def _probes(config: FinetuneConfig) -> Iterator[Contradiction]:
    """Probes keep the whole trunk as it is, and have nothing to do with one another."""
    train = config.train
    kinds = [entry.kind for entry in named_probes(train.probes).values()]
    if solved := [kind for kind in kinds if kind in SOLVED]:
        if trained := [kind for kind in kinds if kind not in SOLVED]:
            text = f"probe {solved[0]} is solved over one pass, probe {trained[0]} is trained"
            yield ("train.probes",), f"{text}: probe them in two runs"
        for name in ("feature_cache", "feature_views"):
            if getattr(train, name) is not None:
                text = f"train.{name} is for probes that are trained, {solved[0]} is solved at once"
                yield ("train.probes", f"train.{name}"), text
        for key in ("mixup", "cutmix"):
            if getattr(config.data, key):
                text = f"data.{key} is for probes that are trained, {solved[0]} is solved at once"
                yield ("train.probes", f"data.{key}"), text
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
    """Features of a frozen trunk can be kept where they depend on one clip, and on nothing else."""
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

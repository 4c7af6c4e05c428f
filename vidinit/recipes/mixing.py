"""The sources of a co-training, ready to be drawn from, and the plan of who is drawn how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..config import CotrainConfig, DataConfig, SourceConfig
from ..data.label_spaces import LabelSpaces, label_spaces, overlapping, without_leaks
from ..data.loading.datasets import ClipDataset
from ..data.loading.loader import train_loader
from ..data.loading.watchdog import Quarantine
from ..data.rows import Rows
from ..engine.job import Batch
from ..errors import DataError, UsageError
from ..report.progress import say
from ..tasks.cotrain import PARTS
from ..tasks.mixture import mixture, schedule, step_counts
from ..zoo.base import ClipSpec
from .clips import CheckedSplit, flips, quarantine_of, training_clips, workers_of

# Settings of a source that stand for those of `data` where they are given.
_OWN_DATA = (
    *("repeats", "sampling", "start", "decode_side", "flip", "min_area", "jitter", "randaug"),
    *("color_jitter", "grayscale", "erasing", "mixup", "cutmix"),
)


@dataclass
class Source:
    """A source ready to train on.

    Attributes:
        config: its settings.
        data: how its clips are cut: the run's settings with its own in their place.
        dataset: its training clips.
        spec: frames, stride and sampling of a clip.
        batch_size: clips of a batch of one process.
        accumulate: batches of a step.
        epoch: batches of a pass over it.
        val: what it is validated on; None for nothing.
        quarantine, val_quarantine: what is known to be unreadable of both.
    """

    config: SourceConfig
    data: DataConfig
    dataset: ClipDataset
    spec: ClipSpec
    batch_size: int
    accumulate: int
    epoch: int
    val: Rows | None
    quarantine: Quarantine
    val_quarantine: Quarantine

    @property
    def name(self) -> str:
        """Of its head and its metrics."""
        return self.config.name

    @property
    def alone(self) -> int:
        """Steps of a pass over it."""
        return max(1, self.epoch // self.accumulate)


def check_sources(config: CotrainConfig) -> None:
    """Refuse what cannot be co-trained, before anything is read.

    Raises:
        UsageError: one source only, unless it is of images; two of one name; settings that nothing
            would heed.
    """
    sources, settings = config.sources, config.cotrain
    if not sources or (len(sources) == 1 and sources[0].kind == "video"):
        raise UsageError(
            f"co-training needs at least two sources, not {len(sources)}",
            "pass --source NAME=DIR twice, or --images NAME=DIR",
        )
    names = [source.name for source in sources]
    together = settings.schedule == "use_all"
    for source in sources:
        name = source.name
        if names.count(name) > 1:
            raise UsageError(f"two sources are called '{name}'", "name each once")
        if source.kind == "image" and source.frames not in (None, 1):
            raise UsageError(f"source '{name}': images are clips of one frame, not {source.frames}")
        if source.share is not None and source.steps is not None:
            raise UsageError(f"source '{name}' has a share and steps", "give one of them")
        for key, unset in (("share", None), ("steps", None), ("lr_scale", 1), ("accumulate", None)):
            if together and getattr(source, key) != unset:
                raise UsageError(
                    f"source '{name}' has {key}, and with cotrain.schedule=use_all each step takes "
                    "a batch of every source",
                    "use `weight`, or cotrain.schedule=use_one",
                )
        if not together and source.weight != 1:
            raise UsageError(
                f"source '{name}' has a weight, and with cotrain.schedule=use_one its share is it",
                "use `share`, or cotrain.schedule=use_all",
            )


def data_of(source: SourceConfig, data: DataConfig) -> DataConfig:
    """The run's settings of data with a source's own in their place."""
    own = {key: value for key in _OWN_DATA if (value := getattr(source, key)) is not None}
    return data.model_copy(update=own)


def spaces_of(config: CotrainConfig, clips: dict[str, CheckedSplit]) -> LabelSpaces:
    """Which sources share a head.

    Raises:
        DataError: a class of a shared head has two names in one source.
    """
    classes = {name: list(part.train.classes or ()) for name, part in clips.items()}
    groups = {s.name: s.labels for s in config.sources if s.labels is not None}
    videos = {s.name: classes[s.name] for s in config.sources if s.kind == "video"}
    found = overlapping({name: own for name, own in videos.items() if name not in groups})
    if config.cotrain.merge_labels:
        groups.update(found)
    for head in dict.fromkeys(found.values() if not config.cotrain.merge_labels else ()):
        say(f"note: {head}: they have classes in common; --merge-labels gives them one head")
    spaces = label_spaces(classes, groups)
    for head in dict.fromkeys(groups.values()):
        members = [name for name, own in spaces.head.items() if own == head]
        total = sum(len(classes[name]) for name in members)
        say(
            f"{head}: one head of {len(spaces.classes[head])} classes for {', '.join(members)}, "
            f"which have {total} in all"
        )
    return spaces


def unleaked(clips: dict[str, CheckedSplit], spaces: LabelSpaces) -> dict[str, CheckedSplit]:
    """Sources of one head without the training clips that one of them validates on.

    Raises:
        DataError: when nothing is left of a source.
    """
    left = dict(clips)
    for head in spaces.classes:
        members = [name for name, own in spaces.head.items() if own == head]
        if len(members) < 2:
            continue
        kept, dropped = without_leaks(
            {name: clips[name].train for name in members},
            {name: clips[name].val for name in members},
        )
        for name, count in dropped.items():
            if not kept[name].rows:
                raise DataError(
                    f"no clip of source '{name}' is left: others train or validate on all of them",
                    "leave it out",
                )
            say(f"{name}: {count} training clips left out that another source has, too")
        left.update({name: replace(clips[name], train=kept[name]) for name in members})
    return left


def source_dataset(
    source: SourceConfig, rows: Rows, config: CotrainConfig, spec: ClipSpec
) -> tuple[ClipSpec, ClipDataset]:
    """How the clips of a source are cut, and they themselves."""
    data = data_of(source, config.data)
    own = replace(
        spec,
        frames=1 if source.kind == "image" else source.frames or spec.frames,
        stride=source.stride or spec.stride,
        sampling=source.sampling or spec.sampling,
    )
    flip = flips(data.flip, rows, source.name)
    return own, training_clips(rows, own, data, seed=config.train.seed, flip=flip)


def make_source(
    source: SourceConfig, clips: CheckedSplit, config: CotrainConfig, spec: ClipSpec, world: int
) -> Source:
    """A source with its clips, in batches that suit it."""
    data = data_of(source, config.data)
    # A clip of T frames costs what T images cost, so images come T times as many.
    equal = data.clips * (spec.frames if source.kind == "image" else 1)
    rows = clips.train
    videos = min(max(1, (source.batch_size or equal) // data.repeats), max(1, len(rows) // world))
    own, dataset = source_dataset(source, rows, config, spec)
    return Source(
        source,
        data,
        dataset,
        own,
        videos * data.repeats,
        source.accumulate or config.train.accumulate,
        max(1, len(rows) // (videos * world)),
        clips.val,
        quarantine_of(rows, clips.check.known),
        quarantine_of(clips.val or rows.of(()), clips.check.known),
    )


class Mixture:
    """Who is drawn when: the steps of each epoch, a function of the seed alone.

    The first source is the primary one: an epoch has as many steps as it needs for one pass.

    Args:
        sources: the primary one first.
        config: of the run.
        rank, world: which of how many processes this is; all draw the same sources.

    Raises:
        UsageError: shares that leave nothing for a source, or a source without a step.
    """

    def __init__(
        self, sources: list[Source], config: CotrainConfig, *, rank: int = 0, world: int = 1
    ) -> None:
        self.sources, self.config = sources, config
        self.rank, self.world = rank, world
        self.together = config.cotrain.schedule == "use_all"
        self.counts = self._counts()
        for source, count in zip(sources, self.counts, strict=True):
            if count == 0:
                raise UsageError(
                    f"source '{source.name}' gets no step in an epoch of {sum(self.counts)}",
                    "raise its share or its data",
                )

    def _counts(self) -> list[int]:
        """Steps of each source in an epoch."""
        primary = self.sources[0]
        if self.together:
            return [primary.alone] * len(self.sources)
        counts = [source.config.steps or 0 for source in self.sources]
        free = [k for k, source in enumerate(self.sources) if source.config.steps is None]
        if free:
            shares = mixture(
                [self.sources[k].config.share for k in free],
                [self.sources[k].alone for k in free],
                alpha=self.config.cotrain.alpha,
            )
            # By the primary source, or the first one that has no fixed number of steps.
            total = max(1, round(self.sources[free[0]].alone / shares[0]))
            for k, count in zip(free, step_counts(shares, total), strict=True):
                counts[k] = count
        return counts

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer in an epoch."""
        return self.counts[0] if self.together else sum(self.counts)

    @property
    def batches_per_step(self) -> int:
        """The most batches that a step takes."""
        if self.together:
            return self.config.train.accumulate
        return max(source.accumulate for source in self.sources)

    def plan(self) -> list[dict[str, Any]]:
        """What an epoch is made of, by source, for people and for result.json."""
        rows = []
        for source, count in zip(self.sources, self.counts, strict=True):
            clips = count * source.accumulate * source.batch_size * self.world
            rows.append(
                {
                    "source": source.name,
                    "steps_per_epoch": count,
                    "clips_per_step": source.accumulate * source.batch_size * self.world,
                    "frames": source.spec.frames,
                    "passes_per_epoch": clips / (len(source.dataset.rows) * source.data.repeats),
                }
            )
        return rows

    def say_plan(self) -> None:
        """Print the plan."""
        for row in self.plan():
            say(
                f"{row['source']}: {row['steps_per_epoch']} steps an epoch of "
                f"{row['clips_per_step']} x {row['frames']} frames, "
                f"{row['passes_per_epoch']:.2f} passes over its data"
            )
        if self.together:
            say(f"an epoch is {self.steps_per_epoch} steps, each of them on all sources")

    def steps(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        """The batches of each step of an epoch, from one of its steps on."""
        if self.together:
            streams = [self._stream(k, (epoch * self.counts[k] + start)) for k in self._places()]
            for _ in range(start, self.steps_per_epoch):
                yield [
                    joined({s.name: next(streams[k]) for k, s in enumerate(self.sources)})
                    for _ in range(self.config.train.accumulate)
                ]
            return
        order = schedule(self.counts, seed=self.config.train.seed, epoch=epoch)
        streams = [
            self._stream(k, epoch * self.counts[k] + int((order[:start] == k).sum()))
            for k in self._places()
        ]
        for k in order[start:]:
            yield [next(streams[k]) for _ in range(self.sources[k].accumulate)]

    def _places(self) -> range:
        return range(len(self.sources))

    def _stream(self, place: int, steps_done: int) -> Iterator[Batch]:
        """Endless batches of one source; after so many steps, counted over all its own epochs."""
        source, train = self.sources[place], self.config.train
        accumulate = train.accumulate if self.together else source.accumulate
        epoch, start = divmod(steps_done * accumulate, source.epoch)
        workers = workers_of(source.data, self.world)
        while True:
            for batch in train_loader(
                source.dataset,
                batch_size=source.batch_size,
                workers=max(min(1, workers), workers // len(self.sources)),
                seed=train.seed,
                epoch=epoch,
                rank=self.rank,
                world=self.world,
                start=start,
                deadline=source.data.deadline,
                quarantine=source.quarantine,
            ):
                yield {**batch, "source": source.name}
            epoch, start = epoch + 1, 0


def joined(parts: dict[str, Batch]) -> Batch:
    """A batch of every source as one; see `tasks.cotrain.CotrainTask.forward`."""
    return {
        PARTS: parts,
        "skipped": torch.cat([part["skipped"] for part in parts.values()]),
        "bad": [path for part in parts.values() for path in part["bad"]],
    }


def parts_of(batch: Batch) -> list[Batch]:
    """The batches of single sources that a batch of `Mixture.steps` is made of."""
    return list(batch[PARTS].values()) if PARTS in batch else [batch]

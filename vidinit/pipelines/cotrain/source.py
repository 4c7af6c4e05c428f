"""The sources of a co-training: their checks, their shared heads, and their clips."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...config import DataConfig
from ...console import say
from ...data.label_spaces import LabelSpaces, label_spaces, overlapping, same_class, without_leaks
from ...data.loading.datasets import ClipDataset
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...errors import DataError, UsageError
from ...zoo.base import VideoModel
from ...zoo.spec import ClipSpec
from ..shared.clips import CheckedSplit, flips, quarantine_of, training_clips
from ..shared.random_clips import NOISE
from .settings import CotrainConfig, SourceConfig

# Settings of a source that stand for those of `data` where they are given.
_OWN_DATA = (
    *("repeats", "sampling", "start", "decode_side", "flip", "min_area", "jitter", "randaug"),
    *("color_jitter", "grayscale", "erasing", "mixup", "cutmix", "balance"),
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
        val: validation rows, or None.
        quarantine, val_quarantine: the rows of both that are known to be unreadable.
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


def random_sources() -> list[SourceConfig]:
    """A source of videos and one of images, for a dry run without any."""
    return [
        SourceConfig(name="videos", data=NOISE),
        SourceConfig(name="images", data=NOISE, kind="image"),
    ]


def check_several(config: CotrainConfig) -> None:
    """Refuse a single source of videos: that is a fine-tuning, but in a set of subsets.

    Raises:
        UsageError: one source only, unless it is of images.
    """
    sources = config.sources
    if not sources or (len(sources) == 1 and sources[0].kind == "video"):
        raise UsageError(
            f"co-training needs at least two sources, not {len(sources)}",
            "pass --source NAME=DIR twice, or --images NAME=DIR",
        )


def check_sources(config: CotrainConfig) -> None:
    """Refuse sources that cannot be trained together, before anything is read.

    Raises:
        UsageError: no source; two of one name; settings that nothing would heed.
    """
    sources, settings = config.sources, config.cotrain
    if not sources:
        check_several(config)
    names = [source.name for source in sources]
    use_all = settings.schedule == "use_all"
    for source in sources:
        name = source.name
        if names.count(name) > 1:
            raise UsageError(f"two sources are called '{name}'", "name each once")
        if source.kind == "image" and source.frames not in (None, 1):
            raise UsageError(f"source '{name}': images are clips of one frame, not {source.frames}")
        if source.share is not None and source.steps is not None:
            raise UsageError(f"source '{name}' has a share and steps", "give one of them")
        for key, unset in (("share", None), ("steps", None), ("lr_scale", 1), ("accumulate", None)):
            if use_all and getattr(source, key) != unset:
                raise UsageError(
                    f"source '{name}' has {key}, and with cotrain.schedule=use_all each step takes "
                    "a batch of every source",
                    "use `weight`, or cotrain.schedule=use_one",
                )
        if not use_all and source.weight != 1:
            raise UsageError(
                f"source '{name}' has a weight, and with cotrain.schedule=use_one its share is it",
                "use `share`, or cotrain.schedule=use_all",
            )


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
        _say_renamed(head, members, spaces)
    return spaces


def _say_renamed(head: str, members: list[str], spaces: LabelSpaces) -> None:
    """Say which classes share an output though the sources call them by other words."""
    joint = spaces.classes[head]
    told = {
        f"'{joint[output]}' and '{name}'"
        for source in members
        for name, output in zip(spaces.names[source], spaces.outputs[source], strict=True)
        if same_class(name) != same_class(joint[output])
    }
    if told:
        say(f"note: {head}: one class each in editions of Kinetics: {', '.join(sorted(told))}")


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
            say(
                f"note: {name}: {count} training clips left out: a source of the same head "
                "validates on these videos, or trains on them, too"
            )
        left.update({name: replace(clips[name], train=kept[name]) for name in members})
    return left


def check_lengths(sources: list[Source], model: VideoModel) -> None:
    """Refuse clips that the model does not take.

    Raises:
        UsageError: naming the source whose they are.
    """
    lengths = model.clip_lengths()
    for source in sources:
        if lengths is not None and source.spec.frames not in lengths:
            takes = " or ".join(map(str, sorted(lengths)))
            raise UsageError(
                f"source '{source.name}' has clips of {source.spec.frames} frames, and "
                f"{model.name} takes {takes}",
                "give all sources of videos the same, and set data.frames to it",
            )


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


def source_dataset(
    source: SourceConfig, rows: Rows, config: CotrainConfig, spec: ClipSpec
) -> tuple[ClipSpec, ClipDataset]:
    """How the clips of a source are cut, and they themselves.

    Raises:
        UsageError: images for a model that sees optical flow.
    """
    data = data_of(source, config.data)
    if source.kind == "image" and spec.flow is not None:
        raise UsageError(
            f"source '{source.name}' has images, and images have no optical flow", "leave it out"
        )
    own = replace(
        spec,
        frames=1 if source.kind == "image" else source.frames or spec.frames,
        stride=source.stride or spec.stride,
        sampling=source.sampling or spec.sampling,
    )
    flip = flips(data.flip, rows, source.name)
    return own, training_clips(rows, own, data, seed=config.train.seed, flip=flip)


def data_of(source: SourceConfig, data: DataConfig) -> DataConfig:
    """The run's settings of data with a source's own in their place."""
    own = {key: value for key in _OWN_DATA if (value := getattr(source, key)) is not None}
    return data.model_copy(update=own)

"""Co-train one trunk on several video sets and image sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...console import say, with_messages
from ...data.rows import Rows
from ...data.sources import train_val
from ...engine.collectives import from_main
from ...engine.job import Batch, Job
from ...errors import UsageError
from ...scoring.score import score
from ...zoo.base import VideoModel
from ..shared.clips import (
    CheckedSplit,
    advice_of,
    check_split,
    paths_of,
    quarantine_of,
    scoring_options,
    split_of,
)
from ..shared.dry_run import random_split
from ..shared.on_device import OnDevice
from ..shared.overlap import say_overlaps
from ..shared.skewed_classes import class_weights, keep_class_weights, say_skew
from ..shared.summary import describe_batch
from ..shared.training import Training, finished_result, leaves_unused, open_for_training, saver
from ..shared.weighted_loss import set_divisors
from .mixing import Mixture, parts_of
from .settings import CotrainConfig, SourceConfig
from .source import (
    Source,
    check_lengths,
    check_sources,
    data_of,
    make_source,
    random_sources,
    source_dataset,
    spaces_of,
    unleaked,
)
from .task import PARTS, CotrainTask


def execute(
    config: CotrainConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.cotrain`; the course is that of `shared.training.Training`."""
    if random := dry_run and not config.sources:
        config.sources = random_sources()
    check_sources(config)
    if (done := finished_result(config, resume)) is not None:
        return done
    found = {} if random else _labeled_rows(config)
    training = Training(
        config,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        find_unused=_leaves_unused(config),
    )
    world, rank = training.accelerator.num_processes, training.accelerator.process_index
    splits = _readable(found, training)
    spaces = spaces_of(config, splits)
    whole = {name: len(split.train) for name, split in splits.items()}
    splits = unleaked(splits, spaces)
    overlap, notes = from_main(  # it looks at each file
        training.accelerator,
        lambda: say_overlaps(
            {name: split.train for name, split in splits.items()},
            {name: split.val for name, split in splits.items()},
            {source.name: source.val is not None for source in config.sources},
        ),
    )
    skew = {s.name: _say_skew(s, splits[s.name].train, config) for s in config.sources}
    notes += [note for _, told in skew.values() for note in told]
    class_weights_of = _class_weights(config, splits, real=not random)
    images = {source.name for source in config.sources if source.kind == "image"}
    model = open_for_training(config, next(iter(spaces.classes.values())))
    if images:
        model.still = config.cotrain.still
    task = CotrainTask(
        model,
        spaces,
        image_sources=images,
        label_smoothing=config.train.label_smoothing,
        weights={source.name: source.weight for source in config.sources},
        class_weights=class_weights_of,
        norms=config.cotrain.norms,
    )
    on_device = _OnDeviceBySource(config, model, splits, rank, world)
    if config.data.batch_size == "auto":
        _choose_batch_size(training, task, on_device, splits)
    sources = [make_source(s, splits[s.name], config, model.spec, world) for s in config.sources]
    check_lengths(sources, model)
    mixture = Mixture(sources, config, rank=rank, world=world)
    mixture.say_plan()
    say(_batch_line(sources[0], config, world))
    run = training.open_run(
        [split.check.health for split in splits.values()],
        [one for source in sources for one in (source.quarantine, source.val_quarantine)],
    )
    keep_class_weights(run, class_weights_of, spaces.names)
    held_out = [(s.config.data, s.val) for s in sources if s.config.val is None]
    parts = [split_of(place, val) for place, val in held_out if val is not None]
    run.write_json("split.json", {"sources": parts})
    with_divisors = _divisors(class_weights_of, training.accelerator)
    primary = sources[0]
    lr_scales = {source.name: source.config.lr_scale for source in sources}
    rows = {source.name: source.dataset.rows for source in sources}
    job = Job(
        title="cotrain",
        task=task,
        steps=lambda epoch, start: map(with_divisors, mixture.steps(epoch, start)),
        steps_per_epoch=mixture.steps_per_epoch,
        batches_per_step=mixture.batches_per_step,
        # Of the primary source, whose batches the learning rate is meant for.
        clips_per_batch=primary.batch_size,
        clips_per_step=primary.batch_size * primary.accumulate,
        # All batches of a step are of one source, or of all, whose scales are 1.
        lr_scale=lambda group: lr_scales.get(group[0].get("source", ""), 1.0),
        paths=lambda batch: [
            path for part in parts_of(batch) for path in paths_of(rows[part["source"]], part)
        ],
        advice=advice_of(config.data, world),
        config=config.model_dump(mode="json"),
        parts=parts_of,
        for_norms=lambda batch: batch["source"] not in images,
        on_device=on_device,
        save_model=saver(
            model,
            run,
            {"step": "cotrain", "sources": {s.name: s.data for s in config.sources}},
            lambda: {
                **task.save_options(),
                "source_clips": {source.name: source.spec.as_dict() for source in sources},
            },
        ),
        evaluate=_evaluation(task, sources, training),
        evaluate_every=config.eval.every,
        watch=f"top1_{primary.name}",
    )
    videos = sum(len(source.dataset.rows) for source in sources)
    facts = {
        source.name: {
            "class_clips": skew[source.name][0],
            "left_out": whole[source.name] - len(source.dataset.rows),
            "overlap": count,
        }
        for source, count in zip(sources, overlap, strict=True)
    }
    if dry_run:
        kinds = {name: with_divisors(group) for name, group in mixture.kinds().items()}
        result = training.rehearse(job, clips=None if random else videos, kinds=kinds)
        if random:
            return result
        timed = mixture.timed(result.pop("step_seconds"))
        return {**result, **timed, "sources": _joined(timed["sources"], facts)}
    plan = _joined(mixture.plan(), facts)
    return training.finish(job, training.fit(job), videos=videos, sources=plan, notes=notes)


def _joined(
    plan: dict[str, dict[str, Any]], facts: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The sentences on all sources, together."""
    return {name: {**row, **facts[name]} for name, row in plan.items()}


def _leaves_unused(config: CotrainConfig) -> bool:
    """True where a step may leave parameters without a gradient, which DDP has to be told.

    A step on one source leaves the other heads alone, and one on images alone what compares frames:
    without a second frame a transformer's temporal queries and keys do nothing. Some models leave
    a layer unused in any case.
    """
    alone = config.cotrain.schedule == "use_one" or all(s.kind == "image" for s in config.sources)
    return alone or leaves_unused(config.model)


def _labeled_rows(config: CotrainConfig) -> dict[str, tuple[Rows, Rows]]:
    """Training and validation rows of each source as they stand in its data."""
    data, found = config.data, {}
    for s in config.sources:
        found[s.name] = with_messages(
            lambda s=s: train_val(  # type: ignore[misc]
                s.data,
                s.val,
                val_fraction=data.val_fraction,
                seed=config.train.seed,
                kinds=s.kind,
                shots=data.shots,
                root=s.root or data.root,
                class_names=s.class_names,
                split=data.one_split,
            )
        )
        if found[s.name][0].kind != "single":
            raise UsageError(
                f"source '{s.name}' has several labels a clip", "co-training takes one class a clip"
            )
    return found


def _readable(
    found: dict[str, tuple[Rows, Rows]], training: Training[CotrainConfig]
) -> dict[str, CheckedSplit]:
    """The rows of each source that can be read; random clips where nothing was found."""
    config, resumed = training.config, training.resumed
    if not found:
        return {s.name: random_split(config, f"source of {s.name}") for s in config.sources}

    def check() -> dict[str, CheckedSplit]:
        return {
            name: check_split(*rows, config.data, name, resumed) for name, rows in found.items()
        }

    return from_main(training.accelerator, check)


def _say_skew(
    source: SourceConfig, rows: Rows, config: CotrainConfig
) -> tuple[dict[str, int], list[str]]:
    """`shared.skewed_classes.say_skew` of a source's training rows, with its own settings."""
    return say_skew(
        rows,
        source.name,
        balance=source.balance or config.data.balance,
        class_weights=source.class_weights or config.train.class_weights,
    )


def _class_weights(
    config: CotrainConfig, splits: dict[str, CheckedSplit], *, real: bool
) -> dict[str, list[float]]:
    """Weights of the classes of each source that has any, by source."""
    found = {
        s.name: class_weights(
            s.class_weights or config.train.class_weights,
            splits[s.name].train,
            s.name,
            real=real,
        )
        for s in config.sources
    }
    return {name: weights[0] for name, weights in found.items() if weights is not None}


def _divisors(
    weights: dict[str, list[float]], accelerator: Any
) -> Callable[[list[Batch]], list[Batch]]:
    """Gives the batches of a step what their weighted losses are divided by, source by source."""
    tensors = {name: torch.tensor(own) for name, own in weights.items()}

    def with_divisors(group: list[Batch]) -> list[Batch]:
        parts = [part for batch in group for part in parts_of(batch)]
        for name, own in tensors.items():
            if batches := [part for part in parts if part["source"] == name]:
                set_divisors(batches, [own], accelerator)
        return group

    return with_divisors


class _OnDeviceBySource:
    """`shared.on_device.OnDevice` of the source that a batch is of."""

    def __init__(
        self,
        config: CotrainConfig,
        model: VideoModel,
        splits: dict[str, CheckedSplit],
        rank: int,
        world: int,
    ) -> None:
        self.by_source = {}
        for source in config.sources:
            data = data_of(source, config.data)
            self.by_source[source.name] = OnDevice(
                model.spec.mean,
                model.spec.std,
                model.spec.channels == "bgr",
                mixup=data.mixup,
                cutmix=data.cutmix,
                num_classes=len(splits[source.name].train.classes or ()),
                label_smoothing=config.train.label_smoothing,
                seed=config.train.seed,
                rank=rank,
                world=world,
            )

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        if PARTS in batch:
            parts = {name: self(part, epoch, step) for name, part in batch[PARTS].items()}
            return {**batch, PARTS: parts}
        return self.by_source[batch["source"]](batch, epoch, step)


def _evaluation(
    task: CotrainTask, sources: list[Source], training: Training[CotrainConfig]
) -> Callable[[], dict[str, float]] | None:
    """Scores every source with its own head, views and norms' statistics; None without clips."""
    config, accelerator = training.config, training.accelerator
    if all(source.val is None for source in sources):
        return None

    def evaluate() -> dict[str, float]:
        metrics: dict[str, float] = {}
        for source in sources:
            if source.val is None:
                continue
            clips, crops = clips_and_crops(source, config)
            values = score(
                task.classifier(source.name),
                source.val,
                source.spec,
                accelerator,
                num_classes=len(source.val.classes or ()),
                clips=clips,
                crops=crops,
                start=config.eval.start,
                average=config.eval.average,
                **scoring_options(config.data, accelerator, source.val_quarantine),
            ).logged()
            metrics.update({f"{key}_{source.name}": value for key, value in values.items()})
        return metrics

    return evaluate


def clips_and_crops(source: Source, config: CotrainConfig) -> tuple[int, int]:
    """Clips and crops of a video, or of an image, of which there is one clip."""
    own = source.config
    clips = 1 if own.kind == "image" else own.clips or config.eval.clips
    return clips, own.crops or config.eval.crops


def _choose_batch_size(
    training: Training[CotrainConfig],
    task: CotrainTask,
    on_device: _OnDeviceBySource,
    splits: dict[str, CheckedSplit],
) -> None:
    """``data.batch_size=auto`` by the clips of the first source of videos."""
    config = training.config
    first = next((s for s in config.sources if s.kind == "video"), None)
    if first is None:
        raise UsageError(
            "data.batch_size=auto counts clips of videos, and there is no source of them",
            "set a number",
        )
    own = splits[first.name]
    training.choose_batch_size(
        task,
        source_dataset(first, own.train, config, task.model.spec)[1],
        lambda batch, *when: on_device({**batch, "source": first.name}, *when),
        quarantine_of(own.train, own.check.known),
    )


def _batch_line(primary: Source, config: CotrainConfig, world: int) -> str:
    """The batch that the learning rate is meant for."""
    train, own = config.train, primary.config
    shared = own.batch_size is None and own.kind == "video"
    line = describe_batch(
        primary.batch_size,
        world,
        primary.accumulate,
        train.lr,
        train.lr_batch,
        key="data.batch_size" if shared else "sources.0.batch_size",
    )
    return f"{own.name}: {line}"

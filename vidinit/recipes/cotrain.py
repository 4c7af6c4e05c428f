"""Co-train one trunk on several video sets and image sets, a head each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..config import CotrainConfig, SourceConfig
from ..data.loading.datasets import ClipDataset
from ..data.loading.loader import train_loader
from ..data.loading.watchdog import Quarantine
from ..data.rows import Rows
from ..data.sources import train_val
from ..engine.fit import Batch, Job, fit, make_accelerator
from ..engine.on_device import OnDevice
from ..engine.scoring import score
from ..engine.together import from_main
from ..errors import UsageError
from ..report.notes import with_messages
from ..report.progress import say
from ..tasks.cotrain import CotrainTask, schedule, step_counts
from ..zoo.base import ClipSpec
from .clips import (
    CheckedSplit,
    advice_of,
    checked_split,
    flips,
    paths_of,
    quarantine_of,
    scoring,
    training_clips,
    workers_of,
)
from .common import (
    finish,
    finished_result,
    open_model,
    open_run,
    saver,
    set_spec,
    set_training,
)
from .health import HealthFile


@dataclass
class Source:
    """A source ready to train on: its settings, clips, and steps it would take alone."""

    config: SourceConfig
    dataset: ClipDataset
    spec: ClipSpec
    batch_size: int
    alone: int
    val: Rows | None
    quarantine: Quarantine
    val_quarantine: Quarantine


def check_sources(sources: list[SourceConfig]) -> None:
    """Refuse what cannot be co-trained, before anything is read."""
    if len(sources) < 2:
        raise UsageError(
            f"co-training needs at least two sources, not {len(sources)}",
            "pass --source NAME=DIR twice, or --images NAME=DIR",
        )
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two sources are called '{name}'", "name each once")


def mixture(shares: list[float | None], alone: list[int]) -> list[float]:
    """Shares of the steps: those that were given, the rest in proportion to the steps taken alone.

    Raises:
        UsageError: when the given shares leave nothing for a source without one.
    """
    given = sum(share for share in shares if share is not None)
    rest = sum(steps for share, steps in zip(shares, alone, strict=True) if share is None)
    if rest and given >= 1:
        raise UsageError(
            f"the given shares add up to {given:g} and leave nothing for the other sources",
            "let them add up to less than 1, or give every source a share",
        )
    return [
        share if share is not None else (1 - given) * steps / rest
        for share, steps in zip(shares, alone, strict=True)
    ]


def execute(config: CotrainConfig, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """See `vidinit.cotrain`."""
    data, train = config.data, config.train
    check_sources(config.sources)
    if (done := finished_result(config.out, resume)) is not None:
        return done
    splits = {
        s.name: with_messages(
            lambda s=s: train_val(  # type: ignore[misc]
                s.data,
                s.val,
                val_fraction=data.val_fraction,
                seed=train.seed,
                kinds=s.kind,
                shots=data.shots,
                root=s.root or data.root,
                class_names=s.class_names,
                split=data.split,
            )
        )
        for s in config.sources
    }
    for name, (labelled, _) in splits.items():
        if labelled.kind != "single":
            raise UsageError(
                f"source '{name}' has several labels a clip", "co-training takes one class a clip"
            )
    accelerator = make_accelerator(config, seed=train.seed, find_unused=True)
    clips: dict[str, CheckedSplit] = from_main(
        accelerator,
        lambda: {
            name: checked_split(*split, data, name, config.out if resume else None)
            for name, split in splits.items()
        },
    )
    classes = {name: list(part.train.classes or ()) for name, part in clips.items()}
    model = open_model(config.model, *_primary(classes), init_from=config.init_from)
    set_training(model, train)
    spec = set_spec(model, data)
    world, rank = accelerator.num_processes, accelerator.process_index
    sources = [_source(s, clips[s.name], config, spec, world) for s in config.sources]
    shares = mixture([s.config.share for s in sources], [s.alone for s in sources])
    counts = step_counts(shares, sum(s.alone for s in sources))
    for source, count in zip(sources, counts, strict=True):
        say(
            f"{source.config.name}: {count} steps an epoch, {source.batch_size} x "
            f"{source.spec.frames} frames, {count / source.alone:.2f} passes over its data"
        )
    if 0 in counts:
        name = sources[counts.index(0)].config.name
        raise UsageError(f"source '{name}' gets no step", "raise its share or its data")
    run = open_run(config, "cotrain", accelerator, resume=resume, overwrite=overwrite)
    health = HealthFile(
        run,
        [part.check.health for part in clips.values()],
        [one for s in sources for one in (s.quarantine, s.val_quarantine)],
        resumed=resume,
    )
    workers = workers_of(data, world)
    task = CotrainTask(
        model,
        classes,
        image_sources={s.config.name for s in sources if s.config.kind == "image"},
        label_smoothing=train.label_smoothing,
    )

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        order = schedule(counts, seed=train.seed, epoch=epoch)
        streams = [
            _stream(
                source,
                epoch * count + int((order[:start] == k).sum()),
                config,
                workers,
                rank,
                world,
            )
            for k, (source, count) in enumerate(zip(sources, counts, strict=True))
        ]
        for k in order[start:]:
            yield {**next(streams[k]), "source": sources[k].config.name}

    def evaluate() -> dict[str, float]:
        metrics: dict[str, float] = {}
        for source in sources:
            if source.val is None:
                continue
            name = source.config.name
            values = score(
                task.classifier(name),
                source.val,
                source.spec,
                accelerator,
                num_classes=len(classes[name]),
                clips=config.eval.clips if source.config.kind == "video" else 1,
                crops=config.eval.crops,
                **scoring(data, accelerator, source.val_quarantine),
            ).metrics()
            metrics.update({f"{key}_{name}": value for key, value in values.items()})
        return metrics

    rows = {source.config.name: source.dataset.rows for source in sources}
    on_device = {
        source.config.name: OnDevice(
            spec.mean,
            spec.std,
            mixup=data.mixup,
            cutmix=data.cutmix,
            num_classes=len(classes[source.config.name]),
            label_smoothing=train.label_smoothing,
            seed=train.seed,
            rank=rank,
            world=world,
        )
        for source in sources
    }
    job = Job(
        title="cotrain",
        task=task,
        batches=batches,
        batches_per_epoch=sum(counts),
        # Of the primary source, whose batches the learning rate is meant for.
        clips_per_batch=sources[0].batch_size,
        paths=lambda batch: paths_of(rows[batch["source"]], batch),
        advice=advice_of(data, world),
        config=config.model_dump(mode="json"),
        for_norms=lambda batch: batch["source"] not in task.image_sources,
        on_device=lambda batch, *when: on_device[batch["source"]](batch, *when),
        save_model=saver(
            model,
            run,
            {"step": "cotrain", "sources": {s.name: s.data for s in config.sources}},
            heads=task.heads.by_name(list(classes)),
            head_classes=classes,
        ),
        evaluate=evaluate if any(s.val is not None for s in sources) else None,
        evaluate_every=config.eval.every,
        watch=f"top1_{config.sources[0].name}",
    )
    result = fit(job, train, run, accelerator, resume=resume)
    return finish(
        run,
        result,
        sum(len(s.dataset.rows) for s in sources),
        config,
        accelerator,
        health,
        f"cotrain {config.model}",
        sources={
            s.config.name: {"steps_per_epoch": n} for s, n in zip(sources, counts, strict=True)
        },
    )


def _primary(classes: dict[str, list[str]]) -> tuple[int, list[str]]:
    first = next(iter(classes.values()))
    return len(first), first


def _source(
    source: SourceConfig, clips: CheckedSplit, config: CotrainConfig, spec: ClipSpec, world: int
) -> Source:
    data = config.data
    frames = source.frames or (1 if source.kind == "image" else spec.frames)
    if source.kind == "image" and frames != 1:
        raise UsageError(f"source '{source.name}': images are clips of one frame, not {frames}")
    own = replace(spec, frames=frames, sampling=source.sampling or spec.sampling)
    # A clip of T frames costs what T images cost, so images come T times as many.
    equal = data.batch_size * (spec.frames if source.kind == "image" else 1)
    rows = clips.train
    videos = min(max(1, (source.batch_size or equal) // data.repeats), max(1, len(rows) // world))
    flip = data.flip if source.flip == "auto" else source.flip
    dataset = training_clips(
        rows,
        own,
        data,
        seed=config.train.seed,
        flip=flips(flip, rows, source.name),
    )
    return Source(
        source,
        dataset,
        own,
        videos * data.repeats,
        max(1, len(rows) // (videos * world)),
        clips.val,
        quarantine_of(rows, clips.check.known),
        quarantine_of(clips.val or rows.of(()), clips.check.known),
    )


def _stream(
    source: Source, done: int, config: CotrainConfig, workers: int, rank: int, world: int
) -> Iterator[Batch]:
    """Endless batches of one source; after ``done`` of them, counted over all its own epochs."""
    epoch, start = divmod(done, source.alone)
    while True:
        yield from train_loader(
            source.dataset,
            batch_size=source.batch_size,
            workers=workers,
            seed=config.train.seed,
            epoch=epoch,
            rank=rank,
            world=world,
            start=start,
            deadline=config.data.deadline,
            quarantine=source.quarantine,
        )
        epoch, start = epoch + 1, 0

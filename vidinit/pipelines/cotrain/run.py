"""Co-train one trunk on several video sets and image sets."""

from __future__ import annotations

from typing import Any

from ...console import say, with_messages
from ...data.rows import Rows
from ...data.sources import train_val
from ...engine.accelerators import make_accelerator
from ...engine.collectives import from_main
from ...engine.fit import fit
from ...engine.job import Batch, Job
from ...errors import UsageError
from ...scoring.score import score
from ...zoo.base import VideoModel
from ..shared.batch_size import choose_batch_size
from ..shared.clips import (
    CheckedSplit,
    advice_of,
    check_split,
    paths_of,
    quarantine_of,
    scoring_options,
    split_of,
)
from ..shared.dry_run import rehearse, stand_in
from ..shared.on_device import OnDevice
from ..shared.random_clips import noise_sources
from ..shared.run_records import HealthFile
from ..shared.summary import describe_batch
from ..shared.training import (
    finish,
    finished_result,
    frozen_tower,
    open_model,
    open_run,
    saver,
    set_spec,
    set_training,
)
from .mixing import Mixture, parts_of
from .settings import CotrainConfig
from .source import (
    Source,
    check_lengths,
    check_sources,
    data_of,
    make_source,
    source_dataset,
    spaces_of,
    unleaked,
)
from .task import PARTS, CotrainTask


def execute(
    config: CotrainConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """See `vidinit.cotrain`."""
    train = config.train
    if stands_in := dry_run and not config.sources:
        config.sources = noise_sources()
    check_sources(config)
    if (done := finished_result(config.out, resume)) is not None:
        return done
    splits = {} if stands_in else _splits(config)
    accelerator = make_accelerator(config, seed=train.seed, find_unused=_leaves_unused(config))
    world, rank = accelerator.num_processes, accelerator.process_index
    clips = _checked(config, splits, accelerator, resume=resume)
    spaces = spaces_of(config, clips)
    clips = unleaked(clips, spaces)
    first = next(iter(spaces.classes.values()))
    model = open_model(config.model, len(first), first, init_from=config.init_from)
    set_training(model, train)
    spec = set_spec(model, config.data)
    images = {s.name for s in config.sources if s.kind == "image"}
    if images:
        model.still = config.cotrain.still
    task = CotrainTask(
        model,
        spaces,
        image_sources=images,
        label_smoothing=train.label_smoothing,
        weights={s.name: s.weight for s in config.sources},
        norms=config.cotrain.norms,
    )
    placed = _Placed(config, model, clips, rank, world)
    if config.data.batch_size == "auto":
        _settle(config, accelerator, task, placed, clips, resume=resume)
    sources = [make_source(s, clips[s.name], config, spec, world) for s in config.sources]
    check_lengths(sources, model)
    mixed = Mixture(sources, config, rank=rank, world=world)
    mixed.say_plan()
    say(_batch_line(sources[0], config, world))
    run = open_run(
        config, "cotrain", accelerator, resume=resume, overwrite=overwrite, dry_run=dry_run
    )
    health = HealthFile(
        run,
        [part.check.health for part in clips.values()],
        [one for s in sources for one in (s.quarantine, s.val_quarantine)],
        resumed=resume,
    )
    held_out = [(s.config.data, s.val) for s in sources if s.config.val is None]
    parts = [split_of(place, val) for place, val in held_out if val is not None]
    run.write_json("split.json", {"sources": parts})
    judge = _Judge(task, sources, config, accelerator)
    primary = sources[0]
    scales = {source.name: source.config.lr_scale for source in sources}
    rows = {source.name: source.dataset.rows for source in sources}
    job = Job(
        title="cotrain",
        task=task,
        steps=mixed.steps,
        steps_per_epoch=mixed.steps_per_epoch,
        batches_per_step=mixed.batches_per_step,
        # Of the primary source, whose batches the learning rate is meant for.
        clips_per_batch=primary.batch_size,
        clips_per_step=primary.batch_size * primary.accumulate,
        lr_scale=lambda group: scales.get(group[0].get("source", ""), 1.0),
        paths=lambda batch: [
            path for part in parts_of(batch) for path in paths_of(rows[part["source"]], part)
        ],
        advice=advice_of(config.data, world),
        config=config.model_dump(mode="json"),
        parts=parts_of,
        for_norms=lambda batch: batch["source"] not in images,
        on_device=placed,
        save_model=saver(
            model,
            run,
            {"step": "cotrain", "sources": {s.name: s.data for s in config.sources}},
            lambda: {
                **task.card(),
                "source_clips": {source.name: source.spec.as_dict() for source in sources},
            },
        ),
        evaluate=judge if any(s.val is not None for s in sources) else None,
        evaluate_every=config.eval.every,
        watch=f"top1_{primary.name}",
    )
    videos = sum(len(s.dataset.rows) for s in sources)
    if dry_run:
        told = rehearse(
            job,
            config,
            run,
            accelerator,
            clips=None if stands_in else videos,
            kinds=mixed.kinds(),
        )
        return told if stands_in else {**told, **mixed.timed(told.pop("step_seconds"))}
    result = fit(job, train, run, accelerator, resume=resume)
    title = f"cotrain {config.model}"
    return finish(
        run, result, videos, config, accelerator, health, title, model, sources=mixed.plan()
    )


def _leaves_unused(config: CotrainConfig) -> bool:
    """Whether a step may leave parameters without a gradient, which DDP has to be told.

    A step on one source leaves the other heads alone, and one on images alone what compares frames:
    without a second frame a transformer's temporal queries and keys do nothing. A frozen tower
    leaves a layer unused in any case.
    """
    alone = config.cotrain.schedule == "use_one" or all(s.kind == "image" for s in config.sources)
    return alone or frozen_tower(config.model) is not None


def _splits(config: CotrainConfig) -> dict[str, tuple[Rows, Rows]]:
    """Training and validation rows of each source as they stand in its data."""
    data, splits = config.data, {}
    for s in config.sources:
        splits[s.name] = with_messages(
            lambda s=s: train_val(  # type: ignore[misc]
                s.data,
                s.val,
                val_fraction=data.val_fraction,
                seed=config.train.seed,
                kinds=s.kind,
                shots=data.shots,
                root=s.root or data.root,
                class_names=s.class_names,
                split=data.split,
            )
        )
        if splits[s.name][0].kind != "single":
            raise UsageError(
                f"source '{s.name}' has several labels a clip", "co-training takes one class a clip"
            )
    return splits


def _checked(
    config: CotrainConfig,
    splits: dict[str, tuple[Rows, Rows]],
    accelerator: Any,
    *,
    resume: bool,
) -> dict[str, CheckedSplit]:
    """What can be read of each source; without splits, random clips."""
    if not splits:
        return {s.name: stand_in(config, f"source of {s.name}") for s in config.sources}
    resumed = config.out if resume else None

    def check() -> dict[str, CheckedSplit]:
        return {
            name: check_split(*split, config.data, name, resumed) for name, split in splits.items()
        }

    return from_main(accelerator, check)


class _Placed:
    """What happens to a batch on the device, by its source; see `shared.on_device`."""

    def __init__(
        self,
        config: CotrainConfig,
        model: VideoModel,
        clips: dict[str, CheckedSplit],
        rank: int,
        world: int,
    ) -> None:
        self.of = {}
        for source in config.sources:
            data = data_of(source, config.data)
            self.of[source.name] = OnDevice(
                model.spec.mean,
                model.spec.std,
                mixup=data.mixup,
                cutmix=data.cutmix,
                num_classes=len(clips[source.name].train.classes or ()),
                label_smoothing=config.train.label_smoothing,
                seed=config.train.seed,
                rank=rank,
                world=world,
            )

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        if PARTS in batch:
            parts = {name: self(part, epoch, step) for name, part in batch[PARTS].items()}
            return {**batch, PARTS: parts}
        return self.of[batch["source"]](batch, epoch, step)


class _Judge:
    """Scores every source with its own head, views and norms' statistics."""

    def __init__(
        self, task: CotrainTask, sources: list[Source], config: CotrainConfig, accelerator: Any
    ) -> None:
        self.task, self.sources = task, sources
        self.config, self.accelerator = config, accelerator

    def __call__(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for source in self.sources:
            if source.val is None:
                continue
            clips, crops = views_of(source, self.config)
            values = score(
                self.task.classifier(source.name),
                source.val,
                source.spec,
                self.accelerator,
                num_classes=len(source.val.classes or ()),
                clips=clips,
                crops=crops,
                average=self.config.eval.average,
                **scoring_options(self.config.data, self.accelerator, source.val_quarantine),
            ).metrics()
            metrics.update({f"{key}_{source.name}": value for key, value in values.items()})
        return metrics


def views_of(source: Source, config: CotrainConfig) -> tuple[int, int]:
    """Clips and crops of a video, or of an image, of which there is one clip."""
    own = source.config
    clips = 1 if own.kind == "image" else own.clips or config.eval.clips
    return clips, own.crops or config.eval.crops


def _settle(
    config: CotrainConfig,
    accelerator: Any,
    task: CotrainTask,
    placed: _Placed,
    clips: dict[str, CheckedSplit],
    *,
    resume: bool,
) -> None:
    """``data.batch_size=auto`` by the clips of the first source of videos."""
    first = next((s for s in config.sources if s.kind == "video"), None)
    if first is None:
        raise UsageError(
            "data.batch_size=auto counts clips of videos, and there is no source of them",
            "set a number",
        )
    own = clips[first.name]
    choose_batch_size(
        config,
        accelerator,
        task,
        source_dataset(first, own.train, config, task.model.spec)[1],
        lambda batch, *when: placed({**batch, "source": first.name}, *when),
        quarantine_of(own.train, own.check.known),
        resume=resume,
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

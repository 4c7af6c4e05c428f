"""The course of a training, from its settings to its result: what all pipelines have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from ...checkpoint import load_trunk, model_folder, name_of, save_model
from ...config import RunConfig, TrainConfig, TrainRunConfig
from ...console import say, with_messages
from ...conversion.plan_options import named_options
from ...data.loading.loader import TrainingClips
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...engine import checkpoint_folders
from ...engine import resume as checkpoints
from ...engine.accelerators import make_accelerator
from ...engine.collectives import from_main
from ...engine.fit import fit
from ...engine.job import Batch, FitResult, Job
from ...engine.run_folder import RunFolder
from ...engine.task import Task
from ...errors import UsageError
from ...files import LOCK, FolderLock, folder_locks
from ...report.html import Section
from ...report.model_parts import model_sections
from ...report.run_report import write_report
from ...zoo.base import COMPILED, VideoModel
from ...zoo.build import create_model, has_frozen_tower, plan_of
from ...zoo.detector import Detector
from ...zoo.modify.drop_path import set_drop_path
from ...zoo.modify.freezing import freeze
from ...zoo.names import find_entry
from . import health
from .batch_size import OnDevice, choose_batch_size
from .clips import CheckedSplit, check_split, data_name
from .dry_run import random_split, rehearse
from .init_from import initial_folder, initialize
from .modality import set_spec
from .run_records import HealthFile, check_same, open_run

Config = TypeVar("Config", bound=TrainRunConfig)


class Training(Generic[Config]):
    """One training in one of its processes.

    A pipeline has a function ``execute(config, *, resume, overwrite, dry_run=False)``, which its
    line in the registry names and `pipelines.run.run` calls, after checks of names and paths, in
    every process of the run. It returns the dict that ``--json`` prints: of a finished run that is
    resumed the one that there is, of a dry run, which writes nothing, that of `rehearse`, else that
    of `finish`. It names its own parts in this order::

        if (done := finished_result(config, resume)) is not None:
            return done
        rows = with_messages(lambda: ...)              # errors in names and paths come first
        training = Training(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
        split = training.check_split(rows)             # its data
        model = open_for_training(config, classes)
        task = MyTask(model)                           # its task: from batches to named losses
        clips = training_clips(split.train, model.spec, ...)
        quarantine = quarantine_of(split.train, split.check.known)
        on_device = OnDevice(model.spec.mean, model.spec.std)
        training.choose_batch_size(task, clips, on_device, quarantine)
        training.open_run([split.check.health], [quarantine])
        job = Job(                                     # its batches, and what is made of them
            title=config.command,
            task=task,
            on_device=on_device,
            save_model=saver(model, training.run, {"step": config.command}),
            **clip_batches(clips, config, training.accelerator, quarantine),
        )
        if dry_run:
            return training.rehearse(job, clips=len(clips.rows))
        return training.finish(job, training.fit(job), videos=len(clips.rows))

    A task that is validated gives the job ``evaluate``, from nothing to metrics, and the ``watch``
    that decides which epoch is best; see `engine.job.Job` and `finetune.run` for all of it.

    The order matters: new heads are drawn from the seed in the order of these lines, so another
    order makes other runs. Errors in the data come before devices are touched, and the run folder
    is made once every setting has its value.

    Args:
        config: of the run.
        resume: go on in the same folder.
        overwrite: replace an earlier run's folder.
        dry_run: write nothing.
        find_unused: True where a step may leave parameters without a gradient, of which processes
            that train together have to be told.

    Attributes:
        accelerator: the processes and devices of the run.
        run: the run folder, from `open_run` on.
    """

    run: RunFolder
    _health: HealthFile

    def __init__(
        self,
        config: Config,
        *,
        resume: bool,
        overwrite: bool,
        dry_run: bool = False,
        find_unused: bool = False,
    ) -> None:
        self.config = config
        self.resume, self.overwrite, self.dry_run = resume, overwrite, dry_run
        with_messages(lambda: _checked_options(config.model, config.options))
        self.accelerator = make_accelerator(
            config,
            seed=config.train.seed,
            find_unused=find_unused or leaves_unused(config.model),
        )

    @property
    def resumed(self) -> str | None:
        """The folder of the run that goes on; None for a new run."""
        return self.config.out if self.resume else None

    def check_split(self, rows: tuple[Rows, Rows] | None) -> CheckedSplit:
        """The training and validation rows that can be read; random clips for None."""
        if rows is None:
            return random_split(self.config)
        data = self.config.data
        return from_main(
            self.accelerator,
            lambda: check_split(*rows, data, data_name(data.train), self.resumed),
        )

    def choose_batch_size(
        self,
        task: Task,
        clips: TrainingClips,
        on_device: OnDevice,
        quarantine: Quarantine,
    ) -> None:
        """Put a number in the place of ``data.batch_size=auto``; see `batch_size`."""
        choose_batch_size(
            self.config, self.accelerator, task, clips, on_device, quarantine, resume=self.resume
        )

    def open_run(
        self, checks: Sequence[dict[str, Any]], quarantines: Sequence[Quarantine]
    ) -> RunFolder:
        """Make or enter the run folder, once all settings have their values.

        Args:
            checks: outcomes of the checks of the data, see `run_records.HealthFile`.
            quarantines: get the files that hang or crash a decoder while the run reads them.
        """
        self.run = open_run(
            self.config,
            self.config.command,
            self.accelerator,
            resume=self.resume,
            overwrite=self.overwrite,
            dry_run=self.dry_run,
        )
        self._health = HealthFile(self.run, checks, quarantines, resumed=self.resume)
        return self.run

    def rehearse(
        self, job: Job, *, clips: int | None, kinds: Mapping[str, list[Batch]] | None = None
    ) -> dict[str, Any]:
        """The result of a dry run; see `dry_run.rehearse`."""
        return rehearse(job, self.config, self.run, self.accelerator, clips=clips, kinds=kinds)

    def fit(self, job: Job) -> FitResult:
        """Train."""
        return fit(job, self.config.train, self.run, self.accelerator, resume=self.resume)

    def finish(
        self,
        job: Job,
        result: FitResult,
        *,
        videos: int,
        sections: Sequence[Section] = (),
        facts: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Write result.json and the report; return what the command prints with ``--json``.

        ``scores`` of the result are the best and the last evaluation, `health.scores_of`, and
        ``health`` what went badly, `health.examine`; each of its lines is said.

        Args:
            job: that was trained.
            result: of `fit`.
            videos: trained on.
            sections: further parts of the report.
            facts: what the pipeline knows of its data, by the names of `health.Course`.
            more: further entries of the result.
        """
        run, progress = self.run, result.progress
        self._health.gather(self.accelerator, progress.bad)
        findings, scores = self._examined(job, result, facts or {})
        for finding in findings:
            say(f"health: {finding.line()}")
        out = {
            "out": str(run.root),
            "steps": progress.step,
            "best": progress.best,
            "videos": videos,
            "skipped": progress.skipped,
            "epochs": progress.epoch,
            **result.totals,
            **({} if scores is None else {"scores": scores}),
            "health": health.as_dicts(findings),
            **more,
        }
        run.write_json("result.json", out)
        if run.writes:
            parts = [*sections, *model_sections(run.model, job.task.model)]
            title = f"{self.config.command} {self.config.model}"
            write_report(run, title=title, config=self.config, extra=parts)
        self.accelerator.wait_for_everyone()
        return out

    def _examined(
        self, job: Job, result: FitResult, facts: Mapping[str, Any]
    ) -> tuple[list[health.Finding], dict[str, Any] | None]:
        """Findings of the run's doctor, and its best and last evaluation, from the records."""

        def look() -> tuple[list[health.Finding], dict[str, Any] | None]:
            rows = self.run.read_metrics()
            course = health.Course(
                rows=rows,
                train=self.config.train,
                watch=job.watch,
                scored=job.scored,
                balance=self.config.data.balance,
                totals=result.totals,
                steps=result.progress.step,
                **facts,
            )
            return health.examine(course), health.scores_of(rows, job.watch, job.scored)

        return from_main(self.accelerator, look)  # it alone has written the lines


def finished_result(
    config: RunConfig, resume: bool, *, steps: bool = True
) -> dict[str, Any] | None:
    """The result of a run that is already done; None where anything of its finish is lacking.

    Args:
        config: of the run.
        resume: whether it goes on.
        steps: False for a run without steps, and so without checkpoints: its files tell.

    Raises:
        UsageError: the run has another command or other settings.
    """
    if not resume or config.out is None:
        return None
    run = RunFolder(Path(config.out))
    newest = checkpoint_folders.newest(run.checkpoints) if steps else None
    if steps and (newest is None or not checkpoints.read_progress(newest).finished):
        return None
    check_same(run, config, settled=False)
    parts = ("result.json", "report.html", run.model.name)
    if lacking := [name for name in parts if not (run.root / name).exists()]:
        if not steps:
            return None
        say(f"{run.root} is finished but for {' and '.join(lacking)}")
        return None
    try:
        result = dict(json.loads((run.root / "result.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        say(f"{run.root / 'result.json'} is damaged and is written again")
        return None
    if (run.root / LOCK).exists():  # it was killed at its very end
        with folder_locks():
            FolderLock.take(run.root)
    say(f"{run.root} is finished: nothing to resume")
    return {**result, "out": str(run.root)}  # the folder may have been moved or copied


def open_for_training(config: TrainRunConfig, classes: list[str] | None = None) -> VideoModel:
    """The configured model with a head for ``classes``, if given, as it is to be trained."""
    count = None if classes is None else len(classes)
    model = open_model(
        config.model, count, classes, options=config.options, init_from=config.init_from
    )
    set_training(model, config.train)
    set_spec(model, config.data)
    return model


def open_model(
    ref: str,
    num_classes: int | None = None,
    classes: list[str] | None = None,
    *,
    options: Sequence[str] = (),
    init_from: str | None = None,
    head: str | None = None,
) -> VideoModel:
    """The model meant by a zoo name or folder, with a head for ``classes``.

    A head for another class list is made anew, and that is said. With ``init_from`` the weights are
    those of another run or checkpoint; see `init_from.initialize`. ``head`` is the source of a
    co-trained model that is meant. ``options`` are a zoo name's, see `named_options`.
    """
    if init_from == ref:  # no network was named beside the weights
        ref, init_from = str(initial_folder(ref)), None
    if model_folder(ref) is None:
        if init_from is None:
            say(f"{ref}: a zoo name, so training starts from random weights")
            if has_frozen_tower(entry := find_entry(ref)):
                way = f"convert {entry.backbone} --to {entry.plan} for a trained one"
                say(f"its frozen tower is random, too: {way}")
        model = create_model(ref, num_classes=num_classes, **_checked_options(ref, options))
    else:
        model = load_trunk(ref, head=head)
        if num_classes is not None and (classes is None or model.classes != classes):
            old = model.num_classes
            model.reset_head(num_classes)
            before = f"; its head for {_classes_of(model, old)} is left behind" if old else ""
            say(f"{ref}: new head for {num_classes} classes{before}")
    if classes is not None:
        model.classes = list(classes)
    if init_from is not None:
        initialize(model, init_from)
    return model


def _checked_options(ref: str, options: Sequence[str]) -> dict[str, Any]:
    """The options of a zoo name, checked; a folder has its own.

    Raises:
        UsageError: unknown options, wrong values, or options for a folder.
    """
    if not options:
        return {}
    if model_folder(ref) is not None:
        raise UsageError(
            f"--option {options[0]} is for a zoo name, and {ref} has options of its own",
            "leave it out (options=[] where a preset has it), or name the network and --init-from",
        )
    return named_options(ref, options)


def _classes_of(model: VideoModel, count: int) -> str:
    """The classes of a head that gets another one, for a message."""
    if model.lineage and model.lineage[-1]["step"] == "distill":
        return f"the {count} classes of its teacher"
    return f"{count} other classes"


def leaves_unused(ref: str) -> bool:
    """True where a model, by name or folder, has parameters that get no gradient in any step.

    Processes that train together must be told.
    """
    plan = plan_of(find_entry(name_of(ref)))
    return plan is not None and plan.leaves_unused


def set_training(model: VideoModel, train: TrainConfig) -> None:
    """Apply the settings of the training that are of the model itself.

    Raises:
        UsageError: when activations cannot be recomputed, names to freeze are not there, or nothing
            but probes can be trained.
    """
    if model.only_frozen and not train.probes:
        raise UsageError(
            f"{model.name}: {model.only_frozen}, and nothing of them is trained",
            "train a probe on it: vidinit finetune MODEL --probe linear, or --probe attentive",
        )
    model.dropout.p = train.dropout
    if train.drop_path:
        set_drop_path(model, train.drop_path)
    if isinstance(train.freeze, list):
        freeze(model, train.freeze)
    if train.checkpointing:
        model.set_grad_checkpointing()
    if train.compile:
        # In place of the method, so that no name changes and all tasks go through it.
        for name in COMPILED:
            setattr(model, name, torch.compile(getattr(model, name)))


def saver(
    model: VideoModel | Detector,
    run: RunFolder,
    step: dict[str, Any],
    save_options: Callable[[], dict[str, Any]] = dict,
) -> Callable[[dict[str, float]], None]:
    """Writes the model folder of a run, with what this run did at the end of its lineage.

    Args:
        model: its lineage before this run goes on with ``step``.
        run: the folder.
        step: of the lineage; the metrics are added.
        save_options: arguments of `save_model` beside the model, as they are when it is saved.
    """
    before = list(model.lineage)

    def save(metrics: dict[str, float]) -> None:
        model.lineage = [*before, {**step, **metrics}]
        save_model(model, run.model, **save_options())

    return save

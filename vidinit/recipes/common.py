"""What all recipes do with data, models and run folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from ..checkpoint import load, model_folder, save_model
from ..config import DataConfig, RunConfig, TrainConfig
from ..data.index import Health, check
from ..data.loader import ClipDataset, train_loader
from ..data.sources import Rows
from ..engine import resume as checkpoints
from ..engine.run_folder import RunFolder
from ..engine.scoring import pixels_of
from ..errors import DataError, UsageError
from ..report.progress import say
from ..report.run_report import write_report
from ..zoo.base import ClipSpec, VideoModel
from ..zoo.build import create_model

T = TypeVar("T")


def workers_of(data: DataConfig, processes: int) -> int:
    """Decoding processes per training process."""
    if data.workers is not None:
        return data.workers
    return max(0, min(8, (os.cpu_count() or 1) // processes - 1))


def from_main(accelerator: Any, make: Callable[[], T]) -> T:
    """``make()`` on the main process, its result on all of them; its error, too."""
    box: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            box[0] = make()
        except Exception as error:
            if accelerator.num_processes == 1:
                raise
            box[1] = error
    if accelerator.num_processes > 1:
        torch.distributed.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
    return box[0]  # type: ignore[no-any-return]


def with_messages(make: Callable[[], T]) -> T:
    """``make()`` with its warnings shown as plain messages."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        value = make()
    for warning in caught:
        if warning.category is UserWarning:
            say(f"note: {warning.message}")
    return value


def checked(rows: Rows, max_bad: float, what: str) -> Health:
    """Probe all files; say how many were left out.

    Raises:
        DataError: nothing is readable, or more than ``max_bad`` of the files are not.
    """
    health = check(rows, max_bad=max_bad)
    if health.bad:
        path, reason = health.bad[0]
        more = f" and {len(health.bad) - 1} more" if len(health.bad) > 1 else ""
        say(f"note: {what}: {path} cannot be read ({reason}){more}; left out")
    return health


@dataclass(frozen=True)
class CheckedSplit:
    """Training and validation rows that can be read (``val`` is None for none), and the health."""

    train: Rows
    val: Rows | None
    health: Health


def checked_split(train: Rows, val: Rows, max_bad: float, what: str) -> CheckedSplit:
    """Probe both parts of a data set as one, so that the limit counts all of its files."""
    health = checked(Rows(train.rows + val.rows, train.classes), max_bad, what)
    held_out = {row.path for row in val.rows}
    parts: list[Rows] = []
    for name, wanted in (("training", False), ("validation", True)):
        rows = tuple(row for row in health.good.rows if (row.path in held_out) == wanted)
        if not rows and (train, val)[wanted].rows:
            raise DataError(
                f"no {name} file of {what} can be read", "see the first one named above"
            )
        parts.append(Rows(rows, train.classes))
    return CheckedSplit(parts[0], parts[1] if parts[1].rows else None, health)


def open_model(
    ref: str, num_classes: int | None = None, classes: list[str] | None = None
) -> VideoModel:
    """The model meant by a zoo name or folder, with a head for ``classes``.

    A head for another class list is made anew, and that is said.
    """
    if model_folder(ref) is None:
        say(f"{ref}: a zoo name, so training starts from random weights")
        model = create_model(ref, num_classes=num_classes or 400)
    else:
        model = load(ref)
        if num_classes is not None and (classes is None or model.classes != classes):
            old = model.num_classes
            model.reset_head(num_classes)
            say(f"{ref}: new head for {num_classes} classes (it had {old} others)")
    if classes is not None:
        model.classes = list(classes)
    return model


def set_training(model: VideoModel, train: TrainConfig) -> None:
    """Dropout and activation checkpointing as the configuration says.

    Raises:
        UsageError: when activations cannot be recomputed in this network.
    """
    model.dropout.p = train.dropout
    if train.checkpointing:
        model.set_grad_checkpointing()


def set_spec(model: VideoModel, data: DataConfig) -> ClipSpec:
    """The model's clip settings with what the configuration changes; recorded in the model."""
    changes = {
        key: value
        for key in ("frames", "stride", "size", "crop_pct")
        if (value := getattr(data, key)) is not None
    }
    model.spec = replace(model.spec, **changes)
    return model.spec


def training_clips(
    rows: Rows, spec: ClipSpec, data: DataConfig, *, seed: int, flip: bool, teacher_frames: int = 0
) -> ClipDataset:
    """Training clips of these rows, cut as the configuration says."""
    return ClipDataset(
        rows,
        frames=spec.frames,
        stride=spec.stride,
        size=spec.size,
        pixels=pixels_of(spec),
        seed=seed,
        scale=(data.min_area, 1.0),
        # The whole frame means the whole frame, not a part of another shape.
        ratio=(1.0, 1.0) if data.min_area == 1.0 else (3 / 4, 4 / 3),
        flip=flip,
        center=data.start == "center",
        teacher_frames=teacher_frames,
    )


def open_run(
    config: RunConfig, command: str, accelerator: Any, *, resume: bool, overwrite: bool
) -> RunFolder:
    """Make or enter the run folder, the same one on all processes."""
    config.out = from_main(accelerator, lambda: config.out)
    assert config.out is not None
    writes = accelerator.is_main_process
    dumped = {"command": command, **config.model_dump(mode="json")}
    if resume and writes:
        _check_same(RunFolder(Path(config.out)), dumped)
    run = from_main(
        accelerator,
        lambda: RunFolder.open(config.out or "", overwrite=overwrite, resume=resume, config=dumped),
    )
    run.writes = writes
    return run


def _check_same(run: RunFolder, config: dict[str, Any]) -> None:
    """A resumed run has the configuration it was started with."""
    import yaml

    path = run.root / "config.yaml"
    if not path.is_file():
        return
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(before, dict) or before.get("command") != config["command"]:
        raise UsageError(
            f"{path} is not the configuration of a {config['command']} run",
            "name the folder of the run to resume",
        )
    for section, value in config.items():
        old = before.get(section)
        if section in ("out", "device") or old == value:
            continue
        key, was, now = section, old, value
        if isinstance(value, dict) and isinstance(old, dict):
            key, was, now = next(
                (f"{section}.{k}", old.get(k), v) for k, v in value.items() if old.get(k) != v
            )
        if key in ("data.workers", "data.max_bad", "train.log_every", "train.checkpointing"):
            continue
        raise UsageError(
            f"{run.root} was started with {key}={was}, now it is {now}",
            "resume with the same configuration, or start anew in another --out",
        )


def finished_result(out: str | None, resume: bool) -> dict[str, Any] | None:
    """The result of a run that is already done, or None."""
    if not resume or out is None:
        return None
    import json

    run = RunFolder(Path(out))
    newest = checkpoints.newest(run.checkpoints)
    result = run.root / "result.json"
    if newest is None or not checkpoints.read_progress(newest).finished or not result.is_file():
        return None
    say(f"{out} is finished: nothing to resume")
    return dict(json.loads(result.read_text()))


def epochs_of(
    dataset: ClipDataset, data: DataConfig, seed: int, accelerator: Any
) -> Callable[[int, int], DataLoader[dict[str, Any]]]:
    """From (epoch, first step) to this process's batches of the rest of that epoch."""
    workers = workers_of(data, accelerator.num_processes)

    def batches(epoch: int, start: int) -> DataLoader[dict[str, Any]]:
        return train_loader(
            dataset,
            batch_size=data.batch_size,
            workers=workers,
            seed=seed,
            epoch=epoch,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            start=start,
        )

    return batches


def saver(
    model: VideoModel, run: RunFolder, step: dict[str, Any], **folder: Any
) -> Callable[[dict[str, float]], None]:
    """Writes the model folder of a run, with what this run did at the end of its lineage."""
    before = list(model.lineage)

    def save(metrics: dict[str, float]) -> None:
        model.lineage = [*before, {**step, **metrics}]
        save_model(model, run.model, **folder)

    return save


def finish(
    run: RunFolder,
    progress: checkpoints.Progress,
    videos: int,
    config: RunConfig,
    accelerator: Any,
    title: str,
    **more: Any,
) -> dict[str, Any]:
    """Write result.json and the report; return what the command prints with ``--json``."""
    out = {
        "out": str(run.root),
        "steps": progress.step,
        "best": progress.best,
        "videos": videos,
        "skipped": progress.skipped,
        **more,
    }
    run.write_json("result.json", out)
    write_report(run, title=title, config=config.model_dump(mode="json"))
    accelerator.wait_for_everyone()
    return out

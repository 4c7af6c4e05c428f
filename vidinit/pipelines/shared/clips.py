"""From the configured data to readable rows, and from these to training batches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ...config import DataConfig, TrainRunConfig
from ...console import ProgressBar, say
from ...data.index import Health, check
from ...data.index.cache import file_key, stamp_of
from ...data.loading.datasets import ClipDataset
from ...data.loading.loader import Loader, TrainingClips, train_loader
from ...data.loading.quarantine import Quarantine
from ...data.loading.teacher_frames import TeacherFrames
from ...data.pixels.transforms import Augment
from ...data.rows import Row, Rows
from ...data.sources import flippable, mirrored
from ...engine.job import Batch
from ...errors import DataError, UsageError
from ...zoo.spec import ClipSpec
from .modality import check_flow
from .random_clips import NoiseClips, is_noise
from .run_records import read_health
from .skewed_classes import class_groups
from .spans import say_short
from .summary import describe_batch, input_advice
from .weighted_loss import set_divisors


def workers_of(data: DataConfig, processes: int) -> int:
    """Decoding processes per training process."""
    if data.workers is not None:
        return data.workers
    # At least one: what decodes in the training process cannot be killed when it hangs.
    return max(1, min(8, (os.cpu_count() or 1) // processes - 1))


def scoring_options(data: DataConfig, accelerator: Any, quarantine: Quarantine) -> dict[str, Any]:
    """How videos are read to be scored, as `scoring.score.score` takes it."""
    return {
        "batch_size": data.clips,
        "workers": workers_of(data, accelerator.num_processes),
        "deadline": data.deadline,
        "reader": data.reader,
        "decode_side": data.decode_side,
        "partial": data.partial,
        "quarantine": quarantine,
    }


def paths_of(rows: Rows, batch: dict[str, Any]) -> list[str]:
    """The files that a batch of these rows was made of."""
    return [rows.rows[index].path for index in batch["index"].tolist()]


def digest_of_videos(rows: Rows) -> str:
    """A digest of the files of rows: paths, parts, lengths, and times of their last changes."""
    digest = hashlib.sha256()
    for row in rows.rows:
        stamp: Any = None
        with suppress(OSError):
            stamp = stamp_of(row.path)
        frames = row.probe.num_frames if row.probe else 0
        one = [file_key(row.path), row.start, row.end, frames, stamp]
        digest.update(json.dumps(one).encode())
    return f"{len(rows)} rows, {digest.hexdigest()[:12]}"


def data_name(data: str | list[str] | None) -> str:
    """The data, for messages and records."""
    return data if isinstance(data, str) else ", ".join(data or ())


def read_options(data: DataConfig) -> dict[str, Any]:
    """How lists and folders are to be read, as `data.sources` takes it."""
    return {"root": data.root, "class_names": data.class_names, "split": data.one_split}


def fold_numbers(fold: str) -> tuple[int, int]:
    """``2/5`` as numbers."""
    number, _, count = fold.partition("/")
    return int(number), int(count)


@dataclass(frozen=True)
class Checked:
    """Rows of a data set after its check.

    Attributes:
        rows: what is left, in the order of the data set, with what the index knows of each file.
        health: of all files of the data set, as data_health.json gets it.
        known: reasons by path of rows that are kept though they cannot be read.
    """

    rows: Rows
    health: dict[str, Any]
    known: dict[str, str] = field(default_factory=dict)


def check_rows(rows: Rows, data: DataConfig, what: str, resumed: str | None = None) -> Checked:
    """Probe all files and leave out what cannot be read; say how many that are.

    Args:
        rows: what to check.
        data: the limit, the deadline and the number of processes.
        what: the data set, for messages.
        resumed: the folder of the run that goes on, if one does. It leaves out the same files as
            when it began, whatever has happened to them: their number decides the order of all.

    Raises:
        DataError: nothing is readable, or more than ``data.max_bad`` of the files are not.
    """
    began = None if resumed is None else read_health(Path(resumed))
    if began is not None:
        paths = {row.path for row in rows.rows}
        bad = [item for item in began["bad"] if item["path"] in paths]  # it may have more data sets
        left_out = {item["path"] for item in bad}
        kept = rows.of([row for row in rows.rows if row.path not in left_out])
        outcome = check_all_rows(kept, data, what)
        files = outcome.health["files"]
        health = {**outcome.health, "files": files + len(left_out), "good": files, "bad": bad}
        return Checked(outcome.rows, health, outcome.known)
    found = _check(rows, data, what, data.max_bad)
    if found.bad:
        path, reason = found.bad[0]
        more = f" and {len(found.bad) - 1} more" if len(found.bad) > 1 else ""
        say(f"note: {what}: {path} cannot be read ({reason}){more}; left out")
    return Checked(found.good, found.as_dict())


def check_all_rows(rows: Rows, data: DataConfig, what: str) -> Checked:
    """Probe all files and keep all rows: who scores them must count what is missing.

    Raises:
        DataError: nothing is readable.
    """
    found = _check(rows, data, what, 1.0)
    probes = {row.path: row.probe for row in found.good.rows}
    kept = [replace(row, probe=probes.get(row.path)) for row in rows.rows]
    return Checked(rows.of(kept), found.as_dict(), dict(found.bad))


def _check(rows: Rows, data: DataConfig, what: str, max_bad: float) -> Health:
    with ProgressBar(f"checking {what}") as bar:
        health = check(
            rows,
            max_bad=max_bad,
            workers=data.workers or None,
            deadline=data.deadline,
            progress=bar.update,
            partial=data.partial,
            reader=data.reader,
        )
    for line in health.notes(data.reader):
        say(f"note: {what}: {line}")
    return health


@dataclass(frozen=True)
class CheckedSplit:
    """Training and validation rows that can be read (``val`` is None for none), and the check."""

    train: Rows
    val: Rows | None
    check: Checked


def check_split(
    train: Rows, val: Rows, data: DataConfig, what: str, resumed: str | None = None
) -> CheckedSplit:
    """Probe both parts of a data set as one, so that the limit counts all of its files.

    A clip that is in both stays in both; see `overlap`.
    """
    outcome = check_rows(train.of(train.rows + val.rows), data, what, resumed)
    probes = {(row.path, row.start, row.end): row.probe for row in outcome.rows.rows}
    parts: list[Rows] = []
    for name, part in (("training", train), ("validation", val)):
        keys = [(row.path, row.start, row.end) for row in part.rows]
        found = zip(part.rows, keys, strict=True)
        rows = [replace(row, probe=probes[key]) for row, key in found if key in probes]
        if part.rows and not rows:
            raise DataError(
                f"no {name} file of {what} can be read", "see the first one named above"
            )
        parts.append(train.of(rows))
    return CheckedSplit(parts[0], parts[1] if parts[1].rows else None, outcome)


def clip_key(row: Row) -> tuple[str, float | None, float | None]:
    """(absolute path, start, end) of a clip, by which records of a run name it."""
    return str(Path(row.path).resolve()), row.start, row.end


def split_of(data: str | list[str], val: Rows) -> dict[str, Any]:
    """split.json: which clips of ``data`` were validated on, by absolute path and segment."""
    places = [data] if isinstance(data, str) else data
    return {
        "data": [str(Path(place).resolve()) for place in places],
        "val": [list(clip_key(row)) for row in val.rows],
    }


def held_out(model_ref: str, data: str | list[str]) -> set[tuple[str, Any, Any]] | None:
    """(path, start, end) of the clips that the run behind a model held out of ``data``, or None.

    A run that split its data itself must not be scored on what it was trained on.
    """
    places = [data] if isinstance(data, str) else data
    for folder in (Path(model_ref), Path(model_ref).parent):
        file = folder / "split.json"
        if file.is_file():
            recorded = json.loads(file.read_text(encoding="utf-8"))
            for split in recorded.get("sources", [recorded]):  # of a co-training there are several
                if split["data"] == [str(Path(place).resolve()) for place in places]:
                    count = len(split["val"])
                    say(f"scoring the {count} clips that the run validated on in {data_name(data)}")
                    return {(path, start, end) for path, start, end in split["val"]}
    return None


def flips(wanted: bool | str, rows: Rows, what: str) -> bool | Rows:
    """True where clips are mirrored; ``auto`` leaves left and right alone where they are classes.

    Returns:
        For ``swap`` the rows with the labels that their mirrored clips have.

    Raises:
        UsageError: ``swap``, and a class named after left or right has no partner.
    """
    if isinstance(wanted, bool):
        return wanted
    if wanted == "swap":
        return mirrored(rows, what)
    if flippable((rows.classes or ()) + (rows.nouns or ())):
        return True
    say(f"note: {what}: classes are named after left and right, so clips are not mirrored")
    return False


def training_clips(
    rows: Rows,
    spec: ClipSpec,
    data: DataConfig,
    *,
    seed: int,
    flip: bool | Rows,
    teachers: TeacherFrames | None = None,
) -> ClipDataset:
    """Training clips of these rows, cut as the configuration says, mirrored as `flips` says.

    Raises:
        UsageError: settings that do not go together.
    """
    check_flow(rows, spec, data)
    say_short(rows, spec.seen, data_name(data.train) or "videos")
    auto = data.batch_size == "auto"  # and then settled so that it fits these
    if not auto and data.clips % data.repeats:
        raise UsageError(
            f"data.batch_size={data.batch_size} is no multiple of data.repeats={data.repeats}",
            "batches count clips: make it one",
        )
    sampling = spec.seen
    if sampling.kind == "all" and not auto and data.clips > 1:
        raise UsageError(
            "data.sampling=all makes clips of different lengths, which fit in no batch",
            "set data.batch_size=1, or sample uniform or dense",
        )
    kind = NoiseClips if is_noise(rows) else ClipDataset
    return kind(
        rows,
        sampling=sampling,
        augment=Augment(
            size=spec.size,
            interpolation="bicubic" if spec.interpolation == "bicubic" else "bilinear",
            scale=(data.min_area, 1.0),
            # The whole frame means the whole frame, not a part of another shape.
            ratio=(1.0, 1.0) if data.min_area == 1.0 else (3 / 4, 4 / 3),
            jitter=data.jitter,
            flip=flip is not False,
            randaug=data.randaug,
            color_jitter=data.color_jitter,
            grayscale=data.grayscale,
            erasing=data.erasing,
        ),
        seed=seed,
        center=data.start == "center",
        teachers=teachers,
        repeats=data.repeats,
        flow=spec.flow,
        reader=data.reader,
        decode_side=data.decode_side,
        mirrored=flip if isinstance(flip, Rows) else None,
    )


def quarantine_of(rows: Rows, known: dict[str, str]) -> Quarantine:
    """The rows that are known to be unreadable, so that nobody tries them again."""
    quarantine = Quarantine()
    for index, row in enumerate(rows.rows):
        if row.path in known:
            quarantine.reasons[index] = known[row.path]
    return quarantine


def clip_batches(
    dataset: TrainingClips,
    config: TrainRunConfig,
    accelerator: Any,
    quarantine: Quarantine,
    prepared: Callable[[Iterable[Batch]], Iterable[Batch]] = iter,
    class_weights: Sequence[Sequence[float]] | None = None,
    reads: Callable[[Sequence[Any]], bool] = lambda keys: True,
) -> dict[str, Any]:
    """The arguments of an `engine.fit.Job` that are of the batches of one data set.

    Args:
        dataset, config, accelerator: of the run.
        quarantine: of the data set.
        prepared: may add to the batches before they are trained on.
        class_weights: of a cross-entropy, by column of the labels; see `weighted_loss`.
        reads: False where no video has to be read for the rest of an epoch, by its keys; no
            processes are started then.
    """
    data, train, world = config.data, config.train, accelerator.num_processes
    workers = workers_of(data, world)
    groups = class_groups(dataset.rows) if data.balance == "classes" else None
    weights = None if class_weights is None else [torch.tensor(one) for one in class_weights]

    def batches(epoch: int, start: int) -> Loader:
        loader = train_loader(
            dataset,
            batch_size=data.clips,
            workers=workers,
            seed=train.seed,
            epoch=epoch,
            rank=accelerator.process_index,
            world=world,
            start=start,
            groups=groups,
            multiple=train.accumulate,
            deadline=data.deadline,
            quarantine=quarantine,
        )
        if not reads(loader.plan.keys):
            loader.workers = 0
        return loader

    def steps(epoch: int, start: int) -> Iterator[list[Batch]]:
        found = iter(prepared(batches(epoch, start * train.accumulate)))
        while group := list(islice(found, train.accumulate)):
            if weights is not None:
                set_divisors(group, weights, accelerator)
            yield group

    first = batches(0, 0)
    clips = first.plan.size * data.repeats  # fewer than asked for where there are no more
    say(describe_batch(clips, world, train.accumulate, train.lr, train.lr_batch))
    return {
        "steps": steps,
        "steps_per_epoch": max(1, len(first) // train.accumulate),
        "batches_per_step": train.accumulate,
        "clips_per_batch": clips,
        "clips_per_step": clips * train.accumulate,
        "paths": partial(paths_of, dataset.rows),
        "advice": advice_of(data, world),
        "config": config.model_dump(mode="json"),
    }


def advice_of(data: DataConfig, processes: int) -> Callable[[float], str]:
    """The message for a run that waits for its data, by the share of the time."""
    return partial(
        input_advice,
        workers=workers_of(data, processes),
        processes=processes,
        cores=os.cpu_count() or 1,
        decode_side=data.decode_side,
    )

"""The state of a run: saved in checkpoints, and restored to the bit."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..console import say
from ..errors import UsageError, VidinitError
from ..processes import launched_elsewhere
from . import checkpoint_folders as folders
from .averages import MovingAverage
from .collectives import first_failure, from_main, gather_all
from .restoring import restore_state, save_averages
from .sharding import kind


@dataclass
class Progress:
    """The state of a run between two steps of the optimizer; progress.json of a checkpoint.

    With the weights and the optimizer it is all that has to be saved: which clips, frames and
    augmentations come next are functions of (seed, epoch, step), so nothing of the data's loading
    is. Names of fields are keys of that file.

    Attributes:
        epoch: epochs completed.
        step_in_epoch: steps done in the current one.
        step: optimizer steps done in all.
        best: best value of the watched metric so far.
        best_step: the step it was reached at.
        stale: evaluations since then.
        skipped: training items replaced because they could not be read.
        world: processes of the run.
        sharded: ``whole`` weights, or what shards them: ``fsdp`` or ``deepspeed``.
        finished: the last epoch is done.
        bad: files that failed while training.
        spent: time and clips up to here; see `engine.live.Live.spent`.
        since_line, since_epoch: sums and numbers of steps of the losses since the last line of
            metrics.jsonl, and of losses and right clips since the epoch began; see `job.LossLog`.
        own_skipped, own_bad: of this process since the last checkpoint; `save` adds them up.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    skipped: int = 0
    world: int = 1
    sharded: str = "whole"
    finished: bool = False
    bad: list[str] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    since_line: dict[str, list[float]] = field(default_factory=dict)
    since_epoch: dict[str, list[float]] = field(default_factory=dict)
    own_skipped: int = 0
    own_bad: list[str] = field(default_factory=list)

    def note(self, skipped: int, bad: list[str]) -> None:
        """Count the replaced items of one batch of this process."""
        self.own_skipped += skipped
        self.own_bad += [path for path in bad if path not in self.own_bad]

    def note_metric(self, value: float) -> bool:
        """Note the watched metric of an evaluation; True where it is the best so far."""
        if self.best is not None and not value > self.best:
            self.stale += 1
            return False
        self.best, self.best_step, self.stale = value, self.step, 0
        return True

    def add_up(self, accelerator: Any) -> None:
        """Bring the counts of all processes together; all of them call it."""
        parts = gather_all(accelerator, (self.own_skipped, self.own_bad))
        self.skipped += sum(skipped for skipped, _ in parts)
        known = dict.fromkeys(self.bad + [path for _, bad in parts for path in bad])
        self.bad, self.own_skipped, self.own_bad = list(known), 0, []


class Clock:
    """Minutes since the last checkpoint, by the main process's clock.

    Clocks of processes differ, and all of them have to save after the same step.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.restart()

    def restart(self) -> None:
        """Start again from zero."""
        self._began = time.monotonic()

    def minutes(self) -> float:
        """The same number on all processes; all of them call it."""
        return from_main(self._accelerator, lambda: (time.monotonic() - self._began) / 60)


def due(progress: Progress, config: TrainConfig, clock: Clock) -> bool:
    """True where this step, inside an epoch, is to be saved; the same on all processes."""
    if config.save_steps is not None and progress.step % config.save_steps == 0:
        return True
    return config.save_minutes is not None and clock.minutes() >= config.save_minutes


def read_progress(checkpoint: Path) -> Progress:
    """progress.json of a checkpoint.

    Raises:
        UsageError: when it cannot be understood.
    """
    try:
        progress = Progress(**json.loads((checkpoint / "progress.json").read_text("utf-8")))
        _check(progress, checkpoint)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"cannot read {checkpoint / 'progress.json'} ({str(reason)[:160]})",
            f"delete the folder {checkpoint.name} to go on from the checkpoint before it",
        ) from error
    return progress


def _check(progress: Progress, checkpoint: Path) -> None:
    """Raise ValueError unless what a file says can be the state of a run."""

    def is_count(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**63

    def is_number(value: Any) -> bool:
        return type(value) in (int, float)

    counts = ("epoch", "step_in_epoch", "step", "stale", "skipped", "world", "own_skipped")
    good = {name: is_count(getattr(progress, name)) for name in counts}
    good["best"] = progress.best is None or is_number(progress.best)
    good["best_step"] = progress.best_step is None or is_count(progress.best_step)
    good["sharded"] = progress.sharded in ("whole", "fsdp", "deepspeed")
    good["finished"] = isinstance(progress.finished, bool)
    for name in ("bad", "own_bad"):
        paths = getattr(progress, name)
        good[name] = isinstance(paths, list) and all(isinstance(path, str) for path in paths)
    spent = progress.spent
    good["spent"] = isinstance(spent, dict) and all(map(is_number, spent.values()))
    for name in ("since_line", "since_epoch"):
        sums = getattr(progress, name)
        good[name] = isinstance(sums, dict) and all(
            isinstance(one, list) and len(one) == 2 and all(map(is_number, one)) and one[1] > 0
            for one in sums.values()
        )
    for name, is_good in good.items():
        if not is_good:
            raise ValueError(f"{name}: {getattr(progress, name)!r}")
    if folders.folder_of(checkpoint.parent, progress.step).name != checkpoint.name:
        raise ValueError(f"step: {progress.step}")


def save(
    accelerator: Any,
    checkpoints: Path,
    progress: Progress,
    *,
    keep: int = 2,
    average: MovingAverage | None = None,
) -> Path:
    """Write a checkpoint from all processes; all of them call it.

    Args:
        accelerator: holds the model and the optimizer.
        checkpoints: the run's folder of checkpoints.
        progress: written beside them. Its `best_step` is never dropped.
        keep: how many of the newest stay.
        average: of the weights, where the run has one.

    Returns:
        The new checkpoint's folder.

    Raises:
        VidinitError: when it could not be written. Nothing is left of it, and nothing older is
            lost.
    """
    final = folders.folder_of(checkpoints, progress.step)
    new = folders.new_name(final)
    main = accelerator.is_main_process
    progress.add_up(accelerator)
    progress.sharded = kind(accelerator)

    def start() -> None:
        folders.tidy(checkpoints)
        new.mkdir(parents=True)

    def finish() -> None:
        if average is not None:
            save_averages(average, new)
        text = json.dumps(asdict(progress))
        (new / "progress.json").write_text(text, encoding="utf-8")
        folders.seal(new)
        folders.put(new, final)
        folders.point(checkpoints, "last", final)
        if progress.best_step is not None:
            best = folders.folder_of(checkpoints, progress.best_step)
            folders.point(checkpoints, "best", best)
        folders.rotate(final, keep, progress.best_step)

    reason = (
        first_failure(accelerator, start if main else None)
        or first_failure(accelerator, lambda: _save_state(accelerator, new))
        or first_failure(accelerator, finish if main else None)
    )
    if reason is not None:
        if main:
            shutil.rmtree(new, ignore_errors=True)
        raise _cannot_write(final, reason, accelerator, average)
    return final


def _save_state(accelerator: Any, folder: Path) -> None:
    # Networks may share parameters between layers. A checkpoint has them under one name, and
    # loading knows that: Accelerate's warning lists all names, each time.
    library = logging.getLogger("accelerate.utils.other")
    library.addFilter(_says_news)
    try:
        with _towers_left_out(accelerator):
            accelerator.save_state(str(folder))
    finally:
        library.removeFilter(_says_news)


def _says_news(record: logging.LogRecord) -> bool:
    return "Removed shared tensor" not in record.getMessage()


def _towers_left_out(accelerator: Any) -> contextlib.AbstractContextManager[None]:
    """Leave out frozen towers, which the run's first model has: they would be written each time."""
    from ..zoo.adapters.frozen import towers_left_out

    whole = kind(accelerator) == "whole"  # FSDP and DeepSpeed write their shards themselves
    return towers_left_out(accelerator._models if whole else [])


def _cannot_write(
    final: Path, reason: str, accelerator: Any, average: MovingAverage | None
) -> VidinitError:
    checkpoints = final.parent
    place = checkpoints if checkpoints.is_dir() else checkpoints.parent
    needed, free = _bytes_of_state(accelerator, average), shutil.disk_usage(place).free
    older = folders.newest(checkpoints)
    left = f"{older.name} is kept" if older is not None else "there is none before it"
    return VidinitError(
        f"cannot write the checkpoint {final} ({reason}): it takes about {needed / 1e6:.1f} MB, "
        f"{free / 1e6:.1f} MB are free; {left}",
        "make room, then run the same command with --resume",
    )


def _bytes_of_state(accelerator: Any, average: MovingAverage | None) -> int:
    """The size of a checkpoint, about: that of all tensors that are saved."""
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    owners = [*accelerator._models, *accelerator._optimizers, *([average] if average else [])]
    leaves = [leaf for owner in owners for leaf in tree_leaves(owner.state_dict())]
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))


def restore(
    accelerator: Any, checkpoints: Path, average: MovingAverage | None = None
) -> Progress | None:
    """Load the newest whole checkpoint into what the accelerator prepared; all processes call it.

    Args:
        accelerator: holds the model and the optimizer.
        checkpoints: the run's folder of checkpoints.
        average: of the weights, where the run has one.

    Returns:
        Its progress, or None when there is none yet.

    Raises:
        UsageError: when it was written in the middle of an epoch by another number of processes,
            whose shares of the data would not fit together, or in other shards; when all are
            damaged; and when a file of it cannot be restored.
    """
    checkpoint = from_main(accelerator, lambda: _newest_whole(checkpoints))
    if checkpoint is None:
        return None
    progress = read_progress(checkpoint)
    sharded = kind(accelerator)
    if progress.sharded != sharded:
        raise UsageError(
            f"{checkpoint} has its weights as '{progress.sharded}', this run as '{sharded}'",
            "resume with the launcher and the configuration the run was started with",
        )
    world = accelerator.num_processes
    if progress.world != world and progress.step_in_epoch:
        raise UsageError(
            f"{checkpoint} was written in the middle of an epoch by {progress.world} processes, "
            f"this run has {world}",
            f"resume with --processes {progress.world}",
        )
    if progress.world != world:
        say(
            f"{checkpoint.name} was written by {progress.world} processes, this run has {world}: "
            "the batches are others from here on"
        )
    restore_one(accelerator, checkpoint, average)
    progress.world = world
    return progress


def restore_one(accelerator: Any, checkpoint: Path, average: MovingAverage | None) -> Progress:
    """Load a checkpoint, which is whole, and return its progress; all processes call it.

    Raises:
        UsageError: when a file of it cannot be restored.
    """
    progress = read_progress(checkpoint)
    same_world = progress.world == accelerator.num_processes
    with _towers_left_out(accelerator):
        restore_state(accelerator, checkpoint, average, same_world=same_world)
    return progress


def _newest_whole(checkpoints: Path) -> Path | None:
    """The latest checkpoint with the checksums it was written with; damaged ones are named."""
    folders.tidy(checkpoints)
    every = folders.step_folders(checkpoints)
    for folder in every:
        wrong = folders.damage(folder, contents=True)
        if wrong is None:
            return folder
        say(f"checkpoint {folder.name} is damaged ({wrong}): taking the one before")
    if every:
        raise UsageError(
            f"all checkpoints in {checkpoints} are damaged",
            "delete that folder to start from step 0",
        )
    return None


def resume_command(command: str, root: Path, processes: int) -> str:
    """The command that resumes an interrupted run, from its folder's config.yaml."""
    if launched_elsewhere():
        return f"the same command with --resume --out {shlex.quote(str(root))}"
    words = ["vidinit", command, "--config", str(root / "config.yaml"), "--out", str(root)]
    words += ["--processes", str(processes)] if processes > 1 else []
    return shlex.join([*words, "--resume"])

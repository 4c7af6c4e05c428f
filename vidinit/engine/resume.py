"""Checkpoints of a run: complete or absent, the newest two kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: epochs completed.
        step_in_epoch: steps done in the current one.
        step: optimizer steps done in all.
        best: best value of the watched metric so far.
        skipped: training items replaced because they could not be read.
        world: processes of the run.
        finished: the last epoch is done.
        bad: files that failed while training.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float | None = None
    skipped: int = 0
    world: int = 1
    finished: bool = False
    bad: list[str] = field(default_factory=list)


KEEP = 2


def newest(checkpoints: Path) -> Path | None:
    """The latest complete checkpoint, or None."""
    if not checkpoints.is_dir():
        return None
    found = sorted(p for p in checkpoints.glob("step_*") if (p / "progress.json").is_file())
    return found[-1] if found else None


def read_progress(checkpoint: Path) -> Progress:
    """progress.json of a checkpoint."""
    try:
        return Progress(**json.loads((checkpoint / "progress.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"cannot read {checkpoint / 'progress.json'}", "delete that checkpoint folder"
        ) from error


def save(accelerator: Any, checkpoints: Path, progress: Progress) -> Path:
    """Write a checkpoint from all processes, then rename it and drop older ones."""
    final = checkpoints / f"step_{progress.step:08d}"
    temporary = checkpoints / f".{final.name}.new"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        # progress.json comes last: a folder with it is complete.
        (temporary / "progress.json").write_text(json.dumps(asdict(progress)))
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in sorted(checkpoints.glob("step_*"))[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
    return final


def restore(accelerator: Any, checkpoints: Path) -> Progress | None:
    """Load the newest complete checkpoint into what the accelerator prepared.

    Returns:
        Its progress, or None when there is none yet.

    Raises:
        UsageError: when it was written by another number of processes, whose shares of the data
            would not fit together.
    """
    checkpoint = newest(checkpoints)
    if checkpoint is None:
        return None
    progress = read_progress(checkpoint)
    if progress.world != accelerator.num_processes and progress.step_in_epoch:
        raise UsageError(
            f"{checkpoint} was written in the middle of an epoch by {progress.world} processes, "
            f"this run has {accelerator.num_processes}",
            f"resume with --processes {progress.world}",
        )
    accelerator.load_state(str(checkpoint))
    return progress

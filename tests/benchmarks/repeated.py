"""What the benchmarks that train with several seeds share: tasks in turns, plans, intervals."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from scipy import stats

import vidinit
from vidinit.config.presets import preset_path
from vidinit.processes import keep_freed_memory

STUDENT = "s3d-tf_efficientnet_lite0"
IMAGE_MODEL, PLAN = "tf_efficientnet_lite0", "s3d"
PRESET = "s3d-tf_efficientnet_lite0_demo"
FRAMES, SIDE, BATCH = 8, 64, 8
LEVEL = 0.95
RENDER_SECONDS = 0.03  # of a clip, on one core
BESIDES = 1.3  # the time of a whole run over that of its steps: decoding, scoring, its report


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with the interval of Student's t.

    Attributes:
        values: one of each seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the values."""
        return statistics.mean(self.values)

    @property
    def half(self) -> float:
        """Half the width of the interval; infinite for one seed."""
        count = len(self.values)
        if count < 2:
            return float("inf")
        t = float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
        return t * statistics.stdev(self.values) / count**0.5

    def cell(self) -> str:
        """Mean, interval and the values, in percent."""
        each = " ".join(f"{100 * value:.0f}" for value in self.values)
        width = f" ± {100 * self.half:.1f}" if len(self.values) > 1 else ""
        return f"{100 * self.mean:.1f}{width} ({each})"

    def over(self, other: Mean) -> Mean:
        """Differences of the same seeds."""
        return Mean(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


def seconds_per_clip(side: int = SIDE) -> float:
    """Of a training step of the student on one thread of this machine, were it idle."""
    torch.set_num_threads(1)
    model = vidinit.create_model(STUDENT, num_classes=10).train()
    clip, label = torch.randn(BATCH, 3, FRAMES, side, side), torch.zeros(BATCH, dtype=torch.long)
    times = []
    for _ in range(4):
        began = time.process_time()
        F.cross_entropy(model(clip), label).backward()
        times.append(time.process_time() - began)
    return statistics.median(times[1:]) / BATCH


def say_plan(*, runs: int, trained: int, rendered: int, processes: int, side: int = SIDE) -> None:
    """Print how long all of it will take.

    Args:
        runs: trainings.
        trained: clips that pass through training steps, over all of them.
        rendered: clips to be made.
        processes: that work at a time.
        side: of the clips in pixels.
    """
    seconds = trained * seconds_per_clip(side) * BESIDES + rendered * RENDER_SECONDS
    print(
        f"plan: {rendered} clips rendered, {runs} trainings on {trained} clips in all, "
        f"{processes} processes of one thread: about {seconds / processes / 60:.0f} minutes "
        "if nothing else runs\n",
        flush=True,
    )


def in_turns(work: Callable[..., Any], tasks: Sequence[tuple], *, processes: int) -> list[Any]:
    """What ``work`` returns for the arguments of each task, in the order of the tasks.

    Each process has one thread; what a task says goes into the log beside its files.
    """
    began, results = time.perf_counter(), {}
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin
    ) as pool:
        places = {pool.submit(work, *task): place for place, task in enumerate(tasks)}
        for future in as_completed(places):
            results[places[future]] = future.result()
            done, minutes = len(results), (time.perf_counter() - began) / 60
            print(f"{done} of {len(tasks)} tasks after {minutes:.1f} min", flush=True)
    return [results[place] for place in range(len(tasks))]


def _begin() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Inside, messages go into a file of ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        yield


@contextlib.contextmanager
def own_cache(root: Path) -> Iterator[None]:
    """Inside, what is found out about files is kept below ``root``, not in the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def converted(folder: Path, side: int = SIDE, **options: Any) -> Path:
    """The packaged image model as a video model, without its classifier's classes."""
    vidinit.convert(IMAGE_MODEL, PLAN, out=folder, frames=FRAMES, size=side, seed=0, **options)
    return folder


def recipe(*, epochs: int) -> dict[str, Any]:
    """The demo's fine-tuning as overrides, warmed up for a tenth of all steps."""
    found = yaml.safe_load(preset_path(f"finetune/{PRESET}").read_text(encoding="utf-8"))
    del found["model"]
    own = {
        f"{section}.{key}": value
        for section, values in found.items()
        for key, value in values.items()
    }
    return {**own, "train.epochs": epochs, "train.warmup_epochs": 0.1 * epochs, "data.workers": 0}


def fine_tuned(
    model: str | Path, data: Path, out: Path, *, epochs: int, seed: int, **other: Any
) -> float:
    """Top-1 on the test clips after fine-tuning with the demo's recipe, last weights.

    Args:
        model, data, out, seed: as for `vidinit.finetune`.
        epochs: passes over the data.
        other: settings of data that are not the recipe's.
    """
    own = {f"data.{key}": value for key, value in other.items()}
    how = {**recipe(epochs=epochs), **own}
    vidinit.finetune(model, data=data, out=out, seed=seed, device="cpu", overrides=how)
    found = vidinit.evaluate(
        out, data=data, out=out / "eval", device="cpu", overrides={"data.workers": 0, **own}
    )
    return float(found["top1"])

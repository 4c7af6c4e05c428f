"""Co-training against training alone, with and without images, at a size that two cores can run.

    python -m tests.benchmarks.cotrain [--seeds 3] [--processes 2] [--quick]
    python -m tests.benchmarks.cotrain --overhead [--pairs 60]

needs `pip install pybullet` (`rendered`). Three sets: one whose classes differ by motion only, one
whose classes differ by what is seen, and stills of other things. The trunk is EfficientNet-Lite0
with temporal kernels (`s3d`), converted from the packaged image model, on clips of 8x64x64. Every
trunk takes the same number of steps of the same cost (a batch of 8 clips, or of 64 stills): alone,
all of them on one set; jointly, shared out among the sets. As each set then gets a part of the
steps that it has alone, the joint trunks are there again with twice the steps, as two trunks alone
take. Printed is top-1 of each set as means over seeds with 95 % intervals of Student's t, each
seed's value in brackets, and the same for differences on the same clips.

`--overhead` runs the co-training of three sources and, in processes of their own, the fine-tuning
of each alone; after every step of the mixture the process of the same source takes one. Counted is
processor time from asking for the batch until the step is done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import vidinit
from vidinit.engine.job import Job
from vidinit.pipelines.shared import training
from vidinit.processes import keep_freed_memory

from . import rendered
from .loop import interval
from .repeated import (
    BATCH,
    FRAMES,
    Mean,
    converted,
    fine_tuned,
    in_turns,
    logged,
    own_cache,
    recipe,
    say_plan,
)

SETS = ("motion", "appearance", "images")
OVERHEAD_MODEL, OVERHEAD_SIDE, WARM_UP, BAR = "r2plus1d-18", 112, 3, 1.05


@dataclass(frozen=True)
class Arm:
    """What a trunk is trained on.

    Attributes:
        shares: of the steps, by set.
        passes: its steps over those of a trunk that is trained alone.
        norms: `cotrain.norms`.
    """

    shares: tuple[float, ...]
    passes: int = 1
    norms: str = "video_only_stats"


ALONE = "alone, a trunk each"
ARMS = {
    "joint": Arm((1 / 2, 1 / 2)),
    "joint with images": Arm((3 / 8, 3 / 8, 1 / 4)),
    "joint, twice the steps": Arm((1 / 2, 1 / 2), passes=2),
    "joint with images, twice the steps": Arm((3 / 8, 3 / 8, 1 / 4), passes=2),
    "joint, twice the steps, separate norms": Arm((1 / 2, 1 / 2), 2, "separate"),
    "joint with images, twice the steps, separate norms": Arm((3 / 8, 3 / 8, 1 / 4), 2, "separate"),
}
PAIRS = (
    ("joint", ALONE),
    ("joint with images", ALONE),
    ("joint with images", "joint"),
    ("joint, twice the steps", ALONE),
    ("joint with images, twice the steps", ALONE),
    ("joint with images, twice the steps", "joint, twice the steps"),
    ("joint, twice the steps, separate norms", "joint, twice the steps"),
    ("joint with images, twice the steps, separate norms", "joint with images, twice the steps"),
)


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        train, test: clips of each video set.
        images: stills to train on.
        epochs: passes of a trunk that is trained alone over its clips.
    """

    train: int
    test: int
    images: int
    epochs: int

    @property
    def steps(self) -> int:
        """Of a trunk that is trained alone."""
        return self.epochs * self.train // BATCH


FULL = Size(train=320, test=120, images=640, epochs=1)
QUICK = Size(train=32, test=12, images=64, epochs=1)


def make_sets(root: Path, seed: int, size: Size) -> None:
    """Render everything that one seed's trunks see."""
    rendered.motion_set(root / "motion", train=size.train, test=size.test, seed=seed)
    rendered.appearance_set(root / "appearance", train=size.train, test=size.test, seed=seed)
    rendered.image_set(root / "images", train=size.images, test=size.test, seed=seed)


def train_alone(root: Path, name: str, seed: int, size: Size) -> dict[str, float]:
    """Top-1 of a trunk of its own for one set."""
    data = root / f"seed{seed}"
    out = data / f"alone-{name}"
    epochs, other = size.epochs, {}
    if name == "images":
        batch = BATCH * FRAMES
        epochs, other = size.steps * batch // size.images, {"frames": 1, "batch_size": batch}
    with logged(out):
        top1 = fine_tuned(
            root / "converted", data / name, out / "run", epochs=epochs, seed=seed, **other
        )
    return {name: top1}


def train_jointly(root: Path, name: str, seed: int, size: Size) -> dict[str, float]:
    """Top-1 by set of one trunk."""
    arm, data = ARMS[name], root / f"seed{seed}"
    out = data / name.replace(" ", "-").replace(",", "")
    steps = [round(share * arm.passes * size.steps) for share in arm.shares]
    places = [f"{one}={data / one},steps={n}" for one, n in zip(SETS, steps, strict=False)]
    with logged(out):
        vidinit.cotrain(
            root / "converted", sources=places[:2], images=places[2:], out=out / "run",
            overrides={**recipe(epochs=1), "cotrain.norms": arm.norms}, seed=seed, device="cpu",
        )  # fmt: skip
        found = vidinit.evaluate(
            out / "run", all_sources=True, out=out / "eval", device="cpu",
            overrides={"data.workers": 0},
        )  # fmt: skip
    return {one: float(scores["top1"]) for one, scores in found["sources"].items()}


def compare(seeds: int, processes: int, size: Size, root: Path) -> dict[str, dict[str, Mean]]:
    """Top-1 by arm and set."""
    rounds = range(seeds)
    joint = [(root, name, seed, size) for seed in rounds for name in ARMS]
    alone = [(root, name, seed, size) for seed in rounds for name in SETS]
    trunks = len(SETS) + sum(arm.passes for arm in ARMS.values())
    say_plan(
        runs=len(joint) + len(alone),
        trained=seeds * trunks * size.steps * BATCH,
        rendered=seeds * 2 * (size.train + size.test),
        processes=processes,
    )
    with logged(root):
        converted(root / "converted")
    in_turns(make_sets, [(root / f"seed{s}", s, size) for s in rounds], processes=processes)
    tasks = [(train_jointly, *task) for task in joint] + [(train_alone, *task) for task in alone]
    scores = in_turns(_call, tasks, processes=processes)
    found: dict[tuple[str, str], list[float]] = {}
    for (work, _, name, _, _), values in zip(tasks, scores, strict=True):
        for one, top1 in values.items():
            found.setdefault((name if work is train_jointly else ALONE, one), []).append(top1)
    return {
        name: {one: Mean(tuple(found[name, one])) for one in SETS if (name, one) in found}
        for name in (ALONE, *ARMS)
    }


def _call(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


def print_tables(found: dict[str, dict[str, Mean]], size: Size) -> None:
    """Arms, and differences between them."""
    print(f"\n| trunk | steps | {' | '.join(SETS)} |")
    print(f"|---|{'---:|' * (1 + len(SETS))}")
    for name, means in found.items():
        steps = size.steps * (ARMS[name].passes if name in ARMS else 1)
        cells = [means[one].cell() if one in means else "" for one in SETS]
        print(f"| {name} | {steps} | {' | '.join(cells)} |")
    print(f"\n| difference on the same clips | {' | '.join(SETS)} |")
    print(f"|---|{'---:|' * len(SETS)}")
    for one, other in PAIRS:
        both = found[one].keys() & found[other].keys()
        cells = [
            found[one][kind].over(found[other][kind]).cell() if kind in both else ""
            for kind in SETS
        ]
        print(f"| {one} - {other} | {' | '.join(cells)} |")


@dataclass
class Timed:
    """A step at a time, each when it is told to; what one step costs is told back.

    Attributes:
        steps: those of the job.
        line: to the process that says when.
    """

    steps: Callable[[int, int], Iterator[Any]]
    line: Connection

    def __call__(self, epoch: int, start: int) -> Iterator[Any]:
        groups = iter(self.steps(epoch, start))
        while True:
            self.line.recv()
            began = time.process_time()
            try:
                group = next(groups)
            except StopIteration:
                raise RuntimeError("the epoch was too short") from None
            yield group
            # Asked for the next batch: the loop has done everything that belongs to this one.
            self.line.send((group[0].get("source"), time.process_time() - began))


def take_turns(root: Path, name: str, steps: int, line: Connection) -> None:
    """A process: the mixture, or the fine-tuning on one set, a step when it is told to."""
    keep_freed_memory()
    torch.set_num_threads(1)
    real = training.fit

    def fit(job: Job, *rest: Any, **more: Any) -> Any:
        return real(replace(job, steps=Timed(job.steps, line)), *rest, **more)

    how = {
        "data.frames": FRAMES, "data.stride": 1, "data.size": OVERHEAD_SIDE, "data.batch_size": 1,
        "data.workers": 0, "train.epochs": 1, "train.lr": 1e-3, "eval.every": 0,
    }  # fmt: skip
    out = root / "runs" / name
    with logged(out), mock.patch.object(training, "fit", fit):
        if name == "mixture":
            third = steps // len(SETS)
            places = [f"{one}={root / one},steps={third}" for one in SETS]
            vidinit.cotrain(
                OVERHEAD_MODEL, sources=places[:2], images=places[2:], out=out / "run",
                overrides=how, device="cpu",
            )  # fmt: skip
        else:
            if name == "images":
                how |= {"data.frames": 1, "data.batch_size": FRAMES}
            vidinit.finetune(
                OVERHEAD_MODEL, data=root / name, out=out / "run", overrides=how, device="cpu"
            )


def overhead(pairs: int, root: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The source of each step, its processor seconds in the mixture, and those of one alone."""
    steps = len(SETS) * (pairs + WARM_UP)  # more than any source is asked for
    make_sets(root, 0, replace(QUICK, train=steps, images=steps * FRAMES))
    context, lines, workers = multiprocessing.get_context("spawn"), {}, []
    for name in ("mixture", *SETS):
        lines[name], there = context.Pipe()
        worker = context.Process(target=take_turns, args=(root, name, steps, there), daemon=True)
        worker.start()
        there.close()
        workers.append(worker)

    def step(name: str) -> tuple[str, float]:
        try:
            lines[name].send("go")
            return lines[name].recv()
        except (EOFError, BrokenPipeError):
            log = (root / "runs" / name / "log.txt").read_text(encoding="utf-8")
            raise RuntimeError(f"the process of {name} is gone:\n{log[-2000:]}") from None

    found: list[tuple[str, float, float]] = []
    try:
        for name in (*lines, *lines) * WARM_UP:
            step(name)
        for _ in range(pairs):
            name, mixed = step("mixture")
            found.append((name, mixed, step(name)[1]))
    finally:
        for worker in workers:
            worker.kill()
    names, mixed, alone = zip(*found, strict=True)
    return list(names), np.array(mixed), np.array(alone)


def print_overhead(names: list[str], mixed: np.ndarray, alone: np.ndarray) -> None:
    """A row for each source, and the ratio of the sums; exit 1 above the bar."""
    low, high = interval(mixed, alone)
    print(
        f"{OVERHEAD_MODEL}, a clip of {FRAMES}x{OVERHEAD_SIDE}x{OVERHEAD_SIDE} or {FRAMES} stills"
    )
    print("\n| source | steps | in the mixture s | alone s | ratio of the sums |")
    print("|---|---:|---:|---:|---:|")
    for one in (*SETS, "all"):
        of = np.array([one in (name, "all") for name in names])
        a, b = mixed[of], alone[of]
        ratio = f"{a.sum() / b.sum():.3f}"
        print(f"| {one} | {of.sum()} | {np.median(a):.3f} | {np.median(b):.3f} | {ratio} |")
    print(f"\n95 % interval of the last ratio: {low:.3f} to {high:.3f}; bar: below {BAR}")
    if mixed.sum() / alone.sum() >= BAR:
        sys.exit("the mixture costs more than it may")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one seed, few clips: the steps only")
    parser.add_argument("--overhead", action="store_true", help="measure the mixture's cost alone")
    parser.add_argument("--pairs", type=int, default=60, help="of --overhead")
    options = parser.parse_args()
    size, seeds = (QUICK, 1) if options.quick else (FULL, options.seeds)
    with tempfile.TemporaryDirectory() as folder, own_cache(Path(folder)):
        if options.overhead:
            print_overhead(*overhead(options.pairs, Path(folder)))
        else:
            print_tables(compare(seeds, options.processes, size, Path(folder)), size)


if __name__ == "__main__":
    main()

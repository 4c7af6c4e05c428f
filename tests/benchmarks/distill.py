"""What a teacher adds to a training step, as ratios within one run.

    python -m tests.benchmarks.distill [--threads 2] [--rounds 5] [--batch 8]

The student is r2plus1d-18 on clips of 8 frames of 112 pixels, the teacher a ResNet-50 that sees one
frame. Every step is one of the optimizer, from bytes on. Steps with a teacher take turns with the
student alone on hard labels, and each is compared with the one just before it; times are processor
time of the process. Printed is a markdown table with the median of the ratios. Decoding is left
out: `--decode` times the making of batches with and without five teachers of their own views.

Networks have random weights: what they say takes as long.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F

import vidinit
from vidinit.data.loading.datasets import ClipDataset
from vidinit.data.loading.teacher_frames import FrameView, TeacherFrames
from vidinit.data.pixels.transforms import Augment
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Picks, Sampling
from vidinit.pipelines.distill.task import DistillTask
from vidinit.pipelines.distill.teacher_cache import FrameCache
from vidinit.pipelines.distill.teachers import Teacher
from vidinit.pipelines.shared.array_store import ArrayStore
from vidinit.pipelines.shared.on_device import OnDevice
from vidinit.processes import keep_freed_memory
from vidinit.zoo.spec import IMAGENET

STUDENT, FRAMES, SIDE, CLASSES = "r2plus1d-18", 8, 112, 1000
VIEW = FrameView(224, 0.95, "bicubic")
FIVE = tuple(FrameView(size, 0.9, "bicubic") for size in (160, 192, 208, 224, 256))


class Steps:
    """One student and its optimizer, trained in several ways.

    Args:
        batch: clips of a step.
        folder: for the cache.
    """

    def __init__(self, batch: int, folder: Path) -> None:
        torch.manual_seed(0)
        self.student = vidinit.create_model(STUDENT, num_classes=CLASSES)
        model = timm.create_model("resnet50", num_classes=CLASSES)
        self.teacher = Teacher("resnet50", model, IMAGENET.mean, IMAGENET.std, CLASSES)
        self.teacher.to(torch.device("cpu"))
        self.task = DistillTask(self.student, [self.teacher]).train()
        self.optimizer = torch.optim.SGD(self.task.parameters(), lr=0.01, momentum=0.9)
        self.on_device = OnDevice(self.student.spec.mean, self.student.spec.std)
        self.batch = {
            "clip": torch.randint(0, 256, (batch, FRAMES, SIDE, SIDE, 3), dtype=torch.uint8),
            "picks": torch.randint(FRAMES, (batch, 1)),
            "frames": torch.randint(FRAMES, (batch, 1)),
            "index": torch.arange(batch),
        }
        self.images = torch.randint(0, 256, (batch, 1, 224, 224, 3), dtype=torch.uint8)
        store = ArrayStore(
            folder, count=batch * FRAMES, shape=(CLASSES,), dtype="float16", fingerprint={}
        )
        store.write(np.arange(batch * FRAMES), np.random.default_rng(0).normal(
            size=(batch * FRAMES, CLASSES)))  # fmt: skip
        self.cache = FrameCache(store, np.arange(batch + 1) * FRAMES)

    def step(self, losses: Callable[[dict[str, Any]], Any], batch: dict[str, Any]) -> float:
        """Seconds of processor time of one step."""
        began = time.process_time()
        ready = self.on_device(batch, 0, 0)
        self.optimizer.zero_grad(set_to_none=True)
        losses(ready).backward()
        self.optimizer.step()
        return time.process_time() - began

    def alone(self) -> float:
        """The student with hard labels."""

        def loss(batch: dict[str, Any]) -> Any:
            return F.cross_entropy(self.student(batch["clip"]), batch["index"])

        return self.step(loss, self.batch)

    def distilled(self, batch: dict[str, Any]) -> float:
        """The student with its teacher."""
        return self.step(lambda ready: self.task(ready)["resnet50"], batch)

    def crop(self, size: int) -> float:
        """The teacher sees the student's crop at some size."""
        self.teacher.view, self.teacher.size = None, size
        return self.distilled(self.batch)

    def frame(self) -> float:
        """The teacher sees its own crop, which came with the batch."""
        self.teacher.view = VIEW
        return self.distilled({**self.batch, VIEW.key: self.images})

    def warm(self) -> float:
        """Everything the teacher says is in the cache."""
        self.teacher.view = VIEW
        given = torch.zeros(len(self.images), 1, dtype=torch.bool)
        batch = {**self.batch, VIEW.key: self.images[:0, 0], f"{VIEW.key}/present": given}
        began = time.process_time()
        batch["known/resnet50"] = self.cache.look_up(batch, VIEW.key)
        looked = time.process_time() - began
        return looked + self.distilled(batch)


def steps_table(batch: int, rounds: int) -> None:
    """Print a row for each way to have a teacher."""
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(batch, Path(folder) / "cache")
        ways = {
            "its own crop of the frame, 224 (`distill.view=frame`)": steps.frame,
            "the student's crop at 224 (default)": lambda: steps.crop(224),
            "the student's crop at 112 (`distill.size=crop`)": lambda: steps.crop(112),
            "nothing: its own crop's logits are in a warm cache": steps.warm,
        }
        for way in (steps.alone, *ways.values()):  # warm up
            way()
        print("| the teacher sees | student alone s | with the teacher s | ratio |")
        print("|---|---:|---:|---:|")
        for name, way in ways.items():
            pairs = [(steps.alone(), way()) for _ in range(rounds)]
            ratio = statistics.median(b / a for a, b in pairs)
            a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
            print(f"| {name} | {a:.2f} | {b:.2f} | {ratio:.3f} |", flush=True)


def decode_table(rounds: int) -> None:
    """Print what the frames of teachers add to the reading of clips, from the demo's footage."""
    from vidinit.demo.footage import packaged_videos

    rows = Rows(tuple(Row(str(path)) for path in packaged_videos().values()))
    how: dict[str, Any] = {"sampling": Sampling(8, 4), "augment": Augment(size=SIDE)}
    plain = ClipDataset(rows, **how)
    print("| teachers with views of their own | clip alone ms | with them ms | ratio |")
    print("|---|---:|---:|---:|")
    for count in (1, 5):
        teachers = TeacherFrames(Picks(), FIVE[-count:])
        full = ClipDataset(rows, teachers=teachers, **how)
        pairs = []
        for n in range(rounds * 4):
            times = []
            for dataset in (plain, full):
                began = time.process_time()
                dataset[n, n % len(rows)]
                times.append(1000 * (time.process_time() - began))
            pairs.append(times)
        ratio = statistics.median(b / a for a, b in pairs)
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"| {count} | {a:.1f} | {b:.1f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--decode", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, batches of {options.batch}\n")
    if options.decode:
        decode_table(options.rounds)
    else:
        steps_table(options.batch, options.rounds)


if __name__ == "__main__":
    main()

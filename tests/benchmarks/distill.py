"""What a teacher adds to a training step, as ratios within one run.

    python -m tests.benchmarks.distill [--threads 2] [--rounds 5] [--batch 8] [--objectives]

The student is r2plus1d-18 on clips of 8 frames of 112 pixels, the teacher a ResNet-50 that sees one
frame. Every step is one of the optimizer, from bytes on. Steps with a teacher take turns with the
student alone on hard labels, and each is compared with the one just before it; times are processor
time of the process. Printed is a markdown table with the median of the ratios. Decoding is left
out: `--decode` times the making of batches with and without five teachers of their own views.

`--objectives` compares objectives likewise: EfficientNet-Lite0 with temporal kernels (`s3d`) at 96
pixels with its image model as the teacher, and a joint TimeSformer on a ViT-Tiny at 112 pixels
(patches of 8) with a ViT-Tiny that sees every frame, each beside that student alone.

Networks have random weights: what they say takes as long.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F

import vidinit
from vidinit.data.loading.datasets import ClipDataset
from vidinit.data.loading.teacher_frames import CUTS, FrameView, TeacherFrames
from vidinit.data.pixels.transforms import Augment
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Picks, Sampling
from vidinit.pipelines.distill.objectives.base import HIDDEN
from vidinit.pipelines.distill.objectives.masked import NOISE, MaskedObjective
from vidinit.pipelines.distill.objectives.tokens import TokensObjective
from vidinit.pipelines.distill.targets import Objective
from vidinit.pipelines.distill.task import ALONE, ONLY, DistillTask
from vidinit.pipelines.distill.teacher_cache import FrameCache
from vidinit.pipelines.distill.teachers import Teacher
from vidinit.pipelines.shared.array_store import ArrayStore
from vidinit.pipelines.shared.on_device import OnDevice
from vidinit.processes import keep_freed_memory
from vidinit.zoo.plans.timesformer import timesformer
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


def objectives_table(batch: int, rounds: int) -> None:
    """Print a row for each objective: a step of it over a step of the student alone."""
    print("| objective | student alone s | with the objective s | ratio |")
    print("|---|---:|---:|---:|")
    for make in (_of_maps, _of_patches):
        with tempfile.TemporaryDirectory() as folder:
            ways = make(batch, Path(folder))
            for way in ways.values():  # warm up
                way()
            alone = ways.pop(ALONE)
            for name, way in ways.items():
                pairs = [(alone(), way()) for _ in range(rounds)]
                ratio = statistics.median(b / a for a, b in pairs)
                a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
                print(f"| {name} | {a:.2f} | {b:.2f} | {ratio:.3f} |", flush=True)


Way = Callable[[], float]


def _timed(task: DistillTask, optimizer: torch.optim.Optimizer, batch: dict[str, Any]) -> float:
    """Seconds of processor time of one step."""
    began = time.process_time()
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(task(batch).values())).sum().backward()
    optimizer.step()
    return time.process_time() - began


def _of_maps(batch: int, folder: Path) -> dict[str, Way]:
    """Steps of a convolutional student, by what is learned."""
    torch.manual_seed(0)
    student = vidinit.create_model("s3d-tf_efficientnet_lite0", num_classes=CLASSES)
    student.spec = replace(student.spec, frames=FRAMES, size=96)
    side, grid, width = 96, 3, student.num_features
    model = timm.create_model("tf_efficientnet_lite0", num_classes=CLASSES)
    whole = FrameView(side, 1.0, "bicubic", whole=True)
    how: dict[str, Any] = {"size": side, "student": student.spec}
    seen = Teacher("lite0", model, IMAGENET.mean, IMAGENET.std, CLASSES, **how)
    framed = replace(seen, whole=whole)
    for teacher in (seen, framed):
        teacher.to(torch.device("cpu"))
    clip = torch.randn(batch, 3, FRAMES, side, side)
    common = {"clip": clip, "picks": torch.randint(FRAMES, (batch, 1))}
    hidden = {HIDDEN: torch.arange(FRAMES).expand(batch, -1) >= FRAMES - 3}
    store = ArrayStore(
        folder / "maps", count=batch * FRAMES, shape=(grid, grid, width), dtype="float16",
        fingerprint={},
    )  # fmt: skip
    keys = np.arange(batch * FRAMES)
    store.write(keys, np.random.default_rng(0).normal(size=(len(keys), grid, grid, width)))
    cache = FrameCache(store, np.arange(batch + 1) * FRAMES)
    numbers = torch.arange(FRAMES).expand(batch, -1)
    cuts = {CUTS: torch.tensor([[0.1, 0.1, 0.9, 0.9, 0.0]]).expand(batch, -1)}
    images = torch.randint(0, 256, (batch, FRAMES, side, side, 3), dtype=torch.uint8)

    def task(teacher: Teacher, logits: float | None, *learned: TokensObjective) -> DistillTask:
        return DistillTask(student, [teacher], learned, logits=logits).train()

    def tokens(teacher: Teacher, every: int = 1) -> TokensObjective:
        return TokensObjective(student, [teacher], every=every)

    def way(made: DistillTask, given: dict[str, Any]) -> Way:
        optimizer = torch.optim.SGD(made.parameters(), lr=0.01, momentum=0.9)
        return lambda: _timed(made, optimizer, {**common, **given})

    warm_task = task(framed, None, tokens(framed))
    warm_optimizer = torch.optim.SGD(warm_task.parameters(), lr=0.01, momentum=0.9)

    def warm() -> float:
        present = torch.zeros(batch, FRAMES, dtype=torch.bool)
        given = {"index": torch.arange(batch), "frames": numbers, whole.key: images[:0, 0]}
        began = time.process_time()
        given[f"{whole.key}/present"] = present
        found = cache.look_up(given, whole.key)
        looked = time.process_time() - began
        ready = {**common, **given, **cuts, "known/lite0/maps": found}
        return looked + _timed(warm_task, warm_optimizer, ready)

    return {
        ALONE: way(task(seen, 1.0), {ONLY: ALONE}),
        "logits of one frame (DistInit)": way(task(seen, 1.0), {}),
        "tokens of 8 frames": way(task(seen, None, tokens(seen)), {}),
        "tokens, `teacher_every=2`": way(task(seen, None, tokens(seen, 2)), {}),
        "tokens, `teacher_every=4`": way(task(seen, None, tokens(seen, 4)), {}),
        "tokens, `hide=future:3`": way(task(seen, None, tokens(seen)), hidden),
        "logits and tokens": way(task(seen, 1.0, tokens(seen)), {}),
        "tokens of whole frames, no cache": way(
            task(framed, None, tokens(framed)), {whole.key: images, **cuts}
        ),
        "tokens of whole frames, warm cache": warm,
    }


def _of_patches(batch: int, folder: Path) -> dict[str, Way]:
    """Steps of a transformer, by the share of its patches that is taken away."""
    torch.manual_seed(0)
    how: dict[str, Any] = {"img_size": SIDE, "patch_size": 8, "num_classes": 0}
    trunk = timm.create_model("vit_tiny_patch16_224", **how)
    student = timesformer(trunk, num_classes=0, attention="joint")
    student.spec = replace(student.spec, frames=FRAMES, size=SIDE)
    model = timm.create_model("vit_tiny_patch16_224", **how)
    teacher = Teacher(
        "vit", model, IMAGENET.mean, IMAGENET.std, model.num_features, size=SIDE,
        student=student.spec, objective=Objective("cosine"),
    )  # fmt: skip
    teacher.to(torch.device("cpu"))
    count = (SIDE // 8) ** 2
    noise = torch.empty(batch, FRAMES, count).exponential_()
    given = {"clip": torch.randn(batch, 3, FRAMES, SIDE, SIDE), NOISE: noise}

    def way(share: float, **more: Any) -> Way:
        objective = MaskedObjective(student, [teacher], share=share)
        task = DistillTask(student, [teacher], [objective], logits=None).train()
        optimizer = torch.optim.SGD(task.parameters(), lr=0.01, momentum=0.9)
        return lambda: _timed(task, optimizer, {**given, **more})

    alone = way(0.8, **{ONLY: ALONE})
    return {ALONE: alone} | {f"masked, share {share}": way(share) for share in (0.5, 0.8, 0.9)}


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
    parser.add_argument("--objectives", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, batches of {options.batch}\n")
    if options.decode:
        decode_table(options.rounds)
    elif options.objectives:
        objectives_table(options.batch, options.rounds)
    else:
        steps_table(options.batch, options.rounds)


if __name__ == "__main__":
    main()

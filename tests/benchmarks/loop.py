"""What the training loop costs beside a bare PyTorch loop, on the same model and batches.

    python -m tests.benchmarks.loop [--model r2plus1d-18] [--pairs 30] [--batch 1] [--frames 8]
        [--size 112] [--threads 1]

The batches are decoded already and in memory. The bare loop moves one to the device, normalizes it,
and takes forward pass, cross-entropy, backward pass and a step of SGD. The other one is
`vidinit.engine.fit.fit` with what a run has on by default: metrics.jsonl every tenth step, plain
lines, the checks of the loss, signals. Both work in one process, a step each in turns, the first of
a pair by turns, too, on twins with the same weights; that these are the same to the bit at the end
is checked. Counted is processor time, of all threads. Printed are the seconds of a step and the
ratio of the sums, with an interval from resampled pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import vidinit
from vidinit.config import TrainConfig
from vidinit.data.pixels.batch import normalize
from vidinit.engine.accelerators import make_accelerator
from vidinit.engine.fit import fit
from vidinit.engine.job import Batch, Job
from vidinit.engine.run_folder import RunFolder
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.finetune.task import ClassifyTask
from vidinit.pipelines.shared.on_device import OnDevice
from vidinit.processes import keep_freed_memory
from vidinit.zoo.base import VideoModel

CLASSES, BATCHES, WARM_UP = 400, 4, 3
RESAMPLED, LEVEL = 20_000, 0.95
SHORTEST = 0.5  # seconds of a step below which the ratio says nothing about real ones
BAR = 1.03
# Plain SGD at one rate, so that the bare loop can be as bare as it is.
TRAIN = TrainConfig(epochs=1, lr=0.001, schedule="constant", weight_decay=0.0, select="last")


class Bare:
    """The loop that people write, a step at a time."""

    def __init__(self, model: VideoModel) -> None:
        self.model = model.train()
        self.mean, self.std = model.spec.mean, model.spec.std
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.SGD(model.parameters(), lr=TRAIN.lr, momentum=TRAIN.momentum)

    def step(self, batch: Batch) -> None:
        """One batch."""
        clip, label = batch["clip"].to(self.device), batch["label"].to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(normalize(clip, self.mean, self.std))
        F.cross_entropy(logits, label).backward()
        self.optimizer.step()


class Turns:
    """The batches of `fit`, which takes the bare loop's steps in between and times both."""

    def __init__(self, bare: Bare, batches: list[Batch]) -> None:
        self.bare, self.batches = bare, batches
        self.seconds: dict[str, list[float]] = {"bare": [], "loop": []}

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.batches):
            if number % 2 == 0:
                self._bare(batch)
            began = time.process_time()
            yield batch
            # Asked for the next batch: the loop has done everything that belongs to this one.
            self.seconds["loop"].append(time.process_time() - began)
            if number % 2:
                self._bare(batch)

    def _bare(self, batch: Batch) -> None:
        began = time.process_time()
        self.bare.step(batch)
        self.seconds["bare"].append(time.process_time() - began)


def make_batches(size: int, frames: int, side: int) -> list[Batch]:
    """Random batches as a loader gives them."""
    torch.manual_seed(1)
    return [
        {
            "clip": torch.randint(0, 256, (size, frames, side, side, 3), dtype=torch.uint8),
            "label": torch.randint(0, CLASSES, (size,)),
            "index": torch.arange(size),
            "skipped": torch.zeros(size, dtype=torch.int64),
            "bad": [],
        }
        for _ in range(BATCHES)
    ]


def measure(options: argparse.Namespace, root: Path) -> Turns:
    """Train both for a step a pair; at the end their weights are the same."""
    torch.manual_seed(0)
    model = vidinit.create_model(options.model, num_classes=CLASSES)
    assert isinstance(model, VideoModel)
    bare = Bare(copy.deepcopy(model))
    some = make_batches(options.batch, options.frames, options.size)
    # The last step is not timed: it ends the epoch, too.
    steps = WARM_UP + options.pairs + 1
    turns = Turns(bare, [some[number % BATCHES] for number in range(steps)])
    config = FinetuneConfig(model=options.model, device="cpu", precision="fp32", train=TRAIN)
    job = Job(
        title="finetune",
        task=ClassifyTask(model),
        steps=lambda epoch, start: ([batch] for batch in turns),
        steps_per_epoch=steps,
        batches_per_step=1,
        clips_per_batch=options.batch,
        clips_per_step=options.batch,
        save_model=lambda metrics: None,
        on_device=OnDevice(model.spec.mean, model.spec.std, num_classes=CLASSES),
        paths=lambda batch: [f"{index}.mp4" for index in batch["index"].tolist()],
        config=config.model_dump(mode="json"),
    )
    run = RunFolder.open(root / "run", config=job.config)
    with contextlib.redirect_stderr(io.StringIO()):  # no terminal: plain lines
        fit(job, TRAIN, run, make_accelerator(config), resume=False)
    if (steps - 1) % 2:  # the loop came first in the last pair and did not ask for another batch
        bare.step(turns.batches[-1])
    check_equal(model, bare.model)
    return turns


def check_equal(ours: nn.Module, theirs: nn.Module) -> None:
    """Both did the same work: weights and statistics are the same to the bit."""
    other = theirs.state_dict()
    wrong = [k for k, v in ours.state_dict().items() if not torch.equal(v, other[k])]
    assert not wrong, f"the loops differ in {wrong[:3]}"


def interval(loop: np.ndarray, bare: np.ndarray) -> tuple[float, float]:
    """Of the ratio of the sums, from pairs drawn again (percentile bootstrap)."""
    picks = np.random.default_rng(0).integers(len(loop), size=(RESAMPLED, len(loop)))
    ratios = loop[picks].sum(axis=1) / bare[picks].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def main() -> None:
    """Print the ratio; exit 1 if its interval does not end below the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="r2plus1d-18")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as root:
        turns = measure(options, Path(root))
    pairs = slice(WARM_UP, WARM_UP + options.pairs)
    loop, bare = (np.array(turns.seconds[way][pairs]) for way in ("loop", "bare"))
    assert len(loop) == len(bare) == options.pairs
    low, high = interval(loop, bare)
    clip = f"{options.batch}x{options.frames}x{options.size}x{options.size}"
    print(f"{options.model}, {clip}, {options.threads} threads, {options.pairs} pairs")
    print(f"bare {statistics.median(bare):.3f} s, loop {statistics.median(loop):.3f} s (medians)")
    print(
        f"loop / bare {loop.sum() / bare.sum():.4f}, {LEVEL:.0%} interval {low:.4f} to {high:.4f}"
    )
    if statistics.median(bare) < SHORTEST:
        sys.exit(f"steps are shorter than {SHORTEST} s: raise --batch, --frames or --size")
    if high >= BAR:
        sys.exit(f"the interval does not end below {BAR}")


if __name__ == "__main__":
    main()

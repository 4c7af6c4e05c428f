"""Time of a training step of DiST against the same tower fine-tuned in full, within one run.

    python tests/benchmarks/dist.py [--tower vit_base_patch16_clip_quickgelu_224] [--rounds 5]
        [--threads 2] [--batch 1]

Three kinds of steps, forward and backward pass each, take turns, so that whatever else the machine
does hits all of them: the side network beside the frozen tower (``frozen``), the same with the
tower's outputs read from a cache on disk (``cached``), and the tower alone with all its weights
trained, its frames averaged (``full``). The tower sees 8 frames in all three. Printed are medians
of the process's CPU seconds, and of the ratios to ``full`` of the same round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import vidinit
from vidinit.pipelines.shared.array_store import ArrayStore
from vidinit.processes import keep_freed_memory
from vidinit.zoo.dist_network.model import DistModel

CLASSES = 400
BOUNDS = {"frozen": 0.65, "cached": 0.25}


def stored_taps(model: DistModel, clip: torch.Tensor, folder: Path) -> ArrayStore:
    """A store with the taps of each clip of a batch."""
    taps = torch.stack(model.tower(model.tower_frames(clip)))
    values = taps.unflatten(1, (len(clip), -1)).transpose(0, 1).numpy()
    store = ArrayStore(
        folder, count=len(clip), shape=values.shape[1:], dtype="float32", fingerprint={}
    )
    store.write(np.arange(len(clip)), values)
    store.flush()
    return store


def steps(tower: str, batch: int, folder: Path) -> dict[str, Callable[[], None]]:
    """The three kinds by name."""
    model = vidinit.create_model(f"dist-{tower}", num_classes=CLASSES).train()
    image = vidinit.create_model(f"c2d-{tower}", num_classes=CLASSES, frames=8).train()
    assert isinstance(model, DistModel)
    size = model.spec.size
    clip, still = torch.randn(batch, 3, 16, size, size), torch.randn(batch, 3, 8, size, size)
    store, label = stored_taps(model, clip, folder), torch.zeros(batch, dtype=torch.long)

    def step(network: nn.Module, given: torch.Tensor) -> None:
        F.cross_entropy(network(given), label).backward()
        network.zero_grad(set_to_none=True)

    def cached() -> None:
        found = torch.from_numpy(store.read(np.arange(batch)))
        model.use_taps(list(found.transpose(0, 1).flatten(1, 2)))
        step(model, clip)

    return {
        "frozen": lambda: step(model, clip),
        "cached": cached,
        "full": lambda: step(image, still),
    }


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tower", default="vit_base_patch16_clip_quickgelu_224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        kinds = steps(options.tower, options.batch, Path(folder) / "taps")
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(options.rounds + 1):
            for kind, step in kinds.items():
                began = time.process_time()
                step()
                if number:  # the first round warms up
                    seconds[kind].append(time.process_time() - began)
    print(f"{options.tower}, {options.threads} threads, batches of {options.batch}\n")
    print("| step | CPU s | over full | bound |")
    print("|---|---:|---:|---:|")
    for kind, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["full"], strict=True))
        bound = BOUNDS.get(kind)
        print(f"| {kind} | {statistics.median(times):.2f} | {ratio:.3f} | {bound or ''} |")


if __name__ == "__main__":
    main()

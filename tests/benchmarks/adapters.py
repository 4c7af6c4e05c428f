"""What a training step of each plan on a frozen transformer costs, against all of it trained.

    python -m tests.benchmarks.adapters [--tower vit_base_patch16_clip_quickgelu_224] [--rounds 5]
        [--threads 1] [--frames 8] [--batch 1] [--kinds st-adapter aim ...]

A step is a forward pass in train mode, a backward pass and a step of AdamW, on random clips. With
``full`` the transformer is trained with all its weights, its frames averaged (c2d); each other kind
takes turns with it, one step each, so that whatever else the machine does hits both, and ``head``
trains c2d's head alone. Both live in a process of their own and count the time they computed;
memory is the largest that the process had, less what it had before the model was made. Printed are
medians, and the medians of the ratios to ``full`` of the same round.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

CLASSES = 400
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("c2d", {}),
    "st-adapter": ("st-adapter", {}),
    "aim": ("aim", {}),
    "zero-cost": ("zero-cost", {}),
    "side4video": ("side4video", {}),
    "head": ("c2d", {}),
    "st-adapter-mlp": ("st-adapter", {"places": "mlp"}),
}
PLANS = list(KINDS)[:5]


def memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def work(job: dict[str, Any]) -> None:
    """Take a step for each line that comes in, and answer with its cost."""
    import torch
    import torch.nn.functional as F

    import vidinit
    from vidinit.processes import keep_freed_memory

    keep_freed_memory()
    vidinit.create_model("c2d-test_vit")  # imports all that is needed
    before = memory()
    torch.manual_seed(0)
    torch.set_num_threads(job["threads"])
    plan, options = KINDS[job["kind"]]
    model = vidinit.create_model(f"{plan}-{job['tower']}", num_classes=CLASSES, **options)
    model.spec = replace(model.spec, frames=job["frames"])
    if job["kind"] == "head":
        model.requires_grad_(False)
        model.head.requires_grad_(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    model.train()
    size = model.spec.size
    clips = torch.randn(job["batch"], 3, job["frames"], size, size)
    labels = torch.arange(job["batch"]) % CLASSES
    for _ in sys.stdin:
        began = time.process_time()
        F.cross_entropy(model(clips), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        answer = {
            "seconds": time.process_time() - began,
            "memory": memory() - before,
            "trained": sum(p.numel() for p in trained),
        }
        print(json.dumps(answer), flush=True)


class Side:
    """A process that takes steps of one kind."""

    def __init__(self, **job: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.adapters", "--job", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self) -> dict[str, Any]:
        """One step and its cost."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tower", default="vit_base_patch16_clip_quickgelu_224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=PLANS, choices=KINDS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    job = options.pop("job")
    if job is not None:
        work(json.loads(job))
        return
    rounds, kinds = options.pop("rounds"), options.pop("kinds")
    print(
        f"{options['tower']}, clips of {options['frames']} frames, batches of {options['batch']}, "
        f"{options['threads']} threads, {rounds} rounds\n"
    )
    print("| trained | parameters (M) | CPU s a step | over full | memory MB | over full |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind in kinds:
        pair = [Side(kind=name, **options) for name in dict.fromkeys((kind, "full"))]
        taken = [[side.step() for side in pair] for _ in range(rounds + 1)][1:]  # one warms up
        for side in pair:
            side.close()
        seconds = statistics.median(costs[0]["seconds"] for costs in taken)
        ratio = statistics.median(costs[0]["seconds"] / costs[-1]["seconds"] for costs in taken)
        own, full = taken[-1][0], taken[-1][-1]
        print(
            f"| {kind} | {own['trained'] / 1e6:.2f} | {seconds:.2f} | {ratio:.3f} "
            f"| {own['memory']:.0f} | {own['memory'] / full['memory']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Speed and memory of the zoo against public implementations, as ratios within one run.

    python tests/benchmarks/models.py [CASE...] [--threads 2] [--rounds 5] [--batch 2]
        [--precision fp32] [--same-allocator] [--processor-time]

Ours and the peer's model have the same weights, checked first, and live in a process each: the
peer's as it ships, ours as vidinit's commands run it (``--same-allocator`` leaves the memory
setting out). They take turns, one step each, so that whatever else the machine does hits both;
``--processor-time`` counts the time they computed instead of the time that went by.
Printed is a markdown table with the median of the peer's time over ours: above 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from worker import CASES


class Side:
    """A worker process."""

    def __init__(self, **job: Any) -> None:
        worker = Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(worker), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, command: str) -> dict[str, Any]:
        """One step; seconds, peak memory and, for ``compare``, the logits of the first clip."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def check_equal(ours: Side, theirs: Side, case: str, precision: str) -> None:
    """Both compute the same, before anything is timed: the seed makes their clips equal."""
    if case.startswith("sts-") or precision != "fp32":
        return
    a, b = ours.do("compare")["logits"], theirs.do("compare")["logits"]
    scale = max(map(abs, b))
    if abs(sum(b) - 1) < 1e-3 and min(b) >= 0:  # some of the peers end in a softmax
        total = sum(math.exp(x) for x in a)
        a = [math.exp(x) / total for x in a]
    worst = max(abs(x - y) for x, y in zip(a, b, strict=True))
    assert worst < 1e-3 * scale, f"{case}: logits differ by {worst} of {scale}"


def main() -> None:
    """Print one row per case and step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--steps", nargs="*", default=["infer", "fused", "train"])
    parser.add_argument("--same-allocator", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    print(f"{options.threads} threads, batches of {options.batch}, {options.precision}\n")
    print("| model, clip, step | ours s | peer s | peer / ours | ours MB | peer MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for case in options.cases:
        job = {
            "case": case,
            "threads": options.threads,
            "batch": options.batch,
            "precision": options.precision,
            "tuned": not options.same_allocator,
            "processor": options.processor_time,
        }
        sides = Side(who="ours", **job), Side(who="peer", **job)
        check_equal(*sides, case, options.precision)
        clip = "x".join(map(str, CASES[case][3]))
        for step in options.steps:
            # The first steps warm up and are watched; the others are timed.
            peaks = [side.do(f"{step} peak")["peak_mb"] or 0 for side in sides]
            peaks = [
                max(p, side.do(f"{step} peak")["peak_mb"] or 0)
                for p, side in zip(peaks, sides, strict=True)
            ]
            for side in sides:
                side.do(step)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(options.rounds):
                for side, kept in zip(sides, times, strict=True):
                    kept.append(side.do(step)["seconds"])
            ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
            a, b = map(statistics.median, times)
            print(
                f"| {case}, {clip}, {step} | {a:.3f} | {b:.3f} | {ratio:.2f} "
                f"| {peaks[0]:.0f} | {peaks[1]:.0f} |",
                flush=True,
            )
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()

"""Every measurement of docs/results.md on this machine, one after the other.

    python -m tests.benchmarks [--only NAME] [--quick] [--out runs/benchmarks] [--plan]

prints how long it will take, then runs each in a process of its own and writes what it says to
``NAME.md`` in ``--out``, below its command and the versions, and its log to ``NAME.log``. A
measurement that fails does not stop the others; the exit code is then 1. Times are of two idle
cores; ``--quick`` shows that each one runs, its figures mean nothing. `cotrain` and `transfer` need
`pip install pybullet`. `distinit` is its pilot here: the whole of it takes days of a core.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidinit.doctor.packages import versions

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Benchmark:
    """One measurement.

    Attributes:
        command: what python runs: a module and its arguments.
        minutes: how long it takes.
        quick: the arguments of `--quick`.
        needs: a package that is no part of the test extra.
    """

    command: str
    minutes: float
    quick: str
    needs: str = ""

    def words(self, *, quick: bool, out: Path) -> list[str]:
        """The command line behind `python`."""
        line = f"{self.command.split()[0]} {self.quick}" if quick else self.command
        return ["-m", *shlex.split(line.replace("OUT", shlex.quote(str(out))))]


_MODELS = "tests.benchmarks.models"
_CNNS = "r2plus1d-18 r3d-18 mc3-18 s3d slowonly-r50 x3d-s sts-slowonly-r50"
_ONE = "r2plus1d-18 --rounds 1"
_PROFILED = (
    "c2d-r50 r3d50 sts-r3d50 r2plus1d-18 s3d-tf_efficientnet_lite0 i3d-tf_efficientnet_lite0 "
    "sts-tf_efficientnet_lite0"
)
BENCHMARKS = {
    "demo": Benchmark(
        "vidinit demo --out OUT --overwrite", 6, "demo --quick --out OUT --overwrite"
    ),
    "detect-demo": Benchmark(
        "tests.benchmarks.detect_demo --seeds 3 --out OUT", 12, "--quick --seeds 1 --out OUT"
    ),
    "profile": Benchmark(
        f"vidinit profile {_PROFILED}", 1, "profile r3d50 --size 64 --seconds 0.1"
    ),
    "models": Benchmark(f"{_MODELS} {_CNNS}", 6, f"{_ONE} --steps infer"),
    "models-alike": Benchmark(
        f"{_MODELS} {_CNNS} --same-allocator", 6, f"{_ONE} --steps fused --same-allocator"
    ),
    "models-large": Benchmark(f"{_MODELS} r2plus1d-18 --batch 8", 4, f"{_ONE} --steps infer"),
    "models-large-alike": Benchmark(
        f"{_MODELS} r2plus1d-18 --batch 8 --same-allocator",
        4,
        f"{_ONE} --steps infer --same-allocator",
    ),
    "models-bf16": Benchmark(
        f"{_MODELS} r2plus1d-18 s3d --precision bf16", 2, f"{_ONE} --steps infer --precision bf16"
    ),
    "models-timesformer": Benchmark(
        f"{_MODELS} timesformer-b16 --batch 1 --threads 1 --steps infer fused --processor-time",
        4,
        "timesformer-b16 --batch 1 --rounds 1 --steps infer --processor-time",
    ),
    "dist": Benchmark(
        "tests.benchmarks.dist --threads 1 --rounds 3",
        2,
        "--tower vit_tiny_patch16_224 --rounds 1",
    ),
    "adapters": Benchmark(
        "tests.benchmarks.adapters --threads 1 --rounds 2",
        4,
        "--tower vit_tiny_patch16_224 --frames 1 --rounds 1",
    ),
    "loop": Benchmark("tests.benchmarks.loop", 2, "--pairs 4"),
    "distill": Benchmark(
        "tests.benchmarks.distill --threads 1 --batch 2 --rounds 3", 2, "--batch 1 --rounds 1"
    ),
    "distill-objectives": Benchmark(
        "tests.benchmarks.distill --objectives --threads 1 --batch 2 --rounds 3",
        2,
        "--objectives --batch 1 --rounds 1",
    ),
    "distill-decode": Benchmark(
        "tests.benchmarks.distill --decode --threads 1", 1, "--decode --rounds 1"
    ),
    "data": Benchmark("tests.benchmarks.data", 1, "--rounds 1 --clips 2"),
    "evaluate": Benchmark("tests.benchmarks.evaluate", 2, "--videos 2 --seconds 1"),
    "load": Benchmark("tests.benchmarks.load predict video", 3, "predict --quick"),
    "cotrain-overhead": Benchmark(
        "tests.benchmarks.cotrain --overhead --pairs 24",
        4,
        "--overhead --pairs 4",
        needs="pybullet",
    ),
    "cotrain": Benchmark("tests.benchmarks.cotrain --seeds 3", 10, "--quick", needs="pybullet"),
    "distinit": Benchmark("tests.benchmarks.distinit --pilot", 10, "--quick"),
    "transfer": Benchmark(
        "tests.benchmarks.transfer --seeds 3 --out OUT",
        30,
        "--quick --out OUT",
        needs="pybullet",
    ),
}
"""In the order in which they run."""


def main(given: Sequence[str] | None = None) -> int:
    """Print the plan, run what was asked for, say what failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="that they run; figures mean nothing")
    parser.add_argument("--out", type=Path, default=Path("runs", "benchmarks"))
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    options = parser.parse_args(given)
    chosen = {name: BENCHMARKS[name] for name in options.only or BENCHMARKS}
    print_plan(chosen, quick=options.quick)
    if options.plan:
        return 0
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, benchmark in chosen.items():
        began = time.perf_counter()
        problem = run(name, benchmark, out, quick=options.quick)
        minutes = (time.perf_counter() - began) / 60
        print(f"{name}: {problem or 'done'}, {minutes:.1f} min", flush=True)
        if problem:
            failed.append(name)
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} in {out}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def print_plan(chosen: dict[str, Benchmark], *, quick: bool) -> None:
    """What will run, and for how long."""
    print("| benchmark | minutes | command |\n|---|---:|---|")
    for name, benchmark in chosen.items():
        minutes = "" if quick else f"{benchmark.minutes:g}"
        line = shlex.join(["python", *benchmark.words(quick=quick, out=Path("OUT"))])
        print(f"| {name} | {minutes} | `{line}` |")
    if not quick:
        print(f"\nabout {sum(b.minutes for b in chosen.values()):g} minutes on two idle cores")
    print(flush=True)


def run(name: str, benchmark: Benchmark, out: Path, *, quick: bool) -> str:
    """Run one and write its file; what went wrong, or the empty string."""
    if benchmark.needs and importlib.util.find_spec(benchmark.needs) is None:
        return f"not run: it needs `pip install {benchmark.needs}`"
    words = benchmark.words(quick=quick, out=out / f"{name}-files")
    shown = shlex.join(["python", *benchmark.words(quick=quick, out=Path(f"{name}-files"))])
    log, part = out / f"{name}.log", out / f"{name}.md.part"
    with open(log, "w") as said:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "COLUMNS": "120"},
        )
    problem = f"exit code {done.returncode}, see {log}" if done.returncode else ""
    verdict = f"\n{problem}\n" if problem else ""
    part.write_text(f"# {name}\n\n`{shown}`\n\n{machine()}\n\n{done.stdout}{verdict}")
    part.replace(out / f"{name}.md")
    return problem


def machine() -> str:
    """What it ran on."""
    named = ("vidinit", "torch", "torchvision", "timm", "av", "decord")
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in named if found.get(name))
    return (
        f"{os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f} at its end; "
        f"Python {platform.python_version()}, {packages}"
    )


def processor() -> str:
    """The processor's name."""
    listed = Path("/proc/cpuinfo")
    for line in listed.read_text().splitlines() if listed.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())

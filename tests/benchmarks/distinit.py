"""DistInit's comparison at a size that two cores can run: scratch, inflated, distilled.

    python -m tests.benchmarks.distinit [--seeds 3] [--processes 2] [--quick] [--arms flow]

needs `pip install pybullet` (`rendered`). The student is EfficientNet-Lite0 with temporal kernels
(`s3d`) on clips of 8x64x64, the teachers are the image models of the test extra's packages. Every
arm ends with the same fine-tuning on two sets, one whose classes differ by motion only and one
whose classes differ by what is seen; each seed renders its own clips. Distillation on unlabelled
clips costs steps that the first rows do not spend, so scratch and inflated are there again with
these steps added to their fine-tuning: those rows have the compute of the distilled ones (what
teachers cost beside the student is left out). Of the arms on optical flow (DIS) the student sees
flow and the teacher frames, as in the paper. Printed are means over seeds with 95 % intervals of
Student's t, each seed's value in brackets, and the same for differences on the same clips.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vidinit

from . import rendered
from .repeated import (
    PRESET,
    STUDENT,
    Mean,
    converted,
    fine_tuned,
    in_turns,
    logged,
    own_cache,
    say_plan,
)

SETS = ("motion", "appearance")
LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"


@dataclass(frozen=True)
class Arm:
    """One way to the model that is fine-tuned.

    Attributes:
        inflated: it starts with the image model's weights, else at random.
        teachers: it is distilled from these; none: it is not.
        picks: frames that they see.
        loss: ce or mse; the paper divides the learning rate by 10 for mse.
        longer: the steps of distillation are added to the fine-tuning.
        modality: what the student sees, rgb or flow.
    """

    inflated: bool
    teachers: tuple[str, ...] = ()
    picks: str = "random"
    loss: str = "ce"
    longer: bool = False
    modality: str = "rgb"


ARMS = {
    "scratch": Arm(inflated=False),
    "scratch, all steps fine-tuning": Arm(inflated=False, longer=True),
    "inflated": Arm(inflated=True),
    "inflated, all steps fine-tuning": Arm(inflated=True, longer=True),
    "distilled from scratch": Arm(inflated=False, teachers=(LITE0,)),
    "distilled": Arm(inflated=True, teachers=(LITE0,)),
    "distilled, center frame": Arm(inflated=True, teachers=(LITE0,), picks="center"),
    "distilled, two random frames": Arm(inflated=True, teachers=(LITE0,), picks="random:2"),
    "distilled, MSE": Arm(inflated=True, teachers=(LITE0,), loss="mse"),
    "distilled, two teachers": Arm(inflated=True, teachers=(LITE0, LITE2)),
    "flow: scratch": Arm(inflated=False, modality="flow"),
    "flow: inflated": Arm(inflated=True, modality="flow"),
    "flow: distilled": Arm(inflated=True, teachers=(LITE0,), modality="flow"),
}
PAIRS = (
    ("distilled", "scratch"),
    ("distilled", "scratch, all steps fine-tuning"),
    ("distilled from scratch", "scratch"),
    ("distilled from scratch", "scratch, all steps fine-tuning"),
    ("distilled", "inflated"),
    ("distilled", "inflated, all steps fine-tuning"),
    ("distilled", "distilled, center frame"),
    ("distilled, two random frames", "distilled"),
    ("distilled", "distilled, MSE"),
    ("distilled, two teachers", "distilled"),
    ("flow: distilled", "flow: scratch"),
    ("flow: distilled", "flow: inflated"),
)


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        train, test: clips of each labelled set.
        unlabelled: clips, each seen once in distillation; a multiple of ``train``.
    """

    train: int
    test: int
    unlabelled: int

    def clips(self, arm: Arm) -> int:
        """That pass through training steps."""
        more = self.unlabelled * (len(SETS) if arm.longer else bool(arm.teachers))
        return len(SETS) * self.train + more


FULL = Size(train=320, test=120, unlabelled=320)
QUICK = Size(train=24, test=12, unlabelled=24)


def make_sets(root: Path, seed: int, size: Size) -> None:
    """Render everything that one seed's arms see."""
    rendered.motion_set(root / "motion", train=size.train, test=size.test, seed=seed)
    rendered.appearance_set(root / "appearance", train=size.train, test=size.test, seed=seed)
    rendered.unlabelled_set(root / "unlabelled", clips=size.unlabelled, seed=seed)


def run_arm(root: Path, name: str, seed: int, size: Size) -> dict[str, float]:
    """Top-1 by set."""
    arm, data = ARMS[name], root / f"seed{seed}"
    out = data / name.replace(" ", "-").replace(",", "")
    with logged(out):
        start: str | Path = root / f"converted-{arm.modality}" if arm.inflated else STUDENT
        if arm.teachers:
            start = _distilled(arm, start, data / "unlabelled", out / "distilled", seed)
        epochs = 1 + (size.unlabelled // size.train if arm.longer else 0)
        return {
            one: fine_tuned(
                start, data / one, out / one, epochs=epochs, seed=seed, modality=arm.modality
            )
            for one in SETS
        }


def _distilled(arm: Arm, start: str | Path, videos: Path, out: Path, seed: int) -> Path:
    """The student after a pass over the unlabelled clips."""
    # The preset's rate keeps an inflated student near its image model; a random one has to learn.
    lr = (5e-5 if arm.inflated else 1e-3) / (10 if arm.loss == "mse" else 1)
    vidinit.distill(
        start, videos=videos, teacher=[f"{name},loss={arm.loss}" for name in arm.teachers],
        picks=arm.picks, modality=arm.modality, out=out, preset=PRESET, lr=lr, seed=seed,
        device="cpu", overrides=["data.workers=0"],
    )  # fmt: skip
    return out


def print_tables(found: dict[str, dict[str, Mean]]) -> None:
    """Arms, and differences between them."""
    chance = (1 / len(rendered.MOTIONS), 1 / len(rendered.THINGS))
    print(f"\n| arm | motion (chance {chance[0]:.0%}) | appearance (chance {chance[1]:.0%}) |")
    print("|---|---:|---:|")
    for name, means in found.items():
        print(f"| {name} | {means['motion'].cell()} | {means['appearance'].cell()} |")
    print("\n| difference on the same clips | motion | appearance |")
    print("|---|---:|---:|")
    for one, other in PAIRS:
        if not {one, other} <= found.keys():
            continue
        cells = [found[one][kind].over(found[other][kind]).cell() for kind in SETS]
        print(f"| {one} - {other} | {' | '.join(cells)} |")
    for one in ("distilled from scratch", "distilled"):
        for other in ("scratch", "scratch, all steps fine-tuning"):
            if not {one, other} <= found.keys():
                continue
            gains = found[one]["motion"].over(found[other]["motion"]).values
            better = sum(gain > 0 for gain in gains)
            print(f"\n{one} beats {other} on the motions: {better} of {len(gains)} seeds")


def measure(
    seeds: int, processes: int, size: Size, root: Path, names: Sequence[str]
) -> dict[str, dict[str, Mean]]:
    """Top-1 by arm and set."""
    tasks = [(root, name, seed, size) for seed in range(seeds) for name in names]
    arms = [ARMS[name] for name in names]
    say_plan(
        runs=seeds * sum(len(SETS) + bool(arm.teachers) for arm in arms),
        trained=seeds * sum(size.clips(arm) for arm in arms),
        rendered=seeds * (len(SETS) * (size.train + size.test) + size.unlabelled),
        processes=processes,
    )
    with logged(root):
        converted(root / "converted-rgb")
        converted(root / "converted-flow", in_channels=2)
    in_turns(make_sets, [(root / f"seed{s}", s, size) for s in range(seeds)], processes=processes)
    scores = dict(zip(tasks, in_turns(run_arm, tasks, processes=processes), strict=True))
    return {
        name: {
            kind: Mean(tuple(scores[root, name, seed, size][kind] for seed in range(seeds)))
            for kind in SETS
        }
        for name in names
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one seed, few clips: the steps only")
    parser.add_argument("--arms", default="", help="those with this in their names")
    options = parser.parse_args()
    names = [name for name in ARMS if options.arms in name]
    size, seeds = (QUICK, 1) if options.quick else (FULL, options.seeds)
    with tempfile.TemporaryDirectory() as folder, own_cache(Path(folder)):
        print_tables(measure(seeds, options.processes, size, Path(folder), names))


if __name__ == "__main__":
    main()

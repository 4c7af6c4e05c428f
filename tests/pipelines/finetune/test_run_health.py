"""Whole runs with a fault each, which the run's doctor names, and one without any."""

from __future__ import annotations

import numpy as np
import pytest
from support import SMALL, write_video

import vidinit

MODEL = "s3d-test_resnet"  # small
QUIET = [*SMALL, "train.select=last", "data.flip=false", "data.min_area=1"]


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Red and blue videos of eight frames, ten of each, and a list of them with classes swapped."""
    root = tmp_path_factory.mktemp("colors")
    rng = np.random.default_rng(0)
    swapped = ["path,label"]
    for channel, name in ((0, "red"), (2, "blue")):
        for i in range(10):
            part = "train" if i < 7 else "val"
            frames = rng.integers(0, 90, (8, 32, 32, 3))
            frames[..., channel] += 150
            write_video(root / part / name / f"{i}.mp4", frames.astype(np.uint8))
            if part == "val":
                other = "blue" if name == "red" else "red"
                swapped.append(f"{part}/{name}/{i}.mp4,{other}")
    (root / "swapped.csv").write_text("\n".join(swapped) + "\n")
    return root


def found(colors, out, *settings, epochs=4, **options):
    told = vidinit.finetune(
        MODEL,
        data=colors,
        out=out,
        epochs=epochs,
        overrides=[*QUIET, *settings],
        **options,
    )
    return {one["check"]: one["text"] for one in told["health"]}


LEARNS = ("train.optimizer=adamw", "train.lr=0.003", "data.batch_size=7")


def test_a_rate_that_is_too_high_is_seen(colors, tmp_path):
    health = found(colors, tmp_path / "run", "train.lr=3", "train.clip_grad=100", epochs=3)
    assert "the learning rate is too high" in health["rate"]


@pytest.mark.slow
def test_a_run_that_learns_is_healthy(colors, tmp_path):
    told = vidinit.finetune(
        MODEL, data=colors, out=tmp_path / "run", epochs=12, overrides=[*QUIET, *LEARNS]
    )
    assert told["health"] == [] and told["scores"]["last"]["top1"] == 1


@pytest.mark.slow
def test_a_rate_that_is_too_low_leaves_the_loss_flat(colors, tmp_path):
    health = found(colors, tmp_path / "run", "train.lr=1e-7", "data.batch_size=2", epochs=3)
    assert set(health) >= {"flat"} and "(guessing gives 0.693)" in health["flat"]


@pytest.mark.slow
def test_validation_that_gets_worse_is_overfitting(colors, tmp_path):
    health = found(
        colors, tmp_path / "run", *LEARNS, epochs=12, val=colors / "swapped.csv", root=colors
    )
    assert health["overfitting"].startswith("overfitting since epoch ")


@pytest.mark.slow
def test_clips_that_are_longer_than_their_videos_are_looped(colors, tmp_path):
    health = found(colors, tmp_path / "run", *LEARNS, "data.stride=4", epochs=1)
    assert health["looped clips"].startswith(
        "14 of 14 videos (100%) are shorter than a clip of 4 frames at stride 4 (1.1 s)"
    )


@pytest.mark.slow
def test_uneven_classes_and_one_answer_are_named(colors, tmp_path):
    rows = [f"train/red/{i}.mp4,red,train" for i in range(7)] * 4
    rows += ["train/blue/0.mp4,blue,train"]
    rows += [f"val/red/{i}.mp4,red,val" for i in (7, 8, 9)] + ["val/blue/7.mp4,blue,val"]
    (tmp_path / "skewed.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    told = vidinit.finetune(
        MODEL,
        data=tmp_path / "skewed.csv",
        root=colors,
        out=tmp_path / "run",
        epochs=1,
        overrides=[*QUIET, "train.lr=0.1", "train.freeze=trunk"],
    )
    checks = [one["check"] for one in told["health"]]
    assert checks == ["one class", "imbalance"]

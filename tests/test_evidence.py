"""The benchmarks that train with several seeds: their statistics, and that they run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.repeated import Mean
from scipy import stats

ROOT = Path(__file__).parents[1]
needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="pybullet is not installed"
)


def test_intervals_are_those_of_the_t_test():
    values = (0.61, 0.72, 0.66)
    found = stats.ttest_1samp(values, 0.5).confidence_interval(0.95)
    mean = Mean(values)
    assert mean.mean == pytest.approx(np.mean(values))
    assert (mean.mean - mean.half, mean.mean + mean.half) == pytest.approx(tuple(found))
    assert mean.over(Mean((0.6, 0.7, 0.6))).values == pytest.approx((0.01, 0.02, 0.06))
    assert mean.cell() == "66.3 ± 13.7 (61 72 66)"
    assert Mean((0.5,)).cell() == "50.0 (50)"


@needs_pybullet
def test_the_middle_frame_says_nothing_of_the_motion():
    from benchmarks import rendered

    with rendered._scene() as scene:
        clips = {
            motion: scene.clip(
                ["random_urdfs/003/003.urdf"],
                rendered._rng(0, "test", 0),
                motion=motion,
                frames=rendered.FRAMES,
            )
            for motion in rendered.MOTIONS
        }
    middle = rendered.FRAMES // 2
    first = clips["left"]
    for motion, clip in clips.items():
        assert np.array_equal(clip[middle], first[middle]), motion
        assert motion == "left" or not np.array_equal(clip[0], first[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows"),
    [("distinit", 9), pytest.param("cotrain", 5, marks=needs_pybullet)],
    ids=["distinit", "cotrain"],
)
def test_quick_mode(name, rows):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--quick"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("plan: ")
    table = re.split(r"\n\n", done.stdout)[2]
    assert len(re.findall(r"^\|.*\(\d+\)", table, flags=re.M)) == rows, done.stdout

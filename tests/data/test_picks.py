"""Which frames of a clip teachers see."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from vidinit.data.views import Picks, rng
from vidinit.errors import UsageError

# Chi-square that is exceeded once in 10,000 times, by degrees of freedom.
RARE = {7: 29.88, 27: 62.16}


@pytest.mark.parametrize(
    ("text", "picks"),
    [
        ("center", Picks("center")),
        ("random", Picks("random", 1)),
        (1, Picks("random", 1)),
        ("3", Picks("random", 3)),
        ("random:2", Picks("random", 2)),
        ("uniform:4", Picks("uniform", 4)),
        ("all", Picks("all")),
    ],
)
def test_forms(text, picks):
    assert Picks.parse(text) == picks


@pytest.mark.parametrize("text", ["", "0", "random:0", "random:x", "uniform", "all:2", "-1", "two"])
def test_other_words_are_refused(text):
    with pytest.raises(UsageError, match="which frames a teacher sees"):
        Picks.parse(text)


def test_what_needs_no_randomness_draws_nothing():
    for picks, want in [
        (Picks("center"), [4]),
        (Picks("all"), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Picks("uniform", 2), [2, 6]),
        (Picks("uniform", 3), [1, 4, 6]),
    ]:
        generator = rng(0, 0, 0)
        assert picks.of(8, generator).tolist() == want and picks.number(8) == len(want)
        assert generator.random() == rng(0, 0, 0).random()


def test_one_random_frame_is_uniform_and_reproducible():
    picks = Picks.parse("random")
    drawn = [int(picks.of(8, rng(3, e, i))[0]) for e in range(20) for i in range(200)]
    again = [int(picks.of(8, rng(3, e, i))[0]) for e in range(20) for i in range(200)]
    assert drawn == again
    counts = np.bincount(drawn, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < RARE[7]


def test_two_random_frames_are_a_uniform_pair_in_order():
    picks = Picks("random", 2)
    drawn = Counter(tuple(picks.of(8, rng(0, 1, i)).tolist()) for i in range(5600))
    assert set(drawn) == set(itertools.combinations(range(8), 2))
    assert sum((n - 200) ** 2 / 200 for n in drawn.values()) < RARE[27]
    assert picks.of(1, rng(0, 0, 0)).tolist() == [0]  # of a clip of one frame

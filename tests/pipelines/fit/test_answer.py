"""The answer of a fit in words: from figures to a verdict and a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from vidinit.pipelines.fit.run import BASELINE, TUNED, sentences, time_verdict


def reordered(shuffle: float, freeze: float, p_shuffle: float, p_freeze: float) -> dict[str, Any]:
    """Temporal tests of an evaluation that is at 0.80 with the frames in order."""
    return {
        name: {"top1": 0.8 + change, "change": {"top1": change}, "p_value": p_value}
        for name, change, p_value in (
            ("shuffle", shuffle, p_shuffle),
            ("freeze", freeze, p_freeze),
        )
    }


def told(best: str = TUNED, **more: Any) -> dict[str, Any]:
    models = {
        BASELINE: {"name": "frozen image network", "top1": 0.73, "videos": 78},
        TUNED: {"name": "converted and fine-tuned", "top1": 0.8, "videos": 78},
    }
    return {
        "best": best,
        "watch": "top1",
        "score": models[best]["top1"],
        "interval": [0.7, 0.87],
        "videos": 78,
        "chance": 0.59,
        "models": models,
        "baseline": {"probe": "ridge", "time": None},
        **more,
    }


CASES = [
    ((-0.3, -0.4, 1e-6, 1e-7), True, "it needs the order of the frames: shuffled frames cost 30.0"),
    ((-0.02, -0.3, 0.6, 1e-5), True, "it needs motion, but not the order of the frames"),
    ((-0.01, 0.01, 0.9, 0.9), False, "it can be told from single frames"),
    ((-0.1, -0.1, 0.2, 0.2), None, "it may need time, too few clips to be sure"),
]


@pytest.mark.parametrize(("figures", "needed", "text"), CASES)
def test_time(figures: tuple[float, float, float, float], needed: bool | None, text: str) -> None:
    results = {TUNED: {"top1_interval": [0.7, 0.87], "temporal": reordered(*figures)}}
    found = time_verdict(told(), results)
    assert found["needed"] is needed and found["text"].startswith(text)


def test_time_of_a_guess_is_not_known() -> None:
    results = {TUNED: {"top1_interval": [0.5, 0.87], "temporal": reordered(-0.3, -0.4, 0, 0)}}
    assert time_verdict(told(), results)["needed"] is None


def test_time_of_the_baseline_is_that_of_its_run() -> None:
    test = {
        "shuffled": {"change_interval": [-0.2, -0.05]},
        "verdict": "order matters: shuffled frames cost 12.0 points; it is 3.0 points above",
    }
    baseline = {"probe": "ridge", "time": test}
    found = time_verdict(told(BASELINE, baseline=baseline), {BASELINE: {}})
    assert found == {"needed": True, "text": "order matters: shuffled frames cost 12.0 points"}


def test_sentences() -> None:
    time = {"needed": True, "text": "it needs motion"}
    assert sentences(told(time=time)) == (
        "converted and fine-tuned: 80.0 % of 78 validation clips right (95 %: 70.0 to 87.0), the "
        "frozen baseline 73.0 % and always the most frequent class 59.0 %; it needs motion"
    )
    said = sentences(told(BASELINE, time=time))
    assert said.startswith("frozen image network: 73.0 %")
    assert "converted and fine-tuned 80.0 %" in said
    tested = {"top1": 0.75, "top1_interval": [0.6, 0.85], "videos": 40}
    assert "75.0 % on 40 test clips that had no part in it" in sentences(
        told(time=time, test=tested)
    )

"""The first part of a training's page: how good the model is, and what to make of that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .answer import Figure, answer
from .result_parts import LABELS, METRICS

Row = Mapping[str, Any]


def run_answer(result: Row, rows: Sequence[Row], *, classes: int = 0) -> str:
    """HTML for the top of a training's page; empty where there is nothing to say.

    Args:
        result: result.json. ``scores`` are the best and the last epoch's, with intervals, and
            ``health`` what is to be said about the course of the training.
        rows: of metrics.jsonl.
        classes: of the model, 0 where that is not known.
    """
    advice = [_line(one) for one in result.get("health", ())]
    found = _best(result, rows)
    if found is None:
        words = _course(result, rows)
        return answer(words[0], words[1], advice=advice) if words else ""
    metric, best = found
    chance = 1 / classes if classes > 1 and metric.startswith("top1") else None
    figures = [Figure(f"{LABELS[metric]}, validation", best["value"], best.get("interval"))]
    last = best.get("last")
    if last is not None and last["epoch"] != best["epoch"]:
        name = f"the last epoch, {last['epoch']}"
        figures.append(Figure(name, last["value"], last.get("interval")))
    training = next((row for row in reversed(rows) if _is_number(row.get("train_top1"))), None)
    if training is not None and metric == "top1":
        figures.append(Figure("on the training clips, at the end", training["train_top1"]))
    clips = f" on {best['clips']} validation clips" if best.get("clips") else ""
    headline = f"{LABELS[metric]} {best['value']:.3f}{clips}"
    verdict = " ".join(_verdict(metric, best, chance))
    return answer(headline, verdict, figures, chance=chance, advice=advice)


def _line(one: Any) -> str:
    """A line about a run's health: the finding, and what to do about it."""
    if isinstance(one, str):
        return one
    return ": ".join(str(one[key]) for key in ("text", "advice") if one.get(key))


def _best(result: Row, rows: Sequence[Row]) -> tuple[str, dict[str, Any]] | None:
    """The metric that leads, and the epoch that is shown: value, interval, clips and last epoch."""
    scores = result.get("scores")
    if isinstance(scores, Mapping) and isinstance(scores.get("best"), Mapping):
        best, last = scores["best"], scores.get("last") or scores["best"]
        metric = next((name for name in METRICS if _is_number(best.get(name))), None)
        if metric is not None:
            each = [
                {"epoch": one["epoch"], "value": one[metric], "interval": one.get("interval")}
                for one in (best, last)
            ]
            return metric, {**each[0], "clips": scores.get("clips"), "last": each[1]}
    scored = [
        row for row in rows if "epoch" in row and any(_is_number(row.get(m)) for m in METRICS)
    ]
    if not scored:
        return None
    metric = next(name for name in METRICS if _is_number(scored[-1].get(name)))
    valued = [row for row in scored if _is_number(row.get(metric))]
    best = max(valued, key=lambda row: row[metric])  # the earliest of equals, as in training
    one, last = ({"epoch": row["epoch"], "value": row[metric]} for row in (best, valued[-1]))
    return metric, {**one, "last": last}


def _verdict(metric: str, best: Row, chance: float | None) -> Iterator[str]:
    """Sentences: against chance, and how the epoch was chosen."""
    interval = best.get("interval")
    if chance is not None and metric == "top1":
        if interval is None:
            side = "above" if best["value"] > chance else "not above"
            yield f"That is {side} chance ({chance:.3g}); no interval is known."
        elif interval[0] > chance:
            times = best["value"] / chance
            yield f"That is above chance ({chance:.3g}), {times:.1f} times as much."
        else:
            yield (
                f"That is not told apart from chance ({chance:.3g}), which the 95 % interval "
                "holds: more clips, more epochs or another start are needed."
            )
    last = best["last"]
    if last["epoch"] != best["epoch"] and last["value"] != best["value"]:
        yield (
            f"It is epoch {best['epoch']}, the best by these clips, which flatters it; "
            f"the last one has {last['value']:.3f}."
        )


def _course(result: Row, rows: Sequence[Row]) -> tuple[str, str] | None:
    """Of a training that was not scored: what was done, and where the loss went."""
    if "steps" not in result:
        return None
    losses = [row["loss"] for row in rows if _is_number(row.get("loss"))]
    headline = f"{result['steps']} steps on {result.get('videos', 0)} videos"
    if len(losses) < 2:
        return headline, "Nothing was scored: there are no validation clips."
    part = max(1, len(losses) // 10)
    first, last = (sum(own) / len(own) for own in (losses[:part], losses[-part:]))
    way = "fell" if last < first else "did not fall"
    return headline, (
        f"The loss {way}, from {first:.3g} to {last:.3g}"
        f"{' (means of the first and the last tenth)' if part > 1 else ''}. How good the model is "
        "at a task is not scored here."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

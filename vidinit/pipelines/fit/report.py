"""``report.html`` of a fit: the answer, the models beside one another, and every choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from ...engine.run_folder import RunFolder
from ...report.answer import Figure, answer
from ...report.html import Section, page, table
from ...report.run_report import training_sections
from ...report.scores import class_sections, interval_words
from ...scoring.metrics import confusion_of


def write_fit_report(run: RunFolder, told: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        run: folder of the fit.
        told: result.json.
        plan: plan.json.
    """
    watch, best = told["watch"], told["best"]
    order = sorted(told["models"], key=lambda name: name != best)
    figures = [
        Figure(
            told["models"][name]["name"],
            told["models"][name][watch],
            told["models"][name].get("top1_interval" if watch == "top1" else "map_interval"),
        )
        for name in order
    ]
    name, said = told["models"][best]["name"], told["answer"]
    head = answer(
        f"{name[0].upper()}{name[1:]}: {100 * told['score']:.1f} %",
        f"{said[0].upper()}{said[1:]}.",
        figures,
        chance=told["chance"],
        advice=[f"Next: {told['next']}"],
    )
    sections = [_models(told), *_classes(run, told), *_course(run, told), *_plan(plan)]
    run.write("report.html", page("vidinit fit", sections, subtitle=str(run.root), answer=head))


def _models(told: Mapping[str, Any]) -> Section:
    watch = told["watch"]
    rows = []
    for one in told["models"].values():
        gain = one.get("against", {}).get("metrics", {}).get(watch, {})
        tests = one.get("temporal") or {}
        rows.append(
            [
                one["name"],
                one[watch],
                interval_words(one.get(f"{watch}_interval")),
                one.get("mean_class_accuracy"),
                gain.get("gain"),
                interval_words(gain.get("interval")),
                *(tests[name]["top1"] if name in tests else None for name in ("shuffle", "freeze")),
            ]
        )
    headers = ["model", watch, "95 % interval", "mean class", "over the baseline"]
    headers += ["95 % interval", "frames shuffled", "one frame"]
    body = table(headers, rows, highlight=list(told["models"]).index(told["best"]))
    links = "".join(
        f'<li><a href="{quote(name)}/report.html">{escape(one["name"])}</a>: its training; '
        f'<a href="{quote(name)}/eval/report.html">its scores</a>, mistakes and clips</li>'
        for name, one in told["models"].items()
    )
    note = (
        "All on the same validation clips, by the last epoch. The one that is best on them is kept "
        "in model/, so its figure flatters a little."
    )
    return Section("Models", f"{body}<ul>{links}</ul>", note, wide=True)


def _classes(run: RunFolder, told: Mapping[str, Any]) -> list[Section]:
    """Confusion and mistakes of the best model."""
    if told["watch"] != "top1":
        return []
    from ...checkpoint import read_card

    classes = read_card(run.model).classes or []
    return class_sections(confusion_of(run.root / told["best"] / "eval", classes), classes)


def _course(run: RunFolder, told: Mapping[str, Any]) -> list[Section]:
    """The training curves of the best model that was trained."""
    rows = RunFolder(run.root / told["best"], writes=False).read_metrics()
    return training_sections(rows) if any("loss" in row for row in rows) else []


def _plan(plan: Mapping[str, Any]) -> list[Section]:
    """The choices with their reasons, the facts, and the times."""
    choices = [[one["key"], _shown(one["value"]), one["reason"]] for one in plan["choices"]]
    length = plan["schedule"]
    choices.append(["train.epochs", str(length["epochs"]), "what the budget has room for"])
    facts = [
        [key.replace("_", " "), _shown(value)]
        for key, value in plan["facts"].items()
        if value not in (None, {}, [])
    ]
    times = [[f"{name} (predicted)", f"{length[name]:.0f} s"] for name in _STAGES]
    times += [["a step", f"{plan['times']['step']:.2f} s"]]
    times += [["a clip seen", f"{plan['times']['seen']:.3f} s"]]
    note = "config.yaml beside this page has them all: vidinit finetune --config."
    return [
        Section("Choices", table(["setting", "value", "why"], choices), note, wide=True),
        Section("What there was", table(["", ""], facts), folded=True),
        Section("Time", table(["", ""], times), folded=True),
    ]


_STAGES = ("baseline", "training", "distilling", "scoring")


def _shown(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:119]}…"

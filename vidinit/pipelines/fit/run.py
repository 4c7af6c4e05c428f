"""The stages of `vidinit fit`: a frozen baseline, fine-tuning, distillation, and what was found.

Each stage is an ordinary run, conversion or evaluation in a folder of its own, so that the expert
goes on with any of them. What is finished is left alone when a fit goes on.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import yaml

from ...checkpoint import CARD
from ...config import DataConfig, TrainRunConfig
from ...config.build import build
from ...config.layers import called_from
from ...console import say, with_messages
from ...data.rows import Rows
from ...data.sources import train_val, unlabeled_rows
from ...engine.run_folder import RunFolder
from ...errors import DataError, Interrupted
from ...files import mark, write_folder
from ...scoring.metrics import WATCH
from ..convert import convert
from ..distill.settings import DistillConfig
from ..evaluate.api import evaluate
from ..finetune.settings import FinetuneConfig
from ..run import run as run_command
from ..run_set import finished
from ..shared.clips import check_split, data_name
from .choose import (
    SOURCE,
    Choice,
    Choices,
    Schedule,
    Times,
    lines_of,
    minutes,
    schedule,
    settings_of,
)
from .look import Facts, look
from .measure import measure
from .report import write_fit_report

PLAN_FILE = "plan.json"
BASELINE, TUNED, DISTILLED, TUNED_AGAIN = "baseline", "tuned", "distilled", "tuned-distilled"
NAMES = {
    BASELINE: "frozen image network",
    TUNED: "converted and fine-tuned",
    TUNED_AGAIN: "distilled and fine-tuned",
}
"""The models that are compared, by the folder of their run, in words."""
_READING = ("data.class_names", "data.split", "data.max_bad", "data.reader", "data.deadline")


@dataclass(frozen=True)
class Request:
    """The request of a user.

    Attributes:
        videos, val, test, root, unlabelled: the data, as texts.
        given: settings that are not up for choice, with `SOURCE`.
        budget: seconds.
        seed: of everything random.
        how: device and precision, where they were named.
    """

    videos: str | list[str]
    val: str | list[str] | None
    test: str | list[str] | None
    root: str | None
    unlabelled: str | list[str] | None
    given: dict[str, Any]
    budget: float
    seed: int
    how: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Facts, choices and lengths, as plan.json keeps them."""

    facts: Facts
    choices: Choices
    times: Times
    schedule: Schedule

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return {
            "facts": self.facts.as_dict(),
            "choices": [asdict(choice) for choice in self.choices.values()],
            "times": asdict(self.times),
            "schedule": asdict(self.schedule),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `as_dict`."""
        choices = [Choice(**one) for one in values["choices"]]
        return cls(
            Facts.from_dict(values["facts"]),
            {one.key: one for one in choices},
            Times(**values["times"]),
            Schedule(**values["schedule"]),
        )


def look_at(request: Request) -> tuple[Rows, Facts]:
    """The training rows, checked, and the facts.

    Raises:
        DataError: there is no clip, or too many cannot be read.
        UsageError: a path does not exist.
    """
    given = request.given
    data = _reading(request)
    train, val = with_messages(
        lambda: train_val(
            request.videos,
            request.val,
            val_fraction=float(given.get("data.val_fraction", 0.2)),
            seed=request.seed,
            kinds="any",
            root=request.root,
            class_names=given.get("data.class_names"),
            split=given.get("data.split", 1),
        )
    )
    if not len(train):
        raise DataError(f"{data_name(request.videos)} has no training clip")
    checked = check_split(train, val, data, data_name(request.videos))
    count = 0
    if request.unlabelled is not None:
        count = len(with_messages(lambda: unlabeled_rows(request.unlabelled or "")))
    device = str(request.how.get("device") or "auto")
    own_val = request.val is not None
    return checked.train, look(
        checked.train, checked.val, own_val=own_val, unlabelled=count, device=device
    )


def _reading(request: Request) -> DataConfig:
    """Settings of the data, for its check."""
    given = {key: request.given[key] for key in _READING if key in request.given}
    flags = {"model": "c2d", "data.train": request.videos, **given}
    return build(FinetuneConfig, flags=flags).data


class Fit:
    """One fit in its folder.

    Args:
        request: what was asked for.
        folder: of the fit, opened.
        command: the command line that goes on with it.
        found: training rows, facts and choices; None where the folder has a plan.
    """

    def __init__(
        self,
        request: Request,
        folder: RunFolder,
        command: str,
        found: tuple[Rows, Facts, Choices] | None,
    ) -> None:
        self.request, self.folder, self.command = request, folder, command
        self.found = found

    def run(self) -> dict[str, Any]:
        """All stages; the result, see `api.fit`.

        Raises:
            Interrupted: by Ctrl-C or a signal, with the command that goes on.
        """
        began = perf_counter()
        try:
            with called_from("vidinit fit"):
                plan = self.plan()
                results = self.stages(plan)
                told = self.conclude(plan, results)
        except Interrupted as error:
            raise Interrupted(
                error.message, f"go on with: {self.command}", signal_number=error.exit_code - 128
            ) from error
        except KeyboardInterrupt:
            raise Interrupted(
                "stopped by Ctrl-C; what is finished is kept",
                f"go on with: {self.command}",
                signal_number=2,
            ) from None
        told["seconds"] = round(perf_counter() - began, 1)
        self.folder.write_json("result.json", told)
        write_fit_report(self.folder, told, plan.as_dict())
        return told

    # ---------------------------------------------------------------------------------- planning

    def plan(self) -> Plan:
        """The plan of the folder, or a new one, for which it converts and measures."""
        file = self.folder.root / PLAN_FILE
        if self.found is None:
            found = Plan.from_dict(json.loads(file.read_text(encoding="utf-8")))
            say(f"{file}: goes on by the plan that was made")
            return found
        rows, facts, choices = self.found
        self.converted(choices)
        config = self.config(choices)
        say("measuring a few steps")
        times = measure(config, self.folder.root / "image", rows)
        plan = Plan(facts, choices, times, schedule(facts, choices, times, self.request.budget))
        for line in lines_of(facts, choices, plan.schedule, times):
            say(line)
        self.folder.write_json(PLAN_FILE, plan.as_dict())
        return plan

    def config(self, choices: Choices, **more: Any) -> FinetuneConfig:
        """The configuration of a fine-tuning by these choices; ``more`` has keys with ``__``."""
        request = self.request
        flags = {
            "model": str(self.folder.root / "start"),
            "data.train": request.videos,
            "data.val": request.val,
            "data.root": request.root,
            "train.seed": request.seed,
            **request.how,
            **settings_of(choices),
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        return build(FinetuneConfig, flags=flags)

    # ------------------------------------------------------------------------------------ stages

    def converted(self, choices: Choices) -> None:
        """The model folders ``image``, frame by frame, and ``start``, where they are missing."""
        frames, size = choices["data.frames"].value, choices["data.size"].value
        for name, to in (("image", "c2d"), ("start", str(choices["plan"].value))):
            place = self.folder.claim(name)
            if not (place / CARD).is_file():
                source, _, weights = str(choices[SOURCE].value).partition("=")
                report = convert(
                    *(source, to),
                    weights=weights or None,
                    out=place,
                    frames=frames,
                    size=size,
                    seed=self.request.seed,
                    device=str(self.request.how.get("device") or "auto"),
                )
                if name == "start" and report.max_difference is not None:
                    say(f"a still clip's logits differ by {report.max_difference:.1e} at most")

    def stages(self, plan: Plan) -> dict[str, dict[str, Any]]:
        """The scores of each model, by the folder of its run: an evaluation's result."""
        choices, length = plan.choices, plan.schedule
        shots = {} if length.shots is None else {"data__shots": length.shots}
        image = str(self.folder.root / "image")
        self._stage(
            BASELINE,
            "finetune",
            self._probing(choices, model=image, **shots),
        )
        results = {BASELINE: self._scored(BASELINE, plan)}
        if not length.epochs:
            return results
        lengths = {
            "train__epochs": length.epochs,
            "train__warmup_epochs": round(0.1 * length.epochs, 2),
            "eval__every": max(1, round(length.epochs / 5)),
            **shots,
        }
        tuned = self.config(choices, **lengths)
        self._record(tuned)
        self._stage(TUNED, "finetune", tuned)
        results[TUNED] = self._scored(TUNED, plan)
        if length.distill:
            self._stage(DISTILLED, "distill", self._distillation(plan))
            student = str(self.folder.root / DISTILLED)
            self._stage(TUNED_AGAIN, "finetune", self.config(choices, model=student, **lengths))
            results[TUNED_AGAIN] = self._scored(TUNED_AGAIN, plan)
        return results

    def _probing(self, choices: Choices, **more: Any) -> FinetuneConfig:
        """The frozen baseline: the same clips, and nothing that is for training."""
        own = {k: one for k, one in choices.items() if not k.startswith("train.")}
        own.pop("data.balance", None)
        weights = {"train__class_weights": "auto"} if "data.balance" in choices else {}
        return self.config(own, train__probes=["ridge", "logistic"], **weights, **more)

    def _distillation(self, plan: Plan) -> DistillConfig:
        """Of the converted model, on the videos without labels."""
        own = {
            key: value
            for key, value in settings_of(plan.choices).items()
            if key.startswith("data.") and key not in ("data.balance", *_READING[:2])
        }
        lite = "tf_efficientnet_lite0" in plan.facts.weights
        flags = {
            "model": str(self.folder.root / "start"),
            "data.train": self.request.unlabelled,
            "distill.teachers": ["imagenet-lite" if lite else str(plan.choices[SOURCE].value)],
            "distill.size": "crop",
            "train.epochs": plan.schedule.distill,
            "train.optimizer": "adamw",
            "train.lr": 0.00005,
            "train.temporal_lr_scale": 10.0,
            "train.weight_decay": 0.05,
            "train.seed": self.request.seed,
            **self.request.how,
            **own,
        }
        return build(DistillConfig, flags=flags)

    def _record(self, config: FinetuneConfig) -> None:
        """config.yaml of the whole: that of the fine-tuning, for `finetune --config`."""
        settings = {"command": "finetune", **config.model_dump(mode="json"), "out": None}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        self.folder.write("config.yaml", text)

    def _stage(self, name: str, command: str, config: TrainRunConfig) -> dict[str, Any]:
        """Run a training, go on with it, or leave it alone."""
        place = self.folder.claim(name)
        config.out = str(place)
        say(f"-- {name} --")
        return run_command(command, config, resume=place.is_dir() and any(place.iterdir()))

    def _scored(self, name: str, plan: Plan) -> dict[str, Any]:
        """The evaluation of a run, in ``eval`` below it."""
        place = self.folder.root / name
        out = place / "eval"
        if (done := finished(out)) is not None:
            return done
        mark(place, "eval")
        request, first = self.request, name == BASELINE
        given = {key: request.given[key] for key in _READING if key in request.given}
        settings = settings_of(plan.choices)
        for key in ("data.decode_side", "data.batch_size"):
            if key in settings:
                given[key] = settings[key]
        has_order = int(settings["data.frames"]) > 1 and not first
        return evaluate(
            place,
            data=request.videos if request.val is None else None,
            val=request.val,
            root=request.root,
            clips=settings.get("eval.clips"),
            temporal_test=["shuffle", "freeze"] if has_order else None,
            against=None if first else self.folder.root / BASELINE / "eval",
            out=out,
            overrides={**given, "eval.time_test": False},
            seed=request.seed,
            overwrite=out.is_dir(),
            **request.how,
        )

    def _tested(self, plan: Plan) -> dict[str, Any]:
        """The scores of the best model on the test clips, in ``test`` of the folder."""
        out = self.folder.claim("test")
        if (done := finished(out)) is not None:
            return done
        request, settings = self.request, settings_of(plan.choices)
        given = {key: request.given[key] for key in _READING if key in request.given}
        return evaluate(
            self.folder.root,
            val=request.test,
            root=request.root,
            clips=settings.get("eval.clips"),
            out=out,
            overrides={**given, "eval.time_test": False},
            seed=request.seed,
            overwrite=out.is_dir(),
            **request.how,
        )

    # ------------------------------------------------------------------------------------ the end

    def conclude(self, plan: Plan, results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Pick a model, copy it to ``model``, and put the result together."""
        watch = WATCH[plan.facts.kind]
        best = max(results, key=lambda name: results[name][watch])  # the first of equals
        source, root = self.folder.root / best, self.folder.root
        place = self.folder.claim("model")
        write_folder(place, {one.name: one.read_bytes() for one in (source / "model").iterdir()})
        if (source / "split.json").is_file():
            self.folder.claim("split.json")
            shutil.copyfile(source / "split.json", root / "split.json")
        baseline = json.loads((root / BASELINE / "result.json").read_text(encoding="utf-8"))
        told: dict[str, Any] = {
            "out": str(root),
            "best": best,
            "watch": watch,
            "score": results[best][watch],
            "interval": results[best].get("top1_interval" if watch == "top1" else "map_interval"),
            "videos": results[best]["videos"],
            "chance": round(plan.facts.chance, 6) if watch == "top1" else None,
            "models": {
                name: {
                    "name": NAMES[name],
                    "run": str(root / name),
                    **{key: one[key] for key in _KEPT if key in one},
                }
                for name, one in results.items()
            },
            "baseline": {"probe": baseline["probe"], "time": baseline.get("time")},
        }
        if self.request.test is not None:
            told["test"] = self._tested(plan)
        told["time"] = time_verdict(told, results)
        told["next"] = self._next(plan, told)
        told["answer"] = sentences(told)
        return told

    def _next(self, plan: Plan, told: Mapping[str, Any]) -> str:
        """The command to type next."""
        length, out = plan.schedule, str(self.folder.root)
        where = self.request.videos if isinstance(self.request.videos, str) else "VIDEOS"
        if not length.epochs or length.epochs < length.wanted:
            return shlex.join(["vidinit", "fit", where, "--budget", minutes(length.enough)])
        if told["best"] == BASELINE:
            more = ["--epochs", str(2 * length.epochs)]
            return shlex.join(["vidinit", "finetune", "--config", f"{out}/config.yaml", *more])
        return shlex.join(["vidinit", "predict", out]) + " NEW.mp4"


UNSURE = 0.05
"""Accuracy that other frames may cost before it is worth a word that this may be no chance."""
_KEPT = (
    *("top1", "map", "mean_class_accuracy", "top1_interval", "map_interval", "videos"),
    *("temporal", "against", "out"),
)
"""Entries of an evaluation that the result of a fit has of each model."""


def time_verdict(told: Mapping[str, Any], results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Does it need time? By the best model: what shuffled and frozen frames cost it.

    Returns:
        ``{needed, text}``: ``needed`` is None where nothing can be said.
    """
    best = results[told["best"]]
    if told["best"] == BASELINE:
        test = told["baseline"]["time"]
        if not test:
            return {"needed": None, "text": "whether it needs time was not asked"}
        low = -test["shuffled"]["change_interval"][1]
        needed = None if test["verdict"].startswith("no verdict") else low > 0
        return {
            "needed": needed,
            "text": test["verdict"].partition("; it is")[0].partition("; the mean")[0],
        }
    changes = {name: one["change"]["top1"] for name, one in best["temporal"].items()}
    sure = {n: one["p_value"] < 0.05 and changes[n] < 0 for n, one in best["temporal"].items()}
    cost = f"shuffled frames cost {-100 * changes['shuffle']:.1f} points"
    still = f"one frame repeated {-100 * changes['freeze']:.1f}"
    low = (best.get("top1_interval") or [1.0])[0]
    if told["chance"] is not None and low <= told["chance"]:
        return {"needed": None, "text": f"whether it needs time is not known ({cost}, {still})"}
    if sure["shuffle"]:
        return {"needed": True, "text": f"it needs the order of the frames: {cost}, {still}"}
    if sure["freeze"]:
        text = f"it needs motion, but not the order of the frames: {cost}, {still}"
        return {"needed": True, "text": text}
    if min(changes.values()) < -UNSURE:
        text = f"it may need time, too few clips to be sure: {cost}, {still}"
        return {"needed": None, "text": text}
    return {"needed": False, "text": f"it can be told from single frames: {cost}, {still}"}


def sentences(told: Mapping[str, Any]) -> str:
    """The answer in one sentence: what accuracy, against what, does it need time."""
    best, watch = told["models"][told["best"]], told["watch"]
    between = ""
    if told["interval"]:
        low, high = told["interval"]
        between = f" (95 %: {100 * low:.1f} to {100 * high:.1f})"
    against = []
    if told["best"] != BASELINE:
        against.append(f"the frozen baseline {100 * told['models'][BASELINE][watch]:.1f} %")
    elif len(told["models"]) > 1:
        others = [one for name, one in told["models"].items() if name != BASELINE]
        top = max(others, key=lambda one: one[watch])
        against.append(f"{top['name']} {100 * top[watch]:.1f} %")
    if told["chance"] is not None:
        against.append(f"always the most frequent class {100 * told['chance']:.1f} %")
    beside = f", {' and '.join(against)}" if against else ""
    score = f"{100 * told['score']:.1f} %"
    if watch == "top1":
        found = f"{score} of {told['videos']} validation clips right"
    else:
        found = f"mean average precision {score} on {told['videos']} validation clips"
    tested = ""
    if (test := told.get("test")) is not None:
        low, high = test["top1_interval"]
        tested = (
            f", {100 * test[watch]:.1f} % on {test['videos']} test clips that had no part in it "
            f"(top-1, 95 %: {100 * low:.1f} to {100 * high:.1f})"
        )
    return f"{best['name']}: {found}{between}{tested}{beside}; {told['time']['text']}"

"""Several runs of one command that differ in one thing: a folder each, a table and a page of all.

The splits of a data set, shares of its clips and subsets of the sources are such sets. Each run is
an ordinary one in a folder of its own below that of the set. A set that was stopped goes on, and
what is finished in it is left as it is.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ..config import RunConfig, TrainRunConfig
from ..console import say
from ..engine.run_folder import ORIGINS, RunFolder, default_out
from ..errors import UsageError
from ..files import MARK, check_out, folder_locks
from ..processes import in_group
from ..report import plots
from ..report.answer import Figure, answer
from ..report.html import Section, page, table
from ..report.result_parts import LABELS, METRICS
from .registry import COMMANDS
from .run import run, run_training
from .shared.names import folder_names
from .shared.run_records import check_same, open_recorded, recorded_config, replaced_folder

_BARS = 12  # runs that the answer shows
RESULT, REPORT = "result.json", "report.html"

Config = TypeVar("Config", bound=RunConfig)
Result = dict[str, Any]


@dataclass(frozen=True)
class RunSet:
    """Runs of one command.

    Attributes:
        varies: what they differ in, in words; heading of its column and name of a plot's axis.
        configs: of each run, by its name; the place for its results is set by `run_set`.
        values: what that is in each run, in the same order.
        figures: the metrics of a finished run that stand in the table, from its result.
        summary: further entries of the set's result, from the results of the runs by name.
        repeats: True for repetitions of one experiment: there are a mean and a deviation.
    """

    varies: str
    configs: Mapping[str, RunConfig]
    values: Sequence[Any]
    figures: Callable[[Result], dict[str, float]]
    summary: Callable[[dict[str, Result]], Result]
    repeats: bool = False


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """A copy of a configuration with other values, by dotted keys."""
    own = config.model_copy(deep=True)
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        place: Any = own
        for section in sections:
            place = getattr(place, section)
        setattr(place, leaf, value)
    return own


def run_set(
    command: str,
    config: RunConfig,
    runs: RunSet,
    *,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Result:
    """Run them one after the other, and write ``result.json`` and ``report.html`` of all.

    Args:
        command: a key of `registry.COMMANDS`.
        config: of the set, as the user gave it; it is recorded beside the result.
        runs: of the set.
        processes: of each run.
        resume: go on with a set that was stopped.
        overwrite: replace an earlier set.
        dry_run: of trainings: rehearse the first run, and write nothing.

    Returns:
        ``{out, varies, runs: [{run, value, figures, result}], ...}`` with the set's ``summary``;
        of repetitions also ``mean``, ``deviation`` (the sample's, over n - 1) and ``range`` of each
        figure that all of them have. Of a dry run that of the first.

    Raises:
        UsageError: a folder that may not be written, or another set in it; a launcher's group.
    """
    if in_group():
        raise UsageError(
            f"{len(runs.configs)} runs one after the other are started from one process",
            "pass --processes, or run them one by one below this launcher",
        )
    names = list(runs.configs)
    if dry_run:
        say(f"{len(names)} runs: {', '.join(names)}; a dry run takes a step of the first one")
        first = runs.configs[names[0]]
        return run_training(
            command, first, processes, resume=resume, overwrite=overwrite, dry_run=True
        )
    if resume and config.out is None:
        raise UsageError("--resume needs the folder of the runs", "pass --out DIR")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", "pass one of them")
    config.out = config.out or str(default_out(command, config.model))
    check_out(Path(config.out), overwrite=overwrite, resume=resume)
    if resume:
        check_same(RunFolder(Path(config.out)), config)
    trains = COMMANDS[command].trains
    with folder_locks(), _opened(command, config, resume, overwrite, late=not trains) as folder:
        folders = folder_names(names)
        results: dict[str, Result] = {}
        for number, (name, own) in enumerate(runs.configs.items(), start=1):
            place = folder.claim(folders[name])
            own.out = str(place)
            say(f"run {number} of {len(names)}: {name}")
            try:
                one = _one_run if trains else _one_evaluation
                results[name] = one(command, own, processes, resume)
            except BaseException:
                if number == 1 and not place.exists() and not resume:
                    _forget(folder.root)
                if number > 1 and (trains or not overwrite):
                    say(
                        f"note: {number - 1} of {len(names)} runs are finished; --resume goes on "
                        f"in {config.out}"
                    )
                raise
        told = _told(config.out, runs, results)
        folder.write_json(RESULT, told)
        folder.write(REPORT, set_page(f"{command} {config.model}", told, folders))
    return told


def _forget(root: Path) -> None:
    """Leave the folder of a set empty whose first run was refused, for the next try."""
    for name in ("config.yaml", ORIGINS, MARK):
        (root / name).unlink(missing_ok=True)


def _opened(
    command: str, config: RunConfig, resume: bool, overwrite: bool, *, late: bool
) -> AbstractContextManager[RunFolder]:
    """The folder of the set; with ``late`` an earlier one is back where anything goes wrong."""
    if late and overwrite:
        return replaced_folder(str(config.out), lambda: open_recorded(config, command))
    return nullcontext(open_recorded(config, command, overwrite=overwrite, resume=resume))


def _one_run(command: str, config: RunConfig, processes: int, resume: bool) -> Result:
    """A training: it starts, goes on, or is finished already."""
    goes_on = resume and Path(str(config.out)).is_dir()
    return run(command, config, processes=processes, resume=goes_on)


def _one_evaluation(command: str, config: RunConfig, processes: int, resume: bool) -> Result:
    """An evaluation: it is finished already, or starts anew."""
    out = Path(str(config.out))
    if resume and out.is_dir():
        if (done := finished(out)) is not None:
            check_same(RunFolder(out), config)
            say(f"{out} is finished: nothing to resume")
            return {**done, "out": str(out)}
        return run(command, config, processes=processes, overwrite=True)
    return run(command, config, processes=processes)


def finished(folder: Path) -> Result | None:
    """The result of a run or a set whose last file is there; None for any other."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and (folder / REPORT).is_file() else None


def _told(out: str, runs: RunSet, results: dict[str, Result]) -> Result:
    """result.json of a set."""
    figures = {name: runs.figures(result) for name, result in results.items()}
    told: Result = {
        "out": out,
        "varies": runs.varies,
        "runs": [
            {"run": name, "value": value, "figures": figures[name], "result": results[name]}
            for name, value in zip(results, runs.values, strict=True)
        ],
    }
    told |= runs.summary(results)
    if not runs.repeats and "best" in told:
        told["best"] = None  # a mean over runs that are scored on different things
    if runs.repeats:
        means = mean_and_deviation(list(figures.values()))
        told = {**told, **means["mean"], **means}  # a mean stands where one run has its figure
    return told


def mean_and_deviation(figures: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """``mean``, ``deviation`` and ``range``, the least and the most, of figures that all runs have.

    The deviation is the sample's, over n - 1; of a single run there is none.
    """
    shared = [key for key in figures[0] if all(key in one for one in figures)]
    found = {key: [one[key] for one in figures] for key in shared}
    spread = {
        key: round(statistics.stdev(values), 6) for key, values in found.items() if len(values) > 1
    }
    means = {key: round(statistics.fmean(values), 6) for key, values in found.items()}
    ends = {key: [round(min(values), 6), round(max(values), 6)] for key, values in found.items()}
    return {"mean": means, "deviation": spread, "range": ends}


def runs_in(folder: str | Path) -> list[dict[str, Any]] | None:
    """The runs of a finished set, as its result has them; None where a folder is no set.

    Their ``folder`` is added, which holds although the set may have been moved.
    """
    root = Path(folder)
    told = finished(root) if root.is_dir() else None
    if told is None or not isinstance(told.get("runs"), list):
        return None
    names = folder_names(one["run"] for one in told["runs"])
    return [
        {**one, "folder": str(root / names[one["run"]]), "varies": told["varies"]}
        for one in told["runs"]
    ]


def lines_of(told: Mapping[str, Any]) -> Iterator[str]:
    """The result of a set for people: a line a run, and the mean."""
    for one in told["runs"]:
        figures = "   ".join(f"{key} {value:.3f}" for key, value in one["figures"].items())
        yield f"{one['run']}: {figures}" if figures else f"{one['run']}: {one['result']['out']}"
    for key, value in told.get("mean", {}).items():
        spread = told["deviation"].get(key)
        more = "" if spread is None else f", standard deviation {spread:.3f}"
        if (ends := told.get("range", {}).get(key)) is not None and spread is not None:
            more = f", {ends[0]:.3f} to {ends[1]:.3f}{more}"
        yield f"mean {key} {value:.3f}{more} ({len(told['runs'])} runs)"
    yield f"report: {told['out']}/{REPORT}"
    config = recorded_config(told["out"])
    if isinstance(config, TrainRunConfig) and not getattr(config, "sources", None):
        yield f"next: {config.next_command(told['out'])}"


def set_page(title: str, told: Mapping[str, Any], folders: Mapping[str, str]) -> str:
    """``report.html`` of a set.

    Args:
        title: plain text.
        told: result.json.
        folders: name of each run's folder, by the run's name.
    """
    runs = told["runs"]
    keys = list(dict.fromkeys(key for one in runs for key in one["figures"]))
    rows: list[list[Any]] = [
        [one["run"], *(one["figures"].get(key) for key in keys)] for one in runs
    ]
    if "mean" in told:
        rows.append(["mean", *(told["mean"].get(key) for key in keys)])
        rows.append(["standard deviation", *(told["deviation"].get(key) for key in keys)])
        for place, name in enumerate(("least", "most")):
            ends = (told.get("range", {}).get(key) for key in keys)
            rows.append([name, *(None if end is None else end[place] for end in ends)])
    body = table([told["varies"], *map(_name, keys)], rows) + _line(told, keys)
    links = "".join(
        f'<li><a href="{quote(folders[one["run"]])}/{REPORT}">{escape(one["run"])}</a></li>'
        for one in runs
    )
    note = "The deviation is that of the sample: over n - 1." if "mean" in told else ""
    return page(
        title,
        [Section("Runs", body, note), Section("Reports", f"<ul>{links}</ul>")],
        subtitle=f"{len(runs)} runs by {told['varies']}",
        answer=_answer(told, keys),
    )


def _answer(told: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The mean over the runs, or the best of them."""
    metric = next((name for name in METRICS if name in keys), None)
    if metric is None:
        return ""
    scored = [one for one in told["runs"] if one["figures"].get(metric) is not None]
    values = [one["figures"][metric] for one in scored]
    if not values:
        return ""
    ends = f"from {min(values):.3f} to {max(values):.3f}"
    figures = [Figure(one["run"], one["figures"][metric]) for one in scored[:_BARS]]
    mean = told.get("mean", {}).get(metric)
    if mean is not None:
        deviation = told["deviation"].get(metric)
        spread = "" if deviation is None else f"; the standard deviation is {deviation:.3f}"
        return answer(
            f"{LABELS[metric]} {mean:.3f} on the mean of {len(values)} runs",
            f"The runs have {ends}{spread}.",
            figures,
        )
    best = max(scored, key=lambda one: one["figures"][metric])
    return answer(
        f"{LABELS[metric]} {max(values):.3f} at best, by {best['run']}",
        f"The runs have {ends}.",
        figures,
    )


def _line(told: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The figures over what varies, where that is a number and the runs no repetitions."""
    points = [(one["value"], one["figures"]) for one in told["runs"]]
    numeric = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x, _ in points)
    if "mean" in told or not numeric or len(points) < 2:
        return ""
    points.sort(key=lambda point: float(point[0]))
    series = {_name(key): [(x, own.get(key, math.nan)) for x, own in points] for key in keys}
    if not keys:
        return ""
    return plots.curves(
        series, xlabel=told["varies"], ylabel=_name(keys[0]) if not keys[1:] else ""
    )


def _name(key: str) -> str:
    """A metric for people; of a source of a co-training ``top1_<source>`` is one, too."""
    first, _, source = key.partition("_")
    if key in LABELS or first not in LABELS or not source:
        return LABELS.get(key, key)
    return f"{LABELS[first]}, {source}"

"""The measurements of `vidinit profile`, as tables for people and as a page with pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import plots
from .html import Section, figure, page, table

if TYPE_CHECKING:
    from ..zoo.base import VideoModel

Row = dict[str, Any]

COUNTED = (
    "GMACs: 1e9 multiply-adds of the convolutions and matrix products of one clip, which papers "
    "often call FLOPs. GFLOPs: twice that."
)
KERNELS = (
    "Means over output channels. Center energy: share of the middle tap, |w_c|^2 / sum |w_t|^2; 1 "
    "looks at one frame alone, 1/t is what a random kernel of t taps has. Variation: sum |w_t - "
    "mean|^2 / sum |w_t|^2; 0 averages the frames, a random kernel and a lone middle tap have "
    "1 - 1/t. The taps of a static half of STS scan space."
)
_INPUT = "Shares of the time between the first batch and the last."
_METRICS = {"top1": "top-1 accuracy", "map": "mean average precision", "best": "validation score"}


@dataclass(frozen=True)
class Sheet:
    """A table for people.

    Attributes:
        title: plain text.
        headers: one per column.
        rows: cells; None for unknown values.
        note: how to read it.
    """

    title: str
    headers: list[str]
    rows: list[list[Any]]
    note: str = ""


def sheets(rows: Sequence[Row]) -> Iterator[Sheet]:
    """The tables of a profile: costs, then stages, input and kernels where they were measured.

    Args:
        rows: as `pipelines.profile.api.profile` returns them.
    """
    yield _costs(rows)
    for row in rows:
        if "stages" in row:
            yield _stages(row)
    if "input" in rows[0]:
        yield _inputs(rows)
    for row in _once(rows):
        if "kernels" in row:
            yield _kernels(row)


def _row_name(row: Row) -> str:
    """The row among others: its model and clip, and its batch where there is one."""
    batch = f"{row['batch_size']} x " if "batch_size" in row else ""
    return f"{row['model']}, {batch}{row['frames']}x{row['size']}"


def _once(rows: Sequence[Row]) -> list[Row]:
    """One row of each model."""
    return list({row["model"]: row for row in reversed(rows)}.values())[::-1]


def _costs(rows: Sequence[Row]) -> Sheet:
    first = rows[0]
    columns: dict[str, list[Any]] = {
        "model": [row["model"] for row in rows],
        "frames x side": [f"{row['frames']}x{row['size']}" for row in rows],
        "params M": [_short(row["params"] / 1e6) for row in rows],
        "GMACs": [_short(row["gmacs"]) for row in rows],
        "GFLOPs": [_short(row["gflops"]) for row in rows],
    }
    title = "Costs"
    if "latency_ms" in first:
        title += f": {first['device']}, {first['precision']}"
        columns["batch"] = [row["batch_size"] for row in rows]
        columns["clips a second"] = [_rounded(row["clips_per_second"], 2) for row in rows]
        columns["ms a batch"] = [_rounded(row["latency_ms"], 1) for row in rows]
        columns["peak MB"] = [_rounded(row["peak_memory_mb"], 0) for row in rows]
    if "training_memory_mb" in first:
        memory = [row["training_memory_mb"] for row in rows]
        columns["training MB"] = [None if m is None else round(m["total"]) for m in memory]
    scored = [row for row in rows if "score" in row]
    if scored:
        columns[_metric(scored)] = [row.get("score") for row in rows]
        columns["views"] = [row.get("views") for row in rows]
    cells = [list(row) for row in zip(*columns.values(), strict=True)]
    return Sheet(title, list(columns), cells, COUNTED)


def _metric(scored: Sequence[Row]) -> str:
    """The metric of the scores, ``score`` where they differ in it."""
    metrics = {row["metric"] for row in scored}
    return metrics.pop() if len(metrics) == 1 else "score"


def _short(value: float) -> float:
    """Three decimals, or three digits of what has none there."""
    return round(value, 3) if value >= 0.1 else float(f"{value:.3g}")


def _rounded(value: float | None, digits: int) -> float | int | None:
    if value is None:
        return None
    return round(value, digits) if digits else round(value)


def _stages(row: Row) -> Sheet:
    stages = row["stages"]
    headers = ["stage", "params M", "GMACs", "% of GMACs"]
    timed = "ms" in stages[0]
    if timed:
        headers += ["ms", "% of ms"]
    macs = sum(stage["gmacs"] for stage in stages)
    time = sum(stage.get("ms", 0) for stage in stages)
    cells = []
    for stage in stages:
        line = [
            stage["stage"],
            _short(stage["params"] / 1e6),
            _short(stage["gmacs"]),
            _percent(stage["gmacs"], macs),
        ]
        cells.append([*line, _short(stage["ms"]), _percent(stage["ms"], time)] if timed else line)
    note = "Rest: pools, activations, tokens, what the model does itself."
    if timed and row["device"] != "cpu":
        note += " The device is waited for around each stage, so the times add up to more."
    return Sheet(f"Stages of {_row_name(row)}", headers, cells, note)


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _inputs(rows: Sequence[Row]) -> Sheet:
    headers = ["model", "batch", "% waiting for data", "% copying", "% model", "clips a second"]
    measured = [row for row in rows if row.get("input")]
    cells = []
    for row in measured:
        share = row["input"]
        parts = [round(100 * share[key], 1) for key in ("waiting", "copying", "model")]
        rate = round(share["clips_per_second"], 2)
        cells.append([row["model"], row["batch_size"], *parts, rate])
    advice = dict.fromkeys(row["input"]["advice"] for row in measured if row["input"]["advice"])
    return Sheet("Where the time goes", headers, cells, " ".join([_INPUT, *advice]))


def _kernels(row: Row) -> Sheet:
    headers = ["kernel", "size", "part", "channels", "center energy", "variation"]
    keys = ("name", "kernel", "part", "channels", "center_energy", "variation")
    cells = [
        [kernel[key] for key in keys[:4]] + [_rounded(kernel[key], 3) for key in keys[4:]]
        for kernel in row["kernels"]
    ]
    for part, means in row["kernel_means"].items():
        count = sum(k["channels"] for k in row["kernels"] if k["part"] == part)
        cells.append(["mean", "", part, count, *(round(means[key], 3) for key in keys[4:])])
    note = KERNELS if cells else "It has no temporal kernels."
    return Sheet(f"Temporal kernels of {row['model']}", headers, cells, note)


def profile_page(rows: Sequence[Row], models: Mapping[str, VideoModel]) -> str:
    """``profile.html``.

    Args:
        rows: as `pipelines.profile.api.profile` returns them.
        models: by name, those whose first temporal kernels are drawn.
    """
    found = [Section(s.title, table(s.headers, s.rows), s.note) for s in sheets(rows)]
    pictures = (_tradeoffs(rows), _throughput(rows), _filters(rows, models), _weights(rows))
    parts = [found[0], *itertools.chain(*pictures), *found[1:]]
    return page("vidinit profile", parts, subtitle=", ".join(row["model"] for row in _once(rows)))


def _tradeoffs(rows: Sequence[Row]) -> Iterator[Section]:
    scored = [row for row in _once(rows) if "score" in row]
    if not scored:
        return
    costs = {"GMACs": "GMACs of a video (clip x views)"}
    if all(row.get("latency_ms") is not None for row in scored):
        device = f"{scored[0]['device']}, {scored[0]['precision']}"
        costs["latency"] = f"ms of a video (clip x views, {device})"
    intervals = {row["model"]: row["interval"] for row in scored if row["interval"]}
    pictures = []
    for cost, label in costs.items():
        points = {row["model"]: (_cost(row, cost), row["score"]) for row in scored}
        pictures.append(
            plots.tradeoff(
                points,
                xlabel=label,
                ylabel=_METRICS.get(_metric(scored), "score"),
                intervals=intervals,
            )
        )
    sources = "; ".join(f"{row['model']}: {row['result']}" for row in scored)
    note = f"The line joins the models that none beats at both. Scores: {sources}."
    yield Section("Accuracy against cost", "\n".join(pictures), note)


def _cost(row: Row, cost: str) -> float:
    """Of all views of a video."""
    clip = row["gmacs"] if cost == "GMACs" else row["latency_ms"] / row["batch_size"]
    return float(clip * row["views"])


def _throughput(rows: Sequence[Row]) -> Iterator[Section]:
    series: dict[str, list[tuple[float, float]]] = {}
    lengths = {(row["model"], row["frames"]) for row in rows}
    for row in rows:
        if row.get("clips_per_second") is not None:
            several = len([1 for model, _ in lengths if model == row["model"]]) > 1
            name = row["model"] + (f", {row['frames']} frames" if several else "")
            series.setdefault(name, []).append((row["batch_size"], row["clips_per_second"]))
    if any(len(points) > 1 for points in series.values()):
        ordered = {name: sorted(points) for name, points in series.items()}
        body = plots.curves(ordered, xlabel="clips of a batch", ylabel="clips per second")
        yield Section("Throughput", body)


def _filters(rows: Sequence[Row], models: Mapping[str, VideoModel]) -> Iterator[Section]:
    from .pictures import filters_picture

    if any(row.get("kernels") for row in rows):
        note = (
            "The first temporal kernel: a strip for each output channel, time from left to right. "
            "Zero is gray. Patches that are alike look at appearance."
        )
        yield Section("Filters over time", filters_picture(models), note)


def _weights(rows: Sequence[Row]) -> Iterator[Section]:
    """The weights of each tap by layer, and the kernels by their center energy."""
    seen = [row for row in _once(rows) if row.get("kernels")]
    pictures = []
    for row in seen:
        layers = {_kernel_name(kernel): _five(kernel) for kernel in row["kernels"]}
        pictures.append(figure(plots.boxes(layers, ylabel="weight"), row["model"]))
    if pictures:
        note = (
            "By the temporal offset of the tap: the box is the middle half of the weights, the "
            "line their median, the whiskers leave out 5 % at either end. Taps beside the middle "
            "whose weights are near zero do not look at other frames. Those of a static half of "
            "STS scan space."
        )
        yield Section("Weights of the taps, by layer", "".join(pictures), note)
    series = {
        f"{row['model']}, {part}" if part != "all" else row["model"]: points
        for row in seen
        for part, points in _energies(row["kernels"]).items()
    }
    if series:
        note = (
            "Each output channel counts once. At 1 it looks at the middle frame alone; a random "
            "kernel of t taps is at 1/t."
        )
        body = plots.curves(series, xlabel="center energy", ylabel="share of the kernels")
        yield Section("Kernels by appearance", body, note)


def _kernel_name(kernel: Mapping[str, Any]) -> str:
    name = str(kernel["name"]).removeprefix("trunk.")
    return name if kernel["part"] == "all" else f"{name} {kernel['part']}"


def _five(kernel: Mapping[str, Any]) -> dict[str, list[float]]:
    """The quantiles of each tap, by its offset."""
    return {f"{tap['offset']:+d}" if tap["offset"] else "0": tap["quantiles"]
            for tap in kernel["taps"]}  # fmt: skip


def _energies(kernels: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """By part: (middle of a bin of the center energy, share of the output channels in it)."""
    found = {}
    for part in dict.fromkeys(kernel["part"] for kernel in kernels):
        each = [kernel["histogram"] for kernel in kernels if kernel["part"] == part]
        counts = [sum(bins) for bins in zip(*each, strict=True)]
        if whole := sum(counts):
            middles = [(number + 0.5) / len(counts) for number in range(len(counts))]
            found[part] = [(x, n / whole) for x, n in zip(middles, counts, strict=True)]
    return found

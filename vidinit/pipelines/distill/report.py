"""`vidinit distill --report`: the pictures of DistInit, of a distilled model and of others.

Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video", ICCV
2019: filters of the first layer over time (Fig. 3 and 4), features by class (Fig. 5), the gain of
each class over inflation (Fig. 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint import load_classifier, model_folder, read_card
from ...config.build import build
from ...console import ProgressBar, say, with_messages
from ...data.loading.loader import eval_loader
from ...data.loading.quarantine import Quarantine
from ...data.rows import Rows
from ...data.sources import labeled_rows
from ...engine.accelerators import make_accelerator
from ...engine.run_folder import RunFolder, default_out
from ...errors import DataError, UsageError
from ...files import check_out, folder_locks
from ...measure.embedding import nearest_labels, tsne, unit
from ...measure.kernels import kernel_table, summarize
from ...processes import in_group
from ...report import plots
from ...report.html import Section, page, table
from ...report.pictures import filters_picture
from ...report.profile_page import KERNELS
from ...scoring.metrics import wilson
from ...scoring.score import outputs_of
from ...zoo.base import VideoModel
from ...zoo.build import create_model
from ...zoo.spec import ClipSpec
from ...zoo.view_outputs import videos_at_once, views_of
from ..evaluate.settings import EvaluateConfig
from ..shared.arguments import Overrides, Places, as_places, as_text
from ..shared.clips import (
    check_all_rows,
    clip_key,
    data_name,
    held_out,
    quarantine_of,
    read_options,
    workers_of,
)
from ..shared.modality import set_spec

_DISTILLED, _INFLATED, _SCRATCH = "distilled", "inflated", "scratch"
_FEWEST_CLIPS = 2  # a clip has a nearest other one
_MARKERS = "o^s"
_CLASS_COLORS = plots.COLORS[:-1]  # the last one is gray: all other classes
_SHOWN_CLASSES = 12
_POINTS = 1000  # of a picture of features: the effort goes by the square
_FEWEST_POINTS = 4  # of a picture of features
_BARS = 40  # of a picture of gains
_SIDE = 3.0  # inches, of a picture of features

MEASURES = {
    "head": "top-1 of the fine-tuned heads",
    "neighbor": "share of clips whose nearest other clip, by the cosine of features, is of their "
    "class",
}
"""How accuracies are measured, by name."""


def distill_report(
    run: str | Path,
    *,
    data: Places | None = None,
    root: str | Path | None = None,
    against: Places | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    overrides: Overrides = (),
    batch_size: int | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """The pictures of the DistInit paper as one page, for a distilled model and others.

    Filters of the first temporal kernel; with ``data``, too, the features of its clips by t-SNE,
    and what each class gains over the other models. Where all models are fine-tuned on the classes
    of the data, accuracies are those of their heads; else they are those of the nearest other clip
    by feature, which takes no training, for all models alike.

    Args:
        run: run or model folder of a distillation, or of a fine-tuning that began with one.
        data: labelled videos, one label each: the validation part where there are parts; of what a
            run split itself, what it held out.
        root: as for `vidinit.finetune`.
        against: the others, ``FOLDER`` or ``NAME=FOLDER``; a zoo name is random weights, with the
            clips of ``run``. Without a name they are called ``inflated``, ``scratch`` or
            ``distilled``, by how they came to be.
        out: folder for ``report.html`` and ``result.json``; default
            runs/distill-report-<model>-<n>.
        overwrite: replace an earlier folder of ours.
        overrides: settings ``data.*`` and ``eval.*``, as for `vidinit.evaluate`.
        batch_size, seed, device, precision: as for `vidinit.evaluate`.

    Returns:
        ``{out, models: [{name, folder, network, kernels}]}``; with ``data`` each model has
        ``accuracy`` and ``interval``, too, and there are ``measure`` (``head`` or ``neighbor``),
        ``videos`` (that all models could read), ``missing`` and ``classes``, accuracies by class.

    Raises:
        UsageError: a wrong value or name, or a run that was not distilled.
        DataError: no labelled video that can be read.
    """
    if in_group():
        raise UsageError("distill --report works in one process", "start it without a launcher")
    flags = {
        "model": as_text(run),
        "device": device,
        "precision": precision,
        "data.train": as_places(data),
        "data.root": as_text(root),
        "data.batch_size": batch_size,
        "seed": seed,
    }
    config = build(EvaluateConfig, overrides=overrides, flags=flags)
    if config.data.batch_size == "auto":
        raise UsageError("data.batch_size=auto is for training", "set a number of clips")
    others = [against] if isinstance(against, (str, Path)) else against or ()
    models = _labeled_models(str(run), [str(other) for other in others])
    places = config.data.train or []
    for place in [places] if isinstance(places, str) else places:
        if "{" not in place and not Path(place).expanduser().exists():  # braces: tar shards
            raise UsageError(f"{place} does not exist", "check the path of the data")
    config.out = str(default_out("distill-report", config.model) if out is None else out)
    check_out(Path(config.out), overwrite=overwrite)

    return write_page(config, models, overwrite=overwrite)


def refuse_training(**options: Any) -> None:
    """Raise UsageError for an option of training, by name, that is given beside ``--report``."""
    for name, value in options.items():
        if value not in (None, False) and (name, value) != ("processes", 1):
            raise UsageError(
                f"--{name.replace('_', '-')} is for training, and --report trains nothing",
                "leave one of them out",
            )


def refuse_report(**options: Any) -> None:
    """Raise UsageError for an option of ``--report``, by name, that is given without it."""
    for name, value in options.items():
        if value:
            hint = "videos to learn from are --videos" if name == "data" else "name a distilled run"
            raise UsageError(f"--{name} is for --report RUN", hint)


def _labeled_models(run: str, against: Sequence[str]) -> dict[str, str]:
    """References to models by their labels, the distilled one first.

    Raises:
        UsageError: no such model, one that was not distilled, or two of one name.
    """
    if _kind(run) != _DISTILLED:
        raise UsageError(
            f"{run} was not distilled",
            "name a run of `vidinit distill`, or one that began with it",
        )
    found = {_DISTILLED: run}
    for text in against:
        label, equals, ref = text.partition("=")
        if not equals or Path(text).exists():  # the path of a folder may have such a sign in it
            label, ref = _kind(text), text
        elif not label or not ref:
            raise UsageError(f"--against {text} is no model", "write FOLDER or NAME=FOLDER")
        else:
            model_folder(ref)
        if label in found:
            raise UsageError(
                f"two models are called '{label}': {found[label]} and {ref}",
                "give one a name: --against NAME=FOLDER",
            )
        found[label] = ref
    return found


def _kind(ref: str) -> str:
    """The origin of a model: ``distilled``, ``inflated`` or ``scratch``.

    Raises:
        UsageError: no such model.
    """
    folder = model_folder(ref)
    steps = [] if folder is None else [step.get("step") for step in read_card(folder).lineage]
    if "distill" in steps:
        return _DISTILLED
    return _INFLATED if "convert" in steps else _SCRATCH


def write_page(config: EvaluateConfig, refs: dict[str, str], *, overwrite: bool) -> dict[str, Any]:
    """Run all models and write the page; see `distill_report`.

    Args:
        config: ``data.train`` are the labeled clips, or None.
        refs: folders and zoo names by label of the model, the distilled one first.
        overwrite: replace an earlier folder of ours.
    """
    rows = None if config.data.train is None else with_messages(lambda: _rows(config, refs))
    accelerator = make_accelerator(config, seed=config.seed)
    models: dict[str, VideoModel] = {}
    for name, ref in refs.items():
        first = next(iter(models.values()), None)
        models[name] = _open_model(ref, config, None if first is None else first.spec)
    clips = None if rows is None else _run_models(models, rows, config, accelerator)
    if clips is None:
        say("without --data there are filters alone: features and gains take labelled videos")
    assert config.out is not None
    out = {"out": config.out, **result(models, clips)}
    for row in out["models"]:
        row["folder"] = refs[row["name"]]
    subtitle = ", ".join(f"{name}: {ref}" for name, ref in refs.items())
    with folder_locks():
        run = RunFolder.open(config.out, overwrite=overwrite)
        run.write("report.html", distinit_page(models, clips, subtitle=subtitle))
        run.write_json("result.json", out)
    return out


def _rows(config: EvaluateConfig, refs: dict[str, str]) -> Rows:
    """The labelled clips, without those that a run was trained on, as far as that is known.

    Raises:
        UsageError: they have several labels each.
        DataError: every clip is one that some run was trained on.
    """
    place = config.data.train
    assert place is not None
    rows = labeled_rows(place, kinds="any", part="val", **read_options(config.data))
    if rows.kind != "single":
        raise UsageError(f"{data_name(place)} has several labels a clip", "take data with one")
    for ref in refs.values():
        keys = held_out(ref, place)
        if keys is not None:
            rows = rows.of([row for row in rows.rows if clip_key(row) in keys])
    if not rows.rows:
        raise DataError(
            f"{data_name(place)} has no clip that all of these runs held out",
            "name data that none was trained on",
        )
    return rows


def _open_model(ref: str, config: EvaluateConfig, like: ClipSpec | None) -> VideoModel:
    """A model; of a zoo name with random weights, and the clip settings of the distilled one."""
    if model_folder(ref) is not None:
        model = load_classifier(ref)
        set_spec(model, config.data)
        return model
    say(f"{ref}: a zoo name, so its weights are random")
    model, data = create_model(ref).eval(), config.data
    if like is not None and like.flow is not None:
        data = data.model_copy(update={"modality": "flow"})
    set_spec(model, data)
    if like is not None:
        model.spec = like
    return model


def _run_models(
    models: dict[str, VideoModel], rows: Rows, config: EvaluateConfig, accelerator: Any
) -> Comparison:
    """The outputs of all models for all clips.

    Raises:
        DataError: no two clips can be read by all of them.
    """
    found = check_all_rows(rows, config.data, data_name(config.data.train))
    rows, classes = found.rows, list(rows.classes or ())
    outputs: dict[str, ModelOutputs] = {}
    quarantine = quarantine_of(rows, found.known)
    for name, model in models.items():
        model.to(accelerator.device)
        outputs[name] = _run_model(name, model, rows, config, accelerator, quarantine)
        model.to("cpu")
    read = np.logical_and.reduce([np.isfinite(one.features).all(1) for one in outputs.values()])
    missing = [row.path for row, there in zip(rows.rows, read, strict=True) if not there]
    if read.sum() < _FEWEST_CLIPS:
        raise DataError(
            f"{int(read.sum())} of the {len(read)} videos of {data_name(config.data.train)} can be "
            "read by all models", "there have to be more",
        )  # fmt: skip
    for path in missing:
        say(f"cannot read {path}")
    kept = {
        name: ModelOutputs(
            one.features[read], None if one.predicted is None else one.predicted[read]
        )
        for name, one in outputs.items()
    }
    labels = np.array([row.label for row in rows.rows], dtype=np.int64)[read]
    return Comparison(labels, classes, kept, missing)


def _run_model(
    name: str,
    model: VideoModel,
    rows: Rows,
    config: EvaluateConfig,
    accelerator: Any,
    quarantine: Quarantine,
) -> ModelOutputs:
    """Features of all clips, NaN of those that cannot be read, and classes where the head fits."""
    data, views, spec = config.data, config.eval, model.spec
    every = views_of(
        rows,
        spec,
        clips=views.clips,
        crops=views.crops,
        start=views.start,
        reader=data.reader,
        decode_side=data.decode_side,
    )
    loader = eval_loader(
        every,
        batch_size=videos_at_once(spec, data.clips, views.clips * views.crops),
        workers=workers_of(data, 1),
        deadline=data.deadline,
        quarantine=quarantine,
    )
    classes = _classes_of_outputs(model, rows)
    features = np.full((len(rows), model.num_features), np.nan, dtype=np.float32)
    predicted = np.full(len(rows), -1, dtype=np.int64)
    with ProgressBar(f"{name} looks", "videos") as bar:
        videos = outputs_of(model, loader, spec, accelerator, embeddings=True)
        for count, video in enumerate(videos, start=1):
            if video.probabilities is not None:
                features[video.index] = video.embedding
                if classes is not None:
                    predicted[video.index] = classes[int(video.probabilities.argmax())]
            bar.update(count, len(rows))
    return ModelOutputs(features, None if classes is None else predicted)


def _classes_of_outputs(model: VideoModel, rows: Rows) -> np.ndarray | None:
    """The class of the data that each output of a model stands for, int64 (outputs,), -1 for none.

    None where the model does not know all classes that there are clips of.
    """
    if model.label_kind != "single" or model.classes is None or rows.classes is None:
        return None
    there = {rows.classes[row.label] for row in rows.rows if isinstance(row.label, int)}
    if not there <= set(model.classes):
        return None
    numbers = {name: number for number, name in enumerate(rows.classes)}
    return np.array([numbers.get(name, -1) for name in model.classes], dtype=np.int64)


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of one model for the clips.

    Attributes:
        features: float32 (N, C), the input of the head.
        predicted: int (N,), the class that its head gives; None where the head is for others.
    """

    features: np.ndarray
    predicted: np.ndarray | None


@dataclass(frozen=True)
class Comparison:
    """Clips that all models could read, and the outputs of each.

    Attributes:
        labels: int (N,), N at least 2.
        classes: names of the classes.
        outputs: by name of the model.
        missing: paths of the videos that one of the models could not read.
    """

    labels: np.ndarray
    classes: list[str]
    outputs: dict[str, ModelOutputs]
    missing: list[str]

    @property
    def measure(self) -> str:
        """A key of `MEASURES`: of heads where all are for these classes, so that like is compared.

        Else of features, which takes no training.
        """
        heads = all(outputs.predicted is not None for outputs in self.outputs.values())
        return "head" if heads else "neighbor"

    @cached_property
    def right(self) -> dict[str, np.ndarray]:
        """By model, the clips that it is right about, by `measure`: bool (N,)."""
        own, found = self.measure == "head", {}
        for name, outputs in self.outputs.items():
            predicted = outputs.predicted if own else None
            if predicted is None:
                predicted = nearest_labels(outputs.features, self.labels)
            found[name] = np.equal(predicted, self.labels)
        return found

    def by_class(self, name: str) -> dict[str, float]:
        """Share of the clips of each class that a model is right about; classes without are out."""
        right = self.right[name]
        return {
            self.classes[label]: float(right[self.labels == label].mean())
            for label in np.unique(self.labels).tolist()
        }


def gains(clips: Comparison, name: str, over: str) -> dict[str, float]:
    """Gain of each class over another model, -1 to 1, the largest gain first."""
    mine, theirs = clips.by_class(name), clips.by_class(over)
    found = {label: mine[label] - theirs[label] for label in mine}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def result(models: Mapping[str, VideoModel], clips: Comparison | None) -> dict[str, Any]:
    """result.json: ``{models: [...], measure, videos, missing, classes}``.

    Args:
        models: by name, the distilled one first.
        clips: None without data; then there is ``models`` alone.
    """
    rows: list[dict[str, Any]] = []
    for name, model in models.items():
        row: dict[str, Any] = {"name": name, "network": model.name}
        row["kernels"] = summarize(kernel_table(model))
        if clips is not None:
            right = clips.right[name]
            row["accuracy"] = round(float(right.mean()), 6)
            interval = wilson(float(right.mean()), len(right))
            row["interval"] = [round(value, 6) for value in interval]
        rows.append(row)
    if clips is None:
        return {"models": rows}
    counts = np.bincount(clips.labels, minlength=len(clips.classes)).tolist()
    each = {name: clips.by_class(name) for name in models}
    classes = [
        {"class": label, "videos": count, **{name: round(each[name][label], 6) for name in models}}
        for label, count in zip(clips.classes, counts, strict=True)
        if count
    ]
    return {
        "models": rows,
        "measure": clips.measure,
        "videos": len(clips.labels),
        "missing": clips.missing,
        "classes": classes,
    }


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """A result for people, without its classes."""
    for row in found["models"]:
        if "accuracy" in row:
            share, low, high = (100 * value for value in (row["accuracy"], *row["interval"]))
            yield f"{row['name']}: {share:.1f} % ({low:.1f} to {high:.1f})"
    if "measure" in found:
        yield f"of {found['videos']} videos: {MEASURES[found['measure']]}"
    yield f"page: {found['out']}/report.html"


def distinit_page(
    models: Mapping[str, VideoModel], clips: Comparison | None, *, subtitle: str
) -> str:
    """``report.html`` of `vidinit distill --report`.

    Args:
        models: by name, the distilled one first.
        clips: their outputs for labeled clips; None shows their filters alone.
        subtitle: plain text.
    """
    parts = [_models(models, clips), *_filters(models)]
    if clips is not None:
        parts += [*_features(clips), *_gains(clips)]
    return page("What distillation has taught", parts, subtitle=subtitle)


def _models(models: Mapping[str, VideoModel], clips: Comparison | None) -> Section:
    headers = ["model", "network", "frames x side", "steps"]
    rows: list[list[Any]] = []
    for name, model in models.items():
        sees = f"{model.spec.frames}x{model.spec.size}{' of flow' if model.spec.flow else ''}"
        steps = ", ".join(step["step"] for step in model.lineage) or "random weights"
        rows.append([name, model.name, sees, steps])
    if clips is None:
        return Section("Models", table(headers, rows))
    for row in rows:
        right = clips.right[row[0]]
        low, high = wilson(float(right.mean()), len(right))
        row += [round(100 * float(right.mean()), 1), f"{100 * low:.1f} to {100 * high:.1f}"]
    note = f"Accuracy on {len(clips.labels)} videos: {MEASURES[clips.measure]}."
    if clips.measure == "neighbor":
        note += " Fine-tuned runs of all models are compared by their heads."
    if clips.missing:
        note += f" {len(clips.missing)} videos could not be read and do not count."
    return Section("Models", table([*headers, "accuracy %", "95 % interval"], rows), note)


def _filters(models: Mapping[str, VideoModel]) -> Iterator[Section]:
    rows = [
        [name, part, round(means["center_energy"], 3), round(means["variation"], 3)]
        for name, model in models.items()
        for part, means in summarize(kernel_table(model)).items()
    ]
    if not rows:
        return
    note = (
        "Fig. 3 and 4 of the paper: the first temporal kernel of each model, a strip for each "
        "output channel, time from left to right. Zero is gray. Patches that are alike look at "
        f"appearance. The table is of all temporal kernels. {KERNELS}"
    )
    numbers = table(["model", "channels", "center energy", "variation"], rows)
    yield Section("Filters over time", filters_picture(models) + numbers, note)


def _features(clips: Comparison) -> Iterator[Section]:
    count = len(clips.labels)
    if count < _FEWEST_POINTS:
        return
    # In even steps through the classes, so that each keeps its share.
    steps = np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int)
    chosen = np.argsort(clips.labels, kind="stable")[steps]
    labels = clips.labels[chosen]
    pictures = [
        scatter(tsne(unit(outputs.features[chosen])), labels, clips.classes, title=name)
        for name, outputs in clips.outputs.items()
    ]
    body = '<div style="display: flex; flex-wrap: wrap; gap: 1rem 2rem">'
    note = (
        "Fig. 5 of the paper: what heads are given, at length 1, by t-SNE. Near clips are alike; "
        "axes, and how far clusters lie apart, mean nothing."
    )
    if len(chosen) < count:
        note += f" {len(chosen)} of the {count} clips are shown."
    if len(np.unique(clips.labels)) > _SHOWN_CLASSES:
        note += f" The {_SHOWN_CLASSES} largest classes have colors."
    yield Section("Features by class", body + "".join(pictures) + "</div>", note)


def scatter(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, title: str) -> str:
    """Points in a plane, with the colors of their classes; all but the largest classes are gray.

    Args:
        points: float (N, 2).
        labels: int (N,).
        classes: names of the classes.
        title: above the picture.

    Returns:
        HTML to put into a page.
    """
    counts = np.bincount(labels, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:_SHOWN_CLASSES]
    colored = sorted(label for label in order.tolist() if counts[label])
    rest = points[~np.isin(labels, colored)]
    size = 6.0 if len(labels) < 200 else 3.5
    with plots._figure(_SIDE, _SIDE + 0.2 * -(-len(colored) // 2)) as figure:
        axes = figure.subplots()
        axes.plot(*rest.T, "o", color=plots.COLORS[-1], markersize=2, alpha=0.5)
        for number, label in enumerate(colored):
            axes.plot(
                *points[labels == label].T,
                _MARKERS[number // len(_CLASS_COLORS)],
                color=_CLASS_COLORS[number % len(_CLASS_COLORS)],
                markersize=size,
                markeredgewidth=0,
                label=plots._short(classes[label], 18),
            )
        ends = np.array([-1.08, 1.08]) * max(float(np.abs(points).max()), 1e-9)
        axes.set(title=title, xticks=[], yticks=[], xlim=ends, ylim=ends, aspect="equal")
        axes.spines[:].set_visible(True)
        figure.legend(loc="outside lower center", ncols=2)
        shown = ", ".join(classes[label] for label in colored)
        return plots._svg(figure, f"{len(labels)} clips as {title} sees them, of {shown}")


def _gains(clips: Comparison) -> Iterator[Section]:
    name, *others = clips.outputs
    each = {model: clips.by_class(model) for model in clips.outputs}
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    pictures = []
    for over in others:
        gain = gains(clips, name, over)
        shown = list(gain)
        if len(shown) > _BARS:
            shown = shown[: _BARS // 2] + shown[-_BARS // 2 :]
        title = f"gain of {name} over {over}, points"
        pictures.append(plots.gains({label: 100 * gain[label] for label in shown}, xlabel=title))
    order = gains(clips, name, others[0]) if others else each[name]
    numbers = {label: number for number, label in enumerate(clips.classes)}
    rows: list[list[Any]] = [
        [label, int(counts[numbers[label]]), *(round(100 * each[m][label], 1) for m in each)]
        for label in order
    ]
    headers = ["class", "videos", *(f"{model} %" for model in each)]
    note = f"Fig. 7 of the paper. Accuracy: {MEASURES[clips.measure]}."
    if len(rows) > _BARS and others:
        note += f" The pictures show the {_BARS // 2} largest and smallest gains."
    fewest = int(counts[counts > 0].min())
    note += f" A class has {fewest} videos or more: one of them is {100 / fewest:.3g} points."
    title = "Gain of each class" if others else "Accuracy of each class"
    yield Section(title, "\n".join([*pictures, table(headers, rows)]), note)

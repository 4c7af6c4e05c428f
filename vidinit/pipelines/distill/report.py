"""`vidinit distill --report`: what distillation has taught, beside other starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint import load, model_folder, read_card
from ...config.build import build
from ...console import ProgressBar, say, with_messages
from ...data.loading.loader import eval_loader
from ...data.loading.watchdog import Quarantine
from ...data.rows import Rows
from ...data.sources import labelled_rows
from ...engine.accelerators import make_accelerator
from ...engine.run_folder import RunFolder, default_out
from ...errors import DataError, UsageError
from ...files import check_out
from ...processes import in_group
from ...scoring.predict import outputs_of
from ...zoo.base import VideoModel
from ...zoo.build import create_model
from ...zoo.spec import ClipSpec
from ...zoo.views import videos_at_once, views_of
from ..evaluate.run import held_out
from ..evaluate.settings import EvaluateConfig
from ..shared.arguments import Overrides, Places, as_places, as_text
from ..shared.clips import check_all_rows, data_name, quarantine_of, read_options, workers_of
from ..shared.training import set_spec
from .report_page import Clips, Looked, distinit_page, result

_DISTILLED, _INFLATED, _SCRATCH = "distilled", "inflated", "scratch"


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
    models = _named(str(run), [str(other) for other in others])
    places = config.data.train or []
    for place in [places] if isinstance(places, str) else places:
        if "{" not in place and not Path(place).expanduser().exists():  # braces: tar shards
            raise UsageError(f"{place} does not exist", "check the path of the data")
    config.out = str(default_out("distill-report", config.model) if out is None else out)
    check_out(Path(config.out), overwrite=overwrite)

    return draw(config, models, overwrite=overwrite)


def refuse_training(**given: Any) -> None:
    """Raise UsageError for an option of training, by name, that is given beside ``--report``."""
    for name, value in given.items():
        if value not in (None, False) and (name, value) != ("processes", 1):
            raise UsageError(
                f"--{name.replace('_', '-')} is for training, and --report trains nothing",
                "leave one of them out",
            )


def refuse_report(**given: Any) -> None:
    """Raise UsageError for an option of ``--report``, by name, that is given without it."""
    for name, value in given.items():
        if value:
            hint = "videos to learn from are --videos" if name == "data" else "name a distilled run"
            raise UsageError(f"--{name} is for --report RUN", hint)


def _named(run: str, against: Sequence[str]) -> dict[str, str]:
    """Models by what they are called, the distilled one first.

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
    """How a model came to be: ``distilled``, ``inflated`` or ``scratch``.

    Raises:
        UsageError: no such model.
    """
    folder = model_folder(ref)
    steps = [] if folder is None else [step["step"] for step in read_card(folder)["lineage"]]
    if "distill" in steps:
        return _DISTILLED
    return _INFLATED if "convert" in steps else _SCRATCH


_FEWEST = 2  # a clip has a nearest other one


def draw(config: EvaluateConfig, refs: dict[str, str], *, overwrite: bool) -> dict[str, Any]:
    """See `report.distill_report`.

    Args:
        config: ``data.train`` is what to look at, or None.
        refs: folders and zoo names by what models are called, the distilled one first.
        overwrite: replace an earlier folder of ours.
    """
    rows = None if config.data.train is None else with_messages(lambda: _rows(config, refs))
    accelerator = make_accelerator(config, seed=config.seed)
    models: dict[str, VideoModel] = {}
    for name, ref in refs.items():
        first = next(iter(models.values()), None)
        models[name] = _opened(ref, config, None if first is None else first.spec)
    clips = None if rows is None else _look(models, rows, config, accelerator)
    if clips is None:
        say("without --data there are filters alone: features and gains take labelled videos")
    assert config.out is not None
    out = {"out": config.out, **result(models, clips)}
    for row in out["models"]:
        row["folder"] = refs[row["name"]]
    run = RunFolder.open(config.out, overwrite=overwrite)
    subtitle = ", ".join(f"{name}: {ref}" for name, ref in refs.items())
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
    rows = labelled_rows(place, kinds="any", part="val", **read_options(config.data))
    if rows.kind != "single":
        raise UsageError(f"{data_name(place)} has several labels a clip", "take data with one")
    for ref in refs.values():
        keys = held_out(ref, place)
        if keys is not None:
            rows = rows.of(
                [r for r in rows.rows if (str(Path(r.path).resolve()), r.start, r.end) in keys]
            )
    if not rows.rows:
        raise DataError(
            f"{data_name(place)} has no clip that all of these runs held out",
            "name data that none was trained on",
        )
    return rows


def _opened(ref: str, config: EvaluateConfig, like: ClipSpec | None) -> VideoModel:
    """A model; a zoo name gets random weights, and sees what the distilled one sees."""
    if model_folder(ref) is not None:
        model = load(ref)
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


def _look(
    models: dict[str, VideoModel], rows: Rows, config: EvaluateConfig, accelerator: Any
) -> Clips:
    """What all models make of all clips.

    Raises:
        DataError: no two clips can be read by all of them.
    """
    found = check_all_rows(rows, config.data, data_name(config.data.train))
    rows, classes = found.rows, list(rows.classes or ())
    looked: dict[str, Looked] = {}
    quarantine = quarantine_of(rows, found.known)
    for name, model in models.items():
        model.to(accelerator.device)
        looked[name] = _look_with(name, model, rows, config, accelerator, quarantine)
        model.to("cpu")
    read = np.logical_and.reduce([np.isfinite(one.features).all(1) for one in looked.values()])
    missing = [row.path for row, there in zip(rows.rows, read, strict=True) if not there]
    if read.sum() < _FEWEST:
        raise DataError(
            f"{int(read.sum())} of the {len(read)} videos of {data_name(config.data.train)} can be "
            "read by all models", "there have to be more",
        )  # fmt: skip
    for path in missing:
        say(f"cannot read {path}")
    kept = {
        name: Looked(one.features[read], None if one.predicted is None else one.predicted[read])
        for name, one in looked.items()
    }
    labels = np.array([row.label for row in rows.rows], dtype=np.int64)[read]
    return Clips(labels, classes, kept, missing)


def _look_with(
    name: str,
    model: VideoModel,
    rows: Rows,
    config: EvaluateConfig,
    accelerator: Any,
    quarantine: Quarantine,
) -> Looked:
    """Features of all clips, NaN of those that cannot be read, and what the head says of them."""
    data, views, spec = config.data, config.eval, model.spec
    every = views_of(
        rows,
        spec,
        clips=views.clips,
        crops=views.crops,
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
    outputs = _outputs(model, rows)
    features = np.full((len(rows), model.num_features), np.nan, dtype=np.float32)
    predicted = np.full(len(rows), -1, dtype=np.int64)
    with ProgressBar(f"{name} looks", "videos") as bar:
        said_of = outputs_of(model, loader, spec, accelerator, embeddings=True)
        for count, said in enumerate(said_of, start=1):
            if said.values is not None:
                features[said.index] = said.embedding
                if outputs is not None:
                    predicted[said.index] = outputs[int(said.values.argmax())]
            bar.update(count, len(rows))
    return Looked(features, None if outputs is None else predicted)


def _outputs(model: VideoModel, rows: Rows) -> np.ndarray | None:
    """The class of the data that each output of a model means, -1 for none of them.

    None where the model does not know all classes that there are clips of.
    """
    if model.label_kind != "single" or model.classes is None or rows.classes is None:
        return None
    there = {rows.classes[row.label] for row in rows.rows if isinstance(row.label, int)}
    if not there <= set(model.classes):
        return None
    numbers = {name: number for number, name in enumerate(rows.classes)}
    return np.array([numbers.get(name, -1) for name in model.classes], dtype=np.int64)

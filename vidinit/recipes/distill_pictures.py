"""Models side by side: what `distill_report` computes and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import load, model_folder
from ..config import EvaluateConfig
from ..data.loading.loader import eval_loader
from ..data.loading.watchdog import Quarantine
from ..data.rows import Rows
from ..data.sources import labelled_rows
from ..engine.accelerators import make_accelerator
from ..engine.predict import listen
from ..engine.run_folder import RunFolder
from ..engine.scoring import videos_at_once, views_of
from ..errors import DataError, UsageError
from ..report.distinit import Clips, Looked, distinit_page, result
from ..report.notes import with_messages
from ..report.progress import ProgressBar, say
from ..zoo.base import ClipSpec, VideoModel
from ..zoo.build import create_model
from .clips import checked_whole, named, quarantine_of, reading, workers_of
from .common import set_spec
from .evaluate import held_out

_FEWEST = 2  # a clip has a nearest other one


def draw(config: EvaluateConfig, refs: dict[str, str], *, overwrite: bool) -> dict[str, Any]:
    """See `distill_report.distill_report`.

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
    rows = labelled_rows(place, kinds="any", part="val", **reading(config.data))
    if rows.kind != "single":
        raise UsageError(f"{named(place)} has several labels a clip", "take data with one")
    for ref in refs.values():
        keys = held_out(ref, place)
        if keys is not None:
            rows = rows.of(
                [r for r in rows.rows if (str(Path(r.path).resolve()), r.start, r.end) in keys]
            )
    if not rows.rows:
        raise DataError(
            f"{named(place)} has no clip that all of these runs held out",
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
    found = checked_whole(rows, config.data, named(config.data.train))
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
            f"{int(read.sum())} of the {len(read)} videos of {named(config.data.train)} can be "
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
        said_of = listen(model, loader, spec, accelerator, embeddings=True)
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

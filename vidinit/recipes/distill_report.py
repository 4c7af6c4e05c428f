"""`vidinit distill --report`: what distillation has taught, beside other starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import check_out, model_folder, read_card
from ..config import EvaluateConfig
from ..configure import build
from ..engine.run_folder import default_out
from ..errors import UsageError
from ..processes import in_group
from .given import Overrides, Places, as_places, as_text

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

    from .distill_pictures import draw

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

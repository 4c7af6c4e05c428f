"""What all recipes do with data, models and run folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...checkpoint import load, model_folder, name_of, save_model
from ...config import DataConfig, RunConfig, TrainConfig
from ...console import say
from ...engine import checkpoint_folders
from ...engine import resume as checkpoints
from ...engine.collectives import from_main, gather_all
from ...engine.job import FitResult
from ...engine.run_folder import RunFolder
from ...errors import UsageError
from ...report.html import Section
from ...report.model_parts import model_sections
from ...report.run_report import write_report
from ...zoo.base import COMPILED, VideoModel
from ...zoo.build import create_model
from ...zoo.modify.drop_path import set_drop_path
from ...zoo.modify.freezing import freeze
from ...zoo.names import find_entry
from ...zoo.spec import ClipSpec
from .init_from import initial_folder, initialize
from .modality import set_modality
from .run_records import HealthFile, open_recorded

# What may differ when a run is resumed: it changes neither the data nor the weights.
_FREE = frozenset(
    """out device data.workers data.deadline data.max_bad train.log_every train.keep
    train.save_steps train.save_minutes train.checkpointing train.compile train.trackers
    train.tap_cache""".split()  # noqa: SIM905
)


def open_model(
    ref: str,
    num_classes: int | None = None,
    classes: list[str] | None = None,
    *,
    init_from: str | None = None,
    head: str | None = None,
) -> VideoModel:
    """The model meant by a zoo name or folder, with a head for ``classes``.

    A head for another class list is made anew, and that is said. With ``init_from`` the weights are
    those of another run or checkpoint; see `init_from.initialize`. ``head`` is the source of a
    co-trained model that is meant.
    """
    if init_from == ref:  # no network was named beside the weights
        ref, init_from = str(initial_folder(ref)), None
    if model_folder(ref) is None:
        if init_from is None:
            say(f"{ref}: a zoo name, so training starts from random weights")
            if (tower := frozen_tower(ref)) is not None:
                say(f"its frozen tower is random, too: convert {tower} --to dist for a trained one")
        model = create_model(ref, num_classes=num_classes)
    else:
        model = load(ref, head=head)
        if num_classes is not None and (classes is None or model.classes != classes):
            old = model.num_classes
            model.reset_head(num_classes)
            before = f"; its head for {_classes_of(model, old)} is left behind" if old else ""
            say(f"{ref}: new head for {num_classes} classes{before}")
    if classes is not None:
        model.classes = list(classes)
    if init_from is not None:
        initialize(model, init_from)
    return model


def _classes_of(model: VideoModel, count: int) -> str:
    """What a head that gets another one was for."""
    if model.lineage and model.lineage[-1]["step"] == "distill":
        return f"the {count} classes of its teacher"
    return f"{count} other classes"


def frozen_tower(ref: str) -> str | None:
    """The image network that a DiST model, by name or folder, has for its frozen tower.

    Such a model has a layer that nothing reads, which processes that train together must be told.
    """
    entry = find_entry(name_of(ref))
    return entry.backbone if entry.plan == "dist" else None


def set_training(model: VideoModel, train: TrainConfig) -> None:
    """What the configuration says of the model itself while it is trained.

    Raises:
        UsageError: when activations cannot be recomputed, or names to freeze are not there.
    """
    model.dropout.p = train.dropout
    if train.drop_path:
        set_drop_path(model, train.drop_path)
    if isinstance(train.freeze, list):
        freeze(model, train.freeze)
    if train.checkpointing:
        model.set_grad_checkpointing()
    if train.compile:
        # In place of the method, so that no name changes and all tasks go through it.
        for name in COMPILED:
            setattr(model, name, torch.compile(getattr(model, name)))


def set_spec(model: VideoModel, data: DataConfig) -> ClipSpec:
    """The model's clip settings with what the configuration changes; recorded in the model.

    Raises:
        UsageError: the model does not see what it is to see; see `modality.set_modality`.
    """
    set_modality(model, data)
    changes = {
        key: value
        for key in ("frames", "stride", "sampling", "short", "size", "crop_pct")
        if (value := getattr(data, key)) is not None
    }
    if changes:
        model.spec = replace(model.spec, **changes)
    return model.spec


def open_run(
    config: RunConfig,
    command: str,
    accelerator: Any,
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool = False,
) -> RunFolder:
    """Make or enter the run folder, the same one on all processes; a dry run has none."""
    config.out = from_main(accelerator, lambda: config.out)
    assert config.out is not None
    if dry_run:
        return RunFolder(Path(config.out), writes=False)
    writes = accelerator.is_main_process
    if resume and writes:
        _check_same(RunFolder(Path(config.out)), config)
    run = from_main(
        accelerator, lambda: open_recorded(config, command, overwrite=overwrite, resume=resume)
    )
    run.writes = writes
    blind = [k for k, sees in enumerate(gather_all(accelerator, run.root.is_dir())) if not sees]
    if blind:
        raise UsageError(
            f"process {blind[0]} does not see {run.root}, which the first one made",
            "put --out on a disk that all nodes share",
        )
    return run


def _check_same(run: RunFolder, config: RunConfig) -> None:
    """A resumed run has the configuration it was started with."""
    import yaml

    path = run.root / "config.yaml"
    if not path.is_file():
        return
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(before, dict) or before.get("command") != config.command:
        raise UsageError(
            f"{path} is not the configuration of a {config.command} run",
            "name the folder of the run to resume",
        )
    before = _with_defaults(before, config)
    changed = [
        (key, was, now)
        for section, value in config.model_dump(mode="json").items()
        for key, was, now in _differences(section, before.get(section), value)
        if key not in _FREE
    ]
    if changed:
        key, was, now = changed[0]
        raise UsageError(
            f"{run.root} was started with {key}={was}, now it is {now}",
            "resume with the same configuration, or start anew in another --out",
        )


def _with_defaults(before: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """A recorded configuration with what settings are that were not there when it was written."""
    from pydantic import ValidationError

    given = {key: value for key, value in before.items() if key != "command"}
    try:
        whole = type(config).model_validate(given).model_dump(mode="json")
    except ValidationError:  # what has changed its meaning is told as a difference
        return before
    return {"command": config.command, **whole}


def _differences(section: str, was: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """(key, before, now) of each setting of a section that is not what it was."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [(f"{section}.{k}", was.get(k), v) for k, v in now.items() if was.get(k) != v]
    return [] if was == now else [(section, was, now)]


def finished_result(out: str | None, resume: bool) -> dict[str, Any] | None:
    """The result of a run that is already done, or None."""
    if not resume or out is None:
        return None
    import json

    run = RunFolder(Path(out))
    newest = checkpoint_folders.newest(run.checkpoints)
    result = run.root / "result.json"
    if newest is None or not checkpoints.read_progress(newest).finished or not result.is_file():
        return None
    say(f"{out} is finished: nothing to resume")
    return dict(json.loads(result.read_text()))


def saver(
    model: VideoModel,
    run: RunFolder,
    step: dict[str, Any],
    card: Callable[[], dict[str, Any]] = dict,
) -> Callable[[dict[str, float]], None]:
    """Writes the model folder of a run, with what this run did at the end of its lineage.

    ``card`` gives what `save_model` gets beside the model, as it is when it is saved.
    """
    before = list(model.lineage)

    def save(metrics: dict[str, float]) -> None:
        model.lineage = [*before, {**step, **metrics}]
        save_model(model, run.model, **card())

    return save


def finish(
    run: RunFolder,
    result: FitResult,
    videos: int,
    config: RunConfig,
    accelerator: Any,
    health: HealthFile,
    title: str,
    model: VideoModel,
    sections: Sequence[Section] = (),
    **more: Any,
) -> dict[str, Any]:
    """Write result.json and the report; return what the command prints with ``--json``.

    ``model`` is what was trained; ``sections`` are further parts of the report, ``more`` of the
    result.
    """
    progress = result.progress
    health.gather(accelerator, progress.bad)
    out = {
        "out": str(run.root),
        "steps": progress.step,
        "best": progress.best,
        "videos": videos,
        "skipped": progress.skipped,
        "epochs": progress.epoch,
        **result.totals,
        **more,
    }
    run.write_json("result.json", out)
    if run.writes:
        parts = [*sections, *model_sections(run.model, model)]
        write_report(run, title=title, config=config, extra=parts)
    accelerator.wait_for_everyone()
    return out

"""`vidinit.profile`: costs of models, and shares of their temporal kernels, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checkpoint import load_trunk, model_folder, read_card
from ...config import DataConfig
from ...console import say
from ...engine.run_folder import RunFolder
from ...errors import UsageError, VidinitError
from ...files import check_out, folder_locks
from ...measure.costs import ExtraMeasure, MeasureSettings, ProfileJob, measure, plan
from ...measure.kernels import kernel_table, summarize
from ...measure.speed import PRECISIONS, pick_device
from ...report.profile_page import profile_page
from ...zoo.build import check_backbone, create_model
from ...zoo.names import find_entry, list_models
from ..shared.arguments import Places, as_places
from .input_share import clips_of, input_share
from .run_scores import RunScore, read_scores, score_of

if TYPE_CHECKING:
    from ...zoo.base import VideoModel


def profile(
    models: Sequence[str],
    *,
    frames: int | Sequence[int] | None = None,
    size: int | None = None,
    batch_size: int | Sequence[int] = 1,
    device: str = "auto",
    precision: str = "fp32",
    seconds: float = 2.0,
    count_only: bool = False,
    stages: bool = False,
    training: bool = False,
    kernels: bool = False,
    data: Places | None = None,
    workers: int | None = None,
    results: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Parameters, multiply-adds, speed and memory of models, and shares of their kernels.

    Models are measured one after the other, on clips of random numbers.

    All names and sizes are checked, without computing anything, before the first is measured.

    Args:
        models: zoo names and ``<plan>-<timm name>`` (random weights, 400 classes), patterns of zoo
            names (``s3d@top:*``), model folders or run folders.
        frames: frames of a clip, one number or several; default: each model's own.
        size: side of the square frames in pixels; default: each model's own.
        batch_size: clips of one forward pass, one number or several.
        device: ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, or ``bf16`` or ``fp16`` under autocast; weights stay float32. PyTorch's
            own defaults hold: fp32 convolutions may use TF32 on NVIDIA GPUs.
        seconds: how long to measure each row, after three passes that warm up; above 0. Stages and
            data take as long again.
        count_only: parameters and multiply-adds only; nothing is run.
        stages: parameters, multiply-adds and time of each stage of the network.
        training: an estimate of what training takes of memory, for SGD and cross-entropy.
        kernels: what the temporal kernels look at (`measure.kernels`); nothing is run.
        data: videos, in any form, for a look at where the time goes when clips are read for the
            model as `vidinit eval` reads them.
        workers: processes that read them; default: as in training.
        results: folder of runs, whose evaluations say how good the models are. A zoo name then
            stands for the model of the run that scores highest, with the clip of that run.
        out: folder to write ``profile.json`` and ``profile.html`` into; None writes nothing.
        overwrite: replace the folder of an earlier profile.

    Returns:
        One dict per model, clip length and batch size, in the given order: ``model`` (as given),
        ``params`` (learnable values), ``gmacs`` (1e9 multiply-adds of the convolutions and matrix
        products for one clip), ``gflops`` (twice that), ``frames``, ``size``, ``batch_size``,
        ``device``, ``precision``, ``clips_per_second`` and ``latency_ms`` (of the median forward
        pass of one batch, in eval mode, from its call until the device is done; no decoding, no
        copy to the device), and ``peak_memory_mb`` (MiB; the model, its input and the most its
        forward passes hold at once: memory of PyTorch's allocator on CUDA, growth of the process's
        resident memory on a Linux CPU, None elsewhere). Where nothing is run, the keys from
        ``batch_size`` on are missing; where a GPU's memory is too small, they are None. On demand
        there are ``stages``, ``training_memory_mb`` (see `measure.memory.TrainingMemory`),
        ``input`` (see `input_share.input_share`), ``kernels`` with ``kernel_means``, and
        ``score``, ``metric``, ``interval``, ``views`` and ``result`` (see `run_scores.RunScore`)
        where a run is found.

    Raises:
        UsageError: for an unknown model, device or precision, options that do not go together, or a
            clip that a model cannot take.
        DataError: no result, or no readable video.
        VidinitError: when nothing fits into the device's memory.
    """
    names = _expand(models)
    sizes = _several("batch_size", batch_size) or [1]
    request = _Request(_several("frames", frames), size, sizes, workers)
    _check(names, request, precision, seconds)
    running = {"training": training, "data": data is not None}
    _check_combinations(request, running, count_only, kernels, results)
    if out is not None:
        check_out(Path(out), overwrite=overwrite)
    place = pick_device(device)
    scores = _scores(names, results)
    jobs = [plan(name, _ref(name, scores), request.frames, size, stages=stages) for name in names]
    opened = {group[0].name: _open(group[0]) for group in jobs} if kernels else {}
    if count_only or kernels:
        rows = [_counted(job, opened.get(job.name)) for group in jobs for job in group]
    else:
        how = MeasureSettings(place, request.batch_sizes, precision, seconds, training)
        beside = None if data is None else _with_data(data, workers, precision, seconds)
        rows = [row for group in jobs for row in measure(group, how, beside)]
        if all(row["latency_ms"] is None for row in rows):
            raise VidinitError(
                "nothing of that fits into the GPU's memory",
                "lower --batch-size, --frames or --size",
            )
    for row in rows:
        if (score := scores.get(row["model"])) is not None:
            row |= score.as_dict()
    if out is not None:
        with folder_locks():
            run = RunFolder.open(out, overwrite=overwrite)
            run.write_json("profile.json", rows)
            run.write("profile.html", profile_page(rows, opened))
    return rows


@dataclass(frozen=True)
class _Request:
    """Numbers that are asked for; of frames and sizes none for each model's own."""

    frames: list[int]
    size: int | None
    batch_sizes: list[int]
    workers: int | None


def _several(what: str, value: int | Sequence[int] | None) -> list[int]:
    values = [] if value is None else [value] if isinstance(value, int) else list(value)
    for number in values:
        if number < 1:
            raise UsageError(f"{what} must be at least 1, not {number}")
    return list(dict.fromkeys(values))


def _expand(models: Sequence[str]) -> list[str]:
    """The names, with patterns replaced by what matches them."""
    if isinstance(models, str):
        raise UsageError("models must be a list of names", f"write ['{models}']")
    names: list[str] = []
    for model in models:
        if not any(sign in model for sign in "*?[") or Path(model).exists():
            names.append(model)
        elif found := list_models(model):
            names += found
        else:
            raise UsageError(f"no zoo name matches '{model}'", "see `vidinit list models`")
    if not names:
        raise UsageError("no model to profile", "name at least one")
    return list(dict.fromkeys(names))


def _check(names: list[str], request: _Request, precision: str, seconds: float) -> None:
    if request.size is not None and request.size < 1:
        raise UsageError(f"size must be at least 1, not {request.size}")
    if not seconds > 0:
        raise UsageError(f"seconds must be above 0, not {seconds}")
    if request.workers is not None and request.workers < 0:
        raise UsageError(f"workers must be at least 0, not {request.workers}")
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"unknown precision '{precision}'", f"precisions are {known}")
    for name in names:
        folder = model_folder(name)
        if folder is not None:
            read_card(folder)
        elif (entry := find_entry(name)).builder is None and entry.backbone is not None:
            check_backbone(name, entry.backbone)


def _check_combinations(
    request: _Request,
    running: Mapping[str, bool],
    count_only: bool,
    kernels: bool,
    results: str | Path | None,
) -> None:
    """Raise UsageError for options that do not go together.

    ``running`` are those that run models, and True for those that are asked for.
    """
    if results is not None and (request.frames or request.size is not None):
        raise UsageError(
            "--results: the scores are those of the runs' own clips",
            "leave out --frames and --size",
        )
    if request.workers is not None and not running["data"]:
        raise UsageError("--workers: there is nothing to read", "add --data")
    runs = next((name for name, on in running.items() if on), None)
    if (count_only or kernels) and runs is not None:
        what = "kernels" if kernels else "count-only"
        raise UsageError(f"--{what} runs nothing, --{runs} has to", "use one of them at a time")


def _scores(names: list[str], results: str | Path | None) -> dict[str, RunScore]:
    """The scores of models by name; those that no run tells of are named and left out."""
    if results is None:
        return {}
    known = read_scores(Path(results))
    found = {name: score for name in names if (score := score_of(name, known)) is not None}
    if not found:
        some = ", ".join(dict.fromkeys(score.name for score in known))
        raise UsageError(f"{results} has no result of {', '.join(names)}", f"it has {some}")
    if missing := [name for name in names if name not in found]:
        say(f"note: {results} has no result of {', '.join(missing)}")
    return found


def _ref(name: str, scores: dict[str, RunScore]) -> str:
    """The model to open for a name: the one that has the score, where there is one."""
    score = scores.get(name)
    return name if score is None or score.folder is None else str(score.folder)


def _open(job: ProfileJob) -> VideoModel:
    """The model whose kernels are looked at."""
    if model_folder(job.ref) is not None:
        return load_trunk(job.ref)
    say(f"{job.name}: a zoo name, so its kernels are random")
    return create_model(job.ref)


def _counted(job: ProfileJob, model: VideoModel | None) -> dict[str, Any]:
    """The row of a model that is not run, with the kernels of one that was opened."""
    if model is None:
        return job.as_row()
    table = kernel_table(model)
    kernels = [kernel.as_dict() for kernel in table]
    return {**job.as_row(), "kernels": kernels, "kernel_means": summarize(table)}


def _with_data(data: Places, workers: int | None, precision: str, seconds: float) -> ExtraMeasure:
    """Measures `input_share` on these videos, which are checked at once."""
    settings, places = DataConfig(workers=workers), as_places(data)
    if places is None:
        raise UsageError("no data is named", "pass a folder or a list")
    rows = clips_of(places, settings)

    def beside(model: VideoModel, batch_size: int) -> dict[str, Any]:
        share = input_share(model, rows, settings, batch_size, precision=precision, seconds=seconds)
        return {"input": share}

    return beside

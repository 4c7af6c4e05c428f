"""What models cost, side by side: parameters, multiply-adds, speed, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import check_out, load, model_folder, read_card
from ..engine.run_folder import RunFolder
from ..errors import UsageError, VidinitError
from ..zoo.base import ClipSpec, VideoModel, count_parameters
from ..zoo.build import check_backbone, create_model
from ..zoo.names import find_entry
from .flops import count_macs
from .speed import PRECISIONS, PeakMemory, measure_speed, pick_device


def profile(
    models: Sequence[str],
    *,
    frames: int | None = None,
    size: int | None = None,
    batch_size: int = 1,
    device: str = "auto",
    precision: str = "fp32",
    seconds: float = 2.0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Measure models one after the other, on clips of random numbers.

    All names and sizes are checked, without computing anything, before the first is measured.

    Args:
        models: zoo names and ``<plan>-<timm name>`` (random weights, 400 classes), model folders
            or run folders.
        frames: of a clip; default: each model's own.
        size: side of the square frames in pixels; default: each model's own.
        batch_size: clips of one forward pass.
        device: ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, or ``bf16`` or ``fp16`` under autocast; weights stay float32. PyTorch's
            own defaults hold: fp32 convolutions may use TF32 on NVIDIA GPUs.
        seconds: how long to measure each model, after three passes that warm up; above 0.
        out: folder to write ``profile.json`` into; None writes nothing.
        overwrite: replace an earlier folder of ours.

    Returns:
        One dict per model, in the given order: ``model`` (as given), ``params`` (learnable values),
        ``gmacs`` (1e9 multiply-adds of the convolutions and matrix products for one clip),
        ``gflops`` (twice that), ``frames``, ``size``, ``batch_size``, ``device``, ``precision``,
        ``clips_per_second`` and ``latency_ms`` (of the median forward pass of one batch, in eval
        mode, from its call until the device is done; no decoding, no copy to the device), and
        ``peak_memory_mb`` (MiB; the model, its input and the most its forward passes hold at once:
        memory of PyTorch's allocator on CUDA, growth of the process's resident memory on a Linux
        CPU, None elsewhere).

    Raises:
        UsageError: for an unknown model, device or precision, or a clip that a model cannot take.
        VidinitError: when a model does not fit into the device's memory.
    """
    _check(models, frames, size, batch_size, precision, seconds)
    if out is not None:
        check_out(Path(out), overwrite=overwrite)
    place = pick_device(device)
    jobs = [_plan(name, frames, size) for name in models]
    rows = [_measure(job, place, batch_size, precision, seconds) for job in jobs]
    if out is not None:
        RunFolder.open(out, overwrite=overwrite).write_json("profile.json", rows)
    return rows


@dataclass(frozen=True)
class _Job:
    """A model whose name, frames and size were found to fit."""

    name: str
    params: int
    macs: int
    frames: int
    size: int


def _check(
    models: Sequence[str],
    frames: int | None,
    size: int | None,
    batch_size: int,
    precision: str,
    seconds: float,
) -> None:
    if isinstance(models, str):
        raise UsageError("models must be a list of names", f"write ['{models}']")
    if not models:
        raise UsageError("no model to profile", "name at least one")
    for what, value in (("frames", frames), ("size", size), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{what} must be at least 1, not {value}")
    if not seconds > 0:
        raise UsageError(f"seconds must be above 0, not {seconds}")
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"unknown precision '{precision}'", f"precisions are {known}")
    for name in models:
        folder = model_folder(name)
        if folder is not None:
            read_card(folder)
        elif (entry := find_entry(name)).builder is None and entry.backbone is not None:
            check_backbone(name, entry.backbone)


def _outline(name: str) -> VideoModel:
    """The model without values, on the meta device."""
    folder = model_folder(name)
    with torch.device("meta"):
        if folder is None:
            return create_model(name)
        card = read_card(folder)
        model = create_model(card["name"], num_classes=card["num_classes"], **card["options"])
    model.spec = ClipSpec.from_dict(card["clip"])
    return model


def _plan(name: str, frames: int | None, size: int | None) -> _Job:
    model = _outline(name)
    frames, size = frames or model.spec.frames, size or model.spec.size
    try:
        macs = count_macs(model, (1, 3, frames, size, size))
    except NotImplementedError:  # a fault of the model, not of the clip
        raise
    except (AssertionError, ValueError, RuntimeError) as error:
        own = f"its own clip is {model.spec.frames} x {model.spec.size} x {model.spec.size}"
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{name} cannot take clips of {frames} x {size} x {size} ({reason})", own
        ) from error
    return _Job(name, count_parameters(model), macs, frames, size)


def _measure(
    job: _Job, device: torch.device, batch_size: int, precision: str, seconds: float
) -> dict[str, Any]:
    try:
        memory = PeakMemory(device)
        model = create_model(job.name) if model_folder(job.name) is None else load(job.name)
        model.to(device)
        clip = torch.randn(batch_size, 3, job.frames, job.size, job.size, device=device)
        memory.start()
        speed = measure_speed(model, clip, precision=precision, seconds=seconds)
    except torch.cuda.OutOfMemoryError as error:
        raise VidinitError(
            f"{job.name} with {batch_size} clips of {job.frames} x {job.size} x {job.size} does "
            "not fit into the GPU's memory",
            "lower --batch-size, --frames or --size",
        ) from error
    peak = memory.peak_mb()
    return {
        "model": job.name,
        "params": job.params,
        "gmacs": round(job.macs / 1e9, 6),
        "gflops": round(2 * job.macs / 1e9, 6),
        "frames": job.frames,
        "size": job.size,
        "batch_size": batch_size,
        "device": device.type,
        "precision": precision,
        "clips_per_second": round(speed.clips_per_second, 3),
        "latency_ms": round(speed.latency_ms, 3),
        "peak_memory_mb": None if peak is None else round(peak, 1),
    }

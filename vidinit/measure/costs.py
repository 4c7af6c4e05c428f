"""The costs of one model: parameters, multiply-adds, speed, memory, for clips of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoint import described, load_trunk, model_folder
from ..config import TrainConfig
from ..console import say
from ..errors import UsageError
from ..zoo.base import VideoModel, count_parameters
from ..zoo.build import create_model
from ..zoo.spec import ClipSpec
from .flops import count_macs
from .memory import TrainingMemory, training_memory
from .speed import PRECISIONS, PeakMemory, measure_speed
from .stages import Stage, find_stages, time_stages

ExtraMeasure = Callable[[VideoModel, int], dict[str, Any]]
"""From a model on its device and a number of clips to more entries of a row."""


@dataclass(frozen=True)
class ProfileJob:
    """A model and a clip that were found to fit.

    Attributes:
        name: as the model was given.
        ref: zoo name or folder that is opened.
        frames, size: of the clip.
        params: learnable values.
        macs: multiply-adds of one clip.
        stages: of the network; empty where nobody asked for them.
    """

    name: str
    ref: str
    frames: int
    size: int
    params: int
    macs: int
    stages: tuple[Stage, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """The part of the row that is known without running anything."""
        return {
            "model": self.name,
            "params": self.params,
            "gmacs": round(self.macs / 1e9, 6),
            "gflops": round(2 * self.macs / 1e9, 6),
            "frames": self.frames,
            "size": self.size,
            **self.stage_rows(),
        }

    def stage_rows(self, times: dict[str, float] | None = None) -> dict[str, Any]:
        """``stages``, where there are any: a dict for each, with ``ms`` where times are known."""
        if not self.stages:
            return {}
        rows = []
        for stage in self.stages:
            row = {"stage": stage.name, "params": stage.params, "gmacs": round(stage.macs / 1e9, 6)}
            rows.append(row if times is None else {**row, "ms": round(times[stage.name], 3)})
        return {"stages": rows}


@dataclass(frozen=True)
class MeasureSettings:
    """The settings of a measurement.

    Attributes:
        device: the models run on.
        batch_sizes: clips of a forward pass, one row each.
        precision: a key of `PRECISIONS`.
        seconds: how long each row is timed.
        training: estimate the memory of training, too.
    """

    device: torch.device
    batch_sizes: Sequence[int]
    precision: str
    seconds: float
    training: bool = False


def outline(ref: str) -> VideoModel:
    """The model of a zoo name or folder without values, on the meta device."""
    folder = model_folder(ref)
    with torch.device("meta"):
        return create_model(ref) if folder is None else described(folder)


def plan(
    name: str, ref: str, frames: Sequence[int], size: int | None, *, stages: bool = False
) -> list[ProfileJob]:
    """A job for each clip length, by passes that compute nothing.

    Args:
        name: of the model in messages and rows.
        ref: zoo name or folder.
        frames: of the clips; empty for the model's own.
        size: of the frames in pixels; None for the model's own.
        stages: find them, too.

    Raises:
        UsageError: for a clip that the model cannot take.
    """
    model = outline(ref)
    own = model.spec
    return [
        _plan(model, name, ref, replace(own, frames=t, size=size or own.size), own, stages)
        for t in frames or [own.frames]
    ]


def _plan(
    model: VideoModel, name: str, ref: str, spec: ClipSpec, own: ClipSpec, stages: bool
) -> ProfileJob:
    shape = (1, model.in_channels, spec.frames, spec.size, spec.size)
    try:
        model.spec = spec
        macs = count_macs(model, shape)
        found = find_stages(model, shape) if stages else []
    except NotImplementedError:  # a fault of the model, not of the clip
        raise
    except (AssertionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{name} cannot take clips of {spec.frames} x {spec.size} x {spec.size} ({reason})",
            f"its own clip is {own.frames} x {own.size} x {own.size}",
        ) from error
    return ProfileJob(
        name, ref, spec.frames, spec.size, count_parameters(model), macs, tuple(found)
    )


def measure(
    jobs: Sequence[ProfileJob], how: MeasureSettings, extra: ExtraMeasure | None = None
) -> list[dict[str, Any]]:
    """Run one model on clips of random numbers: a row for each clip length and batch size.

    A batch that does not fit into a GPU's memory has a row with None for what was not measured.

    Args:
        jobs: of one model.
        how: to measure.
        extra: measures more, with the model as it is in the row.

    Returns:
        Rows as `pipelines.profile.api.profile` describes them.
    """
    memory = PeakMemory(how.device)
    first = jobs[0]
    model = create_model(first.ref) if model_folder(first.ref) is None else load_trunk(first.ref)
    rows = []
    for job in jobs:
        model.spec = replace(model.spec, frames=job.frames, size=job.size)
        model.to(how.device)
        for batch_size in how.batch_sizes:
            row = {**job.as_row(), "batch_size": batch_size, "device": how.device.type}
            row["precision"] = how.precision
            try:
                row |= _measured(model, job, batch_size, how, memory)
                row |= {} if extra is None else extra(model, batch_size)
            except torch.cuda.OutOfMemoryError:
                row |= dict.fromkeys(("clips_per_second", "latency_ms", "peak_memory_mb"))
                clip = f"{job.frames} x {job.size} x {job.size}"
                say(f"{job.name}: {batch_size} clips of {clip} do not fit into the GPU's memory")
            rows.append(row)
        if how.training:
            training = _training(model, job, how)
            for row in rows[-len(how.batch_sizes) :]:
                row["training_memory_mb"] = training and training.as_mb(row["batch_size"])
    return rows


def _measured(
    model: VideoModel, job: ProfileJob, batch_size: int, how: MeasureSettings, memory: PeakMemory
) -> dict[str, Any]:
    memory.start()
    shape = (batch_size, model.in_channels, job.frames, job.size, job.size)
    clip = torch.randn(shape, device=how.device)
    speed = measure_speed(model, clip, precision=how.precision, seconds=how.seconds)
    peak = memory.peak_mb()
    row = {
        "clips_per_second": round(speed.clips_per_second, 3),
        "latency_ms": round(speed.latency_ms, 3),
        "peak_memory_mb": None if peak is None else round(peak, 1),
    }
    if job.stages:
        times = time_stages(model, clip, job.stages, precision=how.precision, seconds=how.seconds)
        row |= job.stage_rows(times)
    return row


def _training(model: VideoModel, job: ProfileJob, how: MeasureSettings) -> TrainingMemory | None:
    """Memory of a step of SGD with cross-entropy; None where not even a few clips fit."""
    kind, dtype = how.device.type, PRECISIONS[how.precision]

    def loss(clips: int) -> Tensor:
        shape = (clips, model.in_channels, job.frames, job.size, job.size)
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            logits = model(torch.randn(shape, device=how.device))
        return F.cross_entropy(logits.float(), logits.new_zeros(clips, dtype=torch.long))

    try:
        return training_memory(model, TrainConfig(), loss, most=max(how.batch_sizes))
    except torch.cuda.OutOfMemoryError:
        return None

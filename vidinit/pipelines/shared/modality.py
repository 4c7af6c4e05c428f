"""The clips that a model sees: RGB or optical flow, their length, stride and size."""

from __future__ import annotations

from dataclasses import replace

from ...config import DataConfig
from ...config.data import CLIP
from ...console import say
from ...data.flow.methods import require_method
from ...data.flow.settings import Flow
from ...data.flow.stored import stored_flow
from ...data.rows import Rows
from ...errors import UsageError
from ...zoo.base import VideoModel
from ...zoo.build import set_input_channels
from ...zoo.spec import ClipSpec


def set_spec(model: VideoModel, data: DataConfig) -> ClipSpec:
    """The model's clip settings with what the configuration changes; recorded in the model.

    Raises:
        UsageError: the model cannot see RGB or flow as configured; see `modality.set_modality`.
    """
    set_modality(model, data)
    changes = {key: value for key in CLIP if (value := getattr(data, key)) is not None}
    if data.fps == 0:
        changes["fps"] = None
    if model.spec.flow is not None and data.channels == "bgr":
        raise UsageError(
            f"data.channels=bgr is for RGB, and {model.name} sees optical flow", "leave it out"
        )
    if changes:
        model.spec = replace(model.spec, **changes)
    return model.spec


def set_modality(model: VideoModel, data: DataConfig) -> None:
    """Make a model see what the configuration says, else what it was trained on.

    A model of RGB that is to see flow gets kernels for two channels by
    `zoo.build.set_input_channels`, which is said.

    Raises:
        UsageError: it cannot see that, or flow cannot be estimated here.
    """
    before, channels, name = model.spec.flow, model.in_channels, model.name
    if (data.modality or ("rgb" if before is None else "flow")) == "rgb":
        _check_rgb(model, data)
        return
    if channels not in (2, 3):
        raise UsageError(f"{name} sees {channels} channels, optical flow has 2", "take another")
    flow = before or Flow()
    flow = replace(
        flow,
        method=data.flow or flow.method,
        bound=data.flow_bound or flow.bound,
        weights=data.flow_weights or (flow.weights if data.flow != "dis" else None),
    )
    require_method(flow)
    if channels == 3:
        set_input_channels(model, 2)
        say(
            f"{name}: its first kernels now take the 2 channels of optical flow, each the mean of "
            "those for RGB times 3/2"
        )
    model.spec = model.spec.of_flow(flow)
    say(f"{name} sees optical flow ({flow.method}, up to {flow.bound:g} pixels a frame)")


def _check_rgb(model: VideoModel, data: DataConfig) -> None:
    if model.spec.flow is not None:
        raise UsageError(
            f"{model.name} was trained on optical flow",
            "leave data.modality out, or set it to flow",
        )
    if model.in_channels != 3:
        hint = "pass --modality flow" if model.in_channels == 2 else "take another model"
        raise UsageError(f"{model.name} sees {model.in_channels} channels, RGB has 3", hint)
    for key in ("flow", "flow_bound", "flow_weights"):
        if (value := getattr(data, key)) is not None:
            raise UsageError(
                f"data.{key}={value} is for optical flow, and {model.name} sees RGB",
                "leave it out, or set data.modality=flow",
            )


def check_flow(rows: Rows, spec: ClipSpec, data: DataConfig) -> None:
    """Refuse what cannot be done to flow, and say where it comes from; nothing of RGB.

    Raises:
        UsageError: an augmentation works on colors.
    """
    if spec.flow is None:
        return
    if data.recolored:
        raise UsageError(
            f"data.{data.recolored[0]} is for RGB, and optical flow has no colors", "leave it out"
        )
    videos = {row.path: row for row in rows.rows}.values()
    stored = [stored_flow(row, spec.flow, data.decode_side) is not None for row in videos]
    missing = stored.count(False)
    if not missing:
        say(f"the optical flow of all {len(stored):,} videos is on disk")
        return
    which = f"{missing:,} of {len(stored):,}" if missing < len(stored) else f"all {missing:,}"
    say(
        f"the optical flow of {which} videos is estimated by the decoding processes, each time "
        "anew; `vidinit data prepare --flow` does it once"
    )

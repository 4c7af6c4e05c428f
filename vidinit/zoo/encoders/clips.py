"""The clips of a video encoder: what its configuration and its preprocessor say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ...errors import UsageError
from ..spec import ClipSpec
from .folder import PREPROCESSORS, read_json
from .kinds import KINDS, Kind, side_of

_INTERPOLATIONS: dict[Any, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}


def default_clip(kind: str, config: Mapping[str, Any]) -> ClipSpec:
    """The clip that a configuration was made for, with the pixel statistics as published."""
    own = KINDS[kind]
    frames = int(config[own.frames])
    return ClipSpec(
        frames=frames,
        stride=own.stride_of(frames),
        size=side_of(own, config),
        mean=own.mean,
        std=own.std,
        crop_pct=1 / own.side_over_crop,
    )


def clip_of(kind: str, config: Mapping[str, Any], folder: Path) -> tuple[ClipSpec, list[str]]:
    """The clips of an encoder, by its preprocessor's file, and what that leaves to say.

    Pixels are ``(x * rescale_factor - mean) / std`` there (of ViViT with an offset ``x *
    rescale_factor - 1 - mean``) for x from 0 to 255: mean and std here are of x / 255.

    Raises:
        UsageError: settings that clips here cannot have.
    """
    own = KINDS[kind]
    spec = default_clip(kind, config)
    values, file = _preprocessor(folder)
    if file is None:
        return spec, [f"no preprocessor's file: pixel statistics are those {own.title} is known by"]
    try:
        mean, std = _statistics(values, own)
        spec, notes = _cut(values, spec)
        resample = values.get("resample", 2)
        interpolation = _INTERPOLATIONS.get(resample)
        if interpolation is None:
            interpolation = "bilinear"
            notes.append(f"resample={resample} is no bilinear or bicubic one: frames are bilinear")
        return replace(spec, mean=mean, std=std, interpolation=interpolation), notes
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise UsageError(
            f"{file}: it does not say how pixels are made ({error})", "take a whole copy of it"
        ) from error


def _statistics(
    values: Mapping[str, Any], own: Kind
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels from 0 to 1."""
    normalizes = values.get("do_normalize", True)
    mean = [float(v) for v in values.get("image_mean", own.mean)] if normalizes else [0.0] * 3
    std = [float(v) for v in values.get("image_std", own.std)] if normalizes else [1.0] * 3
    scale = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    offset = 1.0 if own is KINDS["vivit"] and values.get("offset", True) else 0.0
    per_unit = 255 * scale  # of x / 255
    if own is KINDS["vivit"] and offset and "rescale_factor" not in values:
        per_unit = 2.0  # its class scales to -1 to 1
    return tuple((m + offset) / per_unit for m in mean), tuple(s / per_unit for s in std)


def _cut(values: Mapping[str, Any], spec: ClipSpec) -> tuple[ClipSpec, list[str]]:
    """The share of a frame that the crop is, and what frames here are not cut like."""
    notes: list[str] = []
    crop, resized = _sides(values.get("crop_size")), _sides(values.get("size"))
    if not values.get("do_center_crop", crop is not None) or crop is None:
        crop = None
    short = resized[0] if resized else None
    if resized and len(resized) == 2 and crop is None:
        notes.append(
            f"its preprocessor squeezes frames to {resized[1]} x {resized[0]}; here they keep "
            "their shape, and the middle is cut out"
        )
    size = crop[0] if crop else short
    if size not in (None, spec.size):
        notes.append(
            f"its preprocessor makes frames of {size} pixels, the encoder takes {spec.size}"
        )
        size = None
    share = min(size / short, 1.0) if size and short else spec.crop_pct
    return replace(spec, crop_pct=share), notes


def _sides(value: Any) -> list[int] | None:
    """``224``, ``{shortest_edge: 224}`` to [224]; ``{height, width}`` to both; None for nothing."""
    if isinstance(value, Mapping):
        keys = ("shortest_edge",) if "shortest_edge" in value else ("height", "width")
        return [int(value[key]) for key in keys]
    return None if value is None else [int(value)]


def _preprocessor(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """The settings of the preprocessor, and the file they are in."""
    for name in PREPROCESSORS:
        file = folder / name
        if file.is_file():
            values = read_json(file)
            for part in ("video_processor", "image_processor"):
                if isinstance(values.get(part), dict):
                    values = values[part]
            if name != "processor_config.json" or "image_mean" in values:
                return values, file
    return {}, None

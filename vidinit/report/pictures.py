"""Frames as pictures that carry their bytes with them: strings to put into an HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..measure.kernels import first_filters
from ..zoo.base import VideoModel

_STEPS = ((128, 55), (112, 40), (96, 30), (80, 20), (64, 15), (48, 5))
"""Longer side in pixels and quality of a moving picture, until it is small enough."""


def strips(filters: np.ndarray, *, label: str, patch: int = 28) -> str:
    """Kernels over time, four strips of patches in a row, as an <img> that carries its PNG with it.

    Args:
        filters: uint8 RGB (N, T, h, w, 3): N strips of T patches.
        label: describes the picture to a screen reader.
        patch: about the side of a patch in pixels; none is made smaller than it is.

    Raises:
        ValueError: for other shapes or types.
    """
    if filters.ndim != 5 or filters.shape[-1] != 3 or filters.dtype != np.uint8 or not filters.size:
        raise ValueError(f"expected uint8 (N, T, h, w, 3), got {filters.dtype} {filters.shape}")
    count, taps, tall, wide = filters.shape[:4]
    zoom = max(1, round(patch / max(tall, wide)))
    columns, gap = min(4, count), 1
    rows = -(-count // columns)
    height, width = zoom * tall + 4 * gap, taps * (zoom * wide + gap) + 8 * gap
    canvas = np.zeros((rows * height, columns * width, 4), dtype=np.uint8)  # gaps let the page in
    for index, strip in enumerate(filters.repeat(zoom, axis=2).repeat(zoom, axis=3)):
        top, left = index // columns * height, index % columns * width
        for tap in strip:
            cell = canvas[top : top + zoom * tall, left : left + zoom * wide]
            cell[..., :3], cell[..., 3] = tap, 255
            left += zoom * wide + gap
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="PNG", optimize=True)
    return (
        f'<img class="film" width="{canvas.shape[1]}" height="{canvas.shape[0]}"'
        f' alt="{escape(label)}" style="image-rendering: pixelated"'
        f' src="{_uri("png", buffer.getvalue())}">'
    )


def animation(frames: np.ndarray, *, label: str, fps: float = 8.0, limit: int = 48_000) -> str:
    """Frames as a small moving picture, which stands still until it is pointed at or focused.

    All frames lie side by side in one picture, of which the page shows one at a time. Who wants no
    motion sees the middle one.

    Args:
        frames: uint8 RGB (T, H, W, 3).
        label: describes the picture to a screen reader.
        fps: frames shown in a second.
        limit: bytes of the picture, about: it is made smaller and coarser until it fits, though no
            smaller than 48 pixels.

    Returns:
        A <span class="clip"> with an <img> that carries its WebP with it.

    Raises:
        ValueError: for other shapes or types.
    """
    _check_frames(frames)
    count, tall, wide = frames.shape[:3]
    for side, quality in _STEPS:
        width, height = (max(1, round(side * part / max(tall, wide))) for part in (wide, tall))
        small = [
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
            for frame in frames
        ]
        buffer = io.BytesIO()
        Image.fromarray(np.concatenate(small, axis=1)).save(buffer, format="WEBP", quality=quality)
        if buffer.tell() <= limit:
            break
    size = f"width: {width}px; aspect-ratio: {width} / {height}"
    course = f"--frames: {count}; --still: {count // 2}; --seconds: {count / fps:.3g}s"
    return (
        f'<span class="clip" tabindex="0" style="{size}; {course}">'
        f'<img alt="{escape(label)}" src="{_uri("webp", buffer.getvalue())}"></span>'
    )


def still(frame: np.ndarray, *, label: str) -> str:
    """One frame in its own size, as an <img> that carries its JPEG with it.

    Args:
        frame: uint8 RGB (H, W, 3).
        label: describes the picture to a screen reader.

    Raises:
        ValueError: for other shapes or types.
    """
    _check_frames(frame[None])
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(buffer, format="JPEG", quality=85)
    return (
        f'<img class="film" width="{frame.shape[1]}" height="{frame.shape[0]}"'
        f' alt="{escape(label)}" src="{_uri("jpeg", buffer.getvalue())}">'
    )


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _check_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"expected uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")


def filters_picture(models: Mapping[str, VideoModel]) -> str:
    """The first temporal kernels of models side by side, as in Fig. 3 and 4 of DistInit.

    Girdhar et al., "DistInit: Learning Video Representations Without a Single Labeled Video",
    ICCV 2019. Each filter is a strip of its taps, time from left to right; zero is gray, and each
    filter's largest weight, over all taps, has full color: a strip whose patches are alike looks at
    appearance. The same channels are shown of every model.

    Args:
        models: by the name that stands above each picture.

    Returns:
        HTML to put into a page.

    Raises:
        UsageError: when no model has a temporal kernel.
    """
    found = {name: first_filters(model) for name, model in models.items()}
    if not any(found.values()):
        raise UsageError(
            f"no temporal kernel in {', '.join(models)}",
            "kernels are shown of models that mix time by convolutions",
        )
    figures = []
    for name, filters in found.items():
        if filters is None:
            body, caption = "", "no temporal kernels"
        else:
            body = strips(filters.strips, label=f"first temporal filters of {name}")
            caption = filters.name + (f" ({filters.note})" if filters.note else "")
        figures.append(
            f'<figure style="margin: 0 0 1rem"><figcaption><strong>{escape(name)}</strong><br>'
            f"{escape(caption)}</figcaption>{body}</figure>"
        )
    start = '<div style="display: flex; flex-wrap: wrap; gap: 0 2rem">'
    return start + "\n".join(figures) + "</div>"

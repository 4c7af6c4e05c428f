"""Clips with true boxes, made from real footage: patches of it that move over a still frame of it.

Two patches a clip, of different classes, and a class is how a patch moves. So neither the whole
frame tells the class of a box, as two are right for it, nor does the key frame: place, size,
footage, colors and pace are drawn before the classes are looked at, and each motion passes through
the same boxes at the key frame.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..console import say
from .footage import Footage, Rng, Uint8, clip_rng, load_footage, write_clip

MOTIONS = ("down", "grow", "left", "right", "shrink", "up")
"""The classes, sorted, as a file of boxes numbers them."""

SIDE = 96  # of a clip, in pixels
FRAMES = 10
KEY = FRAMES // 2
"""The frame that a clip is trained and scored on."""

PATCH = (28.0, 40.0)  # side of a patch at the key frame, in pixels
SLIDE = 2.5  # pixels a frame at full pace
SCALE = 0.06  # of the side a frame at full pace, compounding
PACE = (0.6, 1.0)
GAP = 8.0  # pixels between the two patches at the key frame, at least
_TRIES = 200
_FPS = 10


@dataclass(frozen=True)
class PatchClip:
    """One clip.

    Attributes:
        frames: uint8 (T, SIDE, SIDE, 3), RGB.
        boxes: x1, y1, x2, y2 of each patch in each frame, float64 (T, 2, 4), in pixels; they end
            at the border where a patch leaves the picture.
        classes: of the two patches, indices into `MOTIONS`.
    """

    frames: Uint8
    boxes: np.ndarray
    classes: tuple[int, int]


@dataclass(frozen=True)
class PatchSet:
    """Where the clips lie and what they were made of.

    Attributes:
        folder: with train/ and val/.
        keys: csv of the boxes of each clip's key frame.
        frames: csv of the boxes of all frames.
        train_videos, test_videos: the footage behind each part; they share no file.
    """

    folder: Path
    keys: Path
    frames: Path
    train_videos: tuple[Path, ...]
    test_videos: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result of ``--detect --clips-only`` for ``--json``."""
        return {
            "clips": str(self.folder),
            "keys": str(self.keys),
            "frames": str(self.frames),
            "train_videos": [str(path) for path in self.train_videos],
            "test_videos": [str(path) for path in self.test_videos],
        }


def classes_of(index: int) -> tuple[int, int]:
    """The classes of the two patches of clip ``index``: 30 clips hold each ordered pair once."""
    count = len(MOTIONS)
    first, step = index % count, index // count % (count - 1) + 1
    return first, (first + step) % count


def render_patches(footage: Sequence[Footage], classes: tuple[int, int], rng: Rng) -> PatchClip:
    """Make one clip.

    Args:
        footage: the videos to choose from, each equally likely for background and patches.
        classes: of the two patches, indices into `MOTIONS`.
        rng: all randomness comes from here; see `footage.clip_rng`.
    """
    # Everything is drawn before the classes are looked at.
    scene = _shown(footage, lambda one: min(one.frames.shape[1:3]) * rng.uniform(0.6, 1.0), rng)
    half = rng.uniform(*PATCH, 2) / 2
    centers = _centers(half, rng)
    paces = rng.uniform(*PACE, 2)
    pictures = [_shown(footage, lambda _: PATCH[1] * rng.uniform(1.0, 1.6), rng) for _ in half]
    time = np.arange(FRAMES) - KEY
    boxes = np.stack([
        _path(MOTIONS[label], center, h, pace, time)
        for label, center, h, pace in zip(classes, centers, half, paces, strict=True)
    ], axis=1)  # fmt: skip
    still = F.interpolate(
        scene[None], (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    frames = still.expand(FRAMES, -1, -1, -1)
    for place, picture in enumerate(pictures):
        frames = torch.stack([
            _pasted(frame, picture, box) for frame, box in zip(frames, boxes[:, place], strict=True)
        ])  # fmt: skip
    pixels = frames.round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)
    return PatchClip(pixels.contiguous().numpy(), boxes.clip(0, SIDE), classes)


def make_patch_clips(
    root: Path, footage: tuple[list[Path], list[Path]], *, train: int, test: int, seed: int
) -> PatchSet:
    """Render and write clips and boxes below ``root``; the same for the same seed and footage.

    Args:
        root: folder to write ``train/``, ``val/``, ``keys.csv`` and ``frames.csv`` into.
        footage: training and test files, as `clips.choose_footage` gives them.
        train, test: how many clips of each part.
        seed: of everything random.
    """
    say(f"rendering {train + test} clips with two moving patches each")
    with (
        open(root / "keys.csv", "w", newline="", encoding="utf-8") as keys,
        open(root / "frames.csv", "w", newline="", encoding="utf-8") as frames,
    ):
        tables = [csv.writer(file, lineterminator="\n") for file in (keys, frames)]
        for table in tables:
            table.writerow(["path", "frame", "x1", "y1", "x2", "y2", "label", "track", "split"])
        for part, files, count in zip(("train", "val"), footage, (train, test), strict=True):
            (root / part).mkdir()
            loaded = [load_footage(path) for path in files]
            for index in range(count):
                rng = clip_rng(seed * 2**32 + zlib.crc32(f"patches {part}".encode()), index)
                clip = render_patches(loaded, classes_of(index), rng)
                name = f"{part}/{index:05d}.mp4"
                write_clip(root / name, clip.frames, fps=_FPS)
                rows = list(_rows(name, part, clip))
                tables[0].writerows(row for row in rows if row[1] == KEY)
                tables[1].writerows(rows)
    return PatchSet(
        root, root / "keys.csv", root / "frames.csv", tuple(footage[0]), tuple(footage[1])
    )


def _rows(name: str, part: str, clip: PatchClip) -> Iterator[list[Any]]:
    for frame, boxes in enumerate(clip.boxes):
        for track, (box, label) in enumerate(zip(boxes, clip.classes, strict=True)):
            corners = [f"{side:.3f}" for side in box]
            yield [name, frame, *corners, MOTIONS[label], track, part]


def _square(source: Footage, side: float, rng: Rng) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a square in the frames, its side in pixels."""
    height, width = source.frames.shape[1:3]
    whole = min(round(side), height, width)
    top, left = (int(rng.integers(limit - whole + 1)) for limit in (height, width))
    return top, left, top + whole, left + whole


def _shown(footage: Sequence[Footage], side: Callable[[Footage], float], rng: Rng) -> Tensor:
    """A square of one frame of the footage, its colors changed: float32 (3, h, w), 0 to 255."""
    source = footage[int(rng.integers(len(footage)))]
    frame = source.frames[int(rng.integers(len(source.frames)))]
    top, left, bottom, right = _square(source, side(source), rng)
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, 3)
    color = torch.from_numpy(gain.astype(np.float32)).view(3, 1, 1)
    pixels = torch.from_numpy(frame[top:bottom, left:right]).permute(2, 0, 1).float()
    return ((pixels - 128.0) * color + 128.0 + rng.uniform(-20, 20)).clamp(0, 255)


def _centers(half: np.ndarray, rng: Rng) -> np.ndarray:
    """Centers of two squares that lie in the picture and apart from each other, (2, 2)."""
    limit = half[:, None]
    for _ in range(_TRIES):
        centers = rng.uniform(limit, SIDE - limit, (2, 2))
        if np.abs(centers[0] - centers[1]).max() >= half.sum() + GAP:
            return np.asarray(centers)
    # Opposite corners always have room: the sides are less than half of the picture's.
    return np.stack([np.full(2, half[0]), np.full(2, SIDE - half[1])])


def _path(
    motion: str, center: np.ndarray, half: float, pace: float, time: np.ndarray
) -> np.ndarray:
    """The box of a patch in each frame, (T, 4); at time 0 the same for each motion."""
    across = {"left": -1, "right": 1}.get(motion, 0)
    down = {"up": -1, "down": 1}.get(motion, 0)
    growth = {"grow": 1, "shrink": -1}.get(motion, 0)
    sides = half * np.exp(SCALE * pace * growth * time)
    x, y = (at + SLIDE * pace * way * time for at, way in zip(center, (across, down), strict=True))
    return np.stack([x - sides, y - sides, x + sides, y + sides], axis=1)


def _pasted(frame: Tensor, picture: Tensor, box: np.ndarray) -> Tensor:
    """A frame (3, H, W) with a picture in a box, each pixel by the share of it that is covered."""
    x1, y1, x2, y2 = box.tolist()
    edge = torch.arange(SIDE, dtype=torch.float32)

    def share(low: float, high: float) -> Tensor:
        return ((edge + 1).clamp(max=high) - edge.clamp(min=low)).clamp(0, 1)

    def place(low: float, high: float) -> Tensor:
        return (2 * (edge + 0.5) - (low + high)) / (high - low)  # -1 to 1 between the edges

    grid = torch.stack(torch.meshgrid(place(x1, x2), place(y1, y2), indexing="xy"), dim=-1)
    shown = F.grid_sample(
        picture[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    cover = share(y1, y2)[:, None] * share(x1, x2)[None]
    return frame + cover * (shown - frame)

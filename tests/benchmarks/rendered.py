"""Labelled clips and stills rendered offline: shapes on a ground that slides past the camera.

The shapes are the thousand random objects that pybullet ships (`pip install pybullet`, wheels for
Python 3.10 and 3.11; all on the CPU, no display). In a *motion* set the class is where all of
it slides, and the shapes are any: single frames say nothing, as the middle frame is drawn before
the class is looked at. In an *appearance* set the class is which shape it is, and it slides
anywhere. Shapes of motion test clips are in no training clip; ground,
colors, angles, sizes and places are new in each clip of all sets.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidinit.demo.footage import write_clip

MOTIONS = ("left", "right", "up", "down")
FRAMES, SIDE = 10, 64
SHAPES, TRAIN_SHAPES = 1000, 800
WIDTH = 1.0  # of the picture, in the scene's unit; shapes lie in its plane, seen from above
SIZE = (0.3, 0.45)  # of a shape
PACE = (0.04, 0.08)  # of what slides, in a frame
PATCHES, GRAYS = 5, (80, 176)  # of the ground: colors across the picture, and their range
NOISE = 6.0  # standard deviation of the grain, in gray levels

Uint8 = NDArray[np.uint8]
Rng = np.random.Generator


def available() -> bool:
    """Whether pybullet is installed."""
    return importlib.util.find_spec("pybullet") is not None


class Scene:
    """A camera above a plane in which shapes lie."""

    def __init__(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # it says when it was built
            import pybullet
            import pybullet_data
        self.bullet = pybullet
        self.root = Path(pybullet_data.getDataPath()) / "random_urdfs"
        self.world = pybullet.connect(pybullet.DIRECT)
        self.view = pybullet.computeViewMatrix((0, 0, 3), (0, 0, 0), (0, 1, 0))
        field = 2 * np.degrees(np.arctan(0.5 * WIDTH / 3))
        self.lens = pybullet.computeProjectionMatrixFOV(field, 1.0, 0.5, 6.0)
        self.extents: dict[int, float] = {}

    def close(self) -> None:
        """Free the simulator."""
        self.bullet.disconnect(self.world)

    def clip(self, shapes: Sequence[int], rng: Rng, *, motion: str = "", frames: int = 1) -> Uint8:
        """Frames (T, SIDE, SIDE, 3) of shapes on a ground, all sliding past the camera together.

        Args:
            shapes: which of the objects; the first is nearest to the middle.
            rng: all randomness comes from here.
            motion: one of `MOTIONS`; empty for any direction.
            frames: how many.
        """
        bodies = []
        for number, shape in enumerate(shapes):
            at = rng.uniform(-0.15, 0.15, 2) if not number else _aside(rng)
            bodies.append((self._load(shape, rng), at, self._turned(rng)))
        light = rng.normal(size=3) * (1, 1, 0) + (0, 0, 1.5)
        angle, pace = rng.uniform(0, 2 * np.pi), rng.uniform(*PACE)
        ground = Image.fromarray(rng.integers(*GRAYS, (*2 * [3 * PATCHES], 3), dtype=np.uint8))
        grain = rng.normal(0, NOISE, (frames, SIDE, SIDE, 3))
        # Nothing is drawn from here on: all before is alike for every class.
        step = {"left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}.get(
            motion, (np.cos(angle), np.sin(angle))
        )
        out = []
        for t in range(frames):
            moved = pace * (t - frames // 2) * np.array(step)
            for body, at, turned in bodies:
                x, y = at + moved
                self.bullet.resetBasePositionAndOrientation(body, (x, y, 0), turned)
            out.append(self._picture(light, _window(ground, moved)))
        for body, _, _ in bodies:
            self.bullet.removeBody(body)
        return np.clip(np.stack(out) + grain, 0, 255).astype(np.uint8)

    def _load(self, shape: int, rng: Rng) -> int:
        """A shape of a random size and color."""
        file = str(self.root / f"{shape:03d}" / f"{shape:03d}.urdf")
        if shape not in self.extents:
            body = self.bullet.loadURDF(file)
            low, high = self.bullet.getAABB(body)
            self.extents[shape] = float(max(np.subtract(high, low)))
            self.bullet.removeBody(body)
        scale = rng.uniform(*SIZE) / self.extents[shape]
        body = self.bullet.loadURDF(file, globalScaling=scale)
        self.bullet.changeVisualShape(body, -1, rgbaColor=(*rng.uniform(0.1, 1.0, 3), 1.0))
        return int(body)

    def _turned(self, rng: Rng) -> Any:
        """A quaternion: any angle in the picture, a little tilt out of it."""
        tilt = rng.uniform(-0.4, 0.4, 2)
        return self.bullet.getQuaternionFromEuler((*tilt, rng.uniform(0, 2 * np.pi)))

    def _picture(self, light: NDArray[Any], ground: NDArray[Any]) -> NDArray[Any]:
        """One frame (SIDE, SIDE, 3), 0 to 255."""
        found = self.bullet.getCameraImage(
            SIDE, SIDE, self.view, self.lens, lightDirection=light.tolist(), shadow=0,
            renderer=self.bullet.ER_TINY_RENDERER,
        )  # fmt: skip
        pixels = np.reshape(found[2], (SIDE, SIDE, 4))[..., :3].astype(np.float64)
        nothing = np.reshape(found[4], (SIDE, SIDE, 1)) < 0
        return np.where(nothing, ground, pixels)


def _aside(rng: Rng) -> NDArray[Any]:
    """A place beside the shape in the middle, in view or about to be."""
    while True:
        at = rng.uniform(-0.8, 0.8, 2)
        if np.abs(at).max() > 0.45:
            return at


def _window(ground: Image.Image, moved: NDArray[Any]) -> NDArray[Any]:
    """What the camera sees of a blurred ground that has moved so far, (SIDE, SIDE, 3)."""
    left, top = PATCHES * (1 - moved[0] / WIDTH), PATCHES * (1 + moved[1] / WIDTH)
    box = (left, top, left + PATCHES, top + PATCHES)
    seen = ground.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(seen, dtype=np.float64)


def motion_set(root: Path, *, train: int, test: int, seed: int) -> Path:
    """``root``/train and /val with a folder of mp4 files per motion; ``root``."""
    with _scene() as scene:
        for part, count, shapes in (
            ("train", train, range(TRAIN_SHAPES)),
            ("val", test, range(TRAIN_SHAPES, SHAPES)),
        ):
            for i in range(count):
                name, rng = MOTIONS[i % len(MOTIONS)], _rng(seed, f"motion {part}", i)
                some = rng.choice(shapes, 4, replace=False).tolist()
                clip = scene.clip(some, rng, motion=name, frames=FRAMES)
                _write(root / part / name / f"{i:05d}.mp4", clip)
    return root


def appearance_set(root: Path, *, classes: int, train: int, test: int, seed: int) -> Path:
    """``root``/train and /val with a folder of mp4 files per shape; ``root``."""
    return _shapes(root, "appearance", classes, train, test, seed, FRAMES)


def image_set(root: Path, *, classes: int, train: int, test: int, seed: int) -> Path:
    """``root``/train and /val with a folder of png files per shape; ``root``."""
    return _shapes(root, "images", classes, train, test, seed, 1)


def unlabelled_set(root: Path, *, clips: int, seed: int) -> Path:
    """mp4 files of any shapes that slide anywhere; ``root``."""
    with _scene() as scene:
        for i in range(clips):
            rng = _rng(seed, "unlabelled", i)
            some = rng.choice(TRAIN_SHAPES, 4, replace=False).tolist()
            _write(root / f"{i:05d}.mp4", scene.clip(some, rng, frames=FRAMES))
    return root


def _shapes(
    root: Path, kind: str, classes: int, train: int, test: int, seed: int, frames: int
) -> Path:
    """A set of which the class is the shape; sets of one seed and another kind have others."""
    order = _rng(seed, "shapes", 0).permutation(TRAIN_SHAPES).tolist()
    mine = order[:classes] if kind == "appearance" else order[-classes:]
    with _scene() as scene:
        for part, count in (("train", train), ("val", test)):
            for i in range(count):
                shape, rng = mine[i % classes], _rng(seed, f"{kind} {part}", i)
                clip = scene.clip([shape], rng, frames=frames)
                suffix = "png" if frames == 1 else "mp4"
                _write(root / part / f"shape{shape:03d}" / f"{i:05d}.{suffix}", clip)
    return root


def _write(path: Path, clip: Uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(clip[0]).save(path)
    else:
        write_clip(path, clip)


def _rng(seed: int, stream: str, index: int) -> Rng:
    """The random stream of one clip of one part of one set."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), index])


@contextlib.contextmanager
def _scene() -> Iterator[Scene]:
    scene = Scene()
    try:
        yield scene
    finally:
        scene.close()

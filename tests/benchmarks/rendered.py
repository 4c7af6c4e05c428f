"""Labelled clips and stills rendered offline: things on a ground that slides past the camera.

All is rendered by pybullet on the CPU, without a display, from models that it ships (`pip install
pybullet`, wheels for Python 3.10 and 3.11). In a *motion* set the class is where everything slides,
and the things are any of a thousand random shapes: single frames say nothing, as the middle frame
is drawn before the class is looked at. Shapes of test clips are in no training clip. In an
*appearance* set the class is which thing lies in the middle, and all slides anywhere; the stills
of an *image* set show other things. Ground, tints, angles, sizes and places are new in each clip.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidinit.demo.footage import write_clip

MOTIONS = ("left", "right", "up", "down")
THINGS = {
    "duck": "duck_vhacd.urdf",
    "football": "soccerball.urdf",
    "mug": "objects/mug.urdf",
    "racing car": "racecar/racecar.urdf",
    "table": "table/table.urdf",
    "teddy": "teddy_vhacd.urdf",
}
OTHER_THINGS = {
    "bicycle": "bicycle/bike.urdf",
    "brick": "lego/lego.urdf",
    "robot on legs": "quadruped/minitaur.urdf",
    "robot on rollers": "r2d2.urdf",
    "robot on wheels": "husky/husky.urdf",
    "tray": "tray/traybox.urdf",
}
FRAMES, SIDE = 10, 64
SHAPES, TRAIN_SHAPES = 1000, 800
WIDTH = 1.0  # of the picture, in the scene's unit; things lie in its plane, seen from above
SIZE = (0.3, 0.5)  # of a thing
PACE = (0.04, 0.08)  # of what slides, in a frame
PATCHES, GRAYS = 5, (80, 176)  # of the ground: colors across the picture, and their range
NOISE = 6.0  # standard deviation of the grain, in gray levels

Uint8 = NDArray[np.uint8]
Rng = np.random.Generator


def available() -> bool:
    """Whether pybullet is installed."""
    return importlib.util.find_spec("pybullet") is not None


class Scene:
    """A camera above a plane in which shapes lie.

    Args:
        side: of a picture in pixels.
    """

    def __init__(self, side: int = SIDE) -> None:
        self.side = side
        import pybullet
        import pybullet_data

        self.bullet = pybullet
        self.root = Path(pybullet_data.getDataPath())
        self.world = pybullet.connect(pybullet.DIRECT)
        self.view = pybullet.computeViewMatrix((0, 0, 3), (0, 0, 0), (0, 1, 0))
        field = 2 * np.degrees(np.arctan(0.5 * WIDTH / 3))
        self.lens = pybullet.computeProjectionMatrixFOV(field, 1.0, 0.5, 6.0)
        self.extents: dict[str, float] = {}

    def close(self) -> None:
        """Free the simulator."""
        self.bullet.disconnect(self.world)

    def clip(self, files: Sequence[str], rng: Rng, *, motion: str = "", frames: int = 1) -> Uint8:
        """Frames (T, side, side, 3) of things on a ground, all sliding past the camera together.

        Args:
            files: of the things; the first is nearest to the middle.
            rng: all randomness comes from here.
            motion: one of `MOTIONS`; empty for any direction.
            frames: how many.
        """
        bodies = []
        for number, file in enumerate(files):
            at = rng.uniform(-0.15, 0.15, 2) if not number else _aside(rng)
            bodies.append((*self._placed(file, rng), at))
        light, tint = rng.normal(size=3) * (1, 1, 0) + (0, 0, 1.5), rng.uniform(0.4, 1.0, 3)
        angle, pace = rng.uniform(0, 2 * np.pi), rng.uniform(*PACE)
        ground = Image.fromarray(rng.integers(*GRAYS, (*2 * [3 * PATCHES], 3), dtype=np.uint8))
        grain = rng.normal(0, NOISE, (frames, self.side, self.side, 3))
        # Nothing is drawn from here on: all before is alike for every class.
        step = {"left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}.get(
            motion, (np.cos(angle), np.sin(angle))
        )
        out = []
        for t in range(frames):
            moved = pace * (t - frames // 2) * np.array(step)
            for body, middle, turned, at in bodies:
                place = (*(at + moved - middle[:2]), -middle[2])
                self.bullet.resetBasePositionAndOrientation(body, place, turned)
            out.append(self._picture(light, tint, _window(ground, moved, self.side)))
        for body, *_ in bodies:
            self.bullet.removeBody(body)
        return np.clip(np.stack(out) + grain, 0, 255).astype(np.uint8)

    def _placed(self, file: str, rng: Rng) -> tuple[int, NDArray[Any], Any]:
        """A thing of a random size, turned at random: it, its middle, and the quaternion."""
        path = str(self.root / file)
        if file not in self.extents:
            body = self.bullet.loadURDF(path)
            low, high = self._box(body)
            self.extents[file] = float(max(high - low))
            self.bullet.removeBody(body)
        scale = rng.uniform(*SIZE) / self.extents[file]
        body = self.bullet.loadURDF(path, globalScaling=scale)
        if file.startswith("random_urdfs"):  # they are white
            self.bullet.changeVisualShape(body, -1, rgbaColor=(*rng.uniform(0.2, 1.0, 3), 1.0))
        # Turned about its upright axis, then tilted so that the camera sees its side from above.
        upright = self.bullet.getQuaternionFromEuler((0, 0, rng.uniform(0, 2 * np.pi)))
        tilted = self.bullet.getQuaternionFromEuler((rng.uniform(-1.2, -0.6), 0, 0))
        _, turned = self.bullet.multiplyTransforms((0, 0, 0), tilted, (0, 0, 0), upright)
        self.bullet.resetBasePositionAndOrientation(body, (0, 0, 0), turned)
        low, high = self._box(body)
        return body, (low + high) / 2, turned

    def _box(self, body: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lowest and highest corner of a thing with all its parts."""
        parts = range(-1, self.bullet.getNumJoints(body))
        boxes = np.array([self.bullet.getAABB(body, part) for part in parts])
        return boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)

    def _picture(
        self, light: NDArray[Any], tint: NDArray[Any], ground: NDArray[Any]
    ) -> NDArray[Any]:
        """One frame (side, side, 3), 0 to 255."""
        found = self.bullet.getCameraImage(
            self.side, self.side, self.view, self.lens, lightDirection=light.tolist(), shadow=0,
            renderer=self.bullet.ER_TINY_RENDERER,
        )  # fmt: skip
        pixels = np.reshape(found[2], (self.side, self.side, 4))[..., :3] * tint
        nothing = np.reshape(found[4], (self.side, self.side, 1)) < 0
        return np.where(nothing, ground, pixels)


def _aside(rng: Rng) -> NDArray[Any]:
    """A place beside what lies in the middle, in view or about to be."""
    while True:
        at = rng.uniform(-0.8, 0.8, 2)
        if np.abs(at).max() > 0.45:
            return at


def _window(ground: Image.Image, moved: NDArray[Any], side: int) -> NDArray[Any]:
    """What the camera sees of a blurred ground that has moved so far, (side, side, 3)."""
    left, top = PATCHES * (1 - moved[0] / WIDTH), PATCHES * (1 + moved[1] / WIDTH)
    box = (left, top, left + PATCHES, top + PATCHES)
    seen = ground.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(seen, dtype=np.float64)


def motion_set(root: Path, *, train: int, test: int, seed: int, side: int = SIDE) -> Path:
    """``root``/train and /val with a folder of mp4 files per motion; ``root``."""
    with _scene(side) as scene:
        for part, count, shapes in (
            ("train", train, range(TRAIN_SHAPES)),
            ("val", test, range(TRAIN_SHAPES, SHAPES)),
        ):
            for i in range(count):
                name, rng = MOTIONS[i % len(MOTIONS)], _rng(seed, f"motion {part}", i)
                clip = scene.clip(_some(shapes, rng), rng, motion=name, frames=FRAMES)
                _write(root / part / name / f"{i:05d}.mp4", clip)
    return root


def appearance_set(root: Path, *, train: int, test: int, seed: int, side: int = SIDE) -> Path:
    """``root``/train and /val with a folder of mp4 files for each of `THINGS`; ``root``."""
    return _things(root, THINGS, train, test, seed, FRAMES, side)


def image_set(root: Path, *, train: int, test: int, seed: int) -> Path:
    """``root``/train and /val with a folder of png files for each of `OTHER_THINGS`; ``root``."""
    return _things(root, OTHER_THINGS, train, test, seed, 1, SIDE)


def unlabelled_set(root: Path, *, clips: int, seed: int, side: int = SIDE) -> Path:
    """mp4 files of which half show random shapes and half `THINGS`, sliding anywhere; ``root``."""
    things = list(THINGS.values())
    with _scene(side) as scene:
        for i in range(clips):
            rng = _rng(seed, "unlabelled", i)
            files = [str(rng.choice(things))] if i % 2 else _some(range(TRAIN_SHAPES), rng)
            _write(root / f"{i:05d}.mp4", scene.clip(files, rng, frames=FRAMES))
    return root


def _things(
    root: Path,
    things: Mapping[str, str],
    train: int,
    test: int,
    seed: int,
    frames: int,
    side: int,
) -> Path:
    """A set of which the class is the thing."""
    names, suffix = list(things), "png" if frames == 1 else "mp4"
    with _scene(side) as scene:
        for part, count in (("train", train), ("val", test)):
            for i in range(count):
                name, rng = names[i % len(names)], _rng(seed, f"{names[0]} {part}", i)
                clip = scene.clip([things[name]], rng, frames=frames)
                _write(root / part / name / f"{i:05d}.{suffix}", clip)
    return root


def _some(shapes: Sequence[int], rng: Rng) -> list[str]:
    """Files of four of the random shapes."""
    picked = rng.choice(shapes, 4, replace=False).tolist()
    return [f"random_urdfs/{shape:03d}/{shape:03d}.urdf" for shape in picked]


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
def _scene(side: int = SIDE) -> Iterator[Scene]:
    """A scene; what the simulator's C++ code prints while it is open goes nowhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        scene = Scene(side)
        yield scene
        scene.close()
    finally:
        ctypes.CDLL(None).fflush(None)
        for place, was in enumerate(kept, start=1):
            os.dup2(was, place)
            os.close(was)
        os.close(nowhere)

"""Small videos with boxes: bright patches that move over grain, with a csv of where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support import write_video

HEADER = "path,frame,x1,y1,x2,y2,label,track,split"
SIDES = (48, 64)  # height and width of a video
PATCH = 16
COLORS = ((220, 60, 40), (40, 90, 230))


def patches(seed: int, *, frames: int = 10) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """A video of two patches, and (frame, class, box) of them.

    The class is the color; both go to the right, one in the upper half, one in the lower.
    """
    rng = np.random.default_rng(seed)
    clip = np.stack([rng.integers(0, 60, (*SIDES, 3))] * frames).astype(np.uint8)
    boxes = []
    order = rng.permutation(2)
    for place in range(2):
        label = int(order[place])
        x, y = int(rng.integers(2, 20)), int(rng.integers(0, 8)) + 24 * place
        for t in range(frames):
            left = x + 2 * t
            clip[t, y : y + PATCH, left : left + PATCH] = COLORS[label]
            boxes.append((t, label, np.array([left, y, left + PATCH, y + PATCH])))
    return clip, boxes


def write_boxes(root: Path, *, train: int = 6, val: int = 2, every: int = 3) -> Path:
    """Videos below ``root``, and boxes.csv with every so many frames of them, in two parts."""
    lines = [HEADER]
    for number in range(train + val):
        clip, boxes = patches(number)
        name = f"{number}.mp4"
        write_video(root / name, clip)
        part = "train" if number < train else "val"
        for frame, label, box in boxes:
            if frame % every == 0:
                corners = ",".join(map(str, box.tolist()))
                word = ("red", "blue")[label]
                lines.append(f"{name},{frame},{corners},{word},{label},{part}")
    file = root / "boxes.csv"
    file.write_text("\n".join(lines) + "\n")
    return file

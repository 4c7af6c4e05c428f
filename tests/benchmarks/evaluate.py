"""What 10x3 views of a data set cost to read, against ten separate reads of single clips.

    python -m tests.benchmarks.evaluate [--videos 200] [--seconds 4] [--model x3d-s]

The videos are moving bars on grain, each another one, 320 x 240 pixels at 25 frames a second, x264
as it is by default. Both ways make the same 30 views of 8 frames, every 8th, at 112 pixels: from
one decode, and with a reader of its own for each clip. They take turns, video by video, and what
counts is the processor time of this one thread. The model is timed apart, on the views of one.
Printed is a markdown table; a share above two thirds is an error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch

import vidinit
from vidinit.data.index import check
from vidinit.data.pixels.transforms import Interpolation, eval_crops
from vidinit.data.readers import open_row
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling, eval_indices
from vidinit.zoo.spec import ClipSpec
from vidinit.zoo.view_outputs import logits_of, views_of

CLIPS, MOST = 10, 2 / 3
SPEC = ClipSpec(8, 8, 112, crop_pct=0.875)
INTERPOLATION: Interpolation = "bicubic" if SPEC.interpolation == "bicubic" else "bilinear"


def write(path: Path, seed: int, seconds: float) -> None:
    """One video."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 90, (240, 320, 3), dtype=np.uint8)
    start, step = rng.integers(320), rng.integers(-9, 10)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.thread_count = 1
        for number in range(int(seconds * 25)):
            frame = ground.copy()
            frame[:, (start + step * number + np.arange(40)) % 320] = (230, 200, 120)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def separate(row: Row) -> torch.Tensor:
    """The views of a video, each clip read for itself."""
    views = []
    for number in range(CLIPS):
        reader = open_row(row)
        sampling = Sampling(SPEC.frames, SPEC.stride)
        frames = reader.get(eval_indices(reader.num_frames, sampling, CLIPS)[number])
        views.append(
            eval_crops(
                frames,
                size=SPEC.size,
                crop_pct=SPEC.crop_pct,
                interpolation=INTERPOLATION,
                crops=3,
            ).flatten(0, 1)
        )
    return torch.cat(views).unflatten(0, (-1, SPEC.frames))


def main() -> None:
    """Make the videos, read them both ways, time the model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--model", default="x3d-s")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.mp4" for number in range(given.videos)]
        for seed, path in enumerate(paths):
            write(path, seed, given.seconds)
        rows = check(Rows(tuple(Row(str(path)) for path in paths)), max_bad=0.0).good
        dataset = views_of(rows, SPEC, clips=CLIPS, crops=3)
        once = apart = 0.0
        for number, row in enumerate(rows.rows):
            began = time.process_time()
            views = dataset[number]["views"]
            between = time.process_time()
            same = separate(row)
            once, apart = once + between - began, apart + time.process_time() - between
            if not torch.equal(views, same):
                sys.exit(f"the views of {row.path} are not the same")
    model = vidinit.create_model(given.model, num_classes=400, frames=SPEC.frames).eval()
    model.spec = replace(model.spec, frames=SPEC.frames, size=SPEC.size)
    began = time.process_time()
    logits_of(model, views[None], model.spec)
    forward = time.process_time() - began
    print("| | ms a video |\n|---|---:|")
    print(f"| 10x3 views from one decode | {1000 * once / given.videos:.1f} |")
    print(f"| ten separate reads of a clip, 3 crops | {1000 * apart / given.videos:.1f} |")
    print(f"| {given.model} on the 30 views | {1000 * forward:.1f} |")
    print(f"\n{given.videos} videos: {once / apart:.2f} of the time of separate reads")
    if once > MOST * apart:
        sys.exit(f"above {MOST:.2f}")


if __name__ == "__main__":
    main()

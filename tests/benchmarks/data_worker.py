"""Ways to read clips, in a process of its own that takes one round of one of them when told to.

    python tests/benchmarks/data_worker.py '{"who": "ours", "clips": 12}'

Commands come line by line on stdin, ``WAY PATH``; each answer is a line of JSON on stdout with the
seconds of processor time that the round took. Ours sets the allocator as vidinit's commands do.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import av
import decord
import numpy as np
import torch
from torchvision.transforms import v2

from vidinit.data.loading.datasets import ClipDataset, EvalDataset
from vidinit.data.pixels.batch import normalize
from vidinit.data.pixels.transforms import Augment, eval_crops
from vidinit.data.readers import open_row, probe
from vidinit.data.rows import Row, Rows
from vidinit.data.views import CLIP, Sampling, eval_indices, rng, train_indices
from vidinit.processes import keep_freed_memory

SIZE, VIEWS = 224, 10
SAMPLING = Sampling(8, 8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PEOPLE = v2.Compose(
    [
        v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0), interpolation=3, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)


class Ways:
    """Each method reads all clips (or all views) of one video; the same frames in all of them."""

    def __init__(self, path: str, clips: int) -> None:
        self.path, self.clips = path, clips
        self.row = Row(path, 0, probe=probe(path, reader="decord"))
        self.rows = Rows((self.row,), ("one",))
        self.frames = self.row.probe.num_frames if self.row.probe else 0
        self.training = ClipDataset(self.rows, sampling=SAMPLING, augment=Augment(SIZE))
        self.indices = [
            train_indices(self.frames, SAMPLING, rng(0, epoch, 0, stream=CLIP))
            for epoch in range(clips)
        ]

    def items(self) -> None:
        """Our clips, as a worker makes them."""
        for epoch in range(self.clips):
            self.training[epoch, 0]

    def normalized(self) -> None:
        """Our clips, and what is else done on the device."""
        for epoch in range(self.clips):
            normalize(self.training[epoch, 0]["clip"], MEAN, STD)

    def opened(self) -> None:
        """Our reader alone."""
        for indices in self.indices:
            open_row(self.row).get(indices)

    def with_pyav(self) -> None:
        """Our reader alone, PyAV (the default)."""
        self._opened_with("pyav")

    def with_decord(self) -> None:
        """Our reader alone, decord (the default of 0.1)."""
        self._opened_with("decord")

    def _opened_with(self, reader: str) -> None:
        for indices in self.indices:
            open_row(self.row, reader=reader).get(indices)

    def bare(self) -> None:
        """decord alone."""
        for indices in self.indices:
            decord.VideoReader(self.path, num_threads=1).get_batch(indices.tolist()).asnumpy()

    def people_decord(self) -> None:
        """decord and torchvision, as in many training scripts."""
        for indices in self.indices:
            reader = decord.VideoReader(self.path, num_threads=1)
            frames = reader.get_batch(indices.tolist()).asnumpy()
            PEOPLE(torch.from_numpy(frames).permute(0, 3, 1, 2))

    def people_pyav(self) -> None:
        """PyAV and torchvision, as in the documentation of transformers' video models."""
        for indices in self.indices:
            wanted = set(indices.tolist())
            with av.open(self.path) as container:
                container.streams.video[0].thread_count = 1
                frames = []
                for index, frame in enumerate(container.decode(video=0)):
                    if index > indices[-1]:
                        break
                    if index in wanted:
                        frames.append(frame.to_ndarray(format="rgb24"))
            PEOPLE(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))

    def views(self, reader: str = "auto") -> None:
        """All views of the video, from one decode."""
        EvalDataset(
            self.rows,
            sampling=SAMPLING,
            size=SIZE,
            crop_pct=0.875,
            interpolation="bicubic",
            clips=VIEWS,
            crops=3,
            reader=reader,
        )[0]

    def views_pyav(self) -> None:
        """The same with PyAV."""
        self.views("pyav")

    def views_decord(self) -> None:
        """The same with decord."""
        self.views("decord")

    def separate(self) -> None:
        """The same views, each clip read for itself."""
        for number in range(VIEWS):
            reader = open_row(self.row)
            indices = eval_indices(reader.num_frames, SAMPLING, VIEWS)[number]
            eval_crops(reader.get(indices), size=SIZE, crops=3)


def main() -> None:
    """Answer commands until stdin ends."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    if job["who"] == "ours":
        keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made: dict[str, Ways] = {}
    for line in sys.stdin:
        name, _, path = line.strip().partition(" ")
        if path not in made:
            made[path] = Ways(path, job["clips"])
        way: Callable[[], None] = getattr(made[path], name)
        began = time.process_time()
        way()
        print(json.dumps({"seconds": time.process_time() - began}), flush=True)


if __name__ == "__main__":
    main()

"""What teachers said of whole frames, kept on disk for the epochs and runs to come.

With its own crop of a whole frame a teacher says the same of it whatever the student is shown, so
a frame of a video has to be looked at once. Outputs are kept in half precision, and those that
were just computed are rounded likewise: where a number comes from changes no loss.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...console import say
from ...data.index.cache import file_key, stamp_of
from ...data.rows import Rows
from ...data.views import Picks
from ...errors import DataError
from ..shared.array_store import ArrayStore, predicted_bytes, size_text
from .settings import DistillConfig
from .teacher import Teacher


class FrameCache:
    """The outputs of one teacher by row and frame.

    Args:
        store: a key for every frame of every row.
        starts: key of the first frame of each row, and the number of keys at the end.
    """

    def __init__(self, store: ArrayStore, starts: np.ndarray) -> None:
        self.store, self.starts = store, starts
        self._waiting: list[tuple[np.ndarray, Tensor, Any]] = []

    def keys(self, rows: Any, numbers: np.ndarray) -> np.ndarray:
        """Keys of frames, int64 of the shape of ``numbers``.

        Args:
            rows: positions of rows, of a shape that broadcasts to that of ``numbers``.
            numbers: of frames in the videos of these rows.

        Raises:
            DataError: a video has more frames than when it was checked.
        """
        rows = np.asarray(rows)
        keys: np.ndarray = self.starts[rows] + numbers
        if (keys >= self.starts[rows + 1]).any():
            raise DataError("a video has changed since it was checked", "start again")
        return keys

    def has(self, row: int, numbers: np.ndarray) -> np.ndarray:
        """See `data.loading.teacher_frames.Known`."""
        return self.store.written(self.keys(row, numbers))

    def look_up(self, batch: dict[str, Any], view: str) -> Lookup:
        """What is known of the frames of a batch, and where those are that are not."""
        self.settle()
        keys = self.keys(batch["index"].numpy()[:, None], batch["frames"].numpy()).reshape(-1)
        found = self.store.written(keys)
        known = np.zeros((len(keys), *self.store.shape), self.store.dtype)
        known[found] = self.store.read(keys[found])
        missing = np.flatnonzero(~found)
        # Which of the images that came with the batch these are.
        order = np.cumsum(batch[f"{view}/given"].numpy().reshape(-1)) - 1
        return Lookup(
            self,
            torch.from_numpy(known),
            torch.from_numpy(missing),
            torch.from_numpy(order[missing]),
            keys[missing],
        )

    def put(self, keys: np.ndarray, outputs: Tensor) -> None:
        """Outputs that were computed; they reach the store with the next `settle`."""
        copied = None
        if outputs.is_cuda:
            here = torch.empty(outputs.shape, dtype=outputs.dtype, pin_memory=True)
            outputs = here.copy_(outputs, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._waiting.append((keys, outputs, copied))

    def settle(self) -> None:
        """Give the store what was put.

        Raises:
            VidinitError: the disk is full.
        """
        waiting, self._waiting = self._waiting, []
        for keys, outputs, copied in waiting:
            if copied is not None:
                copied.synchronize()
            self.store.write(keys, outputs.numpy())

    def flush(self) -> None:
        """Bring everything to the disk."""
        self.settle()
        self.store.flush()

    def close(self) -> None:
        """Bring everything to the disk, and let go of the files."""
        try:
            self.settle()
        finally:
            self.store.close()


@dataclass
class Lookup:
    """What a cache knows of the frames of one batch.

    Attributes:
        cache: asked, and told of what is computed.
        known: outputs, half precision (N, width); zeros where there are none.
        missing: which of the N these are.
        given: which of the batch's images show them.
        keys: of the missing ones.
    """

    cache: FrameCache
    known: Tensor
    missing: Tensor
    given: Tensor
    keys: np.ndarray

    def complete(self, teacher: Teacher, images: Tensor) -> Tensor:
        """All outputs, float32 (N, width), on the device of the images."""
        outputs = self.known.to(images.device, non_blocking=True).float()
        if len(self.keys):
            fresh = teacher.of_bytes(images[self.given.to(images.device)])
            outputs[self.missing.to(images.device)] = fresh
            self.cache.put(self.keys, fresh)
        return outputs


class Caches:
    """The caches of all teachers of a run; empty without ``distill.cache``.

    They are to be closed when the run ends, however it does.
    """

    def __init__(self) -> None:
        self.by_teacher: dict[str, tuple[Teacher, FrameCache]] = {}

    @classmethod
    def open(
        cls, teachers: list[Teacher], rows: Rows, config: DistillConfig, frames: int
    ) -> Caches:
        """Open or make them, once the disk has room for what will come.

        Args:
            teachers: all with views of their own.
            rows: of the run, probed.
            config: of the run.
            frames: of a clip.

        Raises:
            UsageError: a folder holds what another teacher said, or of other videos.
            VidinitError: the disk has too little room.
        """
        caches = cls()
        if config.distill.cache is None:
            return caches
        lengths = [row.probe.num_frames if row.probe else 0 for row in rows.rows]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        picks = Picks.parse(config.distill.picks).number(frames)
        shown = config.train.epochs * len(rows) * config.data.repeats * picks
        expected = min(int(starts[-1]), shown)
        for teacher in teachers:
            folder = Path(config.distill.cache) / re.sub(r"[^\w.@+-]+", "_", teacher.name)
            size = predicted_bytes(int(starts[-1]), (teacher.width,), "float16", expected)
            say(f"cache of {teacher.name}: up to {size_text(size)} in {folder}")
            store = ArrayStore(
                folder,
                count=int(starts[-1]),
                shape=(teacher.width,),
                dtype="float16",
                fingerprint=_fingerprint(teacher, rows, config),
                expected=expected,
            )
            teacher.rounding = torch.float16
            caches.by_teacher[teacher.name] = teacher, FrameCache(store, starts)
            if len(store):
                say(f"cache of {teacher.name}: {len(store)} frames are there")
        return caches

    def known(self) -> tuple[tuple[str, tuple[FrameCache, ...]], ...]:
        """The caches by the key of a view, for `data.loading.teacher_frames.TeacherFrames`."""
        found: dict[str, tuple[FrameCache, ...]] = {}
        for teacher, cache in self.by_teacher.values():
            assert teacher.view is not None
            found[teacher.view.key] = (*found.get(teacher.view.key, ()), cache)
        return tuple(found.items())

    def looked_up(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Batches with ``known/<teacher>``: a `Lookup` for each teacher with a cache."""
        for batch in batches:
            for name, (teacher, cache) in self.by_teacher.items():
                assert teacher.view is not None
                batch[f"known/{name}"] = cache.look_up(batch, teacher.view.key)
            yield batch

    def flush(self) -> None:
        """Bring everything to the disk.

        No checkpoint may be ahead of the caches: outputs differ in their last bits by which images
        a network is asked about together, so a resumed run must not ask again.
        """
        for _, cache in self.by_teacher.values():
            cache.flush()

    def close(self) -> None:
        """Close all of them, also where one of them cannot write any more."""
        with ExitStack() as stack:
            for _, cache in self.by_teacher.values():
                stack.callback(cache.close)


def _fingerprint(teacher: Teacher, rows: Rows, config: DistillConfig) -> dict[str, Any]:
    """All that outputs depend on."""
    assert teacher.view is not None
    return {
        "weights": f"{_digest(teacher.model):08x}",
        "crop": teacher.view.key.removeprefix("seen/"),
        "pixels": [list(teacher.mean), list(teacher.std)],
        "precision": str(teacher.dtype).removeprefix("torch."),
        "decode_side": config.data.decode_side,
        "videos": digest_of_videos(rows),
    }


def _digest(model: nn.Module) -> int:
    value = 0
    for key, tensor in model.state_dict().items():
        value = zlib.crc32(key.encode(), value)
        value = zlib.crc32(tensor.cpu().reshape(-1).view(torch.uint8).numpy(), value)
    return value


def digest_of_videos(rows: Rows) -> str:
    """Of which files, and which parts of them, there are, and what they were when last written."""
    digest = hashlib.sha256()
    for row in rows.rows:
        stamp: Any = None
        with suppress(OSError):
            stamp = stamp_of(row.path)
        frames = row.probe.num_frames if row.probe else 0
        one = [file_key(row.path), row.start, row.end, frames, stamp]
        digest.update(json.dumps(one).encode())
    return f"{len(rows)} rows, {digest.hexdigest()[:12]}"

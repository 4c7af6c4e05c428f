"""Outputs of teachers for whole frames, kept on disk for the epochs and runs to come.

With its own crop of a whole frame a teacher's outputs are the same whatever the student is shown,
so a frame of a video has to be computed once. Outputs are kept in half precision, and those that
were just computed are rounded likewise: where a number comes from changes no loss.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...console import say
from ...data.loading.teacher_frames import FrameView
from ...data.rows import Rows
from ...data.views import Picks
from ...errors import DataError
from ..shared.array_store import ArrayStore, predicted_bytes, size_text
from ..shared.clips import digest_of_videos
from ..shared.names import distinct
from .objectives.grids import frames_seen
from .settings import LOOKED_AT, DistillConfig
from .task import DistillTask
from .teachers import Teacher


class FrameCache:
    """The outputs of one teacher by row and frame.

    Args:
        store: a key for every frame of every row.
        starts: key of the first frame of each row, and the number of keys at the end.
    """

    def __init__(self, store: ArrayStore, starts: np.ndarray) -> None:
        self.store, self.starts = store, starts
        self._unwritten: list[tuple[np.ndarray, Tensor, Any]] = []

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
        """See `data.loading.teacher_frames.FrameCache`."""
        return self.store.written(self.keys(row, numbers))

    def look_up(self, batch: dict[str, Any], view: str) -> Lookup:
        """The known outputs for the frames of a batch, and the places of those that are not."""
        self.write_pending()
        keys = self.keys(batch["index"].numpy()[:, None], batch["frames"].numpy()).reshape(-1)
        found = self.store.written(keys)
        known = np.zeros((len(keys), *self.store.shape), self.store.dtype)
        known[found] = self.store.read(keys[found])
        missing = np.flatnonzero(~found)
        # Which of the images that came with the batch these are.
        order = np.cumsum(batch[f"{view}/present"].numpy().reshape(-1)) - 1
        return Lookup(
            self,
            torch.from_numpy(known),
            torch.from_numpy(missing),
            torch.from_numpy(order[missing]),
            keys[missing],
        )

    def put(self, keys: np.ndarray, outputs: Tensor) -> None:
        """Outputs that were computed; they reach the store with the next `write_pending`."""
        copied = None
        if outputs.is_cuda:
            here = torch.empty(outputs.shape, dtype=outputs.dtype, pin_memory=True)
            outputs = here.copy_(outputs, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._unwritten.append((keys, outputs, copied))

    def write_pending(self) -> None:
        """Write to the store what was put.

        Raises:
            VidinitError: the disk is full.
        """
        unwritten, self._unwritten = self._unwritten, []
        for keys, outputs, copied in unwritten:
            if copied is not None:
                copied.synchronize()
            self.store.write(keys, outputs.numpy())

    def flush(self) -> None:
        """Write everything to the disk."""
        self.write_pending()
        self.store.flush()

    def close(self) -> None:
        """Write everything to the disk, and close the files."""
        try:
            self.write_pending()
        finally:
            self.store.close()


@dataclass
class Lookup:
    """The cached outputs for the frames of one batch.

    Attributes:
        cache: gets the outputs that are computed.
        known: outputs, half precision (N, ...); zeros where there are none.
        missing: int64 (M,), places of these zeros in the N.
        images: int64 (M,), which of the batch's images show the missing frames.
        keys: int64 (M,), of the missing frames.
    """

    cache: FrameCache
    known: Tensor
    missing: Tensor
    images: Tensor
    keys: np.ndarray

    def complete(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """All outputs, float32 (N, ...), on the device of the images; missing ones are computed."""
        outputs = self.known.to(images.device, non_blocking=True).float()
        if len(self.keys):
            fresh = compute(images[self.images.to(images.device)])
            outputs[self.missing.to(images.device)] = fresh
            self.cache.put(self.keys, fresh)
        return outputs


class Caches:
    """The caches of all teachers of a run; empty without ``distill.cache``.

    They are to be closed when the run ends, however it does.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, tuple[FrameView, FrameCache]] = {}

    @classmethod
    def open(
        cls,
        task: DistillTask,
        teachers: list[Teacher],
        rows: Rows,
        config: DistillConfig,
        frames: int,
    ) -> Caches:
        """Open or make them, once the disk has room for what will come.

        Args:
            task: tells what of the teachers is learned: outputs, maps, or both.
            teachers: all with views of their own.
            rows: of the run, probed.
            config: of the run.
            frames: of a clip.

        Raises:
            UsageError: a folder holds outputs of another teacher, or for other videos.
            VidinitError: the disk has too little room.
        """
        caches, section = cls(), config.distill
        if section.cache is None:
            return caches
        lengths = [row.probe.num_frames if row.probe else 0 for row in rows.rows]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        picks = Picks.parse(section.picks).number(frames)
        if "tokens" in section.targets:
            picks = len(frames_seen(frames, section.teacher_every))
        clips = config.train.epochs * len(rows) * config.data.repeats
        shown = (clips + LOOKED_AT) * picks
        expected = min(int(starts[-1]), shown)
        names = distinct([teacher.name for teacher in teachers], _folder_name, "_")
        for teacher in teachers:
            kept: list[tuple[str, str, FrameView | None, tuple[int, ...]]] = []
            if task.heads is not None:
                kept.append(("", "", teacher.view, (teacher.width,)))
            if teacher.whole is not None:
                kept.append(("/maps", "-maps", teacher.whole, teacher.maps_shape))
            for suffix, ending, view, shape in kept:
                assert view is not None
                folder = Path(section.cache) / f"{names[teacher.name]}{ending}"
                size = predicted_bytes(int(starts[-1]), shape, "float16", expected)
                what = f"maps of {teacher.name}" if suffix else teacher.name
                say(f"cache of {what}: up to {size_text(size)} in {folder}")
                store = ArrayStore(
                    folder,
                    count=int(starts[-1]),
                    shape=shape,
                    dtype="float16",
                    fingerprint=_fingerprint(teacher, view, rows, config),
                    expected=expected,
                )
                teacher.rounding = torch.float16
                caches.by_name[f"{teacher.name}{suffix}"] = view, FrameCache(store, starts)
                if len(store):
                    say(f"cache of {what}: {len(store)} frames are there")
        return caches

    def known(self) -> tuple[tuple[str, tuple[FrameCache, ...]], ...]:
        """The caches by the key of a view, for `data.loading.teacher_frames.TeacherFrames`."""
        found: dict[str, tuple[FrameCache, ...]] = {}
        for view, cache in self.by_name.values():
            found[view.key] = (*found.get(view.key, ()), cache)
        return tuple(found.items())

    def look_up(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Batches with ``known/<teacher>`` and ``known/<teacher>/maps``: a `Lookup` for a cache."""
        for batch in batches:
            for name, (view, cache) in self.by_name.items():
                batch[f"known/{name}"] = cache.look_up(batch, view.key)
            yield batch

    def flush(self) -> None:
        """Write everything to the disk; before each checkpoint, see `run.execute`."""
        for _, cache in self.by_name.values():
            cache.flush()

    def close(self) -> None:
        """Close all of them, also where one of them cannot write any more."""
        with ExitStack() as stack:
            for _, cache in self.by_name.values():
                stack.callback(cache.close)


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", name)


def _fingerprint(
    teacher: Teacher, view: FrameView, rows: Rows, config: DistillConfig
) -> dict[str, Any]:
    """Everything that the outputs depend on."""
    return {
        "weights": f"{_digest(teacher.model):08x}",
        "crop": view.key.removeprefix("seen/"),
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

"""Batches of clips: which sample comes when, on which process, and what stands in for a bad one.

A data set is asked by key, and a key says all there is to know: nothing is drawn from a shared
generator, so workers, processes and interruptions never change a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ..errors import DataError
from .decode import VideoReadError, open_video
from .sources import Row, Rows
from .transforms import Pixels, eval_crops, train_transform
from .views import ORDER, SUBSTITUTE, eval_indices, rng, train_indices

# How many files may fail for one sample before the data, not a file, is at fault.
_MAX_ATTEMPTS = 16
# Items of these keys stay lists in a batch.
_LISTS = ("bad", "error")


@dataclass(frozen=True)
class ClipDataset(Dataset[dict[str, Any]]):
    """Training clips by key (epoch, index): a random dense clip, crop and flip.

    An item holds ``clip`` float32 (3, frames, size, size), ``label`` (-1: none) and ``index`` of
    the row it shows, ``skipped`` (how many rows failed in its place), ``bad`` (their paths) and,
    with ``teacher_frames``, ``picks`` int64 (teacher_frames,): sorted positions in the clip.

    A row that cannot be read is replaced by another, the same one in every run.

    Args:
        rows: what to show; image files are videos of one frame.
        frames: length of a clip.
        stride: distance between its frames in the video.
        size: side of a clip in pixels.
        pixels: what the model wants.
        seed: of everything random.
        scale: smallest and largest share of the area to crop.
        ratio: smallest and largest width over height of the crop.
        flip: whether half of the clips are mirrored.
        center: take the clip at the center of its video instead of a random one.
        teacher_frames: how many frames of a clip a teacher sees; 0 leaves ``picks`` out.
    """

    rows: Rows
    _: KW_ONLY
    frames: int
    stride: int = 1
    size: int
    pixels: Pixels
    seed: int = 0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    center: bool = False
    teacher_frames: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.teacher_frames <= self.frames:
            raise ValueError(f"teacher_frames is {self.teacher_frames}, of {self.frames} frames")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        bad: list[str] = []
        for candidate in self._candidates(epoch, index):
            row = self.rows.rows[candidate]
            try:
                item = self._item(row, rng(self.seed, epoch, index))
            except VideoReadError as error:
                bad.append(str(row.path))
                reason = error.reason
                continue
            return {**item, "index": candidate, "skipped": len(bad), "bad": bad}
        raise DataError(
            f"{len(bad)} files in a row cannot be read, the last is {bad[-1]}: {reason}",
            "repair or remove the unreadable files",
        )

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """The row itself, then the rows that stand in for it."""
        yield index
        order = rng(self.seed, epoch, index, stream=SUBSTITUTE).permutation(len(self.rows))
        others = [int(other) for other in order[:_MAX_ATTEMPTS] if other != index]
        yield from others[: _MAX_ATTEMPTS - 1]

    def _item(self, row: Row, generator: np.random.Generator) -> dict[str, Any]:
        reader = open_video(row.path)
        num_frames = min(reader.num_frames, row.num_frames or reader.num_frames)
        indices = train_indices(
            num_frames, self.frames, self.stride, None if self.center else generator
        )
        clip = train_transform(
            reader.get(indices),
            size=self.size,
            pixels=self.pixels,
            generator=generator,
            scale=self.scale,
            ratio=self.ratio,
            flip=self.flip,
        )
        item: dict[str, Any] = {"clip": clip, "label": -1 if row.label is None else row.label}
        if self.teacher_frames:
            # Drawn last, so that a teacher does not change the clips.
            picks = generator.choice(self.frames, self.teacher_frames, replace=False)
            item["picks"] = torch.from_numpy(np.sort(picks).astype(np.int64))
        return item


@dataclass(frozen=True)
class EvalDataset(Dataset[dict[str, Any]]):
    """All views of a video by index, without randomness and without substitutes.

    An item holds ``views`` float32 (clips * crops, 3, frames, size, size), the crops of the first
    clip first, ``label`` (-1: none), ``index`` and ``error``: None, or why the file cannot be
    read, and then ``views`` is zero and must not be counted.

    Args:
        rows: what to show; image files are videos of one frame.
        frames: length of a clip.
        stride: distance between its frames in the video.
        size: side of a view in pixels.
        pixels: what the model wants.
        clips: clips spread over the video.
        crops: 1 (center) or 3 (along the long side) of each clip.
    """

    rows: Rows
    _: KW_ONLY
    frames: int
    stride: int = 1
    size: int
    pixels: Pixels
    clips: int = 1
    crops: Literal[1, 3] = 1

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows.rows[index]
        error = None
        try:
            views = self._views(row)
        except VideoReadError as failure:
            error = failure.reason
            views = torch.zeros(self.clips * self.crops, 3, self.frames, self.size, self.size)
        label = -1 if row.label is None else row.label
        return {"views": views, "label": label, "index": index, "error": error}

    def _views(self, row: Row) -> Tensor:
        reader = open_video(row.path)
        num_frames = min(reader.num_frames, row.num_frames or reader.num_frames)
        indices = eval_indices(num_frames, self.frames, self.stride, self.clips)
        # Clips overlap: each frame is decoded and resized once.
        wanted, position = np.unique(indices, return_inverse=True)
        crops = eval_crops(reader.get(wanted), size=self.size, pixels=self.pixels, crops=self.crops)
        # (crops, 3, frames of the union, S, S) -> (crops, 3, clips, T, S, S) -> (views, 3, T, S, S)
        views = crops[:, :, torch.from_numpy(position.reshape(indices.shape))]
        return views.permute(2, 0, 1, 3, 4, 5).flatten(0, 1)


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys (epoch, index) of one process for one epoch.

    The order is a function of (seed, epoch). It is cut into global batches of
    ``batch_size * world`` and each process takes its part of every one, so processes see disjoint
    rows, none twice, and the same number of them.

    With ``drop_last`` the rest after the last whole global batch waits for another epoch's order;
    without, it makes a smaller batch (at most ``world - 1`` rows are left out). A data set smaller
    than one global batch makes one smaller batch in either case.

    Args:
        length: rows of the data set.
        batch_size: rows of a batch on one process.
        seed: of the order.
        epoch: of the order.
        rank: which process this is.
        world: how many processes there are.
        start: batches of the epoch that are done already.
        drop_last: whether all batches have the same size.

    Raises:
        DataError: there are fewer rows than processes.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        drop_last: bool = True,
    ) -> None:
        if length < world:
            raise DataError(f"{length} clips are too few for {world} processes")
        self.batch_size = min(batch_size, length // world)
        self.epoch = epoch
        whole, rest = divmod(length, self.batch_size * world)
        sizes = [self.batch_size] * whole
        if not drop_last and rest >= world:
            sizes.append(rest // world)
        order = rng(seed, epoch, 0, stream=ORDER).permutation(length).tolist()
        self.indices: list[int] = []
        for step in range(start, len(sizes)):
            first = step * self.batch_size * world + rank * sizes[step]
            self.indices += order[first : first + sizes[step]]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, index) for index in self.indices)


def train_loader(
    dataset: ClipDataset,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    drop_last: bool = True,
) -> DataLoader[dict[str, Any]]:
    """Batches of one epoch of one process, from batch ``start`` on; see ``EpochSampler``.

    Batches hold the items' tensors stacked, ``label``, ``index`` and ``skipped`` as int64 (B,),
    and ``bad`` as one list of paths.
    """
    sampler = EpochSampler(
        len(dataset),
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        rank=rank,
        world=world,
        start=start,
        drop_last=drop_last,
    )
    return _loader(dataset, sampler, sampler.batch_size, workers)


def eval_loader(
    dataset: EvalDataset, *, batch_size: int, workers: int, rank: int = 0, world: int = 1
) -> DataLoader[dict[str, Any]]:
    """Every ``world``-th video from ``rank`` on: over all processes, each video exactly once.

    Batches hold ``views`` stacked, ``label`` and ``index`` as int64 (B,), ``error`` as a list.
    """
    return _loader(dataset, range(rank, len(dataset), world), batch_size, workers)


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack what can be stacked; ``error`` becomes a list, ``bad`` one list of all paths."""
    batch: dict[str, Any] = default_collate(
        [{key: value for key, value in item.items() if key not in _LISTS} for item in items]
    )
    if "bad" in items[0]:
        batch["bad"] = [path for item in items for path in item["bad"]]
    if "error" in items[0]:
        batch["error"] = [item["error"] for item in items]
    return batch


def _loader(dataset: Dataset[Any], sampler: Any, batch_size: int, workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        # Its own generator: iterating must not move torch's, on which a resumed run depends.
        generator=torch.Generator().manual_seed(0),
    )

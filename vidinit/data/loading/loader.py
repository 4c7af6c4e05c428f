"""Batches of a data set, made in processes that may hang or die without ending the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from ...errors import DataError
from ..views import ORDER, rng
from . import shared_memory
from .datasets import ClipDataset, EvalDataset
from .quarantine import Quarantine, ReadGuard
from .workers import BatchPlan, RowDataset, Workers


class Loader:
    """Batches in their order, the same ones each time it is iterated over.

    With workers a row that hangs, or kills the process that reads it, costs ``deadline`` seconds at
    most and is put into quarantine: from then on it counts as unreadable. Without, everything is
    read in this process, where nothing can be done about such a row. Tensors are in pinned memory
    where there is CUDA.

    Args:
        dataset: what is read.
        keys: of the items, in order.
        batch_size: keys of a batch.
        workers: processes; 0 reads in this one, as do systems that cannot pass memory between
            processes (Windows).
        deadline: seconds that a worker may take over a row.
        quarantine: rows that are not to be read, and where rows are put.
        context: how processes are started: ``fork``, ``spawn`` or ``forkserver``; None for the
            platform's own way.
    """

    def __init__(
        self,
        dataset: RowDataset,
        keys: Sequence[Any],
        batch_size: int,
        *,
        workers: int,
        deadline: float = 60.0,
        quarantine: Quarantine | None = None,
        context: str | None = None,
    ) -> None:
        self.plan = BatchPlan(dataset, keys, batch_size)
        self.workers, self.deadline, self.context = workers, deadline, context
        self.quarantine = Quarantine() if quarantine is None else quarantine

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = (
            self._made_here() if self.workers == 0 or not shared_memory.SUPPORTED else self._made()
        )
        if not torch.cuda.is_available():
            return batches
        return map(_pinned, batches)

    def _made_here(self) -> Iterator[dict[str, Any]]:
        guard = ReadGuard(self.quarantine.reasons)
        return (self.plan.make(number, guard) for number in range(len(self.plan)))

    def _made(self) -> Iterator[dict[str, Any]]:
        return Workers(
            self.plan,
            count=self.workers,
            deadline=self.deadline,
            quarantine=self.quarantine,
            context=self.context,
        ).batches()


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
    deadline: float = 60.0,
    quarantine: Quarantine | None = None,
    context: str | None = None,
) -> Loader:
    """Batches of one epoch of one process, from batch ``start`` on.

    Batches hold ``clip`` uint8 (B, T, size, size, 3), ``label``, ``index`` and ``skipped`` int64
    (B,), ``bad`` as one list of paths, and ``picks`` where there is a teacher; see `ClipDataset`.

    Args:
        dataset: the clips.
        batch_size: clips of a batch, a multiple of ``dataset.repeats``.
        workers, deadline, quarantine, context: see `Loader`.
        seed, epoch, rank, world, start, drop_last: see `EpochSampler`.
    """
    if batch_size % dataset.repeats:
        raise ValueError(f"{batch_size} clips are no multiple of {dataset.repeats} of each video")
    sampler = EpochSampler(
        len(dataset),
        batch_size=batch_size // dataset.repeats,
        seed=seed,
        epoch=epoch,
        rank=rank,
        world=world,
        start=start,
        drop_last=drop_last,
    )
    return Loader(
        dataset,
        sampler,
        sampler.batch_size,
        workers=workers,
        deadline=deadline,
        quarantine=quarantine,
        context=context,
    )


def eval_loader(
    dataset: EvalDataset,
    *,
    batch_size: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    deadline: float = 60.0,
    quarantine: Quarantine | None = None,
    context: str | None = None,
) -> Loader:
    """Every ``world``-th video from ``rank`` on: over all processes, each video exactly once.

    Batches hold ``views`` uint8 (B, V, T, size, size, 3), ``label``, ``index`` int64 (B,) and
    ``error`` as a list; see `EvalDataset`.

    Args:
        dataset: the videos.
        batch_size: videos of a batch; 1 where all frames of a video are sampled.
        workers, deadline, quarantine, context: see `Loader`.
        rank, world: which process this is, of how many.
    """
    return Loader(
        dataset,
        range(rank, len(dataset), world),
        batch_size,
        workers=workers,
        deadline=deadline,
        quarantine=quarantine,
        context=context,
    )


def _pinned(batch: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.pin_memory() if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


Key = tuple[int, int]


class EpochSampler(Sequence[Key]):
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

    def __iter__(self) -> Iterator[Key]:
        return ((self.epoch, index) for index in self.indices)

    @overload
    def __getitem__(self, place: int) -> Key: ...
    @overload
    def __getitem__(self, place: slice) -> list[Key]: ...
    def __getitem__(self, place: int | slice) -> Key | list[Key]:
        if isinstance(place, slice):
            return [(self.epoch, index) for index in self.indices[place]]
        return self.epoch, self.indices[place]

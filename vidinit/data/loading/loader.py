"""Batches of a data set, made in processes that may hang or die without ending the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..views import BALANCE, ORDER, rng
from . import shared_memory
from .datasets import ClipDataset, EvalDataset
from .keyframes import KeyframeDataset
from .quarantine import Quarantine, ReadGuard
from .workers import BatchPlan, RowDataset, Workers

TrainingClips = ClipDataset | KeyframeDataset
"""Clips that are trained on: of whole videos, or around key frames with boxes."""


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
    dataset: TrainingClips,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    drop_last: bool = True,
    groups: Sequence[Sequence[int]] | None = None,
    multiple: int = 1,
    deadline: float = 60.0,
    quarantine: Quarantine | None = None,
    context: str | None = None,
) -> Loader:
    """Batches of one epoch of one process, from batch ``start`` on.

    Batches hold ``clip`` uint8 (B, T, size, size, 3), ``label``, ``index`` and ``skipped`` int64
    (B,), ``bad`` as one list of paths, and ``picks`` where there is a teacher; see `ClipDataset`
    and `KeyframeDataset`.

    Args:
        dataset: the clips.
        batch_size: clips of a batch, a multiple of ``dataset.repeats``.
        workers, deadline, quarantine, context: see `Loader`.
        seed, epoch, rank, world, start, drop_last, groups, multiple: see `EpochSampler`.
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
        groups=groups,
        multiple=multiple,
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

    With ``groups`` an epoch has as many keys, and the rows are drawn as `balanced_keys` says.

    Args:
        length: rows of the data set.
        batch_size: rows of a batch on one process.
        seed: of the order.
        epoch: of the order.
        rank: which process this is.
        world: how many processes there are.
        start: batches of the epoch that are done already.
        drop_last: whether all batches have the same size.
        groups: rows of each class, which are drawn equally often; None: each row is drawn once.
        multiple: of balanced groups: what the batches of an epoch are a multiple of, where there
            are so many. Rows of batches that nobody takes would count as drawn.

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
        groups: Sequence[Sequence[int]] | None = None,
        multiple: int = 1,
    ) -> None:
        if length < world:
            raise DataError(f"{length} clips are too few for {world} processes")
        self.batch_size = min(batch_size, length // world)
        whole, rest = divmod(length, self.batch_size * world)
        sizes = [self.batch_size] * whole
        if not drop_last and rest >= world:
            sizes.append(rest // world)
        order = rng(seed, epoch, 0, stream=ORDER)
        if groups is None:
            keys = [(epoch, index) for index in order.permutation(length).tolist()]
        else:
            sizes = sizes[: len(sizes) // multiple * multiple or None]
            drawn = balanced_keys(groups, sum(sizes) * world, seed=seed, epoch=epoch)
            keys = [drawn[place] for place in order.permutation(len(drawn)).tolist()]
        self.keys: list[Key] = []
        for step in range(start, len(sizes)):
            first = step * self.batch_size * world + rank * sizes[step]
            self.keys += keys[first : first + sizes[step]]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)

    @overload
    def __getitem__(self, place: int) -> Key: ...
    @overload
    def __getitem__(self, place: slice) -> list[Key]: ...
    def __getitem__(self, place: int | slice) -> Key | list[Key]:
        return self.keys[place]


def balanced_keys(
    groups: Sequence[Sequence[int]], count: int, *, seed: int, epoch: int
) -> list[Key]:
    """Rows of which each group has as many as any other, over all epochs to within one.

    The draws of a run are numbered: epoch e has those from ``e * count`` on, and they go round the
    groups in an order of the seed. Each group gives its rows by passes over all of them, each pass
    in an order of its own, so no row comes a second time before all of its group have come once;
    passes do not end with epochs.

    Args:
        groups: rows of each class; a row may be in several.
        count: draws of an epoch, the same in all of them.
        seed, epoch: all that the draws depend on.

    Returns:
        Keys (number, row), group by group. The number tells the draws of a row apart, in all
        epochs: it is that of the pass over the group, times the groups, plus that of the group.
    """
    filled = [np.asarray(rows, dtype=np.int64) for rows in groups if len(rows)]
    size = len(filled)
    keys: list[Key] = []
    # Which groups have one more draw than others after some, where these are no multiple.
    turns = rng(seed, 0, 0, stream=BALANCE).permutation(size).tolist()
    for turn, group in enumerate(turns):
        # Draws number turn, turn + size, ... are this group's; so many of them came before.
        first, last = ((n * count - turn + size - 1) // size for n in (epoch, epoch + 1))
        passes, rows = _passes(filled[group], first, last, seed=seed, group=group)
        numbers = passes * size + group
        keys += zip(numbers.tolist(), rows.tolist(), strict=True)
    return keys


_AT_ONCE = 1024  # rows that one generator puts in order: a rare class has many passes


def _passes(
    rows: np.ndarray, first: int, last: int, *, seed: int, group: int
) -> tuple[np.ndarray, np.ndarray]:
    """The draws ``first`` to ``last`` of endless passes over the rows of a group.

    Returns:
        The pass of each draw and its row, int64 (last - first,).
    """
    together = max(1, _AT_ONCE // len(rows))  # passes that are one block
    block = together * len(rows)
    drawn = [np.empty(0, dtype=np.int64)]
    for number in range(first // block, -(-last // block)):
        # Index 0 of this stream has the turns of the groups.
        generator = rng(seed, number, group + 1, stream=BALANCE)
        order = generator.permuted(np.tile(rows, (together, 1)), axis=1).ravel()
        drawn.append(order[max(first - number * block, 0) : last - number * block])
    return np.arange(first, last) // len(rows), np.concatenate(drawn)

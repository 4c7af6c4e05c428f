"""Which sample comes when, and in which process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from ...errors import DataError
from ..views import ORDER, rng

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

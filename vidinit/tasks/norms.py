"""What batch norms do where images and videos go through one network.

Both have other statistics, so running averages over both are wrong for both (mean 1 and variance 5
where the video batches have 0 and 1 and the image batches 2 and 9).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from ..zoo.freezing import batch_norms

NormPolicy = Literal["video_only_stats", "separate", "frozen"]


@contextlib.contextmanager
def unmoved_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms normalize with the batch's statistics but do not move their running ones."""
    kept = [(norm, norm.momentum) for _, norm in batch_norms(model)]
    for norm, _ in kept:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum


class SourceStatistics(nn.Module):
    """Running statistics of batch norms for each of several sources; gains and biases are shared.

    Args:
        model: its own statistics are the first source's.
        sources: names of the others.
    """

    def __init__(self, model: nn.Module, sources: Sequence[str]) -> None:
        super().__init__()
        self._norms = batch_norms(model)  # a list of tuples: they are the model's, not this one's
        self.names = list(sources)
        for place in range(len(self.names)):
            for number, (_, norm) in enumerate(self._norms):
                for key, buffer in norm.named_buffers(recurse=False):
                    self.register_buffer(_key(place, number, key), buffer.detach().clone())

    @contextlib.contextmanager
    def of(self, source: str) -> Iterator[None]:
        """Inside, the model's batch norms have, and move, the statistics of this source."""
        if source not in self.names:
            yield
            return
        place = self.names.index(source)
        found = [(norm, dict(norm._buffers)) for _, norm in self._norms]
        for number, (norm, own) in enumerate(found):
            for key in own:
                norm._buffers[key] = self._buffers[_key(place, number, key)]
        try:
            yield
        finally:
            for norm, own in found:
                norm._buffers.update(own)

    def saved(self) -> dict[str, dict[str, Tensor]]:
        """By source, the tensors that its model has in place of the first source's, by name."""
        return {
            source: {
                f"{name}.{key}": self._buffers[_key(place, number, key)]  # type: ignore[misc]
                for number, (name, norm) in enumerate(self._norms)
                for key in norm._buffers
            }
            for place, source in enumerate(self.names)
        }


def _key(place: int, number: int, key: str) -> str:
    return f"source{place}_norm{number}_{key}"


def hold_norms(model: nn.Module) -> None:
    """All batch norms into eval mode: they keep, and normalize with, the statistics they have."""
    for _, norm in batch_norms(model):
        norm.eval()

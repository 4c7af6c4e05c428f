"""What a model makes of clips whose frames are in another order.

A model that scores reversed clips as well as others does not see in which direction time goes
(the test of S3D, https://arxiv.org/abs/1712.04851); one that scores shuffled clips as
well sees no order at all; and what is left with one frame was never motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..data.views import SHUFFLE, rng
from ..errors import UsageError, suggest

if TYPE_CHECKING:
    from torch import Tensor

TESTS = ("reverse", "shuffle", "freeze")
"""``reverse``: the last frame first. ``shuffle``: in a random order, another for each view.
``freeze``: the frame in the middle, repeated."""


def parse_tests(given: str | Sequence[str]) -> list[str]:
    """Names of tests, from a list or apart by commas, each once.

    Raises:
        UsageError: one that is not in `TESTS`.
    """
    names = given.split(",") if isinstance(given, str) else given
    for name in names:
        if name not in TESTS:
            hint = suggest(name, TESTS) or f"take one of {', '.join(TESTS)}"
            raise UsageError(f"there is no temporal test '{name}'", hint)
    return list(dict.fromkeys(names))


def changed(views: Tensor, test: str, indices: Sequence[int], seed: int, first: int = 0) -> Tensor:
    """The same views with their frames in the order of a test.

    Args:
        views: (B, V, T, ...).
        test: one of `TESTS`.
        indices: the rows that the B videos are; with the seed they decide on the order of
            ``shuffle``, whatever the batch.
        seed: at least 0.
        first: how many views of the videos come before these.
    """
    frames = views.shape[2]
    if test == "reverse":
        return views.flip(2)
    if test == "freeze":
        middle = views[:, :, frames // 2 : frames // 2 + 1]
        return middle.expand_as(views)
    import torch

    orders = np.stack([_orders(seed, index, first, views.shape[1], frames) for index in indices])
    place = torch.from_numpy(orders).to(views.device)
    return views.gather(2, place.reshape(*place.shape, *[1] * (views.ndim - 3)).expand_as(views))


def _orders(seed: int, index: int, first: int, views: int, frames: int) -> np.ndarray:
    """A random order of the frames of some views of a row, int64 (views, frames)."""
    generator = rng(seed, 0, index, stream=SHUFFLE)
    return np.argsort(generator.random((first + views, frames))[first:], axis=1)

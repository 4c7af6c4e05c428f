"""How often each source of a co-training is drawn, and when: pure functions of the seed.

In an epoch each source gets an exact number of steps, in an order that depends on (seed, epoch) and
is the same on all processes, as in PolyViT's weighted task sampling (Likhosherstov et al., 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.views import SCHEDULE, rng
from ..errors import UsageError


def mixture(
    shares: Sequence[float | None], alone: Sequence[int], *, alpha: float = 1.0
) -> list[float]:
    """Shares of the steps; they sum to 1.

    Args:
        shares: those that were given, 0 to 1 each; None for the others, which divide what is left
            in proportion to ``alone ** alpha``.
        alone: steps that a pass over each source takes.
        alpha: 1: in proportion to size, 0: equally often; between them small sources are favored.

    Raises:
        UsageError: when the given shares leave nothing for a source without one, or add up to more
            than all.
    """
    given = sum(share for share in shares if share is not None)
    weights = [
        float(steps) ** alpha for share, steps in zip(shares, alone, strict=True) if share is None
    ]
    if not weights:
        return [float(share) / given for share in shares if share is not None]
    if given >= 1:
        raise UsageError(
            f"the given shares add up to {given:g} and leave nothing for the other sources",
            "let them add up to less than 1, or give every source a share",
        )
    rest = iter(weights)
    return [
        float(share) if share is not None else (1 - given) * next(rest) / sum(weights)
        for share in shares
    ]


def step_counts(shares: Sequence[float], steps: int) -> list[int]:
    """Whole numbers of steps in proportion to the shares, summing to ``steps``.

    Largest remainders are rounded up, so each count is within one of its exact share.
    """
    total = float(sum(shares))
    exact = [share / total * steps for share in shares]
    counts = [int(value) for value in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_rest[: steps - sum(counts)]:
        counts[i] += 1
    return counts


def schedule(counts: Sequence[int], *, seed: int, epoch: int) -> np.ndarray:
    """Which source each step of an epoch takes: int64 (steps,), each source exactly its count."""
    order = np.repeat(np.arange(len(counts)), counts)
    return rng(seed, epoch, 0, stream=SCHEDULE).permutation(order)

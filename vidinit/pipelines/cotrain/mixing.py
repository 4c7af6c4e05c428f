"""The mixture of a co-training: how often each source is drawn, and in which steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...console import say
from ...data.loading.loader import train_loader
from ...data.views import SCHEDULE, rng
from ...engine.job import Batch
from ...errors import UsageError
from ..shared.clips import workers_of
from ..shared.skewed_classes import class_groups
from .settings import CotrainConfig
from .source import Source
from .task import PARTS


class Mixture:
    """The steps of each epoch and the sources they draw from, a function of the seed alone.

    The first source is the primary one: an epoch has as many steps as it needs for one pass.

    Args:
        sources: the primary one first.
        config: of the run.
        rank, world: number of this process, and of all; they draw the same sources.

    Raises:
        UsageError: shares that leave nothing for a source, or a source without a step.
    """

    def __init__(
        self, sources: list[Source], config: CotrainConfig, *, rank: int = 0, world: int = 1
    ) -> None:
        self.sources, self.config = sources, config
        self.rank, self.world = rank, world
        self.use_all = config.cotrain.schedule == "use_all"
        self.counts = self._counts()
        for source, count in zip(sources, self.counts, strict=True):
            if count == 0:
                raise UsageError(
                    f"source '{source.name}' gets no step in an epoch of {sum(self.counts)}",
                    "raise its share or its data",
                )

    def _counts(self) -> list[int]:
        """Steps of each source in an epoch."""
        primary = self.sources[0]
        if self.use_all:
            return [primary.alone] * len(self.sources)
        counts = [source.config.steps or 0 for source in self.sources]
        free = [k for k, source in enumerate(self.sources) if source.config.steps is None]
        if free:
            shares = mixture(
                [self.sources[k].config.share for k in free],
                [self.sources[k].alone for k in free],
                alpha=self.config.cotrain.alpha,
            )
            # By the primary source, or the first one that has no fixed number of steps.
            total = max(1, round(self.sources[free[0]].alone / shares[0]))
            for k, count in zip(free, step_counts(shares, total), strict=True):
                counts[k] = count
        return counts

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer in an epoch."""
        return self.counts[0] if self.use_all else sum(self.counts)

    @property
    def batches_per_step(self) -> int:
        """The most batches that a step takes."""
        return max(source.accumulate for source in self.sources)

    def plan(self) -> dict[str, dict[str, Any]]:
        """The parts of an epoch by source, for messages and for result.json."""
        rows = {}
        for source, count in zip(self.sources, self.counts, strict=True):
            per_step = source.accumulate * source.batch_size * self.world
            rows[source.name] = {
                "steps_per_epoch": count,
                "clips_per_step": per_step,
                "frames": source.spec.frames,
                "passes_per_epoch": count
                * per_step
                / (len(source.dataset.rows) * source.data.repeats),
            }
        return rows

    def kinds(self) -> dict[str, list[Batch]]:
        """The batches of a step of each kind that there is, by source."""
        if self.use_all:
            return {"all": next(self.steps(0, 0))}
        streams = self._streams([0] * len(self.sources))
        return {
            source.name: [next(stream) for _ in range(source.accumulate)]
            for source, stream in zip(self.sources, streams, strict=True)
        }

    def timed(self, seconds: Mapping[str, float]) -> dict[str, Any]:
        """The plan with the time that it takes, from the seconds of a step of each of `kinds`."""
        plan = self.plan()
        for name, row in plan.items():
            row["seconds_per_step"] = seconds["all" if self.use_all else name]
        steps = (
            {"all": self.steps_per_epoch}
            if self.use_all
            else dict(zip(plan, self.counts, strict=True))
        )
        return {"sources": plan, "epoch_seconds": sum(seconds[k] * n for k, n in steps.items())}

    def say_plan(self) -> None:
        """Print the plan."""
        for name, row in self.plan().items():
            say(
                f"{name}: {row['steps_per_epoch']} steps an epoch of "
                f"{row['clips_per_step']} x {row['frames']} frames, "
                f"{row['passes_per_epoch']:.2f} passes over its data"
            )
        if self.use_all:
            say(f"an epoch is {self.steps_per_epoch} steps, each of them on all sources")

    def steps(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        """The batches of each step of an epoch, from one of its steps on."""
        begun = [epoch * count for count in self.counts]
        if self.use_all:
            streams = self._streams([done + start for done in begun])
            for _ in range(start, self.steps_per_epoch):
                yield [
                    join_batches({s.name: next(streams[k]) for k, s in enumerate(self.sources)})
                    for _ in range(self.batches_per_step)
                ]
            return
        order = schedule(self.counts, seed=self.config.train.seed, epoch=epoch)
        before = np.bincount(order[:start], minlength=len(begun)).tolist()
        streams = self._streams([done + n for done, n in zip(begun, before, strict=True)])
        for k in order[start:]:
            yield [next(streams[k]) for _ in range(self.sources[k].accumulate)]

    def _streams(self, steps_done: Sequence[int]) -> list[Iterator[Batch]]:
        """A stream of each source, after so many of its steps."""
        return [self._stream(s, done) for s, done in zip(self.sources, steps_done, strict=True)]

    def _stream(self, source: Source, steps_done: int) -> Iterator[Batch]:
        """Endless batches of one source; after so many steps, counted over all its own epochs.

        A source has epochs of its own, which go by its passes and not by the primary source's. So
        where a step begins in it follows from the number of its steps alone, and nothing about
        sources has to be saved to resume.
        """
        epoch, start = divmod(steps_done * source.accumulate, source.epoch)
        workers = workers_of(source.data, self.world)
        balanced = source.data.balance == "classes"
        groups = class_groups(source.dataset.rows) if balanced else None
        while True:
            for batch in train_loader(
                source.dataset,
                batch_size=source.batch_size,
                workers=max(min(1, workers), workers // len(self.sources)),
                seed=self.config.train.seed,
                epoch=epoch,
                rank=self.rank,
                world=self.world,
                start=start,
                groups=groups,
                deadline=source.data.deadline,
                quarantine=source.quarantine,
            ):
                yield {**batch, "source": source.name}
            epoch, start = epoch + 1, 0


def join_batches(parts: dict[str, Batch]) -> Batch:
    """A batch of every source as one; see `pipelines.cotrain.task.CotrainTask.forward`."""
    return {
        PARTS: parts,
        "skipped": torch.cat([part["skipped"] for part in parts.values()]),
        "bad": [path for part in parts.values() for path in part["bad"]],
    }


def parts_of(batch: Batch) -> list[Batch]:
    """The batches of single sources that a batch of `Mixture.steps` is made of."""
    return list(batch[PARTS].values()) if PARTS in batch else [batch]


def mixture(
    shares: Sequence[float | None], alone: Sequence[int], *, alpha: float = 1.0
) -> list[float]:
    """Shares of the steps; they sum to 1.

    Args:
        shares: 0 to 1 each; None for sources without one, which divide what is left in proportion
            to ``alone ** alpha``. Where every source has one they need not add up to 1: 2 and 1 are
            two thirds and one third.
        alone: steps that a pass over each source takes.
        alpha: 1: in proportion to size, 0: equally often; between them small sources are favored.

    Raises:
        UsageError: when the shares leave nothing for a source without one.
    """
    whole = sum(share for share in shares if share is not None)
    weights = [
        float(steps) ** alpha for share, steps in zip(shares, alone, strict=True) if share is None
    ]
    if not weights:
        return [float(share) / whole for share in shares if share is not None]
    if whole >= 1:
        raise UsageError(
            f"the given shares add up to {whole:g} and leave nothing for the other sources",
            "let them add up to less than 1, or give every source a share",
        )
    rest = iter(weights)
    return [
        float(share) if share is not None else (1 - whole) * next(rest) / sum(weights)
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
    """The number of the source of each step of an epoch: int64 (steps,), each exactly its count."""
    order = np.repeat(np.arange(len(counts)), counts)
    return rng(seed, epoch, 0, stream=SCHEDULE).permutation(order)

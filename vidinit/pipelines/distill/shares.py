"""Distillations with several shares of the clips kept: Fig. 6 of the paper, one run a point."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UsageError
from ..expand import trained_summary
from ..run_set import RunSet, changed
from .settings import DistillConfig, parse_teacher

SHARE = "share of the clips kept"
"""Heading of such a set, and the axis of the line that its fine-tuning draws."""


def shares(config: DistillConfig, keep: Sequence[float]) -> RunSet:
    """A run for each share.

    A distillation has no accuracy, so its set has a table alone; fine-tuned (MODEL is the folder of
    the set) it has the line.

    Raises:
        UsageError: a share that comes twice, or a teacher with a share of its own.
    """
    if len(set(keep)) < len(keep):
        raise UsageError(f"--keep {','.join(map(str, keep))}: a share comes twice", "name it once")
    for teacher in map(parse_teacher, config.distill.teachers):
        if teacher.keep is not None or teacher.max_entropy is not None:
            raise UsageError(
                f"teacher '{teacher.name}' has a share of its own, which several --keep leave as "
                "it is",
                "leave it out there, or pass one --keep",
            )
    names = [f"keep-{share:g}" for share in keep]
    configs = {
        name: changed(config, {"distill.keep": share})
        for name, share in zip(names, keep, strict=True)
    }
    return RunSet(SHARE, configs, list(keep), lambda result: {}, trained_summary)

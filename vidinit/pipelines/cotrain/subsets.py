"""Co-trainings on the subsets of some sources: what each of them gains from the others."""

from __future__ import annotations

from itertools import combinations

from ...errors import UsageError
from ..expand import trained_figures, trained_summary
from ..run_set import RunSet, changed
from .settings import CotrainConfig
from .source import check_sources

SOURCES = "sources"
"""Heading of such a set."""


def subsets(config: CotrainConfig) -> RunSet:
    """A run for each subset with a video source in it, the small ones first.

    The order of the sources stays, so the first of a subset is its primary one, which makes its
    epochs. What a source says of itself, its steps and share, too, holds in each subset.

    Raises:
        UsageError: fewer than two sources, or two of one name.
    """
    sources = config.sources
    if len(sources) < 2:
        raise UsageError("--ablate leaves sources out, and there are not two", "add --source")
    check_sources(config)
    chosen = [
        subset
        for size in range(1, len(sources) + 1)
        for subset in combinations(sources, size)
        if any(source.kind == "video" for source in subset)
    ]
    values = [[source.name for source in subset] for subset in chosen]
    configs = {
        "+".join(names): changed(config, {"cotrain.ablate": False, "sources": list(subset)})
        for names, subset in zip(values, chosen, strict=True)
    }
    return RunSet(SOURCES, configs, values, trained_figures, trained_summary)

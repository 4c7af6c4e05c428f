"""Clips rendered by several processes, each as a file that appears whole: what is there is kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..console import ProgressBar
from ..data.index.pool import run_in_pool
from ..data.readers import VideoReadError
from ..errors import DataError, VidinitError
from ..files import written
from .footage import Footage, clip_rng, load_footage, render_clip, write_clip

_DEADLINE = 300.0  # seconds of a clip, the first of a process with its footage and libraries
_FEW = 64  # clips that are not worth the start of processes


def render_all(items: Sequence[dict[str, Any]], footage: Sequence[Path]) -> int:
    """Render the clips that are not there yet.

    Args:
        items: of a clip each ``path``, its class ``label``, and ``seed`` and ``index`` of its
            random stream. A file that is there is complete, and stays.
        footage: videos to take the pictures from.

    Returns:
        How many clips were made.

    Raises:
        DataError: the footage cannot be used.
    """
    todo = [item for item in items if not Path(item["path"]).exists()]
    for folder in {Path(item["path"]).parent for item in todo}:
        folder.mkdir(parents=True, exist_ok=True)
    names = [str(path) for path in footage]
    with ProgressBar("rendering", "clips") as bar:
        for done, _ in enumerate(_rendered([{**item, "footage": names} for item in todo]), 1):
            bar.update(len(items) - len(todo) + done, len(items))
    return len(todo)


def _rendered(items: list[dict[str, Any]]) -> Iterable[None]:
    """Nothing for each clip, as soon as it is there."""
    if len(items) <= _FEW:
        for item in items:
            _render(item)
            yield
        return
    outcomes = run_in_pool(f"{__name__}:render_item", items, workers=_cores(), deadline=_DEADLINE)
    for outcome in outcomes:
        if outcome.reason is not None and outcome.killed:
            raise VidinitError(f"rendering {outcome.item['path']} failed: {outcome.reason}")
        if outcome.reason is not None:
            raise DataError(outcome.reason)
        yield


def render_item(item: dict[str, Any]) -> None:
    """One clip, in a process of `data.index.pool`.

    Raises:
        VideoReadError: the footage cannot be used.
    """
    import torch

    torch.set_num_threads(1)  # the processes share the cores
    try:
        _render(item)
    except VidinitError as error:
        raise VideoReadError(item["path"], str(error)) from error


def _render(item: dict[str, Any]) -> None:
    rng = clip_rng(item["seed"], item["index"])
    clip = render_clip(_footage(tuple(item["footage"])), item["label"], rng)
    with written(item["path"]) as part:
        write_clip(part, clip)


@cache
def _footage(paths: tuple[str, ...]) -> list[Footage]:
    return [load_footage(Path(path)) for path in paths]


def _cores() -> int:
    """Cores that this process may use."""
    own = getattr(os, "sched_getaffinity", None)
    return len(own(0)) if own is not None else os.cpu_count() or 1

"""What a model says of all views of every video, also with their frames in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..data.loading.loader import Loader
from ..data.loading.unprobed import DenseDataset
from ..data.rows import Rows
from ..engine.collectives import gather_all
from ..zoo.modify.eval_mode import in_eval_mode
from ..zoo.spec import ClipSpec
from ..zoo.views import logits_of, views_of
from .score import map_videos
from .temporal_tests import changed


@dataclass(frozen=True)
class ViewLogits:
    """What a model said of a video.

    Attributes:
        logits: of its views, (V, K), the crops of the first clip first.
        changed: the same by the name of a temporal test.
    """

    logits: np.ndarray
    changed: dict[str, np.ndarray] = field(default_factory=dict)


def logits_of_videos(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    tests: Sequence[str] = (),
    seed: int = 0,
    dtype: str = "float32",
    every: int | None = None,
    clips: int = 1,
    **options: Any,
) -> list[tuple[int, ViewLogits | str]]:
    """What a model says of all views of every video, once, whatever the number of processes.

    Args:
        model: as `zoo.views.probabilities_of` takes it.
        rows, spec, accelerator: as for `score.map_videos`.
        tests: of `temporal_tests.TESTS`; their clips come from the same decode.
        seed: of what they draw.
        dtype: of the logits, float32 or float16.
        every: show all clips of a video, so many frames apart, whatever ``clips`` says; 0: one
            begins where the last ends; None: ``clips``. Rows need their probe, and memory does not
            grow with the length of a video but by its logits.
        clips, options: as for `score.map_videos`.

    Returns:
        (row, what was said of it, or why nothing), the same on all processes.
    """

    def logits(views: Tensor) -> np.ndarray:
        return logits_of(model, views, spec)[0].cpu().numpy().astype(dtype)

    def told(views: Tensor, indices: Sequence[int], first: int = 0) -> list[ViewLogits]:
        plain = logits(views)
        tested = {test: logits(changed(views, test, indices, seed, first)) for test in tests}
        return [
            ViewLogits(
                plain[place].copy(), {test: found[place].copy() for test, found in tested.items()}
            )
            for place in range(len(indices))
        ]

    if every is None:
        return map_videos(model, rows, spec, accelerator, told, clips=clips, **options)
    return _each_clip(model, rows, spec, accelerator, told, every=every, **options)


def _each_clip(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    told: Any,
    *,
    every: int,
    crops: Any = 1,
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    quarantine: Any = None,
) -> list[tuple[int, ViewLogits | str]]:
    """`map_videos` of all clips of videos, a batch of clips at a time."""
    views = views_of(rows, spec, crops=crops, reader=reader, decode_side=decode_side)
    dataset = DenseDataset(views, every)
    videos = range(accelerator.process_index, len(rows), accelerator.num_processes)
    keys = dataset.keys(videos, max(1, batch_size // crops))
    loader = Loader(dataset, keys, 1, workers=workers, deadline=deadline, quarantine=quarantine)
    mine: list[tuple[int, ViewLogits | str]] = []
    with in_eval_mode(model):
        for index, batches in groupby(loader, key=lambda batch: int(batch["index"])):
            parts, error, first = [], None, 0
            for batch in batches:
                error = error or batch["error"]
                if error is None and len(batch["views"]):
                    clips = batch["views"].to(accelerator.device)
                    with accelerator.autocast():
                        parts += told(clips.unsqueeze(0), [index], first)
                    first += len(clips)
            mine.append((index, _joined(parts) if error is None else error))
    return [item for part in gather_all(accelerator, mine) for item in part]


def _joined(parts: Sequence[ViewLogits]) -> ViewLogits:
    """What was said of a video, part by part."""
    tests = parts[0].changed
    return ViewLogits(
        np.concatenate([part.logits for part in parts]),
        {test: np.concatenate([part.changed[test] for part in parts]) for test in tests},
    )

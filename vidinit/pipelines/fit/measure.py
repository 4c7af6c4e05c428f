"""How long a step of training, and a look at a clip, take on this machine: by trying some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor

from ...checkpoint import load_classifier
from ...data.rows import Rows
from ...engine.accelerators import make_accelerator
from ...engine.fit import try_steps
from ...engine.job import Batch, Job
from ...engine.run_folder import RunFolder
from ...scoring.score import map_videos
from ...zoo.view_outputs import logits_of
from ..finetune.settings import FinetuneConfig
from ..finetune.task import ClassifyTask
from ..shared.clips import clip_batches, flips, quarantine_of, scoring_options, training_clips
from ..shared.modality import set_spec
from ..shared.on_device import OnDevice
from ..shared.training import open_model, set_training
from .choose import Times

STEPS, WARM = 5, 2
"""Steps that are tried, and how many of them are not counted: kernels are chosen in these."""
READ = 5
"""Clips that are decoded to see how long that takes."""


def measure(config: FinetuneConfig, image: Path, rows: Rows) -> Times:
    """Seconds of a step with its decoding, and of a clip that the frozen trunk looks at.

    Args:
        config: of the fine-tuning; ``train.epochs`` does not matter.
        image: model folder of the frozen trunk.
        rows: training clips.
    """
    accelerator = make_accelerator(config, seed=config.train.seed)
    step, read = _step(config.model_copy(deep=True), rows, accelerator)
    return Times(step=step, seen=_seen(config, image, rows, accelerator), read=read)


def _step(config: FinetuneConfig, rows: Rows, accelerator: Any) -> tuple[float, float]:
    """Seconds from one step to the next, and those of a core that decodes a clip of it."""
    classes = list(rows.classes or ())
    model = open_model(config.model, len(classes), classes)
    set_training(model, config.train)
    set_spec(model, config.data)
    task, spec = ClassifyTask(model, kind=rows.kind), model.spec
    flip = flips(config.data.flip, rows, "the clips")
    clips = training_clips(rows, spec, config.data, seed=config.train.seed, flip=flip)
    reads: list[float] = []
    for number in range(min(READ, len(rows))):
        began = perf_counter()
        clips[0, number]
        reads.append(perf_counter() - began)
    batches = clip_batches(clips, config, accelerator, quarantine_of(rows, {}))
    stamps: list[float] = []
    whole = batches["steps"]

    def some(epoch: int, start: int) -> Iterator[list[Batch]]:
        found = whole(epoch, start)
        for group in islice(found, STEPS + 1):
            stamps.append(perf_counter())
            yield group
        stamps.append(perf_counter())
        found.close()

    job = Job(
        title="a trial",
        task=task,
        **{**batches, "steps": some, "steps_per_epoch": STEPS + 1, "advice": None},
        on_device=OnDevice(spec.mean, spec.std, spec.channels == "bgr"),
        save_model=lambda metrics: None,
    )
    try_steps(job, config.train, RunFolder(Path("trial"), writes=False), accelerator)
    gaps = np.diff(stamps)
    step = float(np.median(gaps[WARM:] if len(gaps) > WARM else gaps))
    return step, float(np.median(reads))


def _seen(config: FinetuneConfig, image: Path, rows: Rows, accelerator: Any) -> float:
    """Seconds of a clip, decoded and seen by the frozen trunk."""
    model = load_classifier(image)
    set_spec(model, config.data)
    model = model.to(accelerator.device)
    stamps = [perf_counter()]
    batch = config.data.clips

    def look(views: Tensor, _: Sequence[int]) -> list[None]:
        logits_of(model, views, model.spec)[0].cpu()
        stamps.append(perf_counter())
        return [None] * len(views)

    some = rows.of(rows.rows[: 4 * batch])
    map_videos(
        *(model, some, model.spec, accelerator, look),
        **scoring_options(config.data, accelerator, quarantine_of(some, {})),
    )
    gaps = np.diff(stamps)  # the first has the start of the processes that decode
    return float(np.median(gaps[1:] if len(gaps) > 1 else gaps)) / min(batch, len(some))

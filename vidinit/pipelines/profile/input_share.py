"""The share of the time that a model waits for its clips, with real videos."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from ...config import DataConfig
from ...console import with_messages
from ...data.loading.loader import Loader, eval_loader
from ...data.pixels.batch import normalize
from ...data.rows import Rows
from ...data.sources import unlabeled_rows
from ...engine.live import BOUND
from ...errors import DataError, UsageError
from ...measure.speed import inference, wait_for
from ...zoo.base import VideoModel
from ...zoo.view_outputs import views_of
from ..shared.clips import advice_of, check_rows, data_name, quarantine_of, workers_of

# Clips that are read at most. Videos are read again when all were; an epoch would not be.
_CLIPS = 1 << 14


def clips_of(data: str | list[str], settings: DataConfig) -> Rows:
    """The videos of a data set, labelled or not, that can be read.

    Raises:
        DataError: none can.
    """
    rows = with_messages(lambda: unlabeled_rows(data, kinds="any"))
    return check_rows(rows, settings, data_name(data)).rows


def input_share(
    model: VideoModel,
    rows: Rows,
    settings: DataConfig,
    batch_size: int,
    *,
    precision: str,
    seconds: float,
) -> dict[str, Any]:
    """Run a model on the clips of videos, read as `eval` reads them, and see where the time goes.

    The first batch, for which readers are started, is not counted.

    Args:
        model: on its device.
        rows: readable videos.
        settings: how they are read.
        batch_size: clips of a batch.
        precision: a key of `PRECISIONS`.
        seconds: how long to go on; one batch is always counted.

    Returns:
        ``waiting``, ``copying`` (to the device, with normalization) and ``model``, shares of the
        time, 0 to 1; ``clips_per_second``, ``workers``; ``advice`` where waiting is too long, else
        None.

    Raises:
        UsageError: the model sees other channels than clips have.
        DataError: a video cannot be read any more.
    """
    spec = model.spec
    channels = 3 if spec.flow is None else 2
    if model.in_channels != channels:
        raise UsageError(
            f"{model.name} sees {model.in_channels} channels, its clips have {channels}",
            "leave out --data",
        )
    repeated = rows.of([rows.rows[i % len(rows)] for i in range(max(_CLIPS, 2 * batch_size))])
    workers = workers_of(settings, 1)
    loader = eval_loader(
        views_of(repeated, spec, reader=settings.reader, decode_side=settings.decode_side),
        batch_size=1 if spec.sampling == "all" else batch_size,  # else their lengths differ
        workers=workers,
        deadline=settings.deadline,
        quarantine=quarantine_of(repeated, {}),
    )
    spent, clips = _run(model, loader, precision, seconds)
    whole = sum(spent.values())
    share = spent["waiting"] / whole
    return {
        **{name: round(value / whole, 4) for name, value in spent.items()},
        "clips_per_second": round(clips / whole, 3),
        "workers": workers,
        "advice": advice_of(settings, 1)(share) if share > BOUND else None,
    }


def _run(
    model: VideoModel, loader: Loader, precision: str, seconds: float
) -> tuple[dict[str, float], int]:
    """Seconds of each part of the batches behind the first one, and how many clips they held."""
    device = next(model.parameters()).device
    wait = wait_for(device)
    spent = {"waiting": 0.0, "copying": 0.0, "model": 0.0}
    clips = 0
    model.eval()
    batches = iter(loader)
    with inference(device, precision):
        for number in range(len(loader)):
            marks = [perf_counter()]
            batch = next(batches)
            _check(batch["error"])
            marks.append(perf_counter())
            views = batch["views"].to(device).flatten(0, 1)
            spec = model.spec
            clip = normalize(views, spec.mean, spec.std, bgr=spec.channels == "bgr")
            wait()
            marks.append(perf_counter())
            model(clip)
            wait()
            marks.append(perf_counter())
            if number == 0:
                continue
            clips += len(views)
            for name, start, end in zip(spent, marks[:-1], marks[1:], strict=True):
                spent[name] += end - start
            if sum(spent.values()) >= seconds:
                break
    return spent, clips


def _check(errors: list[str | None]) -> None:
    for error in errors:
        if error is not None:
            raise DataError(
                f"a video cannot be read any more ({error})", "see `vidinit data check`"
            )

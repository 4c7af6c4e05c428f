"""Videos shared out among processes, read, and shown to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.loading.loader import eval_loader
from ..data.rows import Rows
from ..engine.collectives import gather_all
from ..errors import UsageError
from ..zoo.modify.eval_mode import in_eval_mode
from ..zoo.probabilities import Average
from ..zoo.spec import ClipSpec
from ..zoo.views import NO_NUMBER, probabilities_of, videos_at_once, views_of
from .scores import Scores, labels_of

if TYPE_CHECKING:
    from ..data.loading.watchdog import Quarantine

T = TypeVar("T")


def score(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    num_classes: int,
    **options: Any,
) -> Scores:
    """Score every video once, whatever the number of processes; all of them return the same.

    Args:
        model: from clips (B, 3, T, H, W) to logits; for rows of pairs a `zoo.pair.PairModel`.
        rows: labelled videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        num_classes: number of logits; of the verbs' where labels are pairs.
        options: as for `probabilities_by_row`.
    """
    found = probabilities_by_row(model, rows, spec, accelerator, **options)
    return _scores(rows, num_classes, found)


def score_each(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    names: Sequence[str],
    num_classes: int,
    **options: Any,
) -> dict[str, Scores]:
    """`score` of several classifiers over one pass.

    Args:
        model: from clips (B, 3, T, H, W) to logits (B, num_classes) of each, by name.
        rows, spec, accelerator: as for `score`; the rows are no pairs.
        names: of the classifiers, in the model's order.
        num_classes: number of logits of each.
        options: as for `probabilities_by_row`.
    """
    found = probabilities_by_row(model, rows, spec, accelerator, **options)
    return {
        name: _scores(rows, num_classes, found, start=number * num_classes)
        for number, name in enumerate(names)
    }


def probabilities_by_row(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    average: Average = "softmax",
    **options: Any,
) -> list[tuple[int, np.ndarray | str]]:
    """What a model says of every video, once, whatever the number of processes.

    Args:
        model: as `probabilities_of` takes it.
        rows, spec, accelerator: as for `map_videos`.
        average: see `zoo.probabilities.averaged`.
        options: as for `map_videos`.

    Returns:
        (row, its probabilities, float64, or why it has none), the same on all processes.
    """

    def told(views: Tensor, _: Sequence[int]) -> list[np.ndarray]:
        return list(probabilities_of(model, views, spec, average=average).numpy())

    return map_videos(model, rows, spec, accelerator, told, **options)


def map_videos(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    told: Callable[[Tensor, Sequence[int]], list[T]],
    *,
    clips: int = 1,
    crops: Literal[1, 3] = 1,
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    quarantine: Quarantine | None = None,
) -> list[tuple[int, T | str]]:
    """Ask something about every video once, whatever the number of processes.

    Args:
        model: in eval mode while it is asked.
        rows: videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        told: from views, uint8 (B, V, T, S, S, C) on the device, and the B rows they are of, to
            what is to be known of each.
        clips, crops: views of a video, see `EvalDataset`.
        batch_size: clips of one forward pass, about.
        workers: decoding processes.
        deadline: seconds after which a decoder that gives no answer is killed.
        reader: what decodes, as `data.readers.open_video` takes it.
        decode_side: short side of the frames out of the decoder, in pixels.
        quarantine: files that are not to be tried, and where those are noted that hang or crash.

    Returns:
        (row, what was told of it, or why it cannot be read), the same on all processes.
    """
    dataset = views_of(
        rows,
        spec,
        clips=clips,
        crops=crops,
        reader=reader,
        decode_side=decode_side,
    )
    videos = videos_at_once(spec, batch_size, clips * crops)
    loader = eval_loader(
        dataset,
        batch_size=videos,
        workers=workers,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        deadline=deadline,
        quarantine=quarantine,
    )
    mine: list[tuple[int, T | str]] = []
    with in_eval_mode(model):
        for batch in loader:
            views, indices = batch["views"], batch["index"].tolist()
            # A kernel may round differently for another number of clips: with batches of one size
            # the number of processes, which decides how many the last one has, changes nothing.
            short = min(videos, len(rows)) - len(indices)
            if short:
                views = torch.cat([views, views[-1:].expand(short, *views.shape[1:])])
                indices += indices[-1:] * short
            with accelerator.autocast(), _whole_videos(spec, views.shape[2]):
                values = told(views.to(accelerator.device), indices)
            for index, error, value in zip(indices, batch["error"], values, strict=False):
                mine.append((index, value if error is None else error))
    return [item for part in gather_all(accelerator, mine) for item in part]


@contextmanager
def _whole_videos(spec: ClipSpec, frames: int) -> Iterator[None]:
    """What a model says to clips as long as their videos, where it takes no such clips."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if spec.sampling != "all" or isinstance(error, torch.OutOfMemoryError):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"the model takes no clip of {frames} frames, as long as its video ({first})",
            "score it with --views dense, or with a number of clips",
        ) from error


def _scores(
    rows: Rows, num_classes: int, found: list[tuple[int, np.ndarray | str]], *, start: int = 0
) -> Scores:
    """Scores from the output of `probabilities_by_row`, of which ``start`` is the first column."""
    width = num_classes + len(rows.nouns or ())
    values = np.full((len(rows), width), np.nan)
    missing = []
    for index, result in sorted(found, key=lambda item: item[0]):
        numbers = result if isinstance(result, str) else result[start : start + width]
        if isinstance(numbers, str) or not np.isfinite(numbers).all():
            reason = numbers if isinstance(numbers, str) else NO_NUMBER
            missing.append((rows.rows[index].path, reason))
        else:
            values[index] = numbers
    return Scores(
        values[:, :num_classes],
        labels_of(rows, num_classes),
        missing,
        rows.kind,
        values[:, num_classes:] if rows.kind == "pair" else None,
    )

"""Videos through a model: their scores, the logits of all their views, predictions one by one.

Processes share the videos out, and each video is shown to the model once, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.index import Partial
from ..data.loading.loader import Loader, eval_loader
from ..data.loading.quarantine import Quarantine
from ..data.loading.unprobed import DenseDataset
from ..data.rows import Rows
from ..data.views import SHUFFLE, rng
from ..engine.collectives import gather_all
from ..errors import UsageError
from ..zoo.modify.eval_mode import in_eval_mode
from ..zoo.pair import trunk_of
from ..zoo.probabilities import Average
from ..zoo.spec import ClipSpec
from ..zoo.view_outputs import NO_NUMBER, logits_of, probabilities_of, videos_at_once, views_of
from .metrics import Scores, labels_of

if TYPE_CHECKING:
    from ..zoo.base import VideoModel
    from ..zoo.pair import PairModel

T = TypeVar("T")


# Scores: probabilities averaged over the views of a video.


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
        rows: labeled videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        num_classes: number of logits; of the verbs' where labels are pairs.
        options: as for `probabilities_by_row`.
    """
    results = probabilities_by_row(model, rows, spec, accelerator, **options)
    return _scores(rows, num_classes, results)


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
    results = probabilities_by_row(model, rows, spec, accelerator, **options)
    return split_scores(rows, results, names=names, num_classes=num_classes)


def split_scores(
    rows: Rows,
    results: list[tuple[int, np.ndarray | str]],
    *,
    names: Sequence[str],
    num_classes: int,
) -> dict[str, Scores]:
    """Scores of several classifiers from the probabilities of all, one after the other.

    Args:
        rows: labeled videos.
        results: as `probabilities_by_row` returns them.
        names: of the classifiers, in their order.
        num_classes: probabilities of each.
    """
    return {
        name: _scores(rows, num_classes, results, start=number * num_classes)
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
    """Probabilities of every video, averaged over its views.

    Args:
        model: as `probabilities_of` takes it.
        rows, spec, accelerator: as for `map_videos`.
        average: see `zoo.probabilities.averaged`.
        options: as for `map_videos`.

    Returns:
        (row, its probabilities, float64, or why it has none), the same on all processes.
    """

    def probabilities(views: Tensor, _: Sequence[int]) -> list[np.ndarray]:
        return list(probabilities_of(model, views, spec, average=average).numpy())

    return map_videos(model, rows, spec, accelerator, probabilities, **options)


def _scores(
    rows: Rows, num_classes: int, results: list[tuple[int, np.ndarray | str]], *, start: int = 0
) -> Scores:
    """Scores from the output of `probabilities_by_row`, of which ``start`` is the first column."""
    width = num_classes + len(rows.nouns or ())
    values = np.full((len(rows), width), np.nan)
    missing = []
    for index, result in sorted(results, key=lambda item: item[0]):
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


def map_videos(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    function: Callable[[Tensor, Sequence[int]], list[T]],
    *,
    clips: int = 1,
    crops: Literal[1, 3] = 1,
    start: Literal["center", "first"] = "center",
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    partial: Partial = "keep",
    quarantine: Quarantine | None = None,
) -> list[tuple[int, T | str]]:
    """Apply a function to the views of every video.

    Args:
        model: used by the function; in eval mode while it is called.
        rows: videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        function: from views, uint8 (B, V, T, S, S, C) on the device, and the B rows they are of, to
            a result for each row.
        clips, crops: views of a video, see `EvalDataset`.
        start: ``first``: dense clips begin with equal parts of the video, instead of lying in the
            middle of them.
        batch_size: clips of one forward pass, about.
        workers: decoding processes.
        deadline: seconds after which a decoder that gives no answer is killed.
        reader: what decodes, as `data.readers.open_video` takes it.
        decode_side: short side of the frames out of the decoder, in pixels.
        partial: what becomes of files that turn out to be damaged, see `EvalDataset`.
        quarantine: files that are not to be tried, and where those are noted that hang or crash.

    Returns:
        (row, its result, or why it cannot be read), the same on all processes.
    """
    dataset = views_of(
        rows,
        spec,
        clips=clips,
        crops=crops,
        start=start,
        reader=reader,
        decode_side=decode_side,
        partial=partial,
    )
    quarantine = quarantine or Quarantine()
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
    own: list[tuple[int, T | str]] = []
    with in_eval_mode(model):
        for batch in loader:
            views, indices = batch["views"], batch["index"].tolist()
            # A kernel may round differently for another number of clips: with batches of one size
            # the number of processes, which decides how many the last one has, changes nothing.
            short = min(videos, len(rows)) - len(indices)
            if short:
                views = torch.cat([views, views[-1:].expand(short, *views.shape[1:])])
                indices += indices[-1:] * short
            with accelerator.autocast(), _any_length(spec, views.shape[2]):
                results = function(views.to(accelerator.device), indices)
            # The padding's results come last, and `zip` ends before them.
            for index, error, kept, result in zip(
                indices, batch["error"], batch["kept"], results, strict=False
            ):
                quarantine.keep(index, rows.rows[index], kept)
                own.append((index, result if error is None else error))
    return [item for part in gather_all(accelerator, own) for item in part]


@contextmanager
def _any_length(spec: ClipSpec, frames: int) -> Iterator[None]:
    """Turn the error of a model that takes no clip as long as its video into advice."""
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


# Logits of all views, which `predictions.Predictions` keeps.


@dataclass(frozen=True)
class ViewLogits:
    """Logits of all views of a video.

    Attributes:
        logits: (V, K), the crops of the first clip first.
        reordered: those of the views with their frames in another order, by temporal test, and
            those of other models, by name.
    """

    logits: np.ndarray
    reordered: dict[str, np.ndarray] = field(default_factory=dict)


def logits_of_videos(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    tests: Sequence[str] = (),
    beside: Mapping[str, nn.Module] | None = None,
    seed: int = 0,
    dtype: str = "float32",
    every: int | None = None,
    clips: int = 1,
    start: Literal["center", "first"] = "center",
    **options: Any,
) -> list[tuple[int, ViewLogits | str]]:
    """Logits of all views of every video.

    Args:
        model: as `zoo.view_outputs.probabilities_of` takes it.
        rows, spec, accelerator: as for `map_videos`.
        tests: temporal tests, see `reorder_frames`; their clips come from the same decode.
        beside: further models that see the same clips, by name; they share the model's trunk.
        seed: of what they draw.
        dtype: of the logits, float32 or float16.
        every: show all clips of a video, so many frames apart, whatever ``clips`` says; 0: one
            begins where the last ends; None: ``clips``. Rows need their probe, and memory does not
            grow with the length of a video but by its logits.
        clips, start, options: as for `map_videos`.

    Returns:
        (row, its logits, or why it has none), the same on all processes.
    """

    def logits(views: Tensor) -> np.ndarray:
        return logits_of(model, views, spec)[0].cpu().numpy().astype(dtype)

    def view_logits(views: Tensor, indices: Sequence[int], first: int = 0) -> list[ViewLogits]:
        plain = logits(views)
        tested = {test: logits(reorder_frames(views, test, indices, seed, first)) for test in tests}
        for name, other in (beside or {}).items():
            with in_eval_mode(other):
                tested[name] = logits_of(other, views, spec)[0].cpu().numpy().astype(dtype)
        # Copies: a slice would keep the whole batch in memory, padding included.
        return [
            ViewLogits(
                plain[place].copy(), {test: other[place].copy() for test, other in tested.items()}
            )
            for place in range(len(indices))
        ]

    if every is None:
        options |= {"clips": clips, "start": start}
        return map_videos(model, rows, spec, accelerator, view_logits, **options)
    return _map_dense(model, rows, spec, accelerator, view_logits, every=every, **options)


def _map_dense(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    function: Callable[[Tensor, Sequence[int], int], list[ViewLogits]],
    *,
    every: int,
    crops: Literal[1, 3] = 1,
    batch_size: int = 8,
    workers: int = 0,
    deadline: float = 60.0,
    reader: str = "auto",
    decode_side: int | None = None,
    partial: Partial = "keep",
    quarantine: Quarantine | None = None,
) -> list[tuple[int, ViewLogits | str]]:
    """`map_videos` of all clips of videos, a batch of clips at a time."""
    views = views_of(
        rows, spec, crops=crops, reader=reader, decode_side=decode_side, partial=partial
    )
    dataset = DenseDataset(views, every)
    videos = range(accelerator.process_index, len(rows), accelerator.num_processes)
    keys = dataset.keys(videos, max(1, batch_size // crops))
    loader = Loader(dataset, keys, 1, workers=workers, deadline=deadline, quarantine=quarantine)
    own: list[tuple[int, ViewLogits | str]] = []
    with in_eval_mode(model):
        for index, batches in groupby(loader, key=lambda batch: int(batch["index"])):
            parts, error, first = [], None, 0
            for batch in batches:
                error = error or batch["error"]
                if error is None and len(batch["views"]):
                    clips = batch["views"].to(accelerator.device)
                    with accelerator.autocast():
                        parts += function(clips.unsqueeze(0), [index], first)
                    first += len(clips)
            own.append((index, _concatenated(parts) if error is None else error))
    return [item for part in gather_all(accelerator, own) for item in part]


def _concatenated(parts: Sequence[ViewLogits]) -> ViewLogits:
    """The logits of a video from those of its parts."""
    return ViewLogits(
        np.concatenate([part.logits for part in parts]),
        {
            test: np.concatenate([part.reordered[test] for part in parts])
            for test in parts[0].reordered
        },
    )


def reorder_frames(
    views: Tensor, test: str, indices: Sequence[int], seed: int, first: int = 0
) -> Tensor:
    """The same views with their frames in the order of a temporal test.

    A model that scores reversed clips as well as others does not see in which direction time goes
    (the test of S3D, https://arxiv.org/abs/1712.04851); one that scores shuffled clips as well sees
    no order at all; and what is left with one frame was never motion.

    Args:
        views: (B, V, T, ...).
        test: ``reverse``: the last frame first. ``shuffle``: in a random order, another for each
            view. ``freeze``: the frame in the middle, repeated.
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
    orders = np.stack([_orders(seed, index, first, views.shape[1], frames) for index in indices])
    place = torch.from_numpy(orders).to(views.device)
    return views.gather(2, place.reshape(*place.shape, *[1] * (views.ndim - 3)).expand_as(views))


def _orders(seed: int, index: int, first: int, views: int, frames: int) -> np.ndarray:
    """A random order of the frames of some views of a row, int64 (views, frames)."""
    generator = rng(seed, 0, index, stream=SHUFFLE)
    return np.argsort(generator.random((first + views, frames))[first:], axis=1)


# Outputs one by one, for predictions that are shown as soon as they are there.


@dataclass(frozen=True)
class Output:
    """Output of a model for one file, or for one clip of its timeline.

    Attributes:
        index: of its row.
        probabilities: averaged over the views, float64 (classes,), the heads' one after the other;
            None where there is an error.
        error: why there are none, or None.
        embedding: mean over the views of what the head is given, float32 (C,), where asked for.
        span: where a clip begins and ends in its video, in seconds; None of a whole file.
        kept: in words how much of a damaged file this is of; empty for a sound one.
    """

    index: int
    probabilities: np.ndarray | None
    error: str | None
    embedding: np.ndarray | None = None
    span: tuple[float, float] | None = None
    kept: str = ""


def outputs_of(
    model: VideoModel | PairModel,
    batches: Iterable[dict[str, Any]],
    spec: ClipSpec,
    accelerator: Any,
    *,
    average: Average = "softmax",
    embeddings: bool = False,
) -> Iterator[Output]:
    """The outputs of a model for batches, one clip or file after the other, as soon as known.

    Args:
        model: as `probabilities_of` takes it; in eval mode while this is iterated over.
        batches: of an `EvalDataset` or a `TimelineDataset`.
        spec: how clips are normalized.
        accelerator: gives the precision.
        average: over the views, see `zoo.probabilities.averaged`.
        embeddings: give them, too.
    """
    device = next(model.parameters()).device
    with in_eval_mode(model):
        for batch in batches:
            errors: list[str | None] = batch["error"]
            good = [place for place, error in enumerate(errors) if error is None]
            values, vectors = np.empty((0, 0)), None
            if good:
                views = batch["views"] if len(good) == len(errors) else batch["views"][good]
                views = views.to(device)
                with accelerator.autocast(), _embeddings(model, embeddings) as seen:
                    values = probabilities_of(model, views, spec, average=average).numpy()
                if seen:
                    vectors = seen[0].float().unflatten(0, views.shape[:2]).mean(1).cpu().numpy()
            yield from _outputs_of_batch(batch, good, values, vectors)


def _outputs_of_batch(
    batch: dict[str, Any], good: list[int], values: np.ndarray, vectors: np.ndarray | None
) -> Iterator[Output]:
    """The output for each item of a batch; values and vectors are those of the good ones."""
    rows = np.broadcast_to(np.asarray(batch["index"]), len(batch["error"])).tolist()
    place_of = {place: number for number, place in enumerate(good)}
    for place, error in enumerate(batch["error"]):
        span = None
        if "start" in batch:
            span = float(batch["start"][place]), float(batch["end"][place])
        number = place_of.get(place)
        if number is None:
            yield Output(rows[place], None, error, span=span)
        elif not np.isfinite(values[number]).all():
            yield Output(rows[place], None, NO_NUMBER, span=span)
        else:
            vector = None if vectors is None else vectors[number]
            kept = batch["kept"][place] if "kept" in batch else ""
            yield Output(rows[place], values[number], None, vector, span, kept)


@contextmanager
def _embeddings(model: VideoModel | PairModel, wanted: bool) -> Iterator[list[Tensor]]:
    """While entered, the embeddings (B, C) that a model's heads are given are collected."""
    seen: list[Tensor] = []
    if not wanted:
        yield seen
        return
    # All heads read what the trunk's dropout returns, which in eval mode is what it is given.
    dropout = trunk_of(model).dropout
    hook = dropout.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()

"""A model and the views of a video: logits, probabilities, the best classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..console import say
from ..data.index import Partial
from ..data.loading.datasets import EvalDataset
from ..data.pixels.batch import normalize
from ..data.rows import LabelKind, Rows
from ..errors import DataError, UsageError
from .modify.eval_mode import in_eval_mode
from .probabilities import Average, Ranked, averaged, ranked
from .spec import ClipSpec

if TYPE_CHECKING:
    from ..data.loading.unprobed import UnprobedDataset
    from .base import VideoModel
    from .pair import PairModel

NO_NUMBER = "the model's scores of it are not numbers"


def views_of(
    rows: Rows,
    spec: ClipSpec,
    *,
    clips: int = 1,
    crops: Literal[1, 3] = 1,
    start: Literal["center", "first"] = "center",
    reader: str = "auto",
    decode_side: int | None = None,
    partial: Partial = "keep",
) -> EvalDataset:
    """The views of videos for a model with this specification."""
    return EvalDataset(
        rows,
        sampling=spec.seen,
        size=spec.size,
        crop_pct=spec.crop_pct,
        interpolation="bicubic" if spec.interpolation == "bicubic" else "bilinear",
        clips=clips,
        crops=crops,
        first=start == "first",
        flow=spec.flow,
        reader=reader,
        decode_side=decode_side,
        partial=partial,
    )


def videos_at_once(spec: ClipSpec, clips: int, views: int) -> int:
    """How many videos of so many ``views`` a forward pass of about ``clips`` clips takes.

    Videos of which all frames are taken have different lengths and fit in no batch.
    """
    return 1 if spec.sampling == "all" else max(1, clips // views)


@torch.no_grad()
def logits_of(model: nn.Module, views: Tensor, spec: ClipSpec) -> tuple[Tensor, list[int]]:
    """Logits of each view, by a model in eval mode.

    Args:
        model: from normalized clips to logits, or to logits by head.
        views: uint8 (B, V, T, S, S, C), on the model's device.
        spec: how the clips are normalized.

    Returns:
        float32 (B, V, K), the heads' logits one after the other, and how many each head has.
    """
    bgr = spec.channels == "bgr"
    outputs = model(normalize(views.flatten(0, 1), spec.mean, spec.std, bgr=bgr))
    heads = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    logits = torch.cat([head.float() for head in heads], dim=1)
    return logits.unflatten(0, views.shape[:2]), [head.shape[1] for head in heads]


def probabilities_of(
    model: nn.Module, views: Tensor, spec: ClipSpec, *, average: Average = "softmax"
) -> Tensor:
    """Probabilities of videos, averaged over their views, by a model in eval mode.

    Args:
        model, views, spec: as for `logits_of`; a `VideoModel` of ``multi`` labels gives each class
            a probability of its own.
        average: see `probabilities.averaged`.

    Returns:
        float64 (B, K), the heads' classes one after the other, on the CPU.
    """
    logits, sizes = logits_of(model, views, spec)
    kind: LabelKind = getattr(model, "label_kind", "single")
    return torch.from_numpy(averaged(logits.cpu().numpy(), sizes, kind=kind, average=average))


def unprobed_views(rows: Rows, spec: ClipSpec, **options: Any) -> UnprobedDataset:
    """`views_of` for files that were not probed yet; the same options."""
    from ..data.loading.unprobed import UnprobedDataset

    return UnprobedDataset(**vars(views_of(rows, spec, **options)))


def predict_file(model: VideoModel | PairModel, path: Path, topk: int = 5) -> Ranked:
    """The most probable classes of one file: one center clip and crop, by the model's spec.

    Of a model of verbs and nouns the most probable actions, as ``verb noun``. The file is read in
    this process, by PyAV, which gives back an error for what other decoders abort over; of a file
    that is damaged the frames before that count, which is said. There is no deadline here:
    `vidinit.predict` reads in processes that can be killed.

    Raises:
        UsageError: the file does not exist, or ``topk`` is below 1.
        DataError: the file cannot be read.
    """
    from ..data.rows import Row, Rows

    if topk < 1:
        raise UsageError(f"topk must be at least 1, not {topk}")
    if not path.is_file():
        raise UsageError(f"no such file: {path}", "give a video or image file")
    spec = model.spec
    item = unprobed_views(Rows((Row(str(path)),)), spec)[0]
    if item["error"] is not None:
        raise DataError(f"cannot read {path} ({item['error']})")
    if item["kept"]:
        say(f"note: {path}: {item['kept']}")
    views = item["views"].to(next(model.parameters()).device)
    with in_eval_mode(model):
        values = probabilities_of(model, views.unsqueeze(0), spec)[0].numpy()
    return ranked(model.class_names_by_head(), values, topk)["classes"]

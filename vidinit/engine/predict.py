"""What is in this file? One model, any number of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import DataError, UsageError

if TYPE_CHECKING:
    from ..zoo.base import VideoModel


@dataclass(frozen=True)
class Prediction:
    """Classes of one file.

    Attributes:
        path: the file.
        classes: (class name, probability), most probable first; empty when it cannot be read.
        error: why it cannot be read, or None.
    """

    path: Path
    classes: list[tuple[str, float]]
    error: str | None = None


def predict_file(model: VideoModel, path: Path, topk: int = 5) -> list[tuple[str, float]]:
    """The most probable classes of one file: one center clip and crop, by the model's spec.

    Raises:
        UsageError: the file does not exist, or ``topk`` is below 1.
        DataError: the file cannot be read.
    """
    from ..data.loader import EvalDataset
    from ..data.sources import Row, Rows
    from .scoring import pixels_of

    if topk < 1:
        raise UsageError(f"topk must be at least 1, not {topk}")
    if not path.is_file():
        raise UsageError(f"no such file: {path}", "give a video or image file")
    spec = model.spec
    item = EvalDataset(
        Rows((Row(path, None),), None),
        frames=spec.frames,
        stride=spec.stride,
        size=spec.size,
        pixels=pixels_of(spec),
    )[0]
    if item["error"] is not None:
        raise DataError(f"cannot read {path} ({item['error']})")
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        softmax = model(item["views"].to(device)).double().softmax(dim=1).mean(dim=0)
    model.train(was_training)
    values, order = softmax.topk(min(topk, len(softmax)))
    names = model.classes or [str(i) for i in range(len(softmax))]
    return [(names[int(i)], float(v)) for v, i in zip(values, order, strict=True)]


def predict(
    model: VideoModel | str | Path, paths: str | Path | Sequence[str | Path], *, topk: int = 5
) -> list[Prediction]:
    """Classes of one or several files; a file that cannot be read carries its error.

    Args:
        model: a model, or the folder of one.
        paths: video or image files.
        topk: classes per file.
    """
    from ..checkpoint import load

    loaded = load(model) if isinstance(model, (str, Path)) else model
    files = [paths] if isinstance(paths, (str, Path)) else list(paths)
    out = []
    for file in map(Path, files):
        try:
            out.append(Prediction(file, predict_file(loaded, file, topk)))
        except DataError as error:
            out.append(Prediction(file, [], error.message))
    return out

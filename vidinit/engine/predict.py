"""What is in this file? One model, any number of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, UsageError

if TYPE_CHECKING:
    from ..tasks.heads import PairModel
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


def predict_file(
    model: VideoModel | PairModel, path: Path, topk: int = 5
) -> list[tuple[str, float]]:
    """The most probable classes of one file: one center clip and crop, by the model's spec.

    Of a model of verbs and nouns the most probable actions, as ``verb noun``.

    Raises:
        UsageError: the file does not exist, or ``topk`` is below 1.
        DataError: the file cannot be read.
    """
    from ..data.rows import Row, Rows
    from ..tasks.heads import PairModel
    from .metrics import best_actions
    from .scoring import probabilities_of, views_of

    if topk < 1:
        raise UsageError(f"topk must be at least 1, not {topk}")
    if not path.is_file():
        raise UsageError(f"no such file: {path}", "give a video or image file")
    trunk = model.model if isinstance(model, PairModel) else model
    item = views_of(Rows((Row(str(path)),)), trunk.spec)[0]
    if item["error"] is not None:
        raise DataError(f"cannot read {path} ({item['error']})")
    was_training = model.training
    model.eval()
    views = item["views"].to(next(model.parameters()).device)
    values = probabilities_of(model, views.unsqueeze(0), trunk.spec).cpu()
    model.train(was_training)
    names = trunk.classes or [str(i) for i in range(trunk.num_classes)]
    if isinstance(model, PairModel):
        verbs, nouns = values.numpy()[:, : len(names)], values.numpy()[:, len(names) :]
        ids, products = best_actions(verbs, nouns, topk)
        actions = [f"{names[verb]} {model.nouns[noun]}" for verb, noun in ids[0].tolist()]
        return list(zip(actions, products[0].tolist(), strict=True))
    best, order = values[0].topk(min(topk, len(names)))
    return [(names[i], v) for v, i in zip(best.tolist(), order.tolist(), strict=True)]


def predict(
    model: VideoModel | PairModel | str | Path,
    paths: str | Path | Sequence[str | Path],
    *,
    topk: int = 5,
) -> list[Prediction]:
    """Classes of one or several files; a file that cannot be read carries its error.

    Args:
        model: a model, or the folder of one.
        paths: video or image files.
        topk: classes per file.
    """
    loaded = _loaded(model) if isinstance(model, (str, Path)) else model
    files = [paths] if isinstance(paths, (str, Path)) else list(paths)
    out = []
    for file in map(Path, files):
        try:
            out.append(Prediction(file, predict_file(loaded, file, topk)))
        except DataError as error:
            out.append(Prediction(file, [], error.message))
    return out


def _loaded(folder: str | Path) -> VideoModel | PairModel:
    """The model in a folder, with all the heads that its predictions take."""
    from ..checkpoint import load, load_pair, model_folder, read_card

    place = model_folder(folder)
    if place is not None and read_card(place).get("kind") == "pair":
        return load_pair(place)
    return load(folder)

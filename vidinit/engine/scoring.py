"""Scores of videos, shared out among processes; accuracies from them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..data.loader import EvalDataset, eval_loader
from ..data.sources import Rows
from ..data.transforms import Pixels
from ..zoo.base import ClipSpec


@dataclass
class Scores:
    """Softmax probabilities per video, averaged over its views.

    Attributes:
        probabilities: float64 (videos, classes), in the order of the rows; NaN where missing.
        labels: int64 (videos,).
        missing: (path, reason) of videos that could not be read; they are not counted.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    missing: list[tuple[str, str]]

    @property
    def readable(self) -> np.ndarray:
        """Which videos have scores: bool (videos,)."""
        return ~np.isnan(self.probabilities).any(axis=1)

    def metrics(self) -> dict[str, float]:
        """top1, top5 and mean_class_accuracy, fractions of the videos that could be read."""
        keep = self.readable
        if not keep.any():
            return {"top1": 0.0, "top5": 0.0, "mean_class_accuracy": 0.0}
        scores, labels = self.probabilities[keep], self.labels[keep]
        # Stable order: among equal scores the smaller class id wins, in every process count.
        ranks = np.argsort(-scores, axis=1, kind="stable")
        hit = ranks[:, 0] == labels
        per_class = [float(hit[labels == c].mean()) for c in np.unique(labels)]
        return {
            "top1": float(hit.mean()),
            "top5": float((ranks[:, :5] == labels[:, None]).any(axis=1).mean()),
            "mean_class_accuracy": float(np.mean(per_class)),
        }

    def confusion(self) -> np.ndarray:
        """Counts, int64 (true class, predicted class)."""
        classes = self.probabilities.shape[1]
        matrix = np.zeros((classes, classes), dtype=np.int64)
        keep = self.readable
        np.add.at(matrix, (self.labels[keep], self.probabilities[keep].argmax(axis=1)), 1)
        return matrix


def confusion_of(folder: Path, classes: list[str]) -> np.ndarray:
    """Counts (true class, predicted class) from an evaluation folder's predictions.csv."""
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["prediction"]:
                matrix[classes.index(row["label"]), classes.index(row["prediction"])] += 1
    return matrix


def pixels_of(spec: ClipSpec) -> Pixels:
    """The pixel settings of a clip specification, as the transforms take them."""
    return Pixels(
        mean=spec.mean,
        std=spec.std,
        interpolation="bicubic" if spec.interpolation == "bicubic" else "bilinear",
        crop_pct=spec.crop_pct,
    )


def wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a fraction measured on ``count`` videos (Wilson's score interval)."""
    if count == 0:
        return 0.0, 1.0
    spread = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    center = rate + z**2 / (2 * count)
    scale = 1 + z**2 / count
    return float((center - spread) / scale), float((center + spread) / scale)


@torch.no_grad()
def score(
    model: nn.Module,
    rows: Rows,
    spec: ClipSpec,
    accelerator: Any,
    *,
    num_classes: int,
    clips: int = 1,
    crops: Literal[1, 3] = 1,
    batch_size: int = 8,
    workers: int = 0,
) -> Scores:
    """Score every video once, whatever the number of processes; all of them return the same.

    Args:
        model: from clips (B, 3, T, H, W) to logits.
        rows: labelled videos.
        spec: how clips are cut and normalized.
        accelerator: gives the device, the precision and the processes.
        num_classes: number of logits.
        clips, crops: views of a video; their softmax outputs are averaged.
        batch_size: clips of one forward pass, about.
        workers: decoding processes.
    """
    dataset = EvalDataset(
        rows,
        frames=spec.frames,
        stride=spec.stride,
        size=spec.size,
        pixels=pixels_of(spec),
        clips=clips,
        crops=crops,
    )
    was_training = model.training
    model.eval()
    mine: list[tuple[int, np.ndarray]] = []
    failed: list[tuple[int, str]] = []
    loader = eval_loader(
        dataset,
        batch_size=max(1, batch_size // (clips * crops)),
        workers=workers,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    for batch in loader:
        views = batch["views"].to(accelerator.device)
        with accelerator.autocast():
            logits = model(views.flatten(0, 1))
        softmax = logits.double().softmax(dim=1).unflatten(0, views.shape[:2]).mean(dim=1)
        for i, error in enumerate(batch["error"]):
            index = int(batch["index"][i])
            if error is None:
                mine.append((index, softmax[i].cpu().numpy()))
            else:
                failed.append((index, error))
    model.train(was_training)
    if accelerator.num_processes > 1:
        parts: list[Any] = [None] * accelerator.num_processes
        torch.distributed.all_gather_object(parts, (mine, failed))
        mine = [item for part in parts for item in part[0]]
        failed = [item for part in parts for item in part[1]]
    probabilities = np.full((len(rows), num_classes), np.nan)
    for index, values in mine:
        probabilities[index] = values
    return Scores(
        probabilities,
        np.array([-1 if row.label is None else row.label for row in rows.rows], dtype=np.int64),
        [(str(rows.rows[index].path), reason) for index, reason in sorted(failed)],
    )

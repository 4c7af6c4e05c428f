"""Small teachers, and the paper's equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
from support import shake_norms

from vidinit.pipelines.distill.targets import Objective
from vidinit.pipelines.distill.teachers import Teacher

HALF = (0.5, 0.5, 0.5)


def teacher(
    name: str, classes: int, mean=HALF, std=HALF, dtype=torch.float64, **options: Any
) -> Teacher:
    """A MobileNet with ``classes`` logits; other keywords are those of its objective."""
    torch.manual_seed(classes)
    model = timm.create_model("mobilenetv2_050", num_classes=classes)
    shake_norms(model, classes)
    # Logits of a size that makes targets differ.
    model.classifier.weight.data.mul_(3)
    objective = Objective(**options)
    return Teacher(name, model.to(dtype), mean, std, classes, objective=objective, dtype=dtype)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def paper_loss(
    student: np.ndarray,
    frames: np.ndarray,
    *,
    loss: str = "ce",
    temperature: float = 1.0,
    max_entropy: float = np.inf,
    normalize: str = "batch",
) -> float:
    """The loss of one teacher in double precision.

    Args:
        student: logits of its head, (B, C).
        frames: the teacher's logits of each picked frame, (B, K, C).
    """
    z = frames.astype(np.float64).mean(axis=1)
    q = softmax(z / temperature)
    if loss == "ce":
        each = -(q * np.log(softmax(student.astype(np.float64) / temperature))).sum(axis=1)
    else:
        each = ((student - z) ** 2).mean(axis=1)
    kept = -(q * np.log(q)).sum(axis=1) <= max_entropy
    return float((each * kept).sum() / (len(each) if normalize == "batch" else max(kept.sum(), 1)))

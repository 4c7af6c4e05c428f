"""Predictions drawn at random, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidinit.data.rows import Row, Rows
from vidinit.scoring.predictions import Predictions

CLASSES = ("a", "b", "c")


def drawn(kind: Any, videos: int, seed: int, skill: float, **changes: Any) -> Predictions:
    """One view each; labels are the same for all seeds; nobody could read the first video."""
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    one, hot = rng.integers(0, 3, (videos, 2)), rng.random((videos, 3)) < 0.4
    labels: dict[str, list[Any]] = {
        "single": one[:, 0].tolist(),
        "multi": [tuple(np.flatnonzero(row).tolist()) for row in hot],
        "pair": [tuple(pair) for pair in one.tolist()],
    }
    wanted = {
        "single": np.eye(3)[one[:, 0]],
        "multi": hot,
        "pair": np.concatenate([np.eye(3)[one[:, 0]], np.eye(3)[one[:, 1]]], axis=1),
    }[kind]
    logits = own.normal(0, 1, wanted.shape) + skill * wanted
    views = np.ones(videos, dtype=np.int64)
    views[0] = 0
    rows = tuple(Row(f"{i}.mp4", label) for i, label in enumerate(labels[kind]))
    values: dict[str, Any] = {
        "rows": Rows(rows, CLASSES, kind, CLASSES if kind == "pair" else None),
        "logits": logits[1:].astype(np.float32),
        "views": views,
        "reasons": {0: "gone"},
        "undecoded": 1,
        "crops": 1,
        "layout": "1x1",
        "average": "softmax",
        "model": f"runs/{seed}",
        "data": "videos",
        "folder": "/data",
    }
    return Predictions(**{**values, **changes})

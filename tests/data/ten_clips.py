"""What the tests of data sets and loaders share: rows, settings, and files that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vidinit.data.loading import datasets
from vidinit.data.loading.datasets import ClipDataset, EvalDataset
from vidinit.data.pixels.transforms import Augment
from vidinit.data.readers import VideoReadError
from vidinit.data.rows import Row, Rows
from vidinit.data.views import Sampling

PLAIN = Augment(size=32)
# Everything that draws.
MUCH = Augment(
    size=32,
    randaug="rand-m7-n2-mstd0.5-inc1",
    color_jitter=0.4,
    grayscale=0.3,
    erasing=0.5,
)


def ten_rows(folder: Path, write_video: Callable[..., Path]) -> Rows:
    """Ten clips of 6 to 15 frames in two classes."""
    paths = [write_video(folder / f"{n}.mp4", n) for n in range(6, 16)]
    return Rows(tuple(Row(str(path), i % 2) for i, path in enumerate(paths)), ("even", "odd"))


def clips(rows: Rows, **options: Any) -> ClipDataset:
    return ClipDataset(rows, **{"sampling": Sampling(4), "augment": PLAIN, **options})


def views(rows: Rows, **options: Any) -> EvalDataset:
    usual: dict[str, Any] = {
        "sampling": Sampling(4),
        "size": 32,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
    }
    return EvalDataset(rows, **{**usual, **options})


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two items or batches are equal to the bit."""
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]
        for key in a
    )


def all_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    return len(found) == len(expected) and all(map(same, found, expected))


def opening(monkeypatch: pytest.MonkeyPatch, acts: dict[str, Callable[[], object]]) -> None:
    """Have something happen when data sets open a path, before it is opened."""
    really = datasets.open_row

    def open_row(row: Row, **options: Any) -> Any:
        acts.get(row.path, lambda: None)()
        return really(row, **options)

    monkeypatch.setattr(datasets, "open_row", open_row)


def unreadable(path: str, reason: str = "it was said to be bad") -> Callable[[], None]:
    def fail() -> None:
        raise VideoReadError(path, reason)

    return fail

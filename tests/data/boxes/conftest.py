"""What the tests of all forms use: files of text, and boxes as records of plain values."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidinit.data.boxes import BoxPart, read_boxes


def plain(part: BoxPart) -> list[tuple[Any, ...]]:
    """(video, frame or time, corners, actions) of each box, in order."""
    boxes = part.boxes
    when = boxes.frame if boxes.frame is not None else boxes.time
    found = []
    for key in range(len(boxes)):
        video = os.path.basename(part.rows.rows[int(boxes.row[key])].path)
        for m in range(int(boxes.starts[key]), int(boxes.starts[key + 1])):
            labels = boxes.labels[boxes.label_starts[m] : boxes.label_starts[m + 1]].tolist()
            names = tuple(boxes.classes[i] for i in labels)
            found.append((video, when[key].item(), boxes.box[m].tolist(), names))
    return found


@pytest.fixture
def one(recwarn: pytest.WarningsRecorder) -> Callable[..., tuple[BoxPart, str]]:
    """Reads a file that has no parts: the part, and all that was said of it."""

    def read(path: Path, **options: Any) -> tuple[BoxPart, str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            (part,) = read_boxes(path, **{"find": False, **options})
        return part, "\n".join(str(w.message) for w in caught)

    return read

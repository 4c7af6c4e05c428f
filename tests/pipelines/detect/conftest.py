"""A small set of videos with boxes, and a detector that was trained on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxes_support import write_boxes
from support import MODEL

import vidinit

SMALL = ["data.frames=4", "data.stride=1", "data.size=32", "data.batch_size=4", "data.workers=0"]


@pytest.fixture(scope="session")
def box_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """boxes.csv beside four videos of training and two of validation."""
    return write_boxes(tmp_path_factory.mktemp("boxes"), train=4, every=5)


@pytest.fixture(scope="session")
def detector_run(box_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch."""
    out = tmp_path_factory.mktemp("runs") / "boxes"
    settings = [*SMALL, "detect.stride=own"]
    vidinit.finetune(MODEL, task="detect", data=box_set, out=out, epochs=1, overrides=settings)
    return out

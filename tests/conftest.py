from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import vidinit.commands  # noqa: F401  (the module `vidinit.commands.app` must be there to patch)
from support import MODEL, SMALL, moving_bar, write_video

# The processes of the tests share the cores; set before torch is imported, and handed on.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: tests that start processes of their own wait for them."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def _own_allocator() -> Iterator[None]:
    """Commands run inside the test process leave its allocator alone: memory is measured in it."""
    module = sys.modules["vidinit.commands.app"]
    with mock.patch.object(module, "keep_freed_memory", lambda: False):
        yield


@pytest.fixture(scope="session", autouse=True)
def _interrupts() -> Iterator[None]:
    """A shell that starts tests in the background has them, and all they start, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests find of their files does not go into the user's cache."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with mock.patch.dict("os.environ", {"XDG_CACHE_HOME": folder}):
        yield


@pytest.fixture(scope="session")
def motion_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that only motion tells apart: train/ (6 each) and val/ (3 each)."""
    root = tmp_path_factory.mktemp("motion")
    for part, count in (("train", 6), ("val", 3)):
        for name, step in (("left", -4), ("right", 4)):
            for i in range(count):
                seed = i + (100 if part == "val" else 0)
                write_video(root / part / name / f"{i}.mp4", moving_bar(step, seed))
    return root


@pytest.fixture(scope="session")
def picture_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of images, 8 each: red, green and blue grain."""
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir()
        for i in range(8):
            image = rng.integers(0, 120, (40, 40, 3))
            image[..., channel] += 120
            Image.fromarray(image.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def trained(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `finetune` on `motion_set`."""
    import vidinit

    out = tmp_path_factory.mktemp("runs") / "trained"
    vidinit.finetune(MODEL, data=motion_set, out=out, overrides=SMALL, epochs=2)
    return out

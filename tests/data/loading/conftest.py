"""What tests of rows that misbehave need: sound clips, a cache of their own, and a count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from data.ten_clips import ten_rows

from vidinit.data.loading import datasets, workers
from vidinit.data.rows import Row, Rows


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> Rows:
    return ten_rows(tmp_path_factory.mktemp("clips"), write_video)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of all workers that were started; at the end none is left."""
    started = []

    class Worker(workers._Worker):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            started.append(self.process.pid)

    monkeypatch.setattr(workers, "_Worker", Worker)
    yield started
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The frames that are decoded, one list for each call of a reader."""
    calls: list[list[int]] = []
    really = datasets.open_row

    def open_row(row: Row, **options: Any) -> Any:
        reader = really(row, **options)
        get = reader.get
        reader.get = lambda indices: (calls.append(list(map(int, indices))), get(indices))[1]
        return reader

    monkeypatch.setattr(datasets, "open_row", open_row)
    return calls

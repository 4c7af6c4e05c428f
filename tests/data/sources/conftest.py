"""What the tests of all sources use: files that only have to be there, and rows as text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vidinit.data.rows import Rows


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """Makes empty files below the test's folder and returns it."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


@pytest.fixture
def named(tmp_path: Path) -> Callable[[Rows], list[tuple[str, str]]]:
    """(path below the test's folder, class names) of every row."""

    def make(rows: Rows) -> list[tuple[str, str]]:
        found = []
        for row in rows.rows:
            assert rows.classes is not None and isinstance(row.path, str)
            if rows.kind == "pair":
                assert rows.nouns is not None and isinstance(row.label, tuple)
                label = f"{rows.classes[row.label[0]]} {rows.nouns[row.label[1]]}"
            elif rows.kind == "multi":
                assert isinstance(row.label, tuple) and list(row.label) == sorted(row.label)
                label = "+".join(rows.classes[one] for one in row.label)
            else:
                assert isinstance(row.label, int)
                label = rows.classes[row.label]
            found.append((os.path.relpath(row.path, tmp_path).replace(os.sep, "/"), label))
        return found

    return make

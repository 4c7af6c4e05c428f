"""Small videos of textures that move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from data.flow.scenes import translating
from support import write_video

from vidinit.data.readers import probe
from vidinit.data.rows import Row, Rows

MOTIONS = ((3, 0), (-3, 0), (0, 3), (0, -3), (2, 2), (0, 0))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Six videos of 64 x 64 pixels and 8 to 13 frames, probed."""
    folder = tmp_path_factory.mktemp("moving")
    rows = []
    for place, motion in enumerate(MOTIONS):
        frames = translating(*motion, frames=8 + place)
        row = Row(str(write_video(folder / f"{place}.mp4", frames)), place)
        rows.append(replace(row, probe=probe(row.path)))
    return Rows(tuple(rows), tuple("abcdef"))


@pytest.fixture
def own_videos(videos: Rows, tmp_path: Path) -> Rows:
    """A copy of them for one test."""
    rows = []
    for row in videos.rows:
        place = tmp_path / "videos" / Path(row.path).name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(Path(row.path).read_bytes())
        rows.append(replace(row, path=str(place)))
    return videos.of(rows)

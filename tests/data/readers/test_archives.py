from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidinit.data.readers import VideoReadError, archives, open_row, open_video, probe
from vidinit.data.rows import Row

Write = Callable[..., Path]
Codes = Callable[[np.ndarray], list[int]]


@pytest.fixture
def members(tmp_path: Path, write_video: Write) -> dict[str, str]:
    """Paths of videos and an image in an archive, by their names in it."""
    videos = [
        write_video(tmp_path / f"in/a clip{suffix}", 20) for suffix in (".mp4", ".ts", ".gif")
    ]
    Image.new("RGB", (30, 20), "red").save(tmp_path / "in/still.png")
    archive = tmp_path / "shard 0.tar"
    with tarfile.open(archive, "w") as file:
        for path in (*videos, tmp_path / "in/still.png"):
            file.add(path, arcname=f"deep/{path.name}")
    with tarfile.open(archive) as file:
        return {
            Path(info.name).name: archives.member_path(
                archive, info.name, info.offset_data, info.size
            )
            for info in file
        }


@pytest.mark.parametrize("name", ["a.mp4", "a::b@1+2.mp4", "deep/er/ä b.mp4"])
def test_member_paths_come_apart_as_they_were_put_together(name: str) -> None:
    path = archives.member_path("/data/x.tar", name, 512, 99)
    assert path == f"/data/x.tar::{name}@512+99"
    assert archives.parse(path) == archives.Member("/data/x.tar", name, 512, 99)


@pytest.mark.parametrize("path", ["/data/x.tar", "/data/a.mp4", "x.tar::a.mp4", "x.zip::a@1+2"])
def test_other_paths_are_no_member_paths(path: str) -> None:
    assert archives.parse(path) is None


def test_what_no_path_can_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"called \*\.tar"):
        archives.member_path("x.tgz", "a.mp4", 0, 1)


@pytest.mark.parametrize("name", ["a clip.mp4", "a clip.ts", "a clip.gif"])
@pytest.mark.parametrize("reader", ["auto", "pyav"])
def test_members_are_read_where_they_are(
    members: dict[str, str], codes: Codes, name: str, reader: str
) -> None:
    path = members[name]
    assert codes(open_video(path, reader=reader).get([19, 3, 3])) == [19, 3, 3]
    row = Row(path, probe=probe(path))
    assert row.probe is not None and row.probe.num_frames == 20
    assert codes(open_row(row, reader=reader).get([19, 3, 3])) == [19, 3, 3]


def test_images_in_archives_are_videos_of_one_frame(members: dict[str, str]) -> None:
    found = probe(members["still.png"])
    assert (found.num_frames, found.height, found.width, found.reader) == (1, 20, 30, "image")
    assert open_video(members["still.png"]).get([0])[0, 0, 0].tolist() == [255, 0, 0]


def test_damaged_archives_are_the_same_error(members: dict[str, str], tmp_path: Path) -> None:
    member = archives.parse(members["a clip.mp4"])
    assert member is not None
    whole = Path(member.archive).read_bytes()
    short = tmp_path / "short.tar"
    short.write_bytes(whole[: member.offset + 100])
    for archive, size, reason in (
        (short, member.size, f"its archive ends after 100 of its {member.size} bytes"),
        (tmp_path / "none.tar", member.size, "its archive cannot be read"),
        (member.archive, 0, "the file is empty"),
        (member.archive, 50, "no video, or a damaged one"),
    ):
        path = archives.member_path(archive, member.member, member.offset, size)
        with pytest.raises(VideoReadError, match=reason) as caught:
            open_video(path)
        assert caught.value.path == path

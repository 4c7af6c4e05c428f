from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from data.readers.making import codes_of, encode

from vidinit.data.readers import PyAVReader, VideoReadError, open_row, open_video, probe, torchcodec
from vidinit.data.rows import Row
from vidinit.errors import UsageError
from vidinit.extras import install_extra

Write = Callable[..., Path]


def _loads() -> bool:
    try:
        return bool(torchcodec.load())
    except UsageError:
        return False


needed = pytest.mark.skipif(not _loads(), reason="torchcodec is not installed")


@needed
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_frames_are_exact(tmp_path: Path, write_video: Write, suffix: str) -> None:
    path = write_video(tmp_path / f"clip{suffix}", 30)
    video = open_video(path, reader="torchcodec")
    order = [29, 0, 17, 3, 3, 28]
    assert (video.num_frames, video.size) == (30, (48, 96))
    assert video.fps == pytest.approx(25)
    assert codes_of(video.get(order)) == order
    assert video.times() == pytest.approx(PyAVReader(path).times())
    row = Row(str(path), start=0.4, end=0.8, probe=probe(path))
    assert codes_of(open_row(row, reader="torchcodec").get([0, 9])) == [10, 19]


@needed
def test_frames_are_scaled_as_by_other_readers(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", codes=range(20), size=(258, 130))
    frames = [
        open_video(path, reader=name, short_side=64).get([19, 4]).astype(int)
        for name in ("torchcodec", "pyav")
    ]
    assert frames[0].shape == frames[1].shape
    assert np.abs(frames[0] - frames[1]).mean() < 4


@needed
def test_pyav_reads_what_torchcodec_gets_wrong(tmp_path: Path, write_video: Write) -> None:
    path = write_video(tmp_path / "clip.ts", 30)
    assert codes_of(open_video(path, reader="torchcodec").get([29, 4])) == [29, 4]
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoReadError, match="it is no video"):
        open_video(tmp_path / "text.mp4", reader="torchcodec")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    torchcodec.load.cache_clear()
    yield
    torchcodec.load.cache_clear()


def test_it_is_an_error_of_use_where_it_is_missing(
    missing: None, tmp_path: Path, write_video: Write
) -> None:
    path = write_video(tmp_path / "clip.mp4", 5)
    with pytest.raises(UsageError, match="torchcodec is not installed") as caught:
        open_video(path, reader="torchcodec")
    assert install_extra("torchcodec") in caught.value.hint

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.readers.making import FRAMES, codes_of, edited, encode

from vidinit.data.readers import (
    DecordReader,
    PyAVReader,
    VideoReadError,
    decord,
    open_row,
    open_video,
    probe,
)
from vidinit.data.rows import Probe, Row
from vidinit.errors import UsageError

Write = Callable[..., Path]
ORDER = [29, 0, 17, 3, 3, 28, 11]
READERS = ["auto", "pyav", *(["decord"] if decord.load() else [])]
needs_decord = pytest.mark.skipif(decord.load() is None, reason="decord is not installed")


@needs_decord
@pytest.mark.parametrize(
    ("suffix", "codec", "kind"),
    [
        (".mp4", "", DecordReader),
        (".mkv", "", DecordReader),
        (".webm", "", DecordReader),
        (".avi", "", PyAVReader),
        (".avi", "libx264", PyAVReader),
        (".wmv", "wmv2", PyAVReader),
        (".ts", "", PyAVReader),
        (".mpg", "", PyAVReader),
        (".gif", "", PyAVReader),
        (".mp4", "libsvtav1", PyAVReader),
    ],
)
@pytest.mark.parametrize("reader", ["auto", "decord"])
def test_open_video_is_frame_exact_without_a_probe(
    tmp_path: Path, write_video: Write, suffix: str, codec: str, kind: type, reader: str
) -> None:
    video = open_video(write_video(tmp_path / f"clip{suffix}", 30, codec=codec), reader=reader)
    assert isinstance(video, kind if reader == "decord" else PyAVReader)
    assert (video.num_frames, video.size) == (30, (48, 96))
    assert video.fps == pytest.approx(25)
    frames = video.get(ORDER)
    assert (frames.dtype, frames.shape) == (np.uint8, (len(ORDER), 48, 96, 3))
    assert codes_of(frames) == ORDER


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("probed", [True, False])
def test_no_reader_is_let_loose_on_what_it_gets_wrong(
    tmp_path: Path, reader: str, probed: bool
) -> None:
    path = edited(encode(tmp_path / "whole.mp4"), tmp_path / "cut.mp4", (15, 20))
    row = Row(str(path), probe=probe(path) if probed else None)
    video = open_row(row, reader=reader)
    assert isinstance(video, PyAVReader)
    assert codes_of(video.get(range(20))) == FRAMES[15:35]


@needs_decord
@pytest.mark.parametrize("probed", [True, False])
def test_decord_reads_only_where_it_was_asked_for(
    tmp_path: Path, write_video: Write, probed: bool
) -> None:
    path = str(write_video(tmp_path / "clip.mp4", 30))
    row = Row(path, probe=probe(path, reader="decord") if probed else None)
    kinds = {name: type(open_row(row, reader=name)) for name in ("auto", "pyav", "decord")}
    assert kinds == {"auto": PyAVReader, "pyav": PyAVReader, "decord": DecordReader}
    # Nobody has looked whether decord is exact, so it is not used.
    assert isinstance(open_row(Row(path, probe=probe(path)), reader="decord"), PyAVReader)
    assert probe(path) == Probe(30, 25.0, 48, 96, 0, "pyav", "times")


def test_a_probed_file_is_not_examined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(encode(tmp_path / "clip.avi"))
    row = Row(path, probe=probe(path))
    assert row.probe == Probe(40, 25.0, 48, 96, 0, "pyav", "order", full=True)
    monkeypatch.setattr(PyAVReader, "decode_all", None)
    assert codes_of(open_row(row).get(ORDER)) == ORDER
    assert codes_of(open_row(row, short_side=24).get(ORDER)) == ORDER
    assert open_row(row).times() == pytest.approx(np.arange(40) / 25)


def test_the_probe_clamps_the_frames(tmp_path: Path, write_video: Write) -> None:
    path = str(write_video(tmp_path / "clip.mp4", 30))
    found = probe(path)
    video = open_row(Row(path, probe=replace(found, num_frames=20)))
    assert (video.num_frames, len(video.times()), video.size) == (20, 20, (48, 96))
    with pytest.raises(VideoReadError, match="it has 20 frames, no frame 20"):
        video.get([0, 20])
    assert open_row(Row(path, probe=replace(found, num_frames=31))).num_frames == 30


@pytest.mark.parametrize("probed", [True, False])
@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (None, None, range(40)),
        (0.4, 0.8, range(10, 20)),
        (None, 0.2, range(5)),
        (1.0, None, range(25, 40)),
        (0.4004, 0.7996, range(10, 20)),  # rounded to milliseconds somewhere
        (0.41, 0.43, [10]),  # no frame begins in it: the one on screen
        (1.5, 9.0, range(38, 40)),
        (1.59, 9.0, [39]),
    ],
)
def test_segments(
    tmp_path: Path, start: float | None, end: float | None, frames: range, probed: bool
) -> None:
    path = str(encode(tmp_path / "clip.mp4"))
    video = open_row(Row(path, start=start, end=end, probe=probe(path) if probed else None))
    assert video.num_frames == len(frames)
    assert codes_of(video.get(range(video.num_frames))) == list(frames)
    assert video.times() == pytest.approx(np.arange(len(frames)) / 25, abs=1e-6)
    assert (video.fps, video.size) == (25.0, (48, 96))


@pytest.mark.parametrize("probed", [True, False])
def test_segments_of_a_file_without_times_go_by_its_rate(tmp_path: Path, probed: bool) -> None:
    path = str(encode(tmp_path / "b-frames.avi"))
    video = open_row(Row(path, start=0.4, end=0.8, probe=probe(path) if probed else None))
    assert codes_of(video.get(range(10))) == list(range(10, 20))
    assert video.times() == pytest.approx(np.arange(10) / 25)


def test_segments_go_by_the_times_of_the_frames(tmp_path: Path) -> None:
    path = str(encode(tmp_path / "a.mkv", codes=range(6), times=[0, 40, 41, 300, 333, 1000]))
    video = open_row(Row(path, start=0.041, end=1.0))
    assert codes_of(video.get(range(video.num_frames))) == [2, 3, 4]
    assert video.times() == pytest.approx([0, 0.259, 0.292], abs=1e-3)


def test_a_segment_behind_the_end_is_an_error(tmp_path: Path, write_video: Write) -> None:
    path = str(write_video(tmp_path / "clip.mp4", 30))
    with pytest.raises(VideoReadError, match=r"ends at 1\.20 s, before its segment begins at 2 s"):
        open_row(Row(path, start=2.0, end=3.0))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_out_of_range_is_an_error(
    tmp_path: Path, write_video: Write, reader: str, index: int
) -> None:
    video = open_video(write_video(tmp_path / "clip.mp4", 10), reader=reader)
    with pytest.raises(VideoReadError, match=f"it has 10 frames, no frame {index}"):
        video.get([0, index])


def test_an_unknown_reader_is_an_error_of_use(tmp_path: Path, write_video: Write) -> None:
    path = str(write_video(tmp_path / "clip.mp4", 10))
    for row in (Row(path), Row(path, probe=probe(path))):
        with pytest.raises(UsageError, match="no reader 'decort'") as caught:
            open_row(row, reader="decort")
        assert "'decord'" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "the file is empty"),
        ("text", "it is no video, or a damaged one"),
        ("image", "it is a still image under a video's name"),
        ("cut", "it is no video, or a damaged one"),
        ("cut_faststart", r"it is cut off: \d+ of 60 frames"),
        ("audio", "it has no video stream"),
        ("missing", "no such file"),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_bad_files_fail_to_open_quietly(
    bad_files: dict[str, Path],
    name: str,
    reason: str,
    reader: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = str(bad_files[name])
    for ask in (lambda: open_video(path, reader=reader), lambda: probe(path)):
        with pytest.raises(VideoReadError, match=reason) as caught:
            ask()
        assert caught.value.path == path
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("full", [True, False])
def test_of_a_damaged_file_the_beginning_is_found(bad_files: dict[str, Path], full: bool) -> None:
    path = str(bad_files["zeroed"])
    found = probe(path, full=full)
    assert 5 <= found.num_frames < found.total == 60
    assert found.full, "only that tells where the damage is"
    assert found.kept == f"kept {found.num_frames} of 60 frames ({found.fault})"
    video = open_row(Row(path, probe=found))
    order = list(range(found.num_frames))[::-1]
    assert codes_of(video.get(order)) == order
    with pytest.raises(VideoReadError, match=f"it has {found.num_frames} frames"):
        video.get([found.num_frames])


def test_a_damaged_frame_fails_to_decode(bad_files: dict[str, Path]) -> None:
    with pytest.raises(VideoReadError, match=r"frame \d+ does not decode"):
        open_video(bad_files["zeroed"]).get([0, 59])


def test_a_segment_behind_the_damage_says_so(bad_files: dict[str, Path]) -> None:
    path = str(bad_files["zeroed"])
    row = Row(path, start=2.0, end=2.2, probe=probe(path))
    with pytest.raises(VideoReadError, match=r"ends at .* before .* \(frame \d+ does not decode"):
        open_row(row)


@pytest.mark.parametrize("name", ["b:1.mp4", "file:a.mp4", "%03d.mp4", os.fsdecode(b"caf\xe9.mp4")])
@pytest.mark.parametrize("reader", READERS)
def test_names_that_mean_something_else_to_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reader: str
) -> None:
    encode(tmp_path / "plain.mp4", codes=range(10)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    row = Row(name, probe=probe(name))
    for video in (open_video(name, reader=reader), open_row(row, reader=reader)):
        assert codes_of(video.get([7, 2])) == [7, 2]


def test_a_file_that_vanished_since_its_probe(tmp_path: Path, write_video: Write) -> None:
    path = write_video(tmp_path / "clip.mp4", 10)
    row = Row(str(path), probe=probe(path))
    path.unlink()
    with pytest.raises(VideoReadError, match="no such file"):
        open_row(row)

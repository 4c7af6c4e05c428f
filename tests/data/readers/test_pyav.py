from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from data.readers.making import FRAMES, OPEN, X264, codes_of, edited, encode, noisy

from vidinit.data.readers import PyAVReader, VideoReadError, lengths, open_row, probe, pyav
from vidinit.data.rows import Row

Write = Callable[..., Path]
ORDER = [29, 0, 17, 3, 3, 28, 11]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi", ".ts", ".mkv", ".gif"])
def test_frames_are_exact_in_any_order(tmp_path: Path, write_video: Write, suffix: str) -> None:
    video = PyAVReader(write_video(tmp_path / f"clip{suffix}", 30))
    assert video.num_frames == 30
    for _ in range(2):  # the second time the decoder stands somewhere
        assert codes_of(video.get(np.array(ORDER))) == ORDER


@pytest.mark.parametrize("options", [{**X264, "g": "10"}, OPEN])
def test_each_frame_is_exact_on_its_own(tmp_path: Path, options: dict[str, str]) -> None:
    video = PyAVReader(encode(tmp_path / "clip.mp4", **options))
    assert [codes_of(video.get([index]))[0] for index in reversed(FRAMES)] == FRAMES[::-1]


@pytest.fixture
def packets_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Times of the packets that go to a decoder."""
    read: list[int] = []
    demux = PyAVReader._demux

    def counted(self: PyAVReader) -> Iterator[Any]:
        for packet in demux(self):
            read.append(packet.pts)
            yield packet

    monkeypatch.setattr(PyAVReader, "_demux", counted)
    return read


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_reading_starts_at_a_key_frame(
    tmp_path: Path, packets_read: list[int], suffix: str
) -> None:
    options = {"preset": "veryfast", "x264-params": "keyint=10:min-keyint=10:scenecut=0"}
    video = PyAVReader(encode(tmp_path / f"clip{suffix}", codes=range(100), **options))
    assert codes_of(video.get([95, 12])) == [95, 12]
    assert len(packets_read) < 40


def test_avi_with_b_frames_is_entered_at_a_key_frame(
    tmp_path: Path, packets_read: list[int]
) -> None:
    path = encode(tmp_path / "a.avi", codes=range(100), **{**X264, "g": "10"})
    found = probe(path)
    assert found.access == "order"
    packets_read.clear()
    video = open_row(Row(str(path), probe=found))
    assert codes_of(video.get([95, 12])) == [95, 12]
    assert len(packets_read) < 40
    assert video.times() == pytest.approx(np.arange(100) / 25)


def test_a_frame_that_silently_does_not_come_out_moves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some decoders make no frame of a packet and report no error."""
    decode = pyav._decode
    monkeypatch.setattr(
        pyav, "_decode", lambda packets: (f for f in decode(packets) if f.pts not in (7, 11))
    )
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p")
    video = PyAVReader(path, num_frames=99)
    assert (video.num_frames, video.access) == (40, "times")
    assert codes_of(video.get([39, 12])) == [39, 12]
    with pytest.raises(VideoReadError, match="frame 7 does not decode"):
        video.get([7])
    assert video.decode_to_fault() == ""
    there = [at for at in FRAMES if at not in (7, 11)]
    assert (video.num_frames, video.access) == (38, "start")
    assert codes_of(video.get([37, 7, 6])) == [there[37], there[7], there[6]]


@pytest.mark.parametrize(("suffix", "options"), [(".mp4", X264), (".avi", OPEN), (".ts", X264)])
def test_a_reader_goes_on_where_it_stands(
    tmp_path: Path, packets_read: list[int], suffix: str, options: dict[str, str]
) -> None:
    path = str(encode(tmp_path / f"clip{suffix}", codes=range(100), **{**options}))
    row = Row(path, probe=probe(path))
    packets_read.clear()
    video = open_row(row)
    shown = [codes_of(video.get(range(at, at + 8))) for at in range(0, 96, 8)]
    assert shown == [list(range(at, at + 8)) for at in range(0, 96, 8)]
    assert len(packets_read) < 130, "each was decoded once"
    assert codes_of(video.get([3])) == [3]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.wmv", "wmv2")]
)
def test_a_file_that_ends_before_its_container_says_is_cut_off(
    tmp_path: Path, name: str, codec: str
) -> None:
    whole = encode(tmp_path / name, codec, paint=noisy)
    with av.open(str(whole)) as container:
        kind = container.format.name
        stored = [packet for packet in container.demux(video=0) if packet.size]
    data = whole.read_bytes()
    assert not lengths.is_cut(kind, str(whole)) and not lengths.is_cut(kind, data)
    short = tmp_path / f"cut{name}"
    short.write_bytes(data[: (stored[20].pos or 0) + 2])
    assert lengths.is_cut(kind, str(short)) and lengths.is_cut(kind, short.read_bytes())
    with pytest.raises(VideoReadError, match="it is cut off"):
        PyAVReader(short)
    assert 5 < PyAVReader(short, num_frames=99).num_frames <= 21
    known = PyAVReader(short, num_frames=6)
    assert codes_of(known.get([5, 0])) == [5, 0]


@pytest.mark.parametrize("kind", ["avi", "matroska,webm", "asf", "flv"])
def test_of_a_strange_header_nothing_is_said(kind: str) -> None:
    for head in (b"", b"RIFF", b"\x1aE\xdf\xa3", b"\x1aE\xdf\xa3\x00\xff", bytes(100)):
        assert not lengths.is_cut(kind, head)


def test_a_container_that_cannot_be_entered_is_read_from_its_start(
    tmp_path: Path, packets_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = PyAVReader(encode(tmp_path / "clip.mp4", **{**X264, "g": "10"}))
    monkeypatch.setattr(PyAVReader, "_from_key", _nowhere)
    assert codes_of(video.get([39, 20])) == [39, 20]
    assert len(packets_read) >= 40


def test_a_known_number_of_frames_is_not_counted_again(
    tmp_path: Path, packets_read: list[int]
) -> None:
    path = str(encode(tmp_path / "clip.ts"))
    row = Row(path, probe=probe(path))
    packets_read.clear()
    video = open_row(row)
    assert (video.num_frames, video.fps) == (40, 25.0)
    assert codes_of(video.get([9, 3])) == [9, 3]
    assert len(packets_read) < 20
    assert video.times() == pytest.approx(np.arange(40) / 25)


def _nowhere(self: PyAVReader, key: int) -> Iterator[tuple[int, Any]]:
    yield from ()


def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    times = [0, 40, 41, 300, 333, 1000]
    paths = [
        encode(tmp_path / f"a{suffix}", codes=range(6), times=times) for suffix in (".mp4", ".mkv")
    ]
    for path in paths:
        assert PyAVReader(path).times() == pytest.approx(np.array(times) / 1000, abs=1e-3)
    cut = edited(encode(tmp_path / "b.mp4"), tmp_path / "cut.mp4", (15, 20))
    assert PyAVReader(cut).times() == pytest.approx(np.arange(20) / 25)
    ts = PyAVReader(encode(tmp_path / "b.ts"))
    assert (ts.times(), ts.fps) == (pytest.approx(np.arange(40) / 25), 25.0)


def test_bits_that_flip_are_no_frames(tmp_path: Path) -> None:
    """What the decoder patches up is an error, for the frame and for those built on it."""
    path = encode(tmp_path / "clip.mp4", codes=range(40), preset="veryfast", crf="18", bf="0")
    clean = PyAVReader(path).get(FRAMES)
    content = path.read_bytes()
    with av.open(str(path)) as container:
        where = [packet.pos for packet in container.demux(video=0) if packet.size]
    errors = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        at = int(rng.integers(where[10] + 5, where[39]))
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            frames = PyAVReader(path).get(FRAMES)
        except VideoReadError as error:
            assert "does not decode" in error.reason
            errors += 1
        else:
            assert codes_of(frames[:10]) == codes_of(clean[:10])
    assert errors > 20


def test_a_header_without_frames_is_an_error(tmp_path: Path, write_video: Write) -> None:
    fragmented = write_video(tmp_path / "clip.mp4", 10, movflags="frag_keyframe+empty_moov")
    data = fragmented.read_bytes()
    header = tmp_path / "header.mp4"
    header.write_bytes(data[: data.index(b"moof") - 4])
    with pytest.raises(VideoReadError, match="it has no frame"):
        PyAVReader(header)


def test_a_frame_size_that_changes_is_an_error(tmp_path: Path, write_video: Write) -> None:
    parts = [write_video(tmp_path / f"{width}.ts", 10, width=width) for width in (96, 64)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert PyAVReader(joined).get([1, 4]).shape == (2, 48, 96, 3)
    with pytest.raises(VideoReadError, match="its frame size changes"):
        PyAVReader(joined).get([1, 15])

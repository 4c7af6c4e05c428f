"""Videos whose every frame says which one it is, and files that are broken in known ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

BITS, BLOCK, HEIGHT = 8, 12, 48
# The codec of a suffix where libx264 is not the usual one.
CODECS = {
    ".avi": ("mpeg4", "yuv420p"),
    ".gif": ("gif", "rgb8"),
    ".mpg": ("mpeg2video", "yuv420p"),
    ".webm": ("libvpx-vp9", "yuv420p"),
}


def barcode(index: int) -> np.ndarray:
    """A frame (48, 96, 3) with ``index`` in eight black or white columns, low bit first."""
    bits = np.array([255 * (index >> bit & 1) for bit in range(BITS)], dtype=np.uint8)
    return np.broadcast_to(np.repeat(bits, BLOCK)[None, :, None], (HEIGHT, BITS * BLOCK, 3)).copy()


def write(
    path: Path, num_frames: int, *, codec: str = "", width: int = BITS * BLOCK, **options: str
) -> Path:
    """Write barcode frames, 25 a second; ``options`` go to the container (movflags)."""
    default, pixel_format = CODECS.get(path.suffix, ("libx264", "yuv420p"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec or default, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, HEIGHT, pixel_format
        for index in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(barcode(index), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def codes() -> Callable[[np.ndarray], list[int]]:
    """Reads the frame numbers back from uint8 (T, 48, 96, 3)."""

    def read(frames: np.ndarray) -> list[int]:
        middles = frames[:, HEIGHT // 2, BLOCK // 2 :: BLOCK, 0].astype(int) > 127
        return [int(sum(1 << bit for bit in np.flatnonzero(row))) for row in middles]

    return read


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind of damage, by name; none of them is a readable video."""
    folder = tmp_path_factory.mktemp("bad")
    plain = write(folder / "plain.mp4", 60)
    fast = write(folder / "fast.mp4", 60, movflags="faststart")
    files = {
        name: folder / f"{name}.mp4"
        for name in ("empty", "text", "image", "cut", "cut_faststart", "zeroed", "audio", "missing")
    }
    files["empty"].write_bytes(b"")
    files["text"].write_text("not a video\n" * 100)
    Image.new("RGB", (64, 48)).save(files["image"], format="jpeg")
    files["cut"].write_bytes(plain.read_bytes()[: plain.stat().st_size // 2])
    files["cut_faststart"].write_bytes(fast.read_bytes()[: fast.stat().st_size // 2])
    data = bytearray(plain.read_bytes())
    start, end = data.index(b"mdat") + 1500, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    files["zeroed"].write_bytes(data)
    with av.open(str(files["audio"]), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    plain.unlink()
    fast.unlink()
    return files


@pytest.fixture(name="write")
def text_files(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a text file below the test's folder and returns its path."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make

"""One video becomes an mp4 that every reader reads fast and exactly.

What costs decoding time is the way to a frame from the key frame before it, so there is one every
``gop`` frames. The rest is x264's ``fastdecode``: no B-frames, no arithmetic coding, no deblocking.
Without B-frames the frames are stored in the order in which they are shown, so the file needs no
edit list, and no frame leans on the group before its own: simple readers get these two wrong.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ..killable import whole_file
from ..readers import FramesReader, PyAVReader, VideoReadError, probe, scaled_size
from ..readers.packets import av_reason
from ..rows import Probe

# Frames a second of what has no time of its own: folders of images.
UNTIMED_RATE = 25
# The most frames that are written for one of the source, however uneven their times are.
_MOST_REPEATS = 2
# The disk does not take more files: the source is not to blame, and the next would fare no better.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})
_SMPTE170M = 6  # matrix coefficients of ITU-T H.273; the ones that swscale gives RGB


@dataclass(frozen=True)
class Encoding:
    """How files are encoded.

    Attributes:
        short_side: of the picture in pixels, rounded down to even; smaller ones stay as they are.
        gop: frames from one key frame to the next.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        fps: frames per second; None keeps the source's.
    """

    short_side: int = 256
    gop: int = 12
    crf: int = 20
    fps: float | None = None


def encode_item(item: dict[str, Any]) -> dict[str, Any]:
    """Encode one file, as an item of `pool.run_in_pool`, and put it in its place when it is whole.

    Args:
        item: ``source``, ``target``, ``partial`` (where the file grows, on the disk of ``target``),
            ``encoding``, and ``keep``: copy the beginning of a damaged source.

    Returns:
        ``{"bytes": size}``, with ``{"kept", "of", "reason"}`` where the copy is of the beginning of
        its source; or ``{"stopped": why}`` where the disk takes no more files.

    Raises:
        VideoReadError: the source cannot be read from its first frame to its last.
    """
    source, partial, target = item["source"], Path(item["partial"]), Path(item["target"])
    encoding, kept = Encoding(**item["encoding"]), {}
    try:
        with whole_file(partial, target):
            try:
                encode(source, partial, encoding)
            except VideoReadError:
                if not item["keep"] or os.path.isdir(source):
                    raise
                found = probe(source, full=True)
                if not found.fault:
                    raise
                encode(source, partial, encoding, found)
                kept = {"kept": found.num_frames, "of": found.total, "reason": found.fault}
            size = partial.stat().st_size
    except (OSError, av.FFmpegError) as error:
        if error.errno in _DISK_ERRORS:
            return {"stopped": av_reason(error)}
        raise VideoReadError(source, f"its copy cannot be written ({av_reason(error)})") from error
    except (ValueError, MemoryError) as error:  # pixels that cannot be converted, or too many
        raise VideoReadError(source, f"it cannot be encoded ({error})") from error
    return {"bytes": size, **kept}


def encode(source: str, target: Path, encoding: Encoding, beginning: Probe | None = None) -> int:
    """Write a video file, a member of a tar archive or a folder of images as h264 in an mp4.

    The picture is upright, with square pixels, even sides and 8 bits; its colors keep their range
    and matrix. Frames that come at a steady rate are all written; for others see `constant_rate`.
    With ``beginning`` the source ends where that was found to be damaged.

    Returns:
        How many frames were written.

    Raises:
        VideoReadError: a frame of the source does not decode.
        OSError, av.FFmpegError: ``target`` cannot be written.
    """
    reader: FramesReader | _FileReader
    if os.path.isdir(source):
        reader = FramesReader(source)
    elif beginning is None:
        reader = _FileReader(source)
    else:
        count, access = beginning.num_frames, beginning.access
        reader = _FileReader(source, num_frames=count, access=access)
    rate, picks = constant_rate(reader.times(), reader.fps, encoding.fps)
    repeats = np.bincount(picks, minlength=reader.num_frames).tolist()
    frames = reader.frames() if isinstance(reader, _FileReader) else _images(reader)
    first = next(frames)
    aspect = reader.aspect if isinstance(reader, _FileReader) else Fraction(1)
    fit = _Fit(first, aspect, encoding.short_side)
    with _Writer(target, rate, fit, encoding) as writer:
        for frame, times in zip(itertools.chain([first], frames), repeats, strict=True):
            picture = fit(frame) if times else None
            for _ in range(times):
                writer.add(picture)
    _check_whole(target, len(picks))
    return len(picks)


def constant_rate(
    times: np.ndarray, fps: float, wanted: float | None = None
) -> tuple[Fraction, np.ndarray]:
    """A constant rate for frames, and which of them to show at each of its ticks.

    Where ``fps`` has a tick for every frame that is less than half a tick away from it, that is the
    rate, and every frame is shown once. Otherwise the rate is that of the usual step (the mean of
    those within a quarter of the median), so that pauses become repeats and motion keeps its
    frames; if that made more than twice as many frames, it is the average. The frame shown is the
    nearest in time, of two the earlier.

    Args:
        times: when each frame is shown, (N,) ascending, in seconds from the first; all 0 where
            there is no time.
        fps: what the container says, 0 where it does not.
        wanted: another rate, at which each lasts as long; without time, the rate.

    Returns:
        frames per second, and indices int64 (M,), ascending.
    """
    count = len(times)
    nominal = _fraction(fps) if fps > 0 else Fraction(UNTIMED_RATE)
    if times[-1] <= 0:
        return (nominal if wanted is None else _fraction(wanted)), np.arange(count)
    if np.ptp(times * float(nominal) - np.arange(count)) < 1:
        rate, times = nominal, np.arange(count) / float(nominal)
    else:
        rate = _fraction(_usual_rate(times))
    ticks = round(times[-1] * float(rate)) + 1
    if wanted is not None:
        ticks = max(round(ticks * wanted / float(rate)), 1)
        rate = _fraction(wanted)
    middles = (times[1:] + times[:-1]) / 2
    return rate, np.searchsorted(middles, np.arange(ticks) / float(rate))


def _usual_rate(times: np.ndarray) -> float:
    steps = np.sort(np.diff(times))
    steps = steps[steps > 0]
    median = steps[(len(steps) - 1) // 2]
    rate = 1 / float(steps[np.abs(steps - median) <= median / 4].mean())
    most = _MOST_REPEATS * len(times)
    return rate if rate * times[-1] < most else (len(times) - 1) / float(times[-1])


def _fraction(rate: float) -> Fraction:
    """A rate as containers have it: 29.97 is 30000/1001."""
    return max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))


class _FileReader(PyAVReader):
    """A video file whose frames are wanted as the decoder gives them."""

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel over its height."""
        return self._stream.sample_aspect_ratio or Fraction(1)

    def frames(self) -> Iterator[Any]:
        """All frames in order.

        Raises:
            VideoReadError: one does not decode.
        """
        position, reason = 0, "it is not there"
        try:
            for index, frame in self.from_start():
                if index != position or frame.is_corrupt:
                    reason = "it is damaged"
                    break
                yield frame
                position += 1
                if position == self.num_frames:
                    return
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = av_reason(error)
        raise VideoReadError(self.path, f"frame {position} does not decode ({reason})")


def _images(reader: FramesReader) -> Iterator[Any]:
    for index in range(reader.num_frames):
        yield av.VideoFrame.from_ndarray(reader.get([index])[0], format="rgb24")


class _Fit:
    """Makes the frames of a video upright pictures of one size, with square pixels.

    Args:
        first: the first frame; others may differ from it in size.
        aspect: width of a pixel over its height.
        short_side: of the picture; it is never enlarged.

    Attributes:
        size: width and height of the pictures.
        colors: their tags, as attributes of the encoder.
    """

    def __init__(self, first: Any, aspect: Fraction, short_side: int) -> None:
        width, height = first.width, first.height
        # The longer direction of a pixel shrinks, because nothing is enlarged.
        height, width = round(height / max(aspect, 1)), round(width * min(aspect, 1))
        height, width = scaled_size(max(height, 1), max(width, 1), short_side)
        self._before = max(width // 2 * 2, 2), max(height // 2 * 2, 2)
        self._turns = round(first.rotation / 90)  # counterclockwise
        self.size = self._before[::-1] if self._turns % 2 else self._before
        self._reformatter = VideoReformatter()
        rgb = first.format.is_rgb or first.format.has_palette
        full = first.color_range == ColorRange.JPEG or first.format.name.startswith("yuvj")
        self._to = {
            "dst_color_range": ColorRange.JPEG if full and not rgb else ColorRange.MPEG,
            **({"dst_colorspace": Colorspace.SMPTE170M} if rgb else {}),
        }
        self.colors = {
            "color_range": self._to["dst_color_range"],
            "colorspace": _SMPTE170M if rgb else first.colorspace,
            "color_primaries": first.color_primaries,
            "color_trc": first.color_trc,
        }

    def __call__(self, frame: Any) -> Any:
        """The frame as an 8-bit picture with halved color (yuv420p)."""
        picture = self._reformatter.reformat(
            frame,
            *self._before,
            "yuv420p",
            interpolation=Interpolation.BICUBIC,
            threads=1,
            **self._to,
        )
        return self._turned(picture) if self._turns else picture

    def _turned(self, picture: Any) -> Any:
        width, height = self._before
        flat = picture.to_ndarray().reshape(-1)
        shapes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
        ends = np.cumsum([h * w for h, w in shapes])[:-1]
        planes = [
            np.rot90(plane.reshape(shape), self._turns).reshape(-1)
            for plane, shape in zip(np.split(flat, ends), shapes, strict=True)
        ]
        width, height = self.size
        stacked = np.concatenate(planes).reshape(height * 3 // 2, width)
        return av.VideoFrame.from_ndarray(stacked, format="yuv420p")


class _Writer:
    """An mp4 that grows picture by picture; leaving it completes the file."""

    def __init__(self, target: Path, rate: Fraction, fit: _Fit, encoding: Encoding) -> None:
        self._count = 0
        # `faststart`: the index stands at the beginning, so a cut-off file is recognized at once.
        self._container = av.open(
            str(target), "w", format="mp4", options={"movflags": "faststart", "use_editlist": "0"}
        )
        self._stream: Any = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = fit.size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = 1
        context.max_b_frames = 0
        context.gop_size = encoding.gop
        for name, value in fit.colors.items():
            setattr(context, name, value)
        groups = f"keyint={encoding.gop}:min-keyint={encoding.gop}:scenecut=0:open-gop=0:bframes=0"
        context.options = {
            "preset": "veryfast",
            "tune": "fastdecode",
            "crf": str(encoding.crf),
            "x264-params": groups,
        }

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # the file is given up, whatever else there is to say of it
            with contextlib.suppress(OSError, av.FFmpegError):
                self._container.close()
            return
        self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, picture: Any) -> None:
        picture.pts, picture.time_base = self._count, 1 / self._stream.codec_context.framerate
        picture.pict_type = PictureType.NONE  # the kind it had is not the kind it gets
        self._container.mux(self._stream.encode(picture))
        self._count += 1


def _check_whole(target: Path, frames: int) -> None:
    """Count what was written: not every error of a disk reaches the muxer's caller."""
    with av.open(str(target)) as container:
        found = sum(1 for packet in container.demux(video=0) if packet.size)
    if found != frames:
        raise OSError(errno.EIO, f"{found} of {frames} frames were written")

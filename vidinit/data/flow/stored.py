"""Optical flow on disk: a file beside each video, with a frame of both components per frame.

FFV1 keeps every value as it is, and every frame by itself, so that any can be read at once. The
vertical component lies below the horizontal one in a gray picture of double height.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..readers import VideoReadError, archives, scaled_size
from ..readers.base import check_indices, gather
from ..readers.packets import AV_ERRORS, av_reason, open_container
from ..rows import Row
from .settings import Flow

FOLDER = ".flow"
"""Beside the videos; hidden, so that nobody takes what is in it for videos."""

_RATE = 25  # of the file, which has no time of its own


def file_of(path: str, flow: Flow) -> str | None:
    """Where the flow of a video is kept: ``a/b.mp4`` has ``a/.flow/b.mp4.dis-20.avi``.

    None for members of archives, and for flow that is more than its name says (weights of RAFT).
    """
    if archives.parse(path) is not None or flow.weights is not None:
        return None
    folder, name = os.path.split(os.path.normpath(path))
    return os.path.join(folder, FOLDER, f"{name}.{flow.method}-{flow.bound:g}.avi")


def usable_file(path: str, flow: Flow) -> str | None:
    """`file_of`, if it is there and not older than the video."""
    place = file_of(path, flow)
    if place is None:
        return None
    try:
        fresh = os.stat(place).st_mtime_ns >= os.stat(path).st_mtime_ns
    except OSError:
        return None
    return place if fresh else None


def stored_flow(row: Row, flow: Flow, short_side: int | None = None) -> str | None:
    """The file with the flow of a row's video as it is decoded; None where it must be estimated.

    Args:
        row: of a video that was probed; for others nobody knows what a file should hold.
        flow: how it is estimated.
        short_side: what frames are scaled to, see `readers.open_row`; files are of whole frames.
    """
    if row.probe is None:
        return None
    size = row.probe.height, row.probe.width
    return usable_file(row.path, flow) if scaled_size(*size, short_side) == size else None


def write_flow(target: Path, frames: Iterable[np.ndarray]) -> int:
    """Write frames of flow, uint8 (H, W, 2) each; their number.

    Raises:
        OSError, av.FFmpegError: it cannot be written.
    """
    count = 0
    with av.open(str(target), "w", format="avi") as container:
        stream: Any = container.add_stream("ffv1", rate=_RATE)
        context = stream.codec_context
        stream.pix_fmt = "gray"
        context.thread_count = 1
        context.gop_size = 1
        # The range coder with the larger context: a third smaller than the defaults.
        context.options = {"level": "3", "coder": "range_def", "context": "1"}
        for flow in frames:
            picture = np.concatenate([flow[..., 0], flow[..., 1]])
            if count == 0:
                stream.height, stream.width = picture.shape
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts = count
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    return count


class FlowFile:
    """A file of `write_flow`.

    Attributes:
        num_frames: how many it has.
        size: height and width of a frame of flow.

    Raises:
        VideoReadError: it is none.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._container, self._stream = open_container(path, path)
        self.num_frames = int(self._stream.frames)
        self.size = self._stream.height // 2, int(self._stream.width)
        step = 1 / (_RATE * self._stream.time_base) if self._stream.time_base else 0
        self._step = int(step)  # from frame to frame, in the container's time
        if self._stream.codec_context.name != "ffv1" or self._step != step or not self._step:
            raise VideoReadError(path, "it holds no optical flow")

    def __del__(self) -> None:
        # What PyAV makes refers to each other, so files would stay open until a collection.
        with contextlib.suppress(AttributeError):
            self._container.close()

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Flow at ``indices``, uint8 (T, H, W, 2).

        Raises:
            VideoReadError: a frame does not decode.
        """
        return gather(self.path, check_indices(self.path, indices, self.num_frames), self._read)

    def _read(self, order: list[int]) -> Iterator[np.ndarray]:
        """Pictures at ascending indices."""
        frames: Iterator[Any] = iter(())
        position = -2
        for index in order:
            try:
                if index != position + 1:
                    self._container.seek(index * self._step, stream=self._stream)
                    frames = self._container.decode(self._stream)
                frame = next(frames, None)
            except AV_ERRORS as error:
                raise VideoReadError(
                    self.path, f"frame {index} does not decode ({av_reason(error)})"
                ) from error
            if frame is None or frame.pts != index * self._step or frame.is_corrupt:
                raise VideoReadError(self.path, f"frame {index} is not there")
            position = index
            picture = frame.to_ndarray()
            yield np.stack(np.split(picture, 2), axis=-1)

"""A video as optical flow, through the same interface as its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..readers import Reader, VideoReadError
from ..readers.base import check_indices
from ..readers.opening import Segment
from ..rows import Row
from .methods import FlowError, estimate_flow
from .settings import STILL, Flow, quantize
from .stored import FlowFile, stored_flow


class FlowReader:
    """The optical flow of an open video; see `data.flow` for what its frames are.

    Args:
        path: of the video, for errors.
        video: its frames.
        flow: how its flow is estimated.
        stored: its flow in a file, where there is one.
        first: which frame of the file is the video's first.
    """

    def __init__(
        self, path: str, video: Reader, flow: Flow, stored: FlowFile | None = None, first: int = 0
    ) -> None:
        self.path = path
        self.num_frames = video.num_frames
        self._video, self._flow, self._stored, self._first = video, flow, stored, first

    @property
    def fps(self) -> float:
        """Average frames per second of the video."""
        return self._video.fps

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames of `get`."""
        return self._video.size

    def times(self) -> np.ndarray:
        """When each frame is shown, float64 (num_frames,), in seconds from the first one."""
        return self._video.times()

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Flow at ``indices`` (any order, repeats allowed), uint8 (T, H, W, 2).

        Raises:
            VideoReadError: see `base.Reader`; or there is no flow of frames so small.
        """
        wanted = np.array(check_indices(self.path, indices, self.num_frames))
        found = self._read(wanted)
        return self.both(wanted)[1] if found is None else found

    def both(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB frames (T, H, W, 3) and flow (T, H, W, 2) at ``indices``, from one decode."""
        wanted = np.array(check_indices(self.path, indices, self.num_frames))
        found = self._read(wanted)
        if found is not None:
            frames = self._video.get(wanted)
            if frames.shape[1:3] == found.shape[1:3]:
                return frames, found
        starts = self._starts(wanted)
        order = np.unique([*wanted, *starts, *(starts + (self.num_frames > 1))])
        frames = self._video.get(order)
        shown = frames if np.array_equal(order, wanted) else frames[np.searchsorted(order, wanted)]
        return shown, self._estimate(frames, np.searchsorted(order, starts))

    def _starts(self, wanted: np.ndarray) -> np.ndarray:
        """From which frames the flow at some frames comes: the last one has none of its own."""
        return np.clip(wanted, 0, max(self.num_frames - 2, 0))

    def _read(self, wanted: np.ndarray) -> np.ndarray | None:
        """Flow out of the file; None where there is none that can be read."""
        if self._stored is None or self.num_frames == 1:  # a picture does not move
            return None
        try:
            return self._stored.get(self._first + self._starts(wanted))
        except VideoReadError:  # the file is only a short cut
            self._stored = None
            return None

    def _estimate(self, frames: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Flow from the frames at some places to those behind them, each estimated once."""
        if self.num_frames == 1:
            return np.full((len(places), *frames.shape[1:3], 2), STILL, np.uint8)
        single, order = np.unique(places, return_inverse=True)
        flow = self._flow
        try:
            found = [
                quantize(one, flow.bound) for one in estimate_flow(flow, frames, single.tolist())
            ]
        except FlowError as error:
            raise VideoReadError(self.path, str(error)) from error
        return np.stack(found)[order.reshape(-1)]


def open_flow(row: Row, video: Reader, flow: Flow, short_side: int | None = None) -> FlowReader:
    """The flow of a row whose frames are open: from a file, if there is one of frames like these.

    Args:
        row: what was opened.
        video: its frames, scaled to ``short_side``.
        flow: how flow is estimated.
        short_side: see `readers.open_row`.
    """
    probe, place = row.probe, stored_flow(row, flow, short_side)
    if probe is None or place is None:
        return FlowReader(row.path, video, flow)
    first = video.first if isinstance(video, Segment) else 0
    try:
        stored = FlowFile(place)
    except VideoReadError:
        return FlowReader(row.path, video, flow)
    # A file of another size or length is of another video, or of one that decodes no more.
    expected = (probe.height, probe.width), max(probe.num_frames - 1, 1)
    if (stored.size, stored.num_frames) != expected:
        return FlowReader(row.path, video, flow)
    return FlowReader(row.path, video, flow, stored, first)

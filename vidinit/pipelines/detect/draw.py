"""Boxes drawn into frames: pictures, and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...data.readers import Reader
from ...scoring.detections import Detections

COLORS = (
    *((230, 75, 60), (60, 150, 230), (250, 190, 40), (70, 180, 90)),
    *((170, 90, 200), (240, 130, 40), (40, 190, 190), (230, 100, 170)),
)
"""Colors of classes, by their number; they begin again behind the last."""

TRUTH = (255, 255, 255)
"""The color of true boxes."""

_RATE = 25  # frames per second of a video without a rate
_AT_ONCE = 16  # frames in memory
_TEXTS = 3  # classes of a box


@dataclass(frozen=True)
class Drawn:
    """A box to draw.

    Attributes:
        box: x1, y1, x2, y2 in pixels, as edges.
        text: stands at its top; may be empty.
        color: of both.
        thick: of its lines, in pixels; they lie inside of the box.
    """

    box: tuple[float, float, float, float]
    text: str = ""
    color: tuple[int, int, int] = TRUTH
    thick: int = 1


def color_of(label: int) -> tuple[int, int, int]:
    """The color of a class."""
    return COLORS[label % len(COLORS)]


def thickness(shape: Sequence[int]) -> int:
    """Of the lines of found boxes in frames (H, W, ...), in pixels."""
    return max(2, round(min(shape[:2]) / 150))


def draw_boxes(frame: np.ndarray, boxes: Sequence[Drawn]) -> np.ndarray:
    """A frame with boxes, the later ones on top.

    A box covers the pixels that it touches; its lines are the outermost of them, whatever of them
    lies in the frame.

    Args:
        frame: uint8 RGB (H, W, 3).
        boxes: in pixels of the frame.

    Returns:
        A new frame, uint8 (H, W, 3).
    """
    image = Image.fromarray(np.ascontiguousarray(frame))
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(10, round(min(frame.shape[:2]) / 25)))
    for one in boxes:
        x1, y1, x2, y2 = one.box
        left, top = int(np.floor(x1)), int(np.floor(y1))
        right, bottom = int(np.ceil(x2)) - 1, int(np.ceil(y2)) - 1
        if right < left or bottom < top:
            continue
        pen.rectangle([left, top, right, bottom], outline=one.color, width=one.thick)
        if one.text:
            _write(pen, font, one, left, top, frame.shape)
    return np.asarray(image)


def _write(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    one: Drawn,
    left: int,
    top: int,
    shape: Sequence[int],
) -> None:
    """Write the text of a box above it, or where there is no room, inside at its top."""
    _, _, wide, tall = pen.textbbox((0, 0), one.text, font=font)
    x = max(0, min(left, shape[1] - round(wide) - 2))
    y = top - round(tall) - 2
    y = max(0, top + one.thick) if y < 0 else y
    pen.rectangle([x, y, x + round(wide) + 1, y + round(tall) + 1], fill=one.color)
    light = sum(one.color) > 3 * 140
    pen.text((x + 1, y), one.text, fill=(0, 0, 0) if light else (255, 255, 255), font=font)


def drawn_box(found: Detections, box: int, place: np.ndarray, thick: int) -> Drawn:
    """A found box with the classes it most likely has: all above 0.5, else the best.

    Args:
        found: detections.
        box: which of them.
        place: where it is, in pixels of the frame.
        thick: of its lines, in pixels.
    """
    scores = found.scores[box]
    order = np.argsort(-scores, kind="stable")[:_TEXTS].tolist()
    shown = [label for label in order if scores[label] > 0.5] or order[:1]
    text = ", ".join(f"{found.classes[label]} {scores[label]:.2f}" for label in shown)
    x1, y1, x2, y2 = (float(side) for side in place)
    return Drawn((x1, y1, x2, y2), text, color_of(order[0]), thick)


def frames_with(video: Reader, boxes_of: Callable[[int], Sequence[Drawn]]) -> Iterator[np.ndarray]:
    """All frames of a video, one after the other, with the boxes of each.

    Args:
        video: to read.
        boxes_of: of a frame's number.

    Raises:
        VideoReadError: a frame does not decode.
    """
    for first in range(0, video.num_frames, _AT_ONCE):
        numbers = np.arange(first, min(first + _AT_ONCE, video.num_frames))
        for number, frame in zip(numbers.tolist(), video.get(numbers), strict=True):
            yield draw_boxes(frame, boxes_of(number))


def write_video(place: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Write frames as an mp4 (H.264).

    Args:
        place: the file.
        frames: uint8 RGB (H, W, 3), all of one size. An odd height or width loses a pixel, which
            the format has no room for.
        fps: frames per second; 0 where there is no time, and then they are 25.
    """
    with av.open(str(place), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps or _RATE).limit_denominator(10**5)
        )
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20"}
        for number, frame in enumerate(frames):
            even = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
            if number == 0:
                stream.height, stream.width = even.shape[:2]
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())

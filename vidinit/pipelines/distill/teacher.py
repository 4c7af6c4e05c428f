"""A frozen image model that is asked about single frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.loading.teacher_frames import FrameView
from ...data.pixels.batch import normalize
from ...zoo.spec import ClipSpec
from .targets import Objective


@dataclass
class Teacher:
    """A frozen image model and what it teaches.

    Attributes:
        name: of its head and its loss.
        model: takes normalized images (N, 3, H, W), returns logits or embeddings (N, width).
        mean, std: its pixel statistics.
        width: values of an output.
        classes: names of its logits, or None.
        size: side in pixels to which it gets the student's crops resized; None leaves them.
        interpolation: how.
        view: its own crop of whole frames, in place of the student's crop.
        objective: its loss.
        dtype: what it computes in.
        rounding: what its outputs are rounded to, as a cache keeps them; None for nothing.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    classes: list[str] | None = None
    size: int | None = None
    interpolation: str = "bicubic"
    view: FrameView | None = None
    objective: Objective = field(default_factory=Objective)
    dtype: torch.dtype = torch.float32
    rounding: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    def to(self, device: torch.device) -> None:
        """Bring the model to a device, in the precision that it computes in."""
        self.model.to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Outputs (N, width), float32, of images (N, 3, H, W) with its own pixel statistics."""
        images = images.to(self.dtype, memory_format=torch.channels_last)
        # Its precision is its own: the student's autocast does not reach it.
        with torch.autocast(images.device.type, enabled=False):
            found = self.model(images)
        if found.dtype != torch.float64:
            found = found.float()
        return found if self.rounding is None else found.to(self.rounding).to(found.dtype)

    def of_crops(self, crops: Tensor, spec: ClipSpec) -> Tensor:
        """Outputs (N, width) of the student's own crops.

        Args:
            crops: (N, 3, H, W), normalized for the student.
            spec: with the student's pixel statistics.
        """
        same = tuple(spec.mean) == tuple(self.mean) and tuple(spec.std) == tuple(self.std)
        if self.size in (None, crops.shape[-1]):
            return self.outputs(crops if same else self._own(_rgb(crops, spec)))
        rgb = F.interpolate(
            _rgb(crops, spec),
            size=(self.size, self.size),
            mode=self.interpolation,
            align_corners=False,
            antialias=True,
        )
        return self.outputs(self._own(rgb.clamp_(0, 1)))  # bicubic kernels overshoot at edges

    def of_bytes(self, images: Tensor) -> Tensor:
        """Outputs (N, width) of images as a data set cuts them, uint8 (N, H, W, 3)."""
        if not len(images):
            return torch.empty(0, self.width, device=images.device)
        return self.outputs(normalize(images[:, None], self.mean, self.std)[:, :, 0])

    def _own(self, rgb: Tensor) -> Tensor:
        return (rgb - _column(self.mean, rgb)) / _column(self.std, rgb)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).view(1, 3, 1, 1)


def _rgb(images: Tensor, spec: ClipSpec) -> Tensor:
    """Pixels in [0, 1] from normalized ones."""
    return images * _column(spec.std, images) + _column(spec.mean, images)


class SideStream:
    """Work that a GPU does beside what follows it; elsewhere it is done first.

    ``with side(device): ...`` queues work on a stream of its own; after `join` its results may
    be used.
    """

    def __init__(self) -> None:
        self._stream: Any = None

    @contextmanager
    def __call__(self, device: torch.device) -> Iterator[None]:
        """Queue what is inside beside the device's current work, once that is where it is now."""
        if device.type != "cuda":
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self, results: list[Tensor]) -> None:
        """Let the current stream wait for what was queued, and keep its results for it."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for result in results:
            result.record_stream(current)

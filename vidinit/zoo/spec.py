"""How a clip is cut and normalized for a model, and where its tensors come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from ..data.flow.settings import STILL, Flow
from ..data.views import Sampling

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

# Settings that model.yaml names only where they are others; folders of version 0.1 have none.
_RARE = {"steps": "stride", "fps": None, "channels": "rgb", "flow": None}


@dataclass(frozen=True)
class ClipSpec:
    """How a clip is cut and normalized for a model.

    The limits hold for what is read from a model folder (`card`).

    Attributes:
        frames: frames of a clip.
        stride: video frames from one clip frame to the next.
        size: side of the square crop, in pixels.
        mean, std: pixel statistics of the channels in 0 to 1.
        interpolation: ``bicubic`` or ``bilinear``.
        crop_pct: crop size over short side at test time.
        sampling: ``dense``: neighboring frames; ``uniform``: one of each of equal segments of the
            video; ``all`` of its frames.
        short: what a clip shows past the end of a short video: the start again (``loop``), or its
            last frame (``hold``).
        steps: where the frames of a clip lie: ``stride``, ``whole`` or ``linspace``; see
            `data.views.Sampling`.
        fps: the frames per second that ``stride`` counts in; None: each video's own.
        channels: ``rgb`` or ``bgr``: the order in which the network gets the colors. ``mean`` and
            ``std`` are of red, green and blue in either case.
        flow: which optical flow is seen, in two channels; None: RGB.
    """

    frames: Annotated[int, Field(ge=1, le=100_000)] = 8
    stride: Annotated[int, Field(ge=1, le=100_000)] = 8
    size: Annotated[int, Field(ge=1, le=10_000)] = 224
    mean: tuple[Finite, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    interpolation: Literal["bicubic", "bilinear"] = "bilinear"
    crop_pct: Annotated[float, Field(gt=0, le=2)] = 0.875
    sampling: Literal["dense", "uniform", "all"] = "dense"
    short: Literal["loop", "hold"] = "loop"
    steps: Literal["stride", "whole", "linspace"] = "stride"
    fps: Positive | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    flow: Flow | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as model.yaml holds them; what is rare only where it is set."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if k not in _RARE or v != _RARE[k]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipSpec:
        """The inverse of `as_dict`."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        flow = plain.pop("flow", None)
        return cls(**plain, flow=None if flow is None else Flow(**flow))

    @property
    def seen(self) -> Sampling:
        """How the frames of a clip are taken from a video."""
        return Sampling(self.frames, self.stride, self.sampling, self.short, self.steps, self.fps)

    def for_channels(self, channels: int) -> ClipSpec:
        """The same for another number of channels: each gets the mean of the statistics."""
        if channels == len(self.mean):
            return self
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return replace(self, mean=(mean,) * channels, std=(std,) * channels)

    def of_flow(self, flow: Flow) -> ClipSpec:
        """The same for optical flow: no motion is 0, and the scale is the mean of RGB's."""
        scale = sum(self.std) / len(self.std)
        still = (STILL / 255,) * 2
        return replace(self, mean=still, std=(scale,) * 2, flow=flow, channels="rgb")


# The pixel statistics that published weights want.
IMAGENET = ClipSpec()

KINETICS = ClipSpec(mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989))

SIGNED = ClipSpec(mean=(0.5,) * 3, std=(0.5,) * 3)  # pixels in [-1, 1]

GRAY = ClipSpec(mean=(0.45,) * 3, std=(0.225,) * 3)


@dataclass(frozen=True)
class Origin:
    """Where a tensor of a video model comes from.

    Attributes:
        source: key in the image network's state dict; None for tensors it has not.
        rule: one of `vidinit.conversion.table.RULES`.
        note: why a kernel was left alone, shown in the table.
    """

    source: str | None
    rule: str
    note: str = ""

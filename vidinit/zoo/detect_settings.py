"""How a detector reads maps and what it says, as its model.yaml has it; without torch."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import UsageError
from .names import check_option

KINDS = ("multi", "single")
TIMES = ("mean", "max")
FITS = ("letterbox", "whole")

_LAYER = re.compile(r"mixed_?(\d[a-z])", re.IGNORECASE)  # Mixed_4e in the papers


@dataclass(frozen=True)
class DetectSettings:
    """How a detector reads a trunk's maps, and what its outputs are for.

    Attributes:
        resolution: rows and columns of the grid that RoIAlign lays into a box.
        aligned: RoIAlign with pixels' centers at 0.5, as in PySlowFast's configurations; False as
            in pytorchvideo's hub and PySlowFast's Caffe2 weights (torchvision's default).
        time: what is made of the maps' frames before: their ``mean`` or ``max``.
        context: the whole frame beside the box: its maps, averaged to the same grid, then the
            maximum as of a box, stand behind the box's features (mmaction2's global feature).
        hidden: width of a layer with a ReLU before the outputs; None for none.
        dropout: before the first layer, a share of the features.
        kind: ``multi``: any number of classes a box, by sigmoid; ``single``: one class or
            background, by softmax, the background last.
        regress: four more outputs, which move the box, the same for all classes.
        stride: 16: the trunk's last stage is dilated (`modify.output_stride`); None: as it is.
        layer: whose maps are read, where a family tells (``mixed4e`` of the Inception family, also
            written ``Mixed_4e``); None: the last.
        fit: how frames are fitted to clips in evaluation: ``letterbox`` keeps the aspect in the
            trunk's square; ``whole``: the rectangle with the trunk's short side.
        proposals: name of the timm network that proposes boxes in the key frame
            (`proposals.KeyFrameProposals`), which ``regress`` then moves; None: boxes are given.

    Raises:
        UsageError: for a value that is none of these.
    """

    resolution: Annotated[int, Field(ge=1, le=64)] = 7
    aligned: bool = True
    time: Literal["mean", "max"] = "mean"
    context: bool = False
    hidden: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    kind: Literal["multi", "single"] = "multi"
    regress: bool = False
    stride: Literal[16] | None = None
    layer: str | None = None
    fit: Literal["letterbox", "whole"] = "letterbox"
    proposals: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("time", TIMES), ("fit", FITS)):
            check_option(f"detect.{name}", getattr(self, name), known)
        for name, value, least in (
            ("resolution", self.resolution, 1),
            ("hidden", 1 if self.hidden is None else self.hidden, 1),
            ("dropout", self.dropout, 0),
        ):
            if value < least or (name == "dropout" and value >= 1):
                raise UsageError(f"detect.{name} cannot be {getattr(self, name)}")
        if self.stride not in (None, 16):
            raise UsageError(f"detect.stride cannot be {self.stride}", "use 16, or leave it out")
        if self.proposals is not None and not self.regress:
            raise UsageError(
                "detect.proposals are rough boxes, and detect.regress is false", "set it, too"
            )
        if self.layer is not None and (match := _LAYER.fullmatch(self.layer)):
            object.__setattr__(self, "layer", f"mixed{match[1].lower()}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as model.yaml holds them."""
        return {one.name: getattr(self, one.name) for one in fields(DetectSettings)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DetectSettings:
        """The inverse of `as_dict`; other keys are left alone."""
        known = {one.name for one in fields(DetectSettings)}
        return DetectSettings(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class Detect(DetectSettings):
    """The section ``detect`` of model.yaml.

    Attributes:
        num_classes: C, classes of a box; a background is none of them.
        classes: their names, or None.
    """

    num_classes: Annotated[int, Field(ge=1)] = 1
    classes: list[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as model.yaml holds them."""
        return asdict(self)

    @property
    def settings(self) -> DetectSettings:
        """The settings alone."""
        return DetectSettings.from_dict(asdict(self))

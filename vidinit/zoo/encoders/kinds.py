"""The video encoders of transformers that can be a frozen trunk, as plain data.

A line here is what differs between them: the classes of transformers, the names of settings in
their config.json, in which order tokens come out, and how each makes a descriptor of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import UsageError

NAME = "hf-"
"""The beginning of these models' names: ``hf-vjepa2``."""


@dataclass(frozen=True)
class Kind:
    """A model type of transformers.

    Attributes:
        title: its name in messages.
        config: class of its configuration.
        base: class of the encoder.
        classifier: class of the encoder with a classifier.
        trunk: attribute of the encoder in that.
        size: name of the setting for the side of its frames, in pixels.
        frames: name of the setting for the frames of a clip.
        any_length: True where clips may have any multiple of a tubelet's frames.
        stride: video frames from one clip frame to the next, as published; a config has no such
            setting. Of models that are published for several numbers of frames by that number.
        first: True where the first token is a class token, which is the descriptor; else that is
            the mean of the tokens.
        patches_first: True where the tokens of one place follow one another, frame by frame; else
            the tokens of one frame do.
        side_over_crop: short side of a frame over the side of its crop, as published.
        mean, std: pixel statistics where no preprocessor's file says any.
    """

    title: str
    config: str
    base: str
    classifier: str
    trunk: str
    size: str = "image_size"
    frames: str = "num_frames"
    any_length: bool = False
    stride: int | Mapping[int, int] = 4
    first: bool = False
    patches_first: bool = False
    side_over_crop: float = 1.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def stride_of(self, frames: int) -> int:
        """Published step for clips of so many frames."""
        return self.stride if isinstance(self.stride, int) else self.stride.get(frames, 4)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

KINDS: dict[str, Kind] = {
    "vjepa2": Kind(
        "V-JEPA 2",
        "VJEPA2Config",
        "VJEPA2Model",
        "VJEPA2ForVideoClassification",
        "vjepa2",
        size="crop_size",
        frames="frames_per_clip",
        any_length=True,
        side_over_crop=256 / 224,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    "videomae": Kind(
        "VideoMAE",
        "VideoMAEConfig",
        "VideoMAEModel",
        "VideoMAEForVideoClassification",
        "videomae",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    "videoprism_vision_model": Kind(
        "VideoPrism",
        "VideoPrismVisionConfig",
        "VideoPrismVisionModel",
        "VideoPrismForVideoClassification",
        "vision_model",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
    "timesformer": Kind(
        "TimeSformer",
        "TimesformerConfig",
        "TimesformerModel",
        "TimesformerForVideoClassification",
        "timesformer",
        stride={8: 32, 16: 16, 96: 4},
        first=True,
        patches_first=True,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    ),
    "vivit": Kind(
        "ViViT",
        "VivitConfig",
        "VivitModel",
        "VivitForVideoClassification",
        "vivit",
        stride=2,
        first=True,
        side_over_crop=256 / 224,
    ),
}
"""By the ``model_type`` of config.json."""


NO_SETTINGS = (
    *("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "model_type"),
    *("id2label", "label2id", "num_labels", "problem_type", "_name_or_path", "name_or_path"),
    *("_commit_hash", "_attn_implementation", "attn_implementation", "quantization_config"),
)
"""Keys of config.json that are no settings of the network; by some transformers fetches code."""


def is_encoder_name(name: str) -> bool:
    """True for ``hf-<model type>`` of a known type."""
    return name.startswith(NAME) and name.removeprefix(NAME) in KINDS


def tubelet_of(config: Mapping[str, Any]) -> int:
    """Frames of one token."""
    size = config.get("tubelet_size", 1)
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def side_of(kind: Kind, config: Mapping[str, Any]) -> int:
    """Side of the frames, in pixels.

    Raises:
        UsageError: they are no squares.
    """
    size = config[kind.size]
    sides = {int(side) for side in size} if isinstance(size, (list, tuple)) else {int(size)}
    if len(sides) != 1:
        raise UsageError(f"{kind.title} with frames of {size} pixels, which are no squares")
    return sides.pop()

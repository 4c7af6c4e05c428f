"""Random changes of a clip beyond crop and flip: RandAugment, color, erasing.

All parameters are drawn once for a clip, from the generator given, and hold for all its frames.
Clips are uint8 (T, H, W, 3).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from .operations import OPERATIONS, brightness, color, contrast, grayscale

# Magnitudes are given in tenths of the strongest change.
_TENTHS = 10.0
_WITHOUT_ARGUMENT = ("AutoContrast", "Equalize", "Invert")
# Highest change of the operations that go to either side, at magnitude 10.
_SIGNED = {
    "Rotate": 30.0,
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateXRel": 0.45,
    "TranslateYRel": 0.45,
}
# timm's "tweights": geometry often, tone rarely.
_WEIGHTS = {
    "Rotate": 3.0,
    "ShearX": 2.0,
    "ShearY": 2.0,
    "TranslateXRel": 1.0,
    "TranslateYRel": 1.0,
    "Color": 0.25,
    "Sharpness": 0.25,
    "AutoContrast": 0.25,
    "Solarize": 0.05,
    "SolarizeAdd": 0.05,
    "Contrast": 0.05,
    "Brightness": 0.05,
    "Equalize": 0.05,
    "Posterize": 0.05,
    "Invert": 0.05,
}
_ALLOWED = (
    "parts are mN (magnitude, 10), nN (operations, 2), pX (chance of each, 0.5), mstdX (deviation "
    "of the magnitude), mmaxN (its limit, 10), inc0 or inc1, tweights; as rand-m7-n4-mstd0.5-inc1"
)
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_ASPECT = math.log(1 / 0.3)  # either way
_ERASE_ATTEMPTS = 10
# Mean and deviation of natural images, RGB in levels: noise of these is about N(0, 1) to a model.
_NOISE_MEAN = np.array((0.485, 0.456, 0.406), np.float32) * 255
_NOISE_STD = np.array((0.229, 0.224, 0.225), np.float32) * 255


@dataclass(frozen=True)
class RandAugment:
    """RandAugment (https://arxiv.org/abs/1909.13719) in the variant and the words of timm.

    Attributes:
        magnitude: of every operation; 10 is the strongest usual one.
        layers: how many operations are drawn for a clip.
        prob: chance with which each of them is applied.
        std: deviation of the magnitude; infinity draws it uniformly from 0 to ``magnitude``.
        limit: highest magnitude.
        increasing: a higher magnitude always means a stronger change. Without, posterize
            and solarize grow weaker, and color, contrast, brightness and sharpness go from weak
            to strong.
        weighted: draw by timm's weights (mostly geometry), none twice; else all alike.
    """

    magnitude: float = 10
    layers: int = 2
    prob: float = 0.5
    std: float = 0.0
    limit: float = 10
    increasing: bool = False
    weighted: bool = False

    @classmethod
    def parse(cls, text: str) -> RandAugment:
        """From timm's words, as ``rand-m7-n4-mstd0.5-inc1``; the order of the parts is free.

        Raises:
            UsageError: a part is unknown, or has no such value.
        """
        first, *parts = text.split("-")
        if first != "rand":
            raise UsageError(f"RandAugment '{text}' does not begin with 'rand'", _ALLOWED)
        values: dict[str, float] = {}
        weighted = False
        for part in parts:
            match = re.fullmatch(r"(m|n|mmax|inc)(\d+)|(p|mstd)(\d+(?:\.\d*)?)", part)
            if match is not None:
                values[match[1] or match[3]] = float(match[2] or match[4])
            elif part == "tweights":
                weighted = True
            else:
                raise UsageError(f"RandAugment '{text}' has an unknown part '{part}'", _ALLOWED)
        deviation = values.get("mstd", 0.0)
        layers = int(values.get("n", 2))
        if values.get("p", 0) > 1 or values.get("inc", 0) > 1:
            raise UsageError(f"RandAugment '{text}' has p or inc above 1", _ALLOWED)
        if weighted and layers > len(_WEIGHTS):
            raise UsageError(
                f"RandAugment '{text}' wants {layers} different operations of {len(_WEIGHTS)}"
            )
        return cls(
            magnitude=values.get("m", 10),
            layers=layers,
            prob=values.get("p", 0.5),
            # timm's word for uniform magnitudes.
            std=math.inf if deviation > 100 else deviation,
            # timm takes a limit of 0 for none.
            limit=values.get("mmax", 10) or 10,
            # The weighted set is an increasing one, whatever "inc" says.
            increasing=weighted or bool(values.get("inc", 0)),
            weighted=weighted,
        )

    def draw(self, generator: np.random.Generator) -> list[tuple[str, float]]:
        """Operations for one clip in their order, each with its argument."""
        names = list(_WEIGHTS if self.weighted else OPERATIONS)
        weights = np.array(list(_WEIGHTS.values())) if self.weighted else np.ones(len(names))
        chosen = generator.choice(
            len(names), self.layers, replace=not self.weighted, p=weights / weights.sum()
        )
        drawn = []
        for position in chosen:
            applied = generator.random() < self.prob
            if math.isinf(self.std):
                magnitude = generator.uniform(0, self.magnitude)
            else:
                magnitude = generator.normal(self.magnitude, self.std)
            magnitude = min(max(magnitude, 0.0), self.limit)
            sign = 1 if generator.random() < 0.5 else -1
            if applied:
                name = names[position]
                value = argument(name, magnitude, increasing=self.increasing, sign=sign)
                drawn.append((name, value))
        return drawn

    def __call__(self, clip: Tensor, generator: np.random.Generator) -> Tensor:
        """A new clip, changed by operations drawn for it."""
        for name, value in self.draw(generator):
            clip = OPERATIONS[name](clip, value)
        return clip


def argument(name: str, magnitude: float, *, increasing: bool, sign: int) -> float:
    """The argument of an operation for a magnitude, by timm's tables.

    Args:
        name: of the operation, without timm's suffix "Increasing".
        magnitude: 0 to 10, or higher where a limit above 10 is asked for.
        increasing: see `RandAugment`.
        sign: 1 or -1: which way the change goes, where there are two.
    """
    share = magnitude / _TENTHS
    if name in _WITHOUT_ARGUMENT:
        return 0.0
    if name in _SIGNED:
        return sign * (share * _SIGNED[name])
    if name == "Posterize":
        bits = int(share * 4)
        # Beyond magnitude 10 there is no bit left to take.
        return max(4 - bits, 0) if increasing else min(bits, 8)
    if name == "Solarize":
        threshold = min(256, int(share * 256))
        return 256 - threshold if increasing else threshold
    if name == "SolarizeAdd":
        return min(128, int(share * 110))
    # Color, Contrast, Brightness, Sharpness: 1 changes nothing.
    return max(0.1, 1.0 + sign * (share * 0.9)) if increasing else share * 1.8 + 0.1


def color_jitter(clip: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    """Change brightness, contrast and saturation, in random order.

    Each by a factor that is uniform in [1 - share, 1 + share], and at least 0.
    """
    operations = (brightness, contrast, color)
    factors = generator.uniform(max(0.0, 1 - share), 1 + share, len(operations))
    for position in generator.permutation(len(operations)):
        clip = operations[position](clip, float(factors[position]))
    return clip


def random_grayscale(clip: Tensor, prob: float, generator: np.random.Generator) -> Tensor:
    """Take the color away, with a chance of ``prob``."""
    return grayscale(clip) if generator.random() < prob else clip


def random_erasing(clip: Tensor, prob: float, generator: np.random.Generator) -> Tensor:
    """Put noise into one box, with a chance of ``prob`` (https://arxiv.org/abs/1708.04896).

    The box covers 2 % to 33 % of the frame, its aspect ratio is log-uniform in [0.3, 3.33]: timm's
    "pixel" mode with one box. Box and noise are the same in all frames. The noise is normal about
    the mean of natural images with their deviation, cut off to [0, 255]; timm, which erases after
    normalization, draws the same without the cut.
    """
    if generator.random() >= prob:
        return clip
    height, width = clip.shape[1:3]
    for _ in range(_ERASE_ATTEMPTS):
        area = height * width * generator.uniform(*_ERASED_AREA)
        aspect = math.exp(generator.uniform(-_ERASED_ASPECT, _ERASED_ASPECT))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
            noise = generator.standard_normal((h, w, 3), np.float32) * _NOISE_STD + _NOISE_MEAN
            erased = clip.clone()
            erased[:, top : top + h, left : left + w] = torch.from_numpy(
                noise.round().clip(0, 255).astype(np.uint8)
            )
            return erased
    return clip

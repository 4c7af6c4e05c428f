"""Sizes of a plain vision transformer, read from the shapes of its tensors.

Where a file is no network of a known name, these sizes are arguments of timm's function for one
that is of the same kind.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError
from .networks import build_image_model

HEAD_WIDTH = 64
"""Channels of an attention head in OpenAI's CLIP and in all plain ViTs of ImageNet."""


@dataclass(frozen=True)
class VitSizes:
    """Sizes that tensors of a vision transformer with one class token have.

    Attributes:
        width: of a token.
        depth: number of blocks.
        patch: side of a patch in pixels.
        tokens: of an image, the class token included.
        hidden: width inside a block's MLP.
    """

    width: int
    depth: int
    patch: int
    tokens: int
    hidden: int

    @property
    def grid(self) -> int:
        """Patches of a row."""
        return math.isqrt(max(self.tokens - 1, 0))

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return self.grid * self.patch

    @property
    def problem(self) -> str:
        """Why these are no sizes of such a network; empty where they are."""
        if self.grid**2 + 1 != self.tokens or not self.grid:
            return f"{self.tokens} tokens are no class token and a square of patches"
        return ""

    def arguments(self, arch: str) -> dict[str, Any]:
        """Arguments with which timm's function for ``arch`` makes a network of these sizes.

        Args:
            arch: a timm name; it says all that shapes do not: norms, activations, the pooling.

        Returns:
            Only what differs from the network of that name; empty for the very network. Heads are
            64 channels wide; ``num_heads`` is None where that cannot be.
        """
        wanted, own = _arguments(self), _arguments(sizes_of_name(arch))
        return {key: value for key, value in wanted.items() if own[key] != value}


def _arguments(sizes: VitSizes) -> dict[str, Any]:
    return {
        "embed_dim": sizes.width,
        "depth": sizes.depth,
        "num_heads": None if sizes.width % HEAD_WIDTH else sizes.width // HEAD_WIDTH,
        "patch_size": sizes.patch,
        "img_size": sizes.size,
        "mlp_ratio": sizes.hidden / sizes.width,
    }


def check_heads(arguments: Mapping[str, Any], origin: str) -> None:
    """Raise UsageError where `VitSizes.arguments` could not tell the number of attention heads.

    Args:
        arguments: of timm's function.
        origin: the file they were read from, for the message.
    """
    if arguments.get("num_heads", 1) is None:
        raise UsageError(
            f"{origin} does not tell the number of attention heads: tokens "
            f"{arguments['embed_dim']} wide are no multiple of {HEAD_WIDTH}",
            "give it: --option 'network={num_heads: 4}'",
        )


@functools.cache
def sizes_of_name(arch: str) -> VitSizes:
    """The sizes of timm's network of a name."""
    with torch.device("meta"):
        state = build_image_model(arch, num_classes=0).state_dict()
    found = read_sizes(state.get)
    assert found is not None
    return found


def read_sizes(get: Callable[[str], Tensor | None]) -> VitSizes | None:
    """The sizes of a network; None where tensors are missing that all plain ViTs have.

    Args:
        get: timm's name of a tensor to the tensor, or None. Axes of size one may be missing.
    """
    kernel, positions = get("patch_embed.proj.weight"), get("pos_embed")
    inside = get("blocks.0.mlp.fc1.weight")
    if kernel is None or positions is None or inside is None or kernel.dim() != 4:
        return None
    depth = 0
    while get(f"blocks.{depth}.norm1.weight") is not None:
        depth += 1
    return VitSizes(
        int(kernel.shape[0]), depth, int(kernel.shape[-1]), int(positions.shape[-2]), len(inside)
    )

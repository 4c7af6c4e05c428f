"""A frozen image transformer that is read behind its blocks.

DiST (https://arxiv.org/abs/2309.07911) takes the raw output of every block of CLIP's image tower,
and so do other side networks; here of any timm transformer whose tokens keep to one grid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from .frozen import FrozenNetwork

PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""Of a tower's weights; ``fp32`` leaves them alone, and follows autocast."""


class Tower(FrozenNetwork):
    """A frozen timm vision transformer, whose methods here compute no gradients.

    Which tokens are kept of each block: a global one, then those of the patches. The global one is
    the class token; where a tower has other prefix tokens (registers, a distillation token), they
    are dropped, and where it has none (SigLIP), the mean of the patches takes its place.

    Args:
        vit: the timm model. Its classifier makes `embedding`: the projection into the joint space
            of image and text, or nothing (``num_classes=0``).
        blocks: which blocks are read, from 0; None for all.
        precision: one of `PRECISIONS`.

    Attributes:
        width: C, of a token.
        joint: J, of an embedding.
        native_size: (height, width) that its positions were made for.
        patch: side of a patch in pixels.

    Raises:
        UsageError: for networks that are no such transformer, with the reason.
    """

    inside = "vit"

    def __init__(
        self, vit: nn.Module, *, blocks: Sequence[int] | None = None, precision: str = "fp32"
    ) -> None:
        super().__init__()
        reason = why_no_tower(vit)
        if reason:
            raise UsageError(
                f"{arch_of(vit)} cannot be a tower: {reason}",
                "use a vision transformer, vit_base_patch16_clip_quickgelu_224 for example",
            )
        model: Any = vit
        depth = len(model.blocks)
        self.blocks = list(range(depth)) if blocks is None else list(blocks)
        if not self.blocks or sorted({b for b in self.blocks if 0 <= b < depth}) != self.blocks:
            raise UsageError(
                f"blocks={self.blocks} are no blocks of {arch_of(vit)}, in order",
                f"it has {depth}, counted from 0",
            )
        self.width = int(model.embed_dim)
        self.joint = int(model.num_classes or model.head_hidden_size)
        self.patch = int(model.patch_embed.patch_size[0])
        self.prefix_tokens = int(model.num_prefix_tokens)
        self.native_size = _image_size(vit)
        self.vit = vit
        self.dtype = PRECISIONS[precision]
        if self.dtype is not None:
            self.vit.to(self.dtype)
        self.freeze()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the frames it takes, in pixels."""
        return _image_size(self.vit)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a frame's patches."""
        height, width = self.image_size
        return height // self.patch, width // self.patch

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the outputs of the blocks that are read, (N, 1 + patches, C) each."""
        with torch.no_grad(), self._precision(frames):
            vit: Any = self.vit
            found = vit.forward_intermediates(
                self._cast(frames),
                indices=self.blocks,
                return_prefix_tokens=self.prefix_tokens > 0,
                norm=False,
                output_fmt="NLC",
                stop_early=True,
                intermediates_only=True,
            )
            return [kept_tokens(tap) for tap in found]

    def both(self, frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """`forward` and `embedding` in one pass through the tower."""
        with torch.no_grad(), self._precision(frames):
            vit: Any = self.vit
            last, found = vit.forward_intermediates(
                self._cast(frames),
                indices=self.blocks,
                return_prefix_tokens=self.prefix_tokens > 0,
                norm=False,
                output_fmt="NLC",
            )
            return [kept_tokens(tap) for tap in found], vit.forward_head(last)

    def embedding(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) to the tower's own image embeddings (N, J)."""
        with torch.no_grad(), self._precision(frames):
            return self.vit(self._cast(frames))

    def resize(self, size: int) -> None:
        """Take frames of another size: timm resamples the position embedding.

        Raises:
            UsageError: for sides that are no multiple of the patch.
        """
        if (size, size) == self.image_size:
            return
        if size % self.patch or size < self.patch:
            near = max(round(size / self.patch), 1) * self.patch
            raise UsageError(
                f"{arch_of(self.vit)} has patches of {self.patch} pixels, and a size of {size} is "
                "no multiple",
                f"use {near}",
            )
        self.vit.set_input_size(img_size=(size, size))  # type: ignore[operator]

    def _cast(self, frames: Tensor) -> Tensor:
        weight: Tensor = self.vit.patch_embed.proj.weight  # type: ignore[assignment, union-attr]
        return frames.to(weight.dtype) if self.dtype is not None else frames

    def _precision(self, frames: Tensor) -> AbstractContextManager[Any]:
        """A tower of its own precision keeps to it; others follow the run's."""
        if self.dtype is None or frames.is_meta:  # autocast knows nothing of that device
            return contextlib.nullcontext()
        return torch.autocast(frames.device.type, enabled=False)


def kept_tokens(tap: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Timm's (patches, prefix tokens), or patches alone, to (N, 1 + patches, C)."""
    if isinstance(tap, Tensor):
        return torch.cat([tap.mean(dim=1, keepdim=True), tap], dim=1)
    patches, prefix = tap
    return torch.cat([prefix[:, :1], patches], dim=1)


def arch_of(vit: nn.Module) -> str:
    """The timm name of a network."""
    cfg: Any = getattr(vit, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or type(vit).__name__)


def why_no_tower(vit: nn.Module) -> str:
    """Why a network has not the tokens of one grid behind each block; empty where it has."""
    for part in ("blocks", "patch_embed", "forward_intermediates", "set_input_size"):
        if not hasattr(vit, part):
            return "its tokens do not keep to one grid"
    embed: Any = vit.patch_embed
    if hasattr(embed, "backbone"):
        return "its patches are made by a convolutional network"
    if not hasattr(embed, "grid_size") or not isinstance(getattr(embed, "proj", None), nn.Conv2d):
        return "its patches are not made by one convolution"
    if len(set(embed.patch_size)) > 1 or tuple(embed.proj.stride) != tuple(embed.patch_size):
        return "its patches overlap, or are not square"
    if getattr(vit, "num_prefix_tokens", None) is None:
        return "timm does not say which of its tokens are patches"
    return ""


def _image_size(vit: Any) -> tuple[int, int]:
    height, width = vit.patch_embed.img_size
    return int(height), int(width)


def has_projection(vit: Any) -> bool:
    """True where a classifier is a projection into a joint space of image and text.

    By the name, and by the width: those of such spaces are multiples of 64, the numbers of classes
    of ImageNet and its supersets are not.
    """
    kinds = ("clip", "pe_core")
    classes = int(vit.num_classes or 0)
    return any(kind in arch_of(vit) for kind in kinds) and classes > 0 and classes % 64 == 0


def set_projection(vit: Any, width: int | None) -> None:
    """Keep, exchange or take off the classifier of a network that becomes a tower.

    Args:
        vit: changed in place where ``width`` is not what it has.
        width: of its outputs, 0 for none; None keeps a projection and takes off a classifier.
    """
    if width is None:
        width = vit.num_classes if has_projection(vit) else 0
    if width != vit.num_classes:
        vit.reset_classifier(width)


def frame_mean(embeddings: Tensor, clips: int) -> Tensor:
    """(B*T, J) to (B, J): the mean over the frames of embeddings of length one."""
    return F.normalize(embeddings.float(), dim=-1).unflatten(0, (clips, -1)).mean(dim=1)

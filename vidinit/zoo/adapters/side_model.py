"""Side4Video: a frozen image transformer, a side network that learns motion, and one head.

Yao et al., 2023, https://arxiv.org/abs/2311.15769. No backward pass goes through the tower. As
published the side network's descriptor is the clip's: the model begins as nothing, and needs its
warm-up. Here a layer that starts at zero adds it to the image network's own descriptor, so that the
model begins as the image model, on any clip: the mean over the frames of what the image network
pools, normed in its own order, under its own classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..folding import clip_mean
from ..spec import ClipSpec
from .side_network import SideNetwork
from .tower import Tower
from .tower_model import ReadTowerModel, tower_layer_ids

FUSIONS = ("zero", "none")


class SideOutputs(NamedTuple):
    """The side network's last maps (B*T, S, h, w); the tower's descriptors (B*T, C), or None."""

    maps: Tensor
    frames: Tensor | None


class SideModel(ReadTowerModel):
    """A frozen tower with a side network beside it; any number of frames.

    Where the tower has no class token, the mean of a frame's patches is what the side network gets
    of neighboring frames; registers are read by nobody but the tower. A clip of one frame has no
    neighbors.

    Args:
        tower: the frozen image transformer, without a classifier.
        width: S of the side network, a multiple of 64.
        fusion: ``zero``: the descriptor is the tower's, and a layer that starts at zero adds the
            side network's; ``none``: it is the side network's alone.
        num_classes: of the head.

    Attributes:
        side: the side network.
        fuse_side: (B, S) to (B, C), what is added to the tower's descriptor; None for ``none``.
    """

    side: SideNetwork

    def __init__(self, tower: Tower, width: int, fusion: str, num_classes: int) -> None:
        super().__init__(width if fusion == "none" else tower.joint, num_classes)
        self.tower = tower
        self.side = SideNetwork(
            tower.width, tower.patch, self.tower.grid, len(tower.blocks), width, self.frames
        )
        self.starts_as_image = fusion == "zero"
        self.fuse_side: nn.Linear | None = None
        if fusion == "zero":
            self.fuse_side = nn.Linear(width, tower.joint, bias=False)  # the head has a bias
            nn.init.zeros_(self.fuse_side.weight)
        self._read: Tensor | None = None
        self._spec = replace(self._spec, size=tower.image_size[0])

    # ------------------------------------------------------------------------------ forward pass

    def feature_maps(self, x: Tensor) -> SideOutputs:
        """Folded frames (B*T, 3, H, W), normalized, to what descriptors are pooled from.

        Raises:
            ValueError: for frames of another size than `spec` has.
        """
        self.check_frames(x)
        read, self._read = self._read, None
        taps, frames = self._from_tower(x) if read is None else self._unpacked(read)
        return SideOutputs(self.side(taps, x), frames)

    def pooled(self, maps: SideOutputs) -> Tensor:
        """Descriptors (B, S), or with fusion (B, C)."""
        side = clip_mean(maps.maps, self.frames.value)
        if self.fuse_side is None or maps.frames is None:
            return side
        added = self.fuse_side(side)
        return maps.frames.unflatten(0, (-1, self.frames.value)).mean(dim=1).to(added.dtype) + added

    def spread(self, maps: SideOutputs, clips: int) -> Tensor:
        """The positions of the side network's maps, (B, T*h*w, S), frame by frame, row by row.

        With fusion (B, T*h*w, C): what each of them adds to the descriptor of its frame.
        """
        tokens = maps.maps.permute(0, 2, 3, 1).flatten(1, 2)
        if self.fuse_side is not None and maps.frames is not None:
            tokens = self.fuse_side(tokens)
            tokens = maps.frames.unsqueeze(1).to(tokens.dtype) + tokens
        return tokens.reshape(clips, -1, tokens.shape[-1])

    def placed(self, maps: SideOutputs, clips: int, size: tuple[int, int]) -> Tensor:
        """(B, T, H', W', S), with fusion (B, T, H', W', C)."""
        return self.spread(maps, clips).unflatten(1, (-1, *maps.maps.shape[2:]))

    def _from_tower(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Outputs of the blocks that are read, and descriptors of the frames where they are."""
        if self.fuse_side is None:
            return self.tower(x), None
        return self.tower.both(x)

    # ------------------------------------------------------------------- the tower's work, stored

    @property
    def tap_settings(self) -> dict[str, Any]:
        """The kind of fusion, which decides on whether frames' descriptors are read."""
        return {"fusion": "none" if self.fuse_side is None else "zero"}

    @property
    def tap_shape(self) -> tuple[int, ...]:
        """(T, values of a frame): all blocks' tokens, and with fusion the descriptor."""
        grid = self.tower.grid
        tokens = len(self.tower.blocks) * (1 + grid[0] * grid[1]) * self.tower.width
        joint = 0 if self.fuse_side is None else self.tower.joint
        return self.spec.frames, tokens + joint

    def read_tower(self, clip: Tensor) -> Tensor:
        """Outputs of the tower's blocks for clips, and with fusion descriptors: (B, T, values)."""
        taps, frames = self._from_tower(self._folded(clip))
        parts = [tap.flatten(1) for tap in taps] + ([] if frames is None else [frames])
        return torch.cat(parts, dim=1).unflatten(0, (len(clip), -1))

    def use_tower(self, values: Tensor) -> None:
        """Take these in the next forward pass."""
        self._read = values

    def _unpacked(self, values: Tensor) -> tuple[list[Tensor], Tensor | None]:
        rows, blocks = values.flatten(0, 1), len(self.tower.blocks)
        joint = 0 if self.fuse_side is None else self.tower.joint
        tokens = rows[:, : rows.shape[1] - joint].reshape(len(rows), blocks, -1, self.tower.width)
        return list(tokens.unbind(1)), rows[:, rows.shape[1] - joint :] if joint else None

    # ------------------------------------------------------------------------------------- clips

    def fit_clip(self, spec: ClipSpec) -> None:
        """Resize the tower's positions and the side network's to the frames' size, as timm does it.

        Raises:
            UsageError: for sizes that are no multiple of the patch.
        """
        before = self.tower.grid
        self.resize_tower(spec.size)
        if before != self.tower.grid:
            self.side.resize(before, self.tower.grid)

    def layer_ids(self) -> dict[str, int]:
        """As the tower's blocks are numbered, with what reads a block in that block's layer."""

        def beside(parts: Sequence[str]) -> int | None:
            if parts[:2] == ["side", "blocks"]:
                return self.tower.blocks[int(parts[2])] + 1
            begins = parts[0] == "side" and parts[1] in ("stem", "stem_norm", "pos_embed")
            return 0 if begins else None

        vit: Any = self.tower.vit
        return tower_layer_ids(self, len(vit.blocks), beside)

"""DiST: a frozen image transformer with a side network that learns motion, and its heads.

Qing et al., ICCV 2023, https://arxiv.org/abs/2309.07911. The tower sees every gamma-th frame of a
clip, without gradients; `side` is what learns. The clip's descriptor is its embedding in the
tower's joint space of image and text, which a text head compares with embeddings of class names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from ..adapters.tower import Tower, arch_of, frame_mean
from ..adapters.tower_model import ReadTowerModel, tower_layer_ids
from ..families.vit import resize_time
from ..folding import FrameCount
from ..spec import ClipSpec
from .side import SideNetwork

LOGIT_SCALE = 100.0  # CLIP's, where its training left it


class TextHead(nn.Module):
    """Scaled cosines of an embedding and those of the classes: nothing in it is learned.

    Args:
        embeddings: of the class names, (K, J), of any length but zero.
        logit_scale: what cosines are multiplied with.
    """

    def __init__(self, embeddings: Tensor, logit_scale: float = LOGIT_SCALE) -> None:
        super().__init__()
        embeddings = F.normalize(embeddings.detach().float(), dim=-1)
        self.register_buffer("embeddings", embeddings)
        self.register_buffer("logit_scale", torch.tensor(float(logit_scale)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, J) to logits (B, K), within plus and minus the scale; in float32 at least."""
        embeddings, scale = self.embeddings, self.logit_scale
        assert isinstance(embeddings, Tensor) and isinstance(scale, Tensor)
        # In half precision, steps near a logit of 25 are an eighth.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            return scale * F.normalize(x, dim=-1) @ embeddings.to(x.dtype).mT


class PoolInputs(NamedTuple):
    """The inputs of pooling: Y (B*T, 1 + N, D), and the mean of the last global tokens, (B, C)."""

    y: Tensor
    tokens: Tensor


class DistModel(ReadTowerModel):
    """A frozen tower and a side network; clips have gamma * T frames.

    Args:
        tower: the frozen image transformer.
        side: built for it.
        num_classes: of a linear head; 0 for none: `forward` then returns embeddings (B, J).
    """

    tower: Tower
    side: SideNetwork

    def __init__(
        self, tower: Tower, side: SideNetwork, fine: FrameCount, coarse: FrameCount, classes: int
    ) -> None:
        super().__init__(tower.joint, max(classes, 1))
        self.frames, self.coarse = fine, coarse
        self.tower = tower
        self.side = side
        self._taps: list[Tensor] | None = None
        self._spec = replace(self._spec, frames=self.clip_frames, size=tower.image_size[0])
        self.reset_head(classes)

    # ----------------------------------------------------------------------------------- heads

    def reset_head(self, num_classes: int) -> None:
        """A new linear head, N(0, 0.01) and zero bias; none for 0 classes."""
        if num_classes and not isinstance(self.head, nn.Linear):
            like = self.side.proj
            self.head = nn.Linear(1, 1, device=like.device, dtype=like.dtype)
        if num_classes:
            super().reset_head(num_classes)
            return
        self.head = nn.Identity()  # type: ignore[assignment]
        self.num_classes, self.classes, self.label_kind = 0, None, "single"

    def set_text(
        self, embeddings: Tensor, classes: Sequence[str], logit_scale: float = LOGIT_SCALE
    ) -> None:
        """Classify by the names of the classes, in place of any other head.

        Args:
            embeddings: of the names by the tower's text encoder, (K, J).
            classes: the K names, in that order.
            logit_scale: what the cosines are multiplied with.

        Raises:
            UsageError: embeddings of another width or number.
        """
        if embeddings.dim() != 2 or embeddings.shape[1] != self.num_features:
            raise UsageError(
                f"text embeddings {tuple(embeddings.shape)} do not fit {self.name}, whose videos "
                f"are embedded in {self.num_features} dimensions",
                f"use the text encoder that belongs to {arch_of(self.tower.vit)}",
            )
        if len(classes) != len(embeddings):
            raise UsageError(
                f"{len(embeddings)} text embeddings are not those of {len(classes)} classes",
                "give one for each class, in the same order",
            )
        self.head = TextHead(embeddings, logit_scale).to(self.side.proj.device)  # type: ignore[assignment]
        self.num_classes, self.label_kind = len(classes), "single"
        self.classes = list(classes)

    # ------------------------------------------------------------------------------ forward pass

    def feature_maps(self, x: Tensor) -> PoolInputs:
        """Folded frames (B*gamma*T, 3, H, W), normalized, to what embeddings are pooled from."""
        frames = self._tower_frames(x)
        taps, self._taps = self._taps, None
        return self._read_taps(x, self.tower(frames) if taps is None else taps)

    def pooled(self, maps: PoolInputs) -> Tensor:
        """Video embeddings (B, J)."""
        return self.side.pooled(*maps)

    def spread(self, maps: PoolInputs, clips: int) -> Tensor:
        """(B, T * (1 + N), J): global token and patches of each frame, in the joint space."""
        tokens: Tensor = self.side.joint(maps.y)
        return tokens.reshape(clips, -1, tokens.shape[-1])

    def placed(self, maps: PoolInputs, clips: int, size: tuple[int, int]) -> Tensor:
        """(B, T, H', W', J): the patches, without the global token of each frame."""
        tokens = self.spread(maps, clips).unflatten(1, (self.coarse.value, -1))
        return tokens[:, :, 1:].unflatten(2, self.tower.grid)

    def token_frames(self) -> int:
        """The frames that the tower sees."""
        return self.coarse.value

    def tower_embedding(self, clip: Tensor) -> Tensor:
        """The tower's own embeddings: (B, 3, gamma*T, H, W) clips to (B, J).

        The mean of its embeddings of the frames it sees, each of length one: its product with text
        embeddings is the mean of the frames' cosines. It is therefore not of length one itself.
        """
        return frame_mean(self.tower.embedding(self._tower_frames(self._folded(clip))), len(clip))

    def embed_both(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """`embed` and `tower_embedding` of clips in one pass through the tower."""
        x = self._folded(clip)
        taps, embeddings = self.tower.both(self._tower_frames(x))
        return self.pooled(self._read_taps(x, taps)), frame_mean(embeddings, len(clip))

    def tower_frames(self, clip: Tensor) -> Tensor:
        """The frames of clips (B, 3, gamma*T, H, W) that the tower sees, (B*T, 3, H, W)."""
        return self._tower_frames(self._folded(clip))

    def use_taps(self, taps: list[Tensor]) -> None:
        """Take these for the tower's outputs in the next forward pass, and in that one only."""
        self._taps = taps

    @property
    def tap_settings(self) -> dict[str, Any]:
        """Which frames the tower sees."""
        return {"gamma": self.side.gamma}

    @property
    def tap_shape(self) -> tuple[int, ...]:
        """(blocks, T, 1 + N, C)."""
        tower = self.tower
        tokens = 1 + (self.spec.size // tower.patch) ** 2
        return len(tower.blocks), self.side.frames, tokens, tower.width

    def read_tower(self, clip: Tensor) -> Tensor:
        """Outputs of the tower's blocks for clips, (B, blocks, T, 1 + N, C)."""
        made = self.tower(self.tower_frames(clip))
        return torch.stack([tap.unflatten(0, (len(clip), -1)) for tap in made], dim=1)

    def use_tower(self, values: Tensor) -> None:
        """`use_taps` with what `read_tower` returned."""
        self.use_taps(list(values.transpose(0, 1).flatten(1, 2)))

    def _tower_frames(self, x: Tensor) -> Tensor:
        want, gamma = self.clip_frames, self.side.gamma
        if self.frames.value != want:
            got = self.frames.value
            raise ValueError(f"expected clips of {want} frames, got {got}; set spec for others")
        self.coarse.value = want // gamma
        return x.unflatten(0, (-1, want))[:, ::gamma].flatten(0, 1)

    def _read_taps(self, x: Tensor, taps: list[Tensor]) -> PoolInputs:
        return PoolInputs(*self.side(taps, x))

    # ------------------------------------------------------------------------------------- clips

    def clip_lengths(self) -> set[int] | None:
        """The one length that the side network has parameters for."""
        return {self.clip_frames}

    @property
    def clip_frames(self) -> int:
        """Frames of a clip, gamma * T."""
        return self.side.frames * self.side.gamma

    def fit_clip(self, spec: ClipSpec) -> None:
        """Interpolate what there is for each frame or position.

        Tokens and positions of frames linearly, the tower's positions as timm does it.

        Raises:
            UsageError: frames that are no multiple of gamma, sizes that are none of the patch.
        """
        check_frames(spec.frames, self.side.gamma)
        frames = spec.frames // self.side.gamma
        for parameter in self.side.clip_positions if frames != self.side.frames else ():
            parameter.data = resize_time(parameter.data, frames)
        self.resize_tower(spec.size)

    def layer_ids(self) -> dict[str, int]:
        """As the tower's blocks are numbered, with what reads a block in that block's layer."""

        def beside(parts: Sequence[str]) -> int | None:
            if parts[:2] == ["side", "stem"]:
                return 0
            if parts[0] == "side" and parts[1] in PER_BLOCK:
                return self.tower.blocks[int(parts[2])] + 1
            return None

        vit: Any = self.tower.vit
        return tower_layer_ids(self, len(vit.blocks), beside)


PER_BLOCK = ("reduce", "to_time", "to_space", "temporal", "mix")
"""Lists of the side network with one module for each block that is read."""


def check_frames(frames: int, gamma: int) -> None:
    """Raise UsageError unless the tower sees a whole number of a clip's frames."""
    if frames % gamma or frames < gamma:
        raise UsageError(
            f"clips of {frames} frames do not suit gamma={gamma}: the tower sees every "
            f"{gamma}th frame",
            f"use a multiple of {gamma}",
        )

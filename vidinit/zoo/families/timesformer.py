"""TimeSformer: attention over space and time from any plain vision transformer.

Bertasius, Wang, Torresani, "Is Space-Time Attention All You Need for Video Understanding?", ICML
2021, https://arxiv.org/abs/2102.05095; its block is CoVeR's too. Three kinds of attention:

- ``divided``: in each block over the T patches of a position, then over a frame's P + N tokens.
- ``joint``: over all P + N*T tokens.
- ``space``: frames by themselves; their tokens are averaged behind the last block.

A time embedding, zero at first, is added to the patches of each frame (not for ``space``). On a
still clip a converted model is the image network: exactly, but for ``joint`` where there are prefix
tokens, because T equal patches weigh more against a class token than one.

Shapes in comments: B clips, T frames, P prefix tokens (class token, registers), N patches of a
frame, C channels.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..base import VideoModel
from ..modify.depth import by_timm
from ..spec import ClipSpec
from .vit import describe_vit, resize_grid, resize_time

ATTENTIONS = ("divided", "joint", "space")
IMAGE_TIMES = ("first", "mean", "none")


class TimeSformer(VideoModel):
    """A vision transformer with attention over time; `plans.timesformer` makes one.

    Attributes:
        trunk: timm's network, its blocks exchanged.
        attention: one of `ATTENTIONS`.
        resizing: one of `vit.RESIZINGS`: how embeddings follow another `spec`.
        image_time: one of `IMAGE_TIMES`.
        time_embed: (1, T, C), or None for ``space``.
    """

    def __init__(
        self, trunk: nn.Module, num_classes: int, *, attention: str, resizing: str, image_time: str
    ) -> None:
        info = describe_vit(trunk)
        super().__init__(info.embed_dim, num_classes)
        self.attention = attention
        self.resizing = resizing
        self.image_time = image_time
        self.prefix = info.prefix_tokens
        embed = torch.zeros(1, self.spec.frames, info.embed_dim)
        self.time_embed = None if attention == "space" else nn.Parameter(embed)
        self.trunk = trunk
        self._spec = replace(self._spec, size=info.size[0])

    def clip_lengths(self) -> set[int] | None:
        """One frame, which is an image, and as many as there are time embeddings."""
        return None if self.time_embed is None else {1, self.time_embed.shape[1]}

    def fit_clip(self, spec: ClipSpec) -> None:
        """Resize the time embedding to the clip's frames, the position embedding to its size."""
        resize_grid(self.trunk, spec.size, self.resizing)
        embed = self.time_embed
        if embed is not None and embed.shape[1] != spec.frames:
            resized = resize_time(embed.detach(), spec.frames, self.resizing)
            self.time_embed = nn.Parameter(resized, requires_grad=embed.requires_grad)

    def feature_maps(self, x: Tensor) -> Tensor:
        """(B*T, 3, H, W) to all tokens behind the final norm, (B, P + N*T, C).

        Time runs fastest among the patches. For ``space`` frames are averaged: (B, P + N, C).

        Raises:
            ValueError: for another number of frames than `spec` has, one frame aside, which is an
                image; and for frames of another size.
        """
        t = self.frames.value
        trunk: Any = self.trunk
        tokens = trunk.blocks(trunk.norm_pre(self._embedded(x)))
        if self.attention == "space":
            tokens = tokens.unflatten(0, (-1, t)).mean(dim=1)
        return trunk.norm(tokens)

    def visible_levels(self, clip: Tensor, visible: Tensor, levels: int) -> list[Tensor]:
        """Tokens of some patches behind the last blocks, when all others are left out.

        The class token and registers take part in every block and are not returned. For joint
        attention, the only one in which tokens can be missing.

        Args:
            clip: (B, 3, T, H, W), normalized.
            visible: the patches that are there, bool (B, T, N), as many in each clip.
            levels: how many of the last blocks.

        Returns:
            Of each of these blocks, the last one last, tokens (B, n, C) behind the final norm, in
            the order of ``visible``: frame by frame.

        Raises:
            ValueError: for other attention.
        """
        if self.attention != "joint":
            raise ValueError(f"{self.attention} attention needs the whole grid of patches")
        trunk: Any = self.trunk
        tokens = self._embedded(self._folded(clip))
        first, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        by_frame = patches.unflatten(1, (-1, self.frames.value)).transpose(1, 2)  # (B, T, N, C)
        kept = by_frame[visible].view(len(clip), -1, patches.shape[-1])
        x = trunk.norm_pre(torch.cat([first, kept], dim=1))
        found = []
        for number, block in enumerate(trunk.blocks, start=1):
            x = block(x)
            if number > len(trunk.blocks) - levels:
                found.append(x[:, self.prefix :])
        norm = trunk.fc_norm if isinstance(trunk.norm, nn.Identity) else trunk.norm
        return [norm(level) for level in found]

    def _embedded(self, x: Tensor) -> Tensor:
        """(B*T, 3, H, W) to what the blocks get: (B, P + N*T, C), (B*T, P + N, C) for ``space``."""
        t = self.frames.value
        self._check(t, x.shape[-2:])
        trunk: Any = self.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(x))  # (B*T, P + N, C)
        if isinstance(tokens, tuple):  # EVA's has rotations beside them, which plain ones lack
            tokens = tokens[0]
        if self.attention == "space":
            return tokens
        return self._with_time(tokens.unflatten(0, (-1, t)))

    def _with_time(self, tokens: Tensor) -> Tensor:
        """(B, T, P + N, C) tokens of frames to those of clips, (B, P + N*T, C)."""
        assert self.time_embed is not None
        t, length = tokens.shape[1], self.time_embed.shape[1]
        time: Tensor | None = self.time_embed
        if t == 1 < length:
            time = self._time_of_images()
        patches = tokens[:, :, self.prefix :].transpose(1, 2)  # (B, N, T, C)
        if time is not None:
            patches = patches + time.unsqueeze(1)
        return torch.cat([tokens[:, 0, : self.prefix], patches.flatten(1, 2)], dim=1)

    def _time_of_images(self) -> Tensor | None:
        """The time embedding of a clip of one frame, (1, 1, C)."""
        if self.time_embed is None or self.image_time == "none":
            return None
        is_mean = self.image_time == "mean"
        return self.time_embed.mean(1, keepdim=True) if is_mean else self.time_embed[:, :1]

    def _check(self, frames: int, size: torch.Size) -> None:
        own: Any = self.trunk.patch_embed
        if tuple(size) != tuple(own.img_size):
            want, got = "x".join(map(str, own.img_size)), "x".join(map(str, size))
            raise ValueError(f"expected frames of {want} pixels, got {got}; set spec for others")
        if self.time_embed is not None and frames not in (1, self.time_embed.shape[1]):
            want = f"clips of {self.time_embed.shape[1]} frames, or of one"
            raise ValueError(f"expected {want}, got {frames}; set spec for others")

    def pooled(self, maps: Tensor) -> Tensor:
        """The image network's pooling and norm on all tokens of the clip, to (B, C).

        Where it pools over prefix tokens, too, it does so frame by frame, and the mean is taken:
        only then a still clip is an image.
        """
        trunk: Any = self.trunk
        t = 1 if self.attention == "space" else self.frames.value
        if t == 1 or not getattr(trunk, "pool_include_prefix", False):
            return trunk.forward_head(maps, pre_logits=True)
        first, patches = maps[:, : self.prefix], maps[:, self.prefix :].unflatten(1, (-1, t))
        spread = first.unsqueeze(1).expand(-1, t, -1, -1)
        rows = torch.cat([spread, patches.transpose(1, 2)], dim=2).flatten(0, 1)
        return trunk.forward_head(rows, pre_logits=True).unflatten(0, (-1, t)).mean(dim=1)

    def spread(self, maps: Tensor, clips: int) -> Tensor:
        """The patch tokens, frame by frame; the class token and registers are none of them."""
        patches = maps[:, self.prefix :]
        if self.attention == "space":
            return patches
        return patches.unflatten(1, (-1, self.frames.value)).transpose(1, 2).flatten(1, 2)

    def placed(self, maps: Tensor, clips: int, size: tuple[int, int]) -> Tensor:
        """(B, T, H', W', C), H' and W' the rows and columns of patches; T is 1 for ``space``."""
        return self.spread(maps, clips).unflatten(1, (-1, *describe_vit(self.trunk).grid))

    @property
    def in_patches(self) -> bool:
        """True."""
        return True

    def token_frames(self) -> int:
        """T; 1 where frames were averaged."""
        return 1 if self.attention == "space" else self.frames.value

    def temporal_parameters(self) -> set[str]:
        """The attention over time, its norms and projections, and the time embedding."""
        new = re.compile(r"time_embed$|.*\.temporal_")
        return {name for name, _ in self.named_parameters() if new.match(name)}

    def layer_ids(self) -> dict[str, int]:
        """As timm numbers the layers of the image network; the time embedding is layer 0."""
        layers = by_timm(self, self.trunk)
        if "time_embed" in layers:
            layers["time_embed"] = 0
        return layers

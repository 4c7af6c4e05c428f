"""Masked feature distillation, as in Unmasked Teacher.

Li et al., "Unmasked Teacher: Towards Training-Efficient Video Foundation Models", ICCV 2023,
https://arxiv.org/abs/2303.16058, and its code. A teacher sees every frame by itself; of its N
patches, n = N - int(share * N) stay for the student, the same number in each frame, drawn without
replacement by the attention of the class token in the teacher's last block, averaged over heads.
The student attends over the seen patches of all frames. With x_k the student's tokens behind its
block k, counted from the end, p the sinusoid of their places among all T * N, and t_k the teacher's
tokens behind its block k, through its final norm (and CLIP's projection):

    s_k = LN_k( W_k ( norm(x_k) + p ) ),   L = mean over k, clips, tokens of 2 - 2 cos(s_k, t_k).

W_k and LN_k belong to the level and are thrown away afterwards. The class token and registers of an
image model that the student came from are always seen, and are none of the tokens that are
compared; the paper's student has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UsageError
from ....zoo.base import VideoModel
from ....zoo.families.timesformer import TimeSformer
from ....zoo.families.vit import is_vit
from ...shared.heads import module_keys
from ..settings import LOSSES
from ..teachers import Teacher, crops_of
from .base import Answers, DistillObjective, StudentPass
from .grids import match_grid

NOISE = "mask_noise"
"""In a batch: numbers above 0, exponentially distributed, of all patches, float32 (B, T, N)."""

_ATTENTION = "attention"
_EPS = 1e-6  # of the norms of decoders: the published code's


class MaskedObjective(DistillObjective):
    """A loss per teacher, of the patches that the student sees.

    Args:
        student: a `TimeSformer` with joint attention, which can leave tokens out.
        teachers: vision transformers; each has decoders of its own.
        share: of the patches of each frame that are taken away, in (0, 1).
        by: ``attention`` of the first teacher's class token, ``random``, or ``auto``: attention
            where it has a class token.
        levels: K, last blocks that are compared.
        weight: factor of all losses.

    Raises:
        UsageError: student or teachers are none that this can be done with.
    """

    name = "masked"

    def __init__(
        self,
        student: VideoModel,
        teachers: Sequence[Teacher],
        *,
        share: float = 0.8,
        by: Literal["auto", "attention", "random"] = "auto",
        levels: int = 6,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.patches = patches_of(student) ** 2
        self.visible = self.patches - int(self.patches * share)
        if not self.visible > 0:
            raise UsageError(f"distill.mask={share:g} leaves no patch", "take a smaller share")
        self.levels = levels
        depth = len(student.trunk.blocks)  # type: ignore[union-attr, arg-type]
        self._towers = [Levels(teacher, levels) for teacher in teachers]
        if levels > min(depth, *(tower.depth for tower in self._towers)):
            raise UsageError(
                f"distill.mask_levels={levels} is more blocks than student and teachers have",
                f"use up to {min(depth, *(tower.depth for tower in self._towers))}",
            )
        why = self._towers[0].why_no_attention()
        if by == _ATTENTION and why:
            raise UsageError(
                f"distill.mask_by=attention: {why}", "use mask_by=random, or another teacher first"
            )
        self.by = "random" if by == "random" or why else _ATTENTION
        self._keys = module_keys(teacher.name for teacher in teachers)
        width = student.num_features
        self.decoders = nn.ModuleDict(
            {
                self._keys[tower.name]: nn.ModuleList(decoder(width, tower) for _ in range(levels))
                for tower in self._towers
            }
        )
        places = sinusoids(student.spec.frames * self.patches, width)
        self.register_buffer("places", places, persistent=False)

    def prepare(self, seen: StudentPass) -> None:
        """Nothing: which patches the student sees is for the teacher to say."""

    @torch.no_grad()
    def ask(self, batch: dict[str, Any]) -> Answers:
        """Each teacher's levels, (B, K, T, N, C) by name, and ``attention``, (B, T, N)."""
        clips, frames = batch["clip"].shape[0], batch["clip"].shape[2]
        side = round(self.patches**0.5)
        numbers = torch.arange(frames, device=batch["clip"].device).expand(clips, -1)
        found: Answers = {}
        for place, tower in enumerate(self._towers):
            wanted = self.by == _ATTENTION and not place
            crops = crops_of(batch, tower.teacher.student, numbers)
            levels, attention = tower(tower.teacher.sized(*crops), attention=wanted)
            grid = levels.unflatten(2, (round(levels.shape[2] ** 0.5), -1))  # (K, B*T, h, w, C)
            grid = match_grid(grid, side, side)
            levels = grid.flatten(2, 3).unflatten(1, (clips, frames))
            found[tower.name] = levels.transpose(0, 1)
            if attention is not None:
                own = attention.unflatten(1, (round(attention.shape[1] ** 0.5), -1))
                own = match_grid(own[None, ..., None], side, side).flatten(2)
                found[_ATTENTION] = own.unflatten(1, (clips, frames))[0]
        return found

    def forward(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """A loss per teacher, as ``<teacher>/masked``."""
        compared = self._compared(seen, answers)
        return {
            f"{name}/masked": self.weight * (2 - 2 * alike).mean()
            for name, alike in compared.items()
        }

    @torch.no_grad()
    def agreement(self, seen: StudentPass, answers: Answers) -> dict[str, Tensor]:
        """The cosine of student and teacher at the patches that are seen."""
        compared = self._compared(seen, answers)
        return {
            f"{name}: patches that are seen": alike.mean(dim=(0, 2))
            for name, alike in compared.items()
        }

    def _compared(self, seen: StudentPass, answers: Answers) -> Answers:
        """By teacher the cosine of student and target, (K, B, T * n)."""
        batch = seen.batch
        visible = self.draw(answers.get(_ATTENTION), batch[NOISE])
        student = seen.model
        assert isinstance(student, TimeSformer)
        levels = student.visible_levels(batch["clip"], visible, self.levels)  # (B, T*n, C) each
        clips = len(visible)
        places = self.get_buffer("places").to(levels[0].dtype)
        own_places = places.expand(clips, -1, -1)[visible.flatten(1)].view(clips, -1, len(places.T))
        found = {}
        for tower in self._towers:
            decoders: Any = self.decoders[self._keys[tower.name]]
            alike = []
            for place, decode in enumerate(decoders):
                own = decode(levels[place] + own_places).float()
                target = answers[tower.name][:, place][visible].view(clips, -1, tower.width).float()
                alike.append((F.normalize(own, dim=-1) * F.normalize(target, dim=-1)).sum(-1))
            found[tower.name] = torch.stack(alike)
        return found

    def draw(self, attention: Tensor | None, noise: Tensor) -> Tensor:
        """Which patches the student sees, bool (B, T, N), as many in each frame.

        The n largest of a / e, with e exponentially distributed, are n draws without replacement
        with probabilities a: what `torch.multinomial` does, with numbers that are counted.

        Args:
            attention: a, (B, T, N), not negative; None: all patches alike.
            noise: e, (B, T, N).
        """
        scores = 1 / noise if attention is None else attention.float() / noise
        chosen = scores.topk(self.visible, dim=-1).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)


class Levels:
    """A teacher's tokens behind its last blocks, and the attention of its class token.

    Args:
        teacher: a vision transformer.
        levels: K, blocks.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, teacher: Teacher, levels: int) -> None:
        if not is_vit(teacher.model):
            raise UsageError(
                f"teacher '{teacher.name}' is no vision transformer, and the target masked "
                "compares patches behind blocks",
                "use one (clip, dinov2), or distill.target=tokens",
            )
        self.teacher, self.levels = teacher, levels
        self.name = teacher.name
        model: Any = teacher.model
        self.depth = len(model.blocks)
        head = getattr(model, "head", None)
        # CLIP's projection of its embedding; a classifier of others makes no features.
        features = teacher.objective.loss in LOSSES["features"]
        self.head = head if features and isinstance(head, nn.Linear) else nn.Identity()
        self.width = int(getattr(self.head, "out_features", model.num_features))

    def why_no_attention(self) -> str:
        """Why no attention of a class token can be asked for; empty where it can."""
        model: Any = self.teacher.model
        if getattr(model, "cls_token", None) is None:
            return f"teacher '{self.name}' has no class token"
        if not hasattr(model.blocks[-1].attn, "head_dim") or getattr(model, "rope", None):
            return f"the attention of teacher '{self.name}' is of a kind that is not read"
        return ""

    def __call__(self, images: Tensor, *, attention: bool) -> tuple[Tensor, Tensor | None]:
        """Levels (K, N, n, C), the last block's last, and attention (N, n), float32.

        Args:
            images: (N, 3, H, W) with the teacher's pixel statistics.
            attention: False leaves it out.
        """
        model: Any = self.teacher.model
        seen: list[Tensor] = []
        last = model.blocks[-1].attn
        hook = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        images = images.to(self.teacher.dtype)
        try:
            with torch.autocast(images.device.type, enabled=False):
                found = model.forward_intermediates(
                    images, indices=self.levels, output_fmt="NLC", intermediates_only=True
                )
                norm = model.fc_norm if isinstance(model.norm, nn.Identity) else model.norm
                levels = self.head(norm(torch.stack(found))).float()
                row = self._row(last, seen[0]) if attention else None
        finally:
            hook.remove()
        return levels, row

    def _row(self, attn: Any, x: Tensor) -> Tensor:
        """Attention of the class token to the patches, averaged over heads, (N, n)."""
        qkv = attn.qkv(x).unflatten(2, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
        query, key = attn.q_norm(qkv[0, :, :, :1]), attn.k_norm(qkv[1])
        weights = (query @ key.mT * attn.scale).float().softmax(-1)
        prefix = self.teacher.model.num_prefix_tokens
        return weights[:, :, 0, prefix:].mean(1)  # type: ignore[misc, no-any-return]


def patches_of(student: VideoModel) -> int:
    """Patches of a row of a student that can leave some out.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(student, TimeSformer) or student.attention != "joint":
        raise UsageError(
            f"{student.name or 'the student'} cannot leave patches out: that takes attention over "
            "the tokens of all frames at once",
            "convert a ViT --to timesformer --attention joint, or take distill.target=tokens",
        )
    trunk: Any = student.trunk
    return int(trunk.patch_embed.grid_size[0])


class _Decoder(nn.Module):
    """Of one level: a linear layer and a norm, started as the published code does."""

    def __init__(self, width: int, other: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, other)
        self.norm = nn.LayerNorm(other, eps=_EPS)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.head(x))


def decoder(width: int, tower: Levels) -> nn.Module:
    """From the student's width to a teacher's: a linear layer and a norm."""
    return _Decoder(width, tower.width)


def sinusoids(places: int, width: int) -> Tensor:
    """Sinusoids of places 0, 1, ..., float32 (places, width): sines at even channels.

    Of Vaswani et al., "Attention Is All You Need", 2017: sin and cos of p / 10000^(2i / width).
    """
    channel = np.arange(width)
    angles = np.arange(places)[:, None] / np.power(10000, 2 * (channel // 2) / width)
    return torch.from_numpy(np.where(channel % 2, np.cos(angles), np.sin(angles))).float()

"""The class of frozen vision transformers with adapters inside their blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ..families.vit import cut_blocks, is_vit, resize_time
from ..folding import FrameCount
from ..spec import ClipSpec
from .blocks import AdaptedBlock
from .tower import Tower, arch_of, why_no_tower
from .tower_model import TowerModel, check_rgb, tower_layer_ids

Averaged = Literal["tokens", "descriptors"]


class AdapterModel(TowerModel):
    """A frozen vision transformer, what is trained inside it, and a head; any number of frames.

    On a clip of equal frames a new model is the image network. What it is on other clips depends on
    what is averaged over the frames:

    - ``descriptors``: those that the image network has for each frame, behind its last norm. The
      logits are then the mean of the image network's over the frames, under its own classifier.
    - ``tokens``: what its last norm of the descriptor is about to read. For a class token that is
      the mean of the raw class tokens, and then the norm; for a pool over patches with the norm
      behind it, the mean of what is pooled. Where the norm stands before the pool (SigLIP's
      attention pool), frames are pooled by themselves, and there is no difference.

    Args:
        tower: without a classifier, its blocks exchanged for `AdaptedBlock` where there are
            adapters.
        adapters: of each block that has some, by its number.
        frames: the frame count that the blocks read.
        num_classes: of the head.
        first: number of the first block that is adapted. With ``time_embed`` it is where the time
            embedding is added, in front of the norm before the blocks where it is 0.
        averaged: over the frames.
        time_embed: True for a time embedding (1, T, C), zeros at first, on all tokens of a frame.
        in_time: names of the adapters, by place, that look across time.
    """

    tower: Tower

    def __init__(
        self,
        tower: Tower,
        adapters: Mapping[int, nn.ModuleDict],
        frames: FrameCount,
        num_classes: int,
        *,
        first: int,
        averaged: Averaged,
        time_embed: bool,
        in_time: tuple[str, ...],
    ) -> None:
        super().__init__(tower.width, num_classes)
        self.frames = frames
        self.tower = tower
        self.adapters = nn.ModuleDict({str(i): own for i, own in adapters.items() if len(own)})
        self.first, self.averaged, self.in_time = first, averaged, in_time
        embed = torch.zeros(1, self.spec.frames, tower.width)
        self.time_embed = nn.Parameter(embed) if time_embed else None
        self._spec = replace(self._spec, size=tower.image_size[0])

    # ------------------------------------------------------------------------------ forward pass

    def feature_maps(self, x: Tensor) -> Tensor:
        """Folded frames (B*T, 3, H, W) to the raw tokens behind the last block, (B*T, N, C).

        Raises:
            ValueError: for frames of another size than `spec` has.
        """
        self.check_frames(x)
        vit: Any = self.tower.vit
        grid = vit.patch_embed.dynamic_feat_size(x.shape[-2:])
        tokens, rope = vit._pos_embed(vit.patch_embed(x)), None
        if isinstance(tokens, tuple):  # EVA's has rotations beside them
            tokens, rope = tokens
        if self.first == 0:
            tokens = self._with_time(tokens)
        tokens = vit.norm_pre(tokens)
        mixed = getattr(vit, "rope_mixed", False)  # rotations of each block's own
        for number, block in enumerate(vit.blocks):
            turn = rope[number] if mixed and rope is not None else rope
            if number == self.first != 0:
                tokens = self._with_time(tokens)
            if isinstance(block, AdaptedBlock):
                tokens = block(tokens, turn, grid)
            else:
                tokens = block(tokens) if turn is None else block(tokens, rope=turn)
        return tokens

    def _with_time(self, tokens: Tensor) -> Tensor:
        """(B*T, N, C) tokens with the time embedding of their frames, resized for other clips."""
        if self.time_embed is None:
            return tokens
        embed: Tensor = self.time_embed
        frames = self.frames.value
        if embed.shape[1] != frames:
            embed = resize_time(embed, frames)
        return (tokens.unflatten(0, (-1, frames)) + embed.unsqueeze(2)).flatten(0, 1)

    def pooled(self, maps: Tensor) -> Tensor:
        """Descriptors (B, C)."""
        vit: Any = self.tower.vit
        if self.averaged == "descriptors":
            return self._mean(vit.forward_head(vit.norm(maps), pre_logits=True))
        if vit.global_pool == "token":
            return vit.forward_head(vit.norm(self._mean(maps[:, :1])), pre_logits=True)
        return vit.fc_norm(self._mean(vit.pool(vit.norm(maps))))

    def _mean(self, x: Tensor) -> Tensor:
        """(B*T, ...) to (B, ...)."""
        return x.unflatten(0, (-1, self.frames.value)).mean(dim=1)

    def spread(self, maps: Tensor, clips: int) -> Tensor:
        """The patches behind the last norm, frame by frame; class token and registers are none."""
        vit: Any = self.tower.vit
        patches = vit.norm(maps)[:, self.tower.prefix_tokens :]
        return patches.reshape(clips, -1, patches.shape[-1])

    def placed(self, maps: Tensor, clips: int, size: tuple[int, int]) -> Tensor:
        """(B, T, H', W', C), H' and W' the rows and columns of patches."""
        return self.spread(maps, clips).unflatten(1, (-1, *self.tower.grid))

    # ------------------------------------------------------------------------------------- clips

    def fit_clip(self, spec: ClipSpec) -> None:
        """Resize the time embedding to the clip's frames, the tower's positions to its size.

        Frames linearly, positions as timm does it.

        Raises:
            UsageError: for a size that is no multiple of the patch.
        """
        self.resize_tower(spec.size)
        embed = self.time_embed
        if embed is not None and embed.shape[1] != spec.frames:
            resized = resize_time(embed.detach(), spec.frames)
            self.time_embed = nn.Parameter(resized, requires_grad=embed.requires_grad)

    # -------------------------------------------------------------------------------- parameters

    def temporal_parameters(self) -> set[str]:
        """The time embedding, and the adapters that look across time."""
        return {
            name
            for name, _ in self.named_parameters()
            if name == "time_embed"
            or (name.startswith("adapters.") and name.split(".")[2] in self.in_time)
        }

    def layer_ids(self) -> dict[str, int]:
        """As the tower's blocks are numbered, adapters with the block they stand in.

        Embeddings, that of time too, are layer 0.
        """
        vit: Any = self.tower.vit

        def beside(parts: Sequence[str]) -> int | None:
            if parts[0] == "adapters":
                return int(parts[1]) + 1
            return 0 if parts[0] == "time_embed" else None

        return tower_layer_ids(self, len(vit.blocks), beside)


def adaptable(vit: nn.Module, plan: str) -> None:
    """Check that a network is made of blocks that adapters can stand in.

    Args:
        vit: a timm network without classifier.
        plan: for the message.

    Raises:
        UsageError: for other networks, with the reason.
    """
    arch, reason = arch_of(vit), why_not_adaptable(vit)
    if reason:
        raise UsageError(
            f"{arch} cannot take the adapters of {plan}: {reason}",
            "use a plain vision transformer, vit_base_patch16_clip_quickgelu_224 for example",
        )
    check_rgb(vit)


def why_not_adaptable(vit: nn.Module) -> str:
    """Why adapters cannot stand in a network; empty where they can."""
    kind = type(vit).__name__
    if is_vit(vit) and hasattr(vit, "head_dist"):
        return "it has two classifiers, one for its distillation token"
    if not is_vit(vit) or kind not in ("VisionTransformer", "Eva"):
        return f"timm's {kind} has tokens or blocks of another kind"
    reason = why_no_tower(vit)
    if reason:
        return reason
    model: Any = vit
    kinds = {type(block).__name__ for block in model.blocks}
    if not kinds <= {"Block", "EvaBlock"}:
        return (
            f"it is made of timm's {', '.join(sorted(kinds))}, and adapters stand between the "
            "parts of a Block, an attention and an MLP in turn with a norm before each"
        )
    if not model.global_pool:
        return "it does not pool its tokens"
    return ""


def adapt(
    vit: nn.Module,
    plan: str,
    cut: str,
    num_classes: int,
    adapted: Callable[[int, nn.Module, FrameCount], AdaptedBlock],
    *,
    averaged: Averaged,
    time_embed: bool,
    in_time: tuple[str, ...],
    zeros: str,
    trained: Sequence[str] = (),
) -> AdapterModel:
    """Make a model of a network, some of whose blocks are exchanged for adapted ones.

    Args:
        vit: an `adaptable` network without classifier; it becomes the frozen tower.
        plan: for the message.
        cut: which blocks: ``all``, ``top:K`` (the last K) or ``bottom:K``.
        num_classes: size of the new head.
        adapted: a block with its adapters, from its number, the block, and the frame count.
        averaged, time_embed, in_time: see `AdapterModel`.
        zeros: pattern for the names of new tensors that start at zero, see `note_origins`: one of
            two layers in a row, as where both do neither learns.
        trained: names of the network's tensors that are trained, too.

    Returns:
        The model with `origins` filled.

    Raises:
        UsageError: for a cut of other text or of more blocks than there are.
    """
    network: Any = vit
    numbers = cut_blocks(cut, arch_of(vit), len(network.blocks), plan)
    sources = {id(t): key for key, t in vit.state_dict(keep_vars=True).items()}
    frames = FrameCount()
    tower = Tower(vit)
    for number in numbers:
        network.blocks[number] = adapted(number, network.blocks[number], frames)
    tower.freeze(trained)
    model = AdapterModel(
        tower,
        {number: network.blocks[number].adapters for number in numbers},
        frames,
        num_classes,
        first=numbers[0],
        averaged=averaged,
        time_embed=time_embed,
        in_time=in_time,
    )
    model.note_origins(sources, zeros)
    return model


def trained_norm(vit: nn.Module) -> list[str]:
    """Names of the tensors of a network's last norm, before or behind its pool."""
    return [name for name, _ in vit.named_parameters() if name.startswith(("norm.", "fc_norm."))]

"""Small classifiers over what a frozen trunk has seen."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from ...config.probes import ATTENTIVE, DIST, LINEAR
from ...errors import UsageError
from ...zoo.attentive import AttentivePooler
from ...zoo.base import VideoModel
from ...zoo.build import assemble
from ...zoo.dist_network.model import DistModel
from ...zoo.dist_network.tower import kept_tokens, why_no_tower
from ...zoo.folding import fold
from ...zoo.names import find_entry
from ..shared.heads import new_head


@dataclass(frozen=True)
class Seen:
    """What a frozen trunk makes of a batch of clips.

    Attributes:
        clip: the clips themselves, (B, 3, T, H, W).
        descriptor: (B, C).
        tokens: (B, N, C), or None where no probe needs them.
        taps: output of each block of a vision transformer, as `kept_tokens` has them, (B*T, 1 + P,
            C), or None where no probe needs them.
    """

    clip: Tensor
    descriptor: Tensor
    tokens: Tensor | None = None
    taps: list[Tensor] | None = None


class Probe(nn.Module, ABC):
    """A small classifier over what a frozen trunk has seen.

    Attributes:
        needs_tokens, needs_taps: whether it looks at them, see `Seen`.
    """

    needs_tokens = False
    needs_taps = False

    @abstractmethod
    def forward(self, seen: Seen) -> Tensor:
        """What the trunk has seen of a batch to logits (B, classes)."""

    @abstractmethod
    def joined(self, model: VideoModel) -> VideoModel:
        """A copy of the model with this probe for its head; they share their tensors."""


class LinearProbe(Probe):
    """A linear head on the descriptor."""

    def __init__(self, model: VideoModel, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.head = new_head(model, num_classes)

    def forward(self, seen: Seen) -> Tensor:
        """The descriptor to logits (B, classes)."""
        return self.classified(seen.descriptor)

    def classified(self, descriptor: Tensor) -> Tensor:
        """(B, C) to logits (B, classes)."""
        out: Tensor = self.head(self.dropout(descriptor))
        return out

    def joined(self, model: VideoModel) -> VideoModel:
        """The model with this head."""
        twin = copy.copy(model)
        twin._modules = dict(model._modules)  # a copy of a module shares this dict
        twin.head = self.head
        twin.num_classes = self.head.out_features
        return twin


class AttentiveProbe(LinearProbe):
    """A linear head on what a learned query finds among the tokens, see `AttentivePooler`."""

    needs_tokens = True

    def __init__(self, model: VideoModel, num_classes: int, dropout: float, **options: int) -> None:
        super().__init__(model, num_classes, dropout)
        self.pooler = AttentivePooler(model.num_features, **options)

    def forward(self, seen: Seen) -> Tensor:
        """The tokens to logits (B, classes)."""
        assert seen.tokens is not None
        return self.classified(self.pooler(seen.tokens))

    def joined(self, model: VideoModel) -> VideoModel:
        """The model with this pooler and head."""
        twin = super().joined(model)
        twin.pooler = self.pooler
        return twin


class DistProbe(Probe):
    """DiST's side network beside a vision transformer, and a linear head; see `zoo.dist_network`.

    Raises:
        UsageError: another trunk, or clips that do not suit gamma.
    """

    needs_taps = True

    def __init__(self, model: VideoModel, num_classes: int, dropout: float, **options: int) -> None:
        super().__init__()
        given = {**options, "projection": 0}  # the trunk's classifier was taken off
        twin = assemble(
            _vision_transformer(model),
            find_entry(f"dist-{model.name.partition('-')[2]}"),
            num_classes=num_classes,
            name=f"dist-{model.name.partition('-')[2]}",
            **given,
        )
        assert isinstance(twin, DistModel)
        twin.spec = model.spec
        self.dropout = nn.Dropout(dropout)
        self.side, self.head = twin.side, twin.head
        self._twin = (twin,)  # not a module of this one: its tower is the trunk

    def forward(self, seen: Seen) -> Tensor:
        """Clips and taps to logits (B, classes)."""
        assert seen.taps is not None
        (twin,) = self._twin
        frames, gamma = seen.clip.shape[2], twin.side.gamma
        every = (tap.unflatten(0, (-1, frames))[:, ::gamma].flatten(0, 1) for tap in seen.taps)
        twin.use_taps(list(every))
        return self.head(self.dropout(twin.embed(seen.clip)))

    def joined(self, model: VideoModel) -> VideoModel:
        """A DiST model with the trunk for its tower."""
        twin = copy.copy(self._twin[0])
        twin.classes, twin.label_kind = model.classes, model.label_kind
        twin.lineage = list(model.lineage)
        return twin


def _vision_transformer(model: VideoModel) -> nn.Module:
    """The trunk of a c2d model, if it is one that DiST can stand beside."""
    trunk = getattr(model, "trunk", None)
    reason = "it is no image network run frame by frame"
    if model.name.startswith("c2d-") and isinstance(trunk, nn.Module):
        reason = why_no_tower(trunk)
        if not reason:
            return trunk
    raise UsageError(
        f"probe dist cannot stand beside {model.name or type(model).__name__}: {reason}",
        "probe a c2d model of a vision transformer, c2d-vit_base_patch16_224 for example",
    )


def seen_with_taps(model: VideoModel, clip: Tensor) -> Seen:
    """All that a frozen c2d model of a vision transformer makes of clips, in one pass."""
    trunk = _vision_transformer(model)
    model.frames.value = clip.shape[2]
    maps, found = trunk.forward_intermediates(  # type: ignore[operator]
        fold(clip), return_prefix_tokens=True, norm=False, output_fmt="NLC"
    )
    tokens = model.spread(maps, len(clip))
    descriptor = model.pooled(maps) if model.pooler is None else model.pooler(tokens)
    return Seen(clip, descriptor, tokens, [kept_tokens(tap) for tap in found])


MAKERS: dict[str, type[LinearProbe | DistProbe]] = {
    LINEAR: LinearProbe,
    ATTENTIVE: AttentiveProbe,
    DIST: DistProbe,
}
"""The probes by the word for them."""

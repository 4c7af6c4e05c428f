"""The class of video models on a frozen image transformer."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ...errors import UsageError
from ..base import VideoModel
from ..images.heads import channels_of
from ..spec import Origin
from .frozen import FrozenNetwork
from .tower import Tower, arch_of

TOWER = "tower."  # of the tower's tensors in a model's state dict


class TowerModel(VideoModel):
    """A video model on a frozen network, its ``tower``, and what is trained inside or beside it.

    Attributes:
        tower: the frozen network. A subclass sets it, and everything else it has.
        reference: where the tower can be had again, as model.yaml says it; None where it cannot,
            and a model folder has to hold it.
    """

    only_rgb = "a frozen tower sees RGB only"

    tower: FrozenNetwork

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        self.reference: dict[str, str] | None = None

    @property
    def in_patches(self) -> bool:
        """True."""
        return True

    def resize_tower(self, size: int) -> None:
        """Have a `Tower` take frames of ``size`` pixels a side.

        Raises:
            UsageError: for a size that is no multiple of the patch.
        """
        tower = self.tower
        assert isinstance(tower, Tower)
        if tower.image_size == (size, size):
            return
        if tower.image_size != tower.native_size:  # resized twice is not what once would give
            self.reference = None
        tower.resize(size)

    def check_frames(self, x: Tensor) -> None:
        """Raise ValueError unless frames (N, 3, H, W) have the size that a `Tower` takes."""
        assert isinstance(self.tower, Tower)
        if tuple(x.shape[-2:]) != self.tower.image_size:
            want, got = ("x".join(map(str, s)) for s in (self.tower.image_size, x.shape[-2:]))
            raise ValueError(f"expected frames of {want} pixels, got {got}; set spec for others")

    def note_origins(self, sources: Mapping[int, str], zeros: str) -> None:
        """Fill `origins`: tensors of the image network are copied, new ones random or zeros.

        Args:
            sources: names of the image network's tensors, by the id of the tensor.
            zeros: pattern that is found in the names of new tensors which start at zero.
        """
        for key, tensor in self.state_dict(keep_vars=True).items():
            if key.startswith("head."):
                continue
            if id(tensor) in sources:
                self.origins[key] = Origin(sources[id(tensor)], "copy")
            else:
                self.origins[key] = Origin(None, "silent" if re.search(zeros, key) else "random")

    def own_state(self) -> dict[str, Tensor]:
        """The state dict less what is frozen: what a folder holds that names the tower."""
        return {k: v for k, v in self.state_dict().items() if not self._is_frozen(k)}

    def frozen_state(self) -> dict[str, Tensor]:
        """The state dict of what is frozen."""
        return {k: v for k, v in self.state_dict().items() if self._is_frozen(k)}

    def _is_frozen(self, key: str) -> bool:
        return key.startswith(TOWER) and self.tower.is_frozen(key.removeprefix(TOWER))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if any(k.startswith(prefix) and self._is_frozen(k.removeprefix(prefix)) for k in state):
            self.reference = None  # whatever it was, the tower may be another one now
        super()._load_from_state_dict(state, prefix, *rest)


def hold_tower(model: VideoModel) -> None:
    """Have folders of a model hold its frozen tower, whether it can be had elsewhere or not.

    Raises:
        UsageError: the model has none.
    """
    if not isinstance(model, TowerModel):
        raise UsageError(
            f"--whole stores a frozen tower, and {model.name} has none: its folders hold all of it",
            "leave it out",
        )
    model.reference = None


def check_rgb(network: nn.Module) -> None:
    """Raise UsageError unless a network that is to be frozen takes RGB images."""
    if channels_of(network) != 3:
        raise UsageError(
            f"{arch_of(network)} does not take RGB images ({channels_of(network)} input channels), "
            f"and {TowerModel.only_rgb}",
            "use a network for RGB, or another plan",
        )


def tower_layer_ids(
    model: VideoModel, depth: int, beside: Callable[[Sequence[str]], int | None]
) -> dict[str, int]:
    """Layers by parameter name, as the tower's ``depth`` blocks are numbered; see `layer_ids`.

    Args:
        model: its tower is a `Tower`.
        depth: number of the tower's blocks.
        beside: the layer of a parameter that is none of the tower's, of its name's parts; None for
            the last.
    """
    last = depth + 1
    ids: dict[str, int] = {}
    for name, _ in model.named_parameters():
        if name.startswith("tower.vit.blocks."):
            ids[name] = int(name.split(".")[3]) + 1
        elif name.startswith(_BEHIND_BLOCKS):
            ids[name] = last
        elif name.startswith(TOWER):
            ids[name] = 0
        else:
            own = beside(name.split("."))
            ids[name] = last if own is None else own
    return ids


_BEHIND_BLOCKS = tuple(f"tower.vit.{part}" for part in ("norm.", "fc_norm", "attn_pool", "head"))


class ReadTowerModel(TowerModel, ABC):
    """A model whose tower is only read, so that what it gives of a clip can be kept.

    Attributes:
        side: what reads it.
        starts_as_image: False where descriptors are not made of the image network's own, so that
            neither its classifier nor its logits are left.
    """

    tower: Tower
    side: nn.Module
    starts_as_image: bool = False

    @property
    @abstractmethod
    def tap_settings(self) -> dict[str, Any]:
        """Settings that change `read_tower`, beside the tower, the blocks read, and the clip."""

    @property
    @abstractmethod
    def tap_shape(self) -> tuple[int, ...]:
        """Shape of what `read_tower` returns of one clip of `spec`."""

    @abstractmethod
    def read_tower(self, clip: Tensor) -> Tensor:
        """The tower's outputs that the model reads of clips (B, 3, T, H, W): (B, *`tap_shape`)."""

    @abstractmethod
    def use_tower(self, values: Tensor) -> None:
        """Take these, from `read_tower`, in the next forward pass, and in that one only."""

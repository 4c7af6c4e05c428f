"""The class of video models on a frozen image transformer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..base import VideoModel
from .frozen import FrozenNetwork
from .tower import Tower

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


class ReadTowerModel(TowerModel):
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
    def tap_settings(self) -> dict[str, Any]:
        """What changes `read_tower` beside the tower, which blocks are read, and the clip."""
        raise NotImplementedError

    @property
    def tap_shape(self) -> tuple[int, ...]:
        """Shape of what `read_tower` returns of one clip of `spec`."""
        raise NotImplementedError

    def read_tower(self, clip: Tensor) -> Tensor:
        """What the model reads of its tower for clips (B, 3, T, H, W): (B, *`tap_shape`)."""
        raise NotImplementedError

    def use_tower(self, values: Tensor) -> None:
        """Take these, from `read_tower`, in the next forward pass, and in that one only."""
        raise NotImplementedError

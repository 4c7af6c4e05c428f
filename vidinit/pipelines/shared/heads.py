"""Several linear heads on one trunk, and how their names become names of modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ...errors import UsageError
from ...zoo.base import VideoModel
from .names import distinct


def module_keys(names: Iterable[str], dot: str = "-") -> dict[str, str]:
    """Keys of an `nn.ModuleDict` by name: they may not hold dots, nor be attributes of it."""

    def clean(name: str) -> str:
        key = name.replace(".", dot)
        return key + dot if hasattr(nn.ModuleDict(), key) else key

    return distinct(names, clean, dot)


def new_head(model: VideoModel, size: int) -> nn.Linear:
    """A linear head on the descriptors of a model; see `new_linear`."""
    return new_linear(model.descriptor_width, size)


def new_linear(width: int, size: int) -> nn.Linear:
    """A linear head on descriptors of this width, N(0, 0.01) and zero bias."""
    head = nn.Linear(width, size)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


class Heads(nn.Module):
    """Linear heads by name on the descriptors of one model.

    The first name uses ``model.head``, so that the saved model is complete without the others.

    Args:
        model: its head is replaced unless it has the right size already.
        sizes: number of outputs by name.
    """

    def __init__(self, model: VideoModel, sizes: dict[str, int]) -> None:
        super().__init__()
        self.first, *others = sizes
        if model.num_classes != sizes[self.first]:
            model.reset_head(sizes[self.first])
        model.label_kind = "single"  # whatever the head was for, each of these gives one class
        self._keys = module_keys(others)
        self.further = nn.ModuleDict(
            {self._keys[name]: new_head(model, sizes[name]) for name in others}
        )

    def logits(self, model: VideoModel, embedding: Tensor, name: str) -> Tensor:
        """(B, C) descriptors to (B, outputs) of one head, dropout included."""
        head = model.head if name == self.first else self.further[self._keys[name]]
        return head(model.dropout(embedding))

    def by_name(self) -> dict[str, nn.Linear]:
        """The heads beside the first, under the names given to the constructor."""
        return {name: self.further[key] for name, key in self._keys.items()}  # type: ignore[misc]

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **options: Any
    ) -> None:
        """Refuse checkpoints of version 0.1 in which two sources had trained one head.

        Which of them it is good for, and what the optimizer knows of the other, is not in there.
        """
        for name, key in self._keys.items():
            shared = name.replace(".", "-")
            if key != shared and f"{prefix}further.{key}.weight" not in state_dict:
                raise UsageError(
                    f"the checkpoint is of a version in which '{name}' had no head of its own but "
                    f"that of '{shared}'",
                    "start anew in another --out",
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

"""Several linear heads on one trunk; the first of them is the model's own."""

from __future__ import annotations

from torch import Tensor, nn

from ...zoo.base import VideoModel


class Heads(nn.Module):
    """Linear heads by name on the descriptors of one model.

    The first name uses ``model.head``, so that the saved model is complete without the others.

    Args:
        model: its head is replaced unless it has the right size already.
        sizes: number of outputs by name.
    """

    def __init__(self, model: VideoModel, sizes: dict[str, int]) -> None:
        super().__init__()
        self.first = next(iter(sizes))
        if model.num_classes != sizes[self.first]:
            model.reset_head(sizes[self.first])
        model.label_kind = "single"  # whatever the head was for, each of these gives one class
        self.further = nn.ModuleDict(
            {_key(name): new_head(model, size) for name, size in list(sizes.items())[1:]}
        )

    def logits(self, model: VideoModel, embedding: Tensor, name: str) -> Tensor:
        """(B, C) descriptors to (B, outputs) of one head, dropout included."""
        head = model.head if name == self.first else self.further[_key(name)]
        return head(model.dropout(embedding))

    def by_name(self, names: list[str]) -> dict[str, nn.Linear]:
        """The heads beside the first, under the names given to the constructor."""
        return {name: self.further[_key(name)] for name in names if name != self.first}  # type: ignore[misc]


def new_head(model: VideoModel, size: int) -> nn.Linear:
    """A linear head on the descriptors of a model, N(0, 0.01) and zero bias."""
    head = nn.Linear(model.num_features, size)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def _key(name: str) -> str:
    """Module names may not hold dots."""
    return name.replace(".", "-")

"""Frozen towers by reference: a model folder names its tower instead of holding it.

What is trained is a tenth of the tower. What a folder says is where the tower's weights are from
and their sha256, which is compared each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..base import VideoModel, to_channels_last
from ..build import assemble, has_frozen_tower, plan_of
from ..images.networks import load_exactly, load_image_model
from ..names import find_entry
from .frozen import digest
from .tower_model import TowerModel

if TYPE_CHECKING:
    from torch import Tensor

    from ..card import Card
    from ..images.networks import ImageSource

HUB = "hub"
TOWER_FILES = ("tower.safetensors", "tower.pth", "tower.pt", "tower.bin")
"""Files in a model folder that are taken for its tower's weights, before the reference is."""


def reference_to(image: ImageSource, source: str, weights: str | Path | None) -> dict[str, str]:
    """The entry of model.yaml for a tower: its name, where its weights are from, their sha256.

    Args:
        image: the network as it was loaded, its classifier included.
        source: the timm name it was loaded by.
        weights: the file with its weights; None for the hub.
    """
    cfg: Any = getattr(image.model, "pretrained_cfg", None) or {}
    tag = cfg.get("tag")
    named = ":" in source or not tag  # hf-hub: and local-dir: say it all
    return {
        "name": source if named or weights is not None else f"{image.arch}.{tag}",
        "weights": HUB if weights is None else str(Path(weights).resolve()),
        "sha256": digest(image.model),
    }


def is_refetchable(source: str, weights: str | Path | None, pretrained: bool) -> bool:
    """True where anyone can fetch the weights again: files come and go, random ones are lost."""
    return pretrained and weights is None and not source.startswith("local-dir:")


def with_reference(model: VideoModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A model's tensors that its folder holds, and the entry of model.yaml for the rest."""
    if not isinstance(model, TowerModel) or model.reference is None:
        return model.state_dict(), {}
    return model.own_state(), {"tower": model.reference}


def rebuild(folder: Path, card: Card, num_classes: int) -> TowerModel:
    """The model of a folder that names its tower; only the tower has its values.

    Raises:
        UsageError: weights that are gone or are others than those the model learned with.
        VidinitError: weights that cannot be fetched.
    """
    assert card.tower is not None
    reference: dict[str, str] = card.tower.model_dump()
    entry = find_entry(card.name)
    if not has_frozen_tower(entry):
        raise UsageError(f"{folder} names a frozen tower, which {card.name} has not")
    image, own = _open(folder, reference, card.options.get("network", {}))
    plan = plan_of(entry)
    if plan is not None and not plan.keeps_classifier:
        image.model.reset_classifier(0)  # type: ignore[operator]
    model = assemble(image.model, entry, num_classes=num_classes, name=card.name, **card.options)
    assert isinstance(model, TowerModel)
    to_channels_last(model)
    model.reference = None if own else reference
    return model


def load_own(model: VideoModel, own: dict[str, Tensor], origin: str) -> None:
    """Load all tensors but the frozen ones into a model that `rebuild` made.

    Raises:
        UsageError: tensors that are missing, unexpected or of another shape.
    """
    assert isinstance(model, TowerModel)
    reference = model.reference
    load_exactly(model, {**model.frozen_state(), **own}, origin)
    model.reference = reference


def _open(
    folder: Path, reference: dict[str, str], arguments: dict[str, Any]
) -> tuple[ImageSource, bool]:
    """The tower, built with arguments of timm's function, and True where it lay in the folder."""
    name, origin = reference["name"], reference["weights"]
    in_folder = next((folder / file for file in TOWER_FILES if (folder / file).is_file()), None)
    file = in_folder or (None if origin == HUB else Path(origin))
    remedy = f"copy a file with the weights of {name} to {folder / TOWER_FILES[0]}"
    if file is not None and not file.exists():
        raise UsageError(f"the frozen tower of {folder} is gone: no such file {file}", remedy)
    image = load_image_model(name, weights=file, ways=(remedy,), arguments=arguments)
    if digest(image.model) != reference["sha256"]:
        raise UsageError(
            f"the frozen tower of {folder} is another one than it was made with: the weights of "
            f"{name} from {file or 'the hub'} have another sha256",
            remedy,
        )
    return image, in_folder is not None

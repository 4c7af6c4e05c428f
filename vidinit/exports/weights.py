"""Weights as a file: our own state dict, or the keys and shapes of a public code base."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..conversion.layouts.vjepa2_probe import LAYOUTS as PROBES
from ..conversion.layouts.vjepa2_probe import LIST, OWN, write_probe
from ..errors import UsageError
from .metadata import KEY, as_text

if TYPE_CHECKING:
    from torch import Tensor

    from ..zoo.base import VideoModel


def tensors_of(model: VideoModel, layout: str | None) -> dict[str, Tensor]:
    """The tensors of a model, by its own keys or by those of a layout.

    Raises:
        UsageError: a layout that has no such model.
    """
    if layout is None:
        state = model.state_dict()
    elif layout in PROBES:
        state = write_probe(model, layout)
    else:
        from ..conversion.layouts.read_write import write_layout

        if model.pooler is not None:
            raise UsageError(
                "the model pools by attention (it was saved by an attentive probe), which no "
                "public layout has a place for",
                f"export the probe by itself (--layout {' or '.join(PROBES)}), the model that was "
                "probed, or a linear probe's",
            )
        state = write_layout(model, layout)
    return {key: value.detach().contiguous() for key, value in state.items()}


def write_weights(state: dict[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    """Write tensors by the suffix of the file; a pickle holds nothing beside them.

    A pickle of V-JEPA 2's layout has them in a list of one probe, as its code reads it.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        path.write_bytes(save(state, metadata={"format": "pt", KEY: as_text(metadata)}))
    else:
        content = io.BytesIO()  # the errors of torch's own writer do not say that the disk is full
        torch.save({LIST: [state]} if metadata.get("layout") == OWN else state, content)
        path.write_bytes(content.getbuffer())

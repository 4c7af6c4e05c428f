"""`vidinit export`: weights under the keys of a public code base."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import load, model_folder
from ..errors import UsageError
from .layouts.layout import write_layout
from .sources import check_layout

SUFFIXES = (".pth", ".pt", ".safetensors")


def export(
    model: str | Path, *, layout: str, out: str | Path, overwrite: bool = False
) -> dict[str, Any]:
    """Write a model's weights as a state dict of a public layout.

    Args:
        model: a model or run folder.
        layout: whose keys and shapes (``torchvision``, ``pytorchvideo``, ...).
        out: file to write, .pth, .pt or .safetensors.
        overwrite: replace the file.

    Returns:
        {model, layout, tensors, out}.

    Raises:
        UsageError: an unknown layout, one that has no such model, or a file that may not be
            written.
    """
    check_layout(layout)
    path = Path(out)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--out {path} has no known suffix", f"use {', '.join(SUFFIXES)}")
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"--out {path} is there already", "name another file, or pass --overwrite")
    if model_folder(model) is None:
        raise UsageError(f"'{model}' is a zoo name without weights", "give a model or run folder")
    loaded = load(model)
    if loaded.pooler is not None:
        raise UsageError(
            f"{model} pools by attention (it was saved by an attentive probe), which no public "
            "layout has a place for",
            "export the model that was probed, or a linear probe's",
        )
    state = {k: v.detach().contiguous() for k, v in write_layout(loaded, layout).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.new")
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, part)
    else:
        torch.save(state, part)
    os.replace(part, path)
    return {"model": loaded.name, "layout": layout, "tensors": len(state), "out": str(path)}

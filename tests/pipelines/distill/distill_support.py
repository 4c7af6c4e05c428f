"""Small distillations, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from support import MODEL, SMALL, logged, shake_norms

import vidinit


def tiny_teacher(file: Path, seed: int = 0) -> str:
    """A teacher of nine classes in a file, as ``--teacher`` takes it."""
    torch.manual_seed(seed)
    model = timm.create_model("mobilenetv2_050", num_classes=9)
    shake_norms(model, seed)
    torch.save(model.state_dict(), file)
    return f"mobilenetv2_050={file},size=32"


def run(motion_set: Path, out: Path, *teachers: str, **options: Any) -> dict[str, Any]:
    overrides = [*SMALL, "train.log_every=1", *options.pop("overrides", ())]
    return vidinit.distill(
        MODEL,
        videos=motion_set / "val",
        teacher=list(teachers),
        out=out,
        overrides=overrides,
        epochs=options.pop("epochs", 1),
        **options,
    )


def losses(out: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if "loss" in k} for row in logged(out) if "loss" in row]


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()

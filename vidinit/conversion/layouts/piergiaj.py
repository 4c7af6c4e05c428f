"""piergiaj's I3D: TensorFlow's end points, with its padding."""

from __future__ import annotations

from ...zoo.spec import SIGNED
from .public_file import Candidate, PublicFile
from .scheme import Scheme

ENDS = {
    "conv1a": "Conv3d_1a_7x7",
    "conv2b": "Conv3d_2b_1x1",
    "conv2c": "Conv3d_2c_3x3",
    **{f"mixed{n}": f"Mixed_{n}" for n in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")},
}


def _public_key(key: str) -> str | None:
    module, _, leaf = key.rpartition(".")
    if module == "head":
        return f"logits.conv3d.{leaf}"
    layer, _, part = module.rpartition(".")
    outer, _, unit = layer.partition(".")
    if outer not in ENDS or part not in ("conv", "bn"):
        return None
    inside = f".{unit}" if unit else ""
    return f"{ENDS[outer]}{inside}.{'conv3d' if part == 'conv' else 'bn'}.{leaf}"


def _find(file: PublicFile) -> Candidate | None:
    if file.get("conv1a.conv.weight") is None or file.get("mixed3b.b0.conv.weight") is None:
        return None
    return Candidate("i3d", {"padding": "same"})


SCHEMES = (
    Scheme(
        "piergiaj",
        _find,
        _public_key,
        r"i3d(@(top|bottom):11)?",
        SIGNED,
        1e-3,
        {"padding": "same"},
        linear=(),
        head_first=True,
    ),
)

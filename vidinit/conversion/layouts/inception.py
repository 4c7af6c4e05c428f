"""Names of the Inception family: torchvision's and kylemin's S3D, piergiaj's I3D."""

from __future__ import annotations

from ...zoo.spec import KINETICS, SIGNED
from .scheme import Rename, Scheme

PLACES = {
    "conv1a": 0,
    "conv2b": 2,
    "conv2c": 3,
    "mixed3b": 5,
    "mixed3c": 6,
    "mixed4b": 8,
    "mixed4c": 9,
    "mixed4d": 10,
    "mixed4e": 11,
    "mixed4f": 12,
    "mixed5b": 14,
    "mixed5c": 15,
}
"""Where our modules stand among torchvision's and kylemin's, whose pools are counted too."""

UNITS = {
    "b0": "branch0",
    "b1a": "branch1.0",
    "b1b": "branch1.1",
    "b2a": "branch2.0",
    "b2b": "branch2.1",
    "b3b": "branch3.1",
}
SEPARABLE = ("conv1a", "conv2c", "b1b", "b2b")
PLAIN_PARTS = {"conv": "0", "bn": "1"}
SEPARABLE_PARTS = {"conv": "0.0", "bn": "0.1", "time": "1.0", "time_bn": "1.1"}
KYLEMIN_PLAIN = {"conv": "conv", "bn": "bn"}
KYLEMIN_SEPARABLE = {"conv": "conv_s", "bn": "bn_s", "time": "conv_t", "time_bn": "bn_t"}

ENDS = {
    "conv1a": "Conv3d_1a_7x7",
    "conv2b": "Conv3d_2b_1x1",
    "conv2c": "Conv3d_2c_3x3",
    **{f"mixed{n}": f"Mixed_{n}" for n in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")},
}


def _s3d(
    root: str, head: str, single: str, plain: dict[str, str], separable: dict[str, str]
) -> Rename:
    """S3D's function; ``single`` follows a branch of one unit, which kylemin wraps once more."""

    def public_key(key: str) -> str | None:
        module, _, leaf = key.rpartition(".")
        if module == "head":
            return f"{head}.{leaf}"
        layer, _, part = module.rpartition(".")
        outer, _, unit = layer.partition(".")
        parts = separable if (unit or outer) in SEPARABLE else plain
        if outer not in PLACES or part not in parts or (unit and unit not in UNITS):
            return None
        inside = f".{UNITS[unit]}" if unit else ""
        if unit == "b0":
            inside += single
        return f"{root}.{PLACES[outer]}{inside}.{parts[part]}.{leaf}"

    return public_key


def _i3d(key: str) -> str | None:
    module, _, leaf = key.rpartition(".")
    if module == "head":
        return f"logits.conv3d.{leaf}"
    layer, _, part = module.rpartition(".")
    outer, _, unit = layer.partition(".")
    if outer not in ENDS or part not in ("conv", "bn"):
        return None
    inside = f".{unit}" if unit else ""
    return f"{ENDS[outer]}{inside}.{'conv3d' if part == 'conv' else 'bn'}.{leaf}"


S3D_NAMES = r"s3d(@(top|bottom):11)?"
GRAPH = {"padding": "zeros", "pools": "s3d"}

SCHEMES = (
    Scheme(
        "torchvision",
        "s3d",
        _s3d("features", "classifier.1", "", PLAIN_PARTS, SEPARABLE_PARTS),
        S3D_NAMES,
        KINETICS,
        1e-3,
        GRAPH,
        linear=(),
    ),
    Scheme(
        "kylemin",
        "s3d",
        _s3d("base", "fc.0", ".0", KYLEMIN_PLAIN, KYLEMIN_SEPARABLE),
        S3D_NAMES,
        SIGNED,
        1e-3,
        GRAPH,
        linear=(),
    ),
    Scheme(
        "piergiaj",
        "i3d",
        _i3d,
        r"i3d(@(top|bottom):11)?",
        SIGNED,
        1e-3,
        {"padding": "same"},
        linear=(),
        head_first=True,
    ),
)

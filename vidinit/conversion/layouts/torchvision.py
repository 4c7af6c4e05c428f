"""torchvision's names: R3D, MCx, rMCx and R(2+1)D, whose tree ours is, and S3D.

VMZ has its names of the residual networks, and kylemin its numbers of S3D's modules.
"""

from __future__ import annotations

from ...zoo.spec import KINETICS
from .public_file import BASIC, BOTTLENECKS, Candidate, PublicFile
from .scheme import Rename, Scheme

RESNETS = r"(r3d|r?mc[2-5]|r2plus1d)-\d+"
NARROW = {"stem": "narrow"}


def public_key(key: str) -> str:
    """Our names of residual networks are torchvision's, but for the head's."""
    return f"fc.{key.removeprefix('head.')}" if key.startswith("head.") else key


def find_resnet3d(file: PublicFile) -> Candidate | None:
    """R3D, MCx, rMCx and R(2+1)D."""
    stem = file.get("stem.0.weight")
    counts = file.blocks("conv2.1.weight")
    deep = file.get("layer1.0.conv3.0.weight") is not None
    depth = (BOTTLENECKS if deep else BASIC).get(counts)
    if stem is None or depth is None or file.depthwise("layer1.0.conv2.0.weight"):
        return None
    if file.depthwise("layer1.0.conv2.0.2.weight"):
        return None
    if file.get("stem.3.weight") is None:
        taps = [file.taps(f"layer{stage}.0.conv2.0.weight") for stage in range(1, 5)]
        return Candidate(_mixed_kind(file.taps("stem.0.weight"), taps) + f"-{depth}")
    second = file.get("layer2.0.conv2.0.0.weight")
    if second is None:
        return None
    mid, planes = int(second.shape[0]), int(second.shape[1])
    per_conv = mid == 27 * planes * planes // (9 * planes + 3 * planes)
    return Candidate(f"r2plus1d-{depth}", {"midplanes": "per_conv" if per_conv else "per_block"})


def _mixed_kind(stem: int, taps: list[int]) -> str:
    """``r3d``, ``mcX`` or ``rmcX``: groups count from 1, the stem."""
    if stem > 1:
        first_flat = next((group for group, t in enumerate(taps, 2) if t == 1), None)
        return "r3d" if first_flat is None else f"mc{first_flat}"
    return f"rmc{next((group for group, t in enumerate(taps, 2) if t > 1), 6)}"


def _find_own_resnet3d(file: PublicFile) -> Candidate | None:
    found = find_resnet3d(file)
    # torchvision's own class has one width of mid-planes a block: the other is VMZ's, unless asked.
    is_vmz = found is not None and found.options.get("midplanes") == "per_conv" and not file.asked
    return None if is_vmz else found


# ------------------------------------------------------------------ S3D


POSITIONS = {
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
"""Numbers of our modules among torchvision's and kylemin's, whose pools are counted too."""

UNITS = {
    "b0": "branch0",
    "b1a": "branch1.0",
    "b1b": "branch1.1",
    "b2a": "branch2.0",
    "b2b": "branch2.1",
    "b3b": "branch3.1",
}
SEPARABLE = ("conv1a", "conv2c", "b1b", "b2b")
PLAIN_PARTS = {"conv": "0", "bn": "1"}  # of a unit, which is a sequence there
SEPARABLE_PARTS = {"conv": "0.0", "bn": "0.1", "time": "1.0", "time_bn": "1.1"}

S3D_NAMES = r"s3d(@(top|bottom):11)?"
S3D_GRAPH = {"padding": "zeros", "pools": "s3d"}


def s3d_renamer(
    root: str, head: str, single: str, plain: dict[str, str], separable: dict[str, str]
) -> Rename:
    """The names of S3D's tensors.

    ``single`` follows a branch of one unit, which kylemin wraps once more.
    """

    def public_key(key: str) -> str | None:
        module, _, leaf = key.rpartition(".")
        if module == "head":
            return f"{head}.{leaf}"
        layer, _, part = module.rpartition(".")
        outer, _, unit = layer.partition(".")
        parts = separable if (unit or outer) in SEPARABLE else plain
        if outer not in POSITIONS or part not in parts or (unit and unit not in UNITS):
            return None
        inside = f".{UNITS[unit]}" if unit else ""
        if unit == "b0":
            inside += single
        return f"{root}.{POSITIONS[outer]}{inside}.{parts[part]}.{leaf}"

    return public_key


def find_s3d(file: PublicFile) -> Candidate | None:
    """S3D, whose separable units have a temporal kernel."""
    if file.get("conv1a.time.weight") is None or file.get("mixed3b.b0.conv.weight") is None:
        return None
    return Candidate("s3d", {"window": 7})


SCHEMES = (
    Scheme("torchvision", _find_own_resnet3d, public_key, RESNETS, KINETICS, 1e-5, NARROW),
    Scheme(
        "torchvision",
        find_s3d,
        s3d_renamer("features", "classifier.1", "", PLAIN_PARTS, SEPARABLE_PARTS),
        S3D_NAMES,
        KINETICS,
        1e-3,
        S3D_GRAPH,
        linear=(),
    ),
)

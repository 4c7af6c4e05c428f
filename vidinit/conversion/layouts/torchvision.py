"""torchvision's names of R3D, MCx, rMCx and R(2+1)D, which VMZ's PyTorch models and CSN share."""

from __future__ import annotations

from ...zoo.spec import KINETICS
from .scheme import Scheme


def _public_key(key: str) -> str:
    """Our tree is torchvision's, but for the head."""
    return f"fc.{key.removeprefix('head.')}" if key.startswith("head.") else key


RESNETS = r"(r3d|r?mc[2-5]|r2plus1d)-\d+"

VMZ_RESNETS = r"(r3d|r?mc[2-5])-\d+|r2plus1d-(18|34)"  # its deeper R(2+1)D pools behind the stem
NARROW = {"stem": "narrow"}

SCHEMES = (
    Scheme("torchvision", "resnet3d", _public_key, RESNETS, KINETICS, 1e-5, NARROW),
    Scheme("vmz", "resnet3d", _public_key, VMZ_RESNETS, KINETICS, 1e-3, NARROW),
    Scheme("vmz", "csn", _public_key, r"i[rp]-csn-\d+", KINETICS, 1e-3),
)

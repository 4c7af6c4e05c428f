"""VMZ's PyTorch models and CSN: torchvision's names of residual networks, norms of eps 1e-3."""

from __future__ import annotations

from ...zoo.spec import KINETICS
from .public_file import Candidate, PublicFile, find_csn
from .scheme import Scheme
from .torchvision import NARROW, find_resnet3d, public_key

RESNETS = r"(r3d|r?mc[2-5])-\d+|r2plus1d-(18|34)"


def _find_resnet3d(file: PublicFile) -> Candidate | None:
    found = find_resnet3d(file)
    deep = file.get("layer1.0.conv3.0.weight") is not None
    if found is not None and deep and found.target.startswith("r2plus1d"):
        found.refusal = "VMZ's deep R(2+1)D pools behind its stem, the zoo's does not"
    return found


SCHEMES = (
    Scheme("vmz", _find_resnet3d, public_key, RESNETS, KINETICS, 1e-3, NARROW),
    Scheme("vmz", find_csn, public_key, r"i[rp]-csn-\d+", KINETICS, 1e-3),
)

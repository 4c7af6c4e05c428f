"""kylemin's S3D: torchvision's numbers of the modules, with other names of their parts."""

from __future__ import annotations

from ...zoo.spec import SIGNED
from .public_file import Candidate, PublicFile
from .scheme import Scheme
from .torchvision import S3D_GRAPH, S3D_NAMES, find_s3d, s3d_renamer

PLAIN_PARTS = {"conv": "conv", "bn": "bn"}
SEPARABLE_PARTS = {"conv": "conv_s", "bn": "bn_s", "time": "conv_t", "time_bn": "bn_t"}


def _find(file: PublicFile) -> Candidate | None:
    found = find_s3d(file)
    if found is not None:
        found.options["window"] = None  # its head averages the whole map
    return found


SCHEMES = (
    Scheme(
        "kylemin",
        _find,
        s3d_renamer("base", "fc.0", ".0", PLAIN_PARTS, SEPARABLE_PARTS),
        S3D_NAMES,
        SIGNED,
        1e-3,
        S3D_GRAPH,
        linear=(),
    ),
)

"""The STS repository's names: mmaction2's, from which it is made, with its kernels in the graphs.

Its image-pretrained files have other ends, ``get_feature.`` and ``classifier.``. The video models
it fine-tunes have mmaction2's, and nothing in them tells which of the two code bases wrote them:
such files are taken for mmaction2's unless the layout is named.
"""

from __future__ import annotations

from ...zoo.spec import IMAGENET
from .mmaction import (
    HEAD,
    IR_CSN,
    RESNET,
    ROOT,
    SLOWFASTS,
    TWO_LINEAR,
    X3D_HEADS,
    csn_names,
    find_own_trunk,
    find_r2plus1d,
    r2plus1d_names,
    slowfast_names,
    trunk_names,
    x3d_names,
)
from .public_file import Candidate, PublicFile, find_csn, find_slowfast, find_x3d
from .scheme import ZEROS, Scheme


def _find_trunk(file: PublicFile) -> Candidate | None:
    found = find_own_trunk(file)
    if found is not None and file.taps("trunk.layer4.0.conv2.weight") == 1:
        found.target = f"sts-{found.target}"
    return found


def _find_csn(file: PublicFile) -> Candidate | None:
    found = find_csn(file)
    return None if found is None else Candidate(f"sts-{found.target}")


def _find_r2plus1d(file: PublicFile) -> Candidate | None:
    found = find_r2plus1d(file)
    return None if found is None else Candidate(found.target)  # without strides in time


def _find_slowfast(file: PublicFile) -> Candidate | None:
    found = find_slowfast(file)
    if found is not None:
        found.options.pop("sts", None)
    return found


def _find_x3d(file: PublicFile) -> Candidate | None:
    found = find_x3d(file)  # the first shortcut of the repository's S always has a norm
    return Candidate("sts-x3d-s") if found is not None and found.target == "x3d-s" else found


LAYOUT = "sts-image"


def _schemes(
    root: str, head: str, x3d_heads: tuple[str, str], *, image: bool
) -> tuple[Scheme, ...]:
    return (
        Scheme(
            LAYOUT,
            _find_trunk,
            trunk_names(root, head, RESNET),
            r"(sts-)?slowonly-r50",
            IMAGENET,
            graph=ZEROS,
            sts=True,
        ),
        Scheme(
            LAYOUT,
            _find_csn,
            csn_names(root, head, IR_CSN),
            "sts-ir-csn-50",
            IMAGENET,
            1e-3,
            sts=True,
        ),
        Scheme(
            LAYOUT,
            _find_r2plus1d,
            r2plus1d_names(root, head),
            "sts-r2plus1d-34",
            IMAGENET,
            None,
            sts=True,
        ),
        Scheme(
            LAYOUT,
            _find_slowfast,
            slowfast_names(root, head),
            SLOWFASTS,
            IMAGENET,
            sts=True,
            fast_first=not image,
        ),
        Scheme(
            LAYOUT,
            _find_x3d,
            x3d_names(root, *x3d_heads),
            "sts-x3d-s",
            IMAGENET,
            linear=TWO_LINEAR,
            sts=True,
            # The image network has a bias where the video networks have none.
            leftovers=("fc1.bias",) if image else (),
        ),
    )


SCHEMES = (
    *_schemes("get_feature", "classifier", ("fc1", "classifier"), image=True),
    *_schemes(ROOT, HEAD, X3D_HEADS, image=False),
)

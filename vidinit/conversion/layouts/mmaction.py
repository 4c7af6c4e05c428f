"""mmaction2's names, which the STS repository has, too.

A convolution, its norm and its activation are one module there (``conv1.conv``, ``conv1.bn``).
"""

from __future__ import annotations

from ...zoo.spec import GRAY, IMAGENET, KINETICS
from .public_file import (
    BASIC,
    BOTTLENECKS,
    Candidate,
    PublicFile,
    find_csn,
    find_slowfast,
    find_trunk,
    find_x3d,
)
from .scheme import IR_CSNS, X3DS, ZEROS, Rename, Scheme, renamer

SHORTCUT = {"downsample.0": "downsample.conv", "downsample.1": "downsample.bn"}
RESNET = {
    **{f"conv{n}": f"conv{n}.conv" for n in (1, 2, 3)},
    **{f"bn{n}": f"conv{n}.bn" for n in (1, 2, 3)},
    **SHORTCUT,
}
SHIFTED = {**RESNET, "conv1": "conv1.conv.net"}
CSN = {
    **{f"conv{n}.0": f"conv{n}.conv" for n in (1, 3)},
    **{f"conv{n}.1": f"conv{n}.bn" for n in (1, 3)},
    **SHORTCUT,
}
IR_CSN = {**CSN, "conv2.0": "conv2.0.conv", "conv2.1": "conv2.0.bn"}
IP_CSN = {
    **CSN,
    "conv2.0.0": "conv2.0.conv",
    "conv2.0.1": "conv2.0.bn",
    "conv2.0.2": "conv2.1.conv",
    "conv2.1": "conv2.1.bn",
}
X3D = {**RESNET, "se.fc1": "se_module.fc1", "se.fc2": "se_module.fc2"}
FACTORED = {"0": "conv.conv_s", "1": "conv.bn_s", "3": "conv.conv_t"}
R2PLUS1D = {
    **{f"{unit}.1": f"{unit}.bn" for unit in ("conv1", "conv2", "downsample")},
    **{
        f"{unit}.0.{part}": f"{unit}.{name}"
        for unit in ("conv1", "conv2", "downsample")
        for part, name in FACTORED.items()
    },
}


def trunk_names(root: str, head: str, layers: dict[str, str]) -> Rename:
    """Names of C2D, I3D, Slow, TSN and TSM below ``root``, with ``head`` for the classifier."""
    outer = {
        "trunk.conv1": f"{root}.conv1.conv",
        "trunk.bn1": f"{root}.conv1.bn",
        "head": head,
    }
    return renamer(outer, root + ".layer{stage}.{block}", layers)


def csn_names(root: str, head: str, layers: dict[str, str]) -> Rename:
    """Names of CSN below ``root``, with ``head`` for the classifier."""
    outer = {"stem.0": f"{root}.conv1.conv", "stem.1": f"{root}.conv1.bn", "head": head}
    return renamer(outer, root + ".layer{stage}.{block}", layers)


def r2plus1d_names(root: str, head: str) -> Rename:
    """Names of R(2+1)D below ``root``, with ``head`` for the classifier."""
    outer = {
        "stem.0": f"{root}.conv1.conv.conv_s",
        "stem.1": f"{root}.conv1.conv.bn_s",
        "stem.3": f"{root}.conv1.conv.conv_t",
        "stem.4": f"{root}.conv1.bn",
        "head": head,
    }
    return renamer(outer, root + ".layer{stage}.{block}", R2PLUS1D)


def slowfast_names(root: str, head: str) -> Rename:
    """Names of SlowFast below ``root``, with ``head`` for the classifier."""
    outer = {"head": head}
    for path in ("slow", "fast"):
        outer[f"{path}.conv1"] = f"{root}.{path}_path.conv1.conv"
        outer[f"{path}.bn1"] = f"{root}.{path}_path.conv1.bn"
    for number, layer in enumerate(("conv1", "layer1", "layer2", "layer3")):
        outer[f"lateral.{number}.conv"] = f"{root}.slow_path.{layer}_lateral.conv"
    return renamer(
        outer,
        root + ".{path}.layer{stage}.{block}",
        RESNET,
        paths={"slow.": "slow_path", "fast.": "fast_path"},
    )


def x3d_names(root: str, fc1: str, head: str) -> Rename:
    """Names of X3D below ``root``, with ``head`` for the classifier."""
    outer = {
        "stem.conv_s": f"{root}.conv1_s.conv",
        "stem.conv_t": f"{root}.conv1_t.conv",
        "stem.norm": f"{root}.conv1_t.bn",
        "conv5": f"{root}.conv5.conv",
        "bn5": f"{root}.conv5.bn",
        "fc1": fc1,
        "head": head,
    }
    return renamer(outer, root + ".layer{stage}.{block}", X3D)


# ------------------------------------------------------------------ what a file holds


def find_own_trunk(file: PublicFile) -> Candidate | None:
    """C2D and Slow; its I3D is recognized, and refused."""
    found = find_trunk(file)
    if found is not None and not found.refusal and found.target.startswith("i3d"):
        found.refusal = (
            "mmaction2's I3D strides in time in its stem and its first pool, the zoo's does not"
        )
    return found


def find_r2plus1d(file: PublicFile) -> Candidate | None:
    """mmaction2's R(2+1)D, whose shortcuts are factored too."""
    if file.get("stem.3.weight") is None or file.get("layer2.0.downsample.0.3.weight") is None:
        return None
    return Candidate(
        f"sts-r2plus1d-{BASIC.get(file.blocks('conv2.1.weight'))}",
        refusal="mmaction2's R(2+1)D strides in time, the zoo's with these kernels does not; the "
        "STS repository's does not either: if it is one of its files, use the layout sts-image",
    )


def _find_frames(file: PublicFile) -> Candidate | None:
    """mmaction2's TSN, which is its C2D without pools: a 2-D ResNet for each frame."""
    stem, first = file.get("trunk.conv1.weight"), file.get("trunk.layer1.0.conv1.weight")
    if stem is None or stem.dim() != 4 or first is None:
        return None
    depth = BOTTLENECKS.get(file.blocks("conv3.weight", "trunk."))
    if depth is None:
        return None
    note = "the keys do not tell TSN and C2D without pools from C2D with pools: it has none here"
    return Candidate(f"c2d-r{depth}", {"pool": False}, notes=(note,))


def _find_tsm(file: PublicFile) -> Candidate | None:
    if file.get("trunk.layer1.0.conv1.weight") is None:
        return None
    depth = BOTTLENECKS.get(file.blocks("conv3.weight", "trunk."), 50)
    refusal = ""
    if depth != 50:
        refusal = "deep networks of mmaction2 shift in every second block only, the zoo's in all"
    return Candidate(f"tsm-r{depth}", refusal=refusal)


ROOT, HEAD = "backbone", "cls_head.fc_cls"
X3D_HEADS = ("cls_head.fc1", "cls_head.fc2")
TWO_LINEAR = ("head", "fc1")
SLOWFASTS = r"sts-slowfast-r50-(4x16|8x8)"  # without norms in their laterals
LAYOUT = "mmaction"

SCHEMES = (
    Scheme(
        LAYOUT,
        find_own_trunk,
        trunk_names(ROOT, HEAD, RESNET),
        r"(sts-)?slowonly-r(50|101)",
        IMAGENET,
        graph=ZEROS,
    ),
    Scheme(LAYOUT, find_csn, csn_names(ROOT, HEAD, IR_CSN), IR_CSNS, KINETICS, 1e-3),
    # It strides in time, which none of ours with these kernels does: recognized, never held.
    Scheme(LAYOUT, find_r2plus1d, r2plus1d_names(ROOT, HEAD), "", IMAGENET, None),
    Scheme(LAYOUT, find_slowfast, slowfast_names(ROOT, HEAD), SLOWFASTS, IMAGENET, fast_first=True),
    Scheme(
        LAYOUT,
        find_x3d,
        x3d_names(ROOT, *X3D_HEADS),
        X3DS,
        GRAY,
        graph={"norm_shortcut": True},
        linear=TWO_LINEAR,
    ),
    Scheme(
        LAYOUT,
        find_csn,
        csn_names(ROOT, HEAD, IP_CSN),
        r"ip-csn-(50|101|152)",
        KINETICS,
        1e-3,
    ),
    Scheme(
        LAYOUT,
        _find_frames,
        trunk_names(ROOT, HEAD, RESNET),
        r"c2d-r(50|101)",
        IMAGENET,
        planar=True,
        pooled=False,
    ),
    # Deeper networks shift in front of every second block only.
    Scheme(LAYOUT, _find_tsm, trunk_names(ROOT, HEAD, SHIFTED), "tsm-r50", IMAGENET, planar=True),
)

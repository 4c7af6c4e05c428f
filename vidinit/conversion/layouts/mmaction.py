"""mmaction2's names, and those of the STS repository, which is made of it.

A convolution, its norm and its activation are one module there (``conv1.conv``, ``conv1.bn``). The
STS repository's image-pretrained files have other ends, ``get_feature.`` and ``classifier.``; the
video models it fine-tunes have mmaction2's names, and nothing in them tells which of the two code
bases wrote them.
"""

from __future__ import annotations

from ...zoo.spec import GRAY, IMAGENET, KINETICS
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


def _trunk(root: str, head: str, layers: dict[str, str]) -> Rename:
    outer = {
        "trunk.conv1": f"{root}.conv1.conv",
        "trunk.bn1": f"{root}.conv1.bn",
        "head": head,
    }
    return renamer(outer, root + ".layer{stage}.{block}", layers)


def _csn(root: str, head: str, layers: dict[str, str]) -> Rename:
    outer = {"stem.0": f"{root}.conv1.conv", "stem.1": f"{root}.conv1.bn", "head": head}
    return renamer(outer, root + ".layer{stage}.{block}", layers)


def _r2plus1d(root: str, head: str) -> Rename:
    outer = {
        "stem.0": f"{root}.conv1.conv.conv_s",
        "stem.1": f"{root}.conv1.conv.bn_s",
        "stem.3": f"{root}.conv1.conv.conv_t",
        "stem.4": f"{root}.conv1.bn",
        "head": head,
    }
    return renamer(outer, root + ".layer{stage}.{block}", R2PLUS1D)


def _slowfast(root: str, head: str) -> Rename:
    outer = {"head": head}
    for path in ("slow", "fast"):
        outer[f"{path}.conv1"] = f"{root}.{path}_path.conv1.conv"
        outer[f"{path}.bn1"] = f"{root}.{path}_path.conv1.bn"
    for number, place in enumerate(("conv1", "layer1", "layer2", "layer3")):
        outer[f"lateral.{number}.conv"] = f"{root}.slow_path.{place}_lateral.conv"
    return renamer(
        outer,
        root + ".{path}.layer{stage}.{block}",
        RESNET,
        paths={"slow.": "slow_path", "fast.": "fast_path"},
    )


def _x3d(root: str, fc1: str, head: str) -> Rename:
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


TWO_LINEAR = ("head", "fc1")
SLOWFAST = r"sts-slowfast-r50-(4x16|8x8)"
ROOT, HEAD = "backbone", "cls_head.fc_cls"
X3D_HEADS = ("cls_head.fc1", "cls_head.fc2")


def _schemes(
    layout: str, root: str, head: str, x3d_heads: tuple[str, str], *, image: bool = False
) -> tuple[Scheme, ...]:
    """The five families that both code bases have."""
    sts = layout == "sts-image"
    return (
        Scheme(
            layout,
            "trunk",
            _trunk(root, head, RESNET),
            r"(sts-)?slowonly-r50" if sts else r"(sts-)?slowonly-r(50|101)",
            IMAGENET,
            graph=ZEROS,
            sts=sts,
        ),
        Scheme(
            layout,
            "csn",
            _csn(root, head, IR_CSN),
            "sts-ir-csn-50" if sts else IR_CSNS,
            IMAGENET if sts else KINETICS,
            1e-3,
            sts=sts,
        ),
        # mmaction2's own R(2+1)D strides in time, which none of ours with these kernels does.
        Scheme(
            layout,
            "r2plus1d",
            _r2plus1d(root, head),
            "sts-r2plus1d-34" if sts else "",
            IMAGENET,
            None,
            sts=sts,
        ),
        Scheme(
            layout,
            "slowfast",
            _slowfast(root, head),
            SLOWFAST,
            IMAGENET,
            sts=sts,
            fast_first=not image,
        ),
        Scheme(
            layout,
            "x3d",
            _x3d(root, *x3d_heads),
            "sts-x3d-s" if sts else X3DS,
            IMAGENET if sts else GRAY,
            graph={} if sts else {"norm_shortcut": True},
            linear=TWO_LINEAR,
            sts=sts,
            # The image network has a bias where the video networks have none.
            leftovers=("fc1.bias",) if image else (),
        ),
    )


SCHEMES = (
    *_schemes("mmaction", ROOT, HEAD, X3D_HEADS),
    Scheme(
        "mmaction",
        "csn",
        _csn(ROOT, HEAD, IP_CSN),
        r"ip-csn-(50|101|152)",
        KINETICS,
        1e-3,
    ),
    Scheme(
        "mmaction",
        "frames",
        _trunk(ROOT, HEAD, RESNET),
        r"c2d-r(50|101)",
        IMAGENET,
        planar=True,
        pooled=False,
    ),
    # Deeper networks shift in front of every second block only.
    Scheme("mmaction", "tsm", _trunk(ROOT, HEAD, SHIFTED), "tsm-r50", IMAGENET, planar=True),
    *_schemes("sts-image", "get_feature", "classifier", ("fc1", "classifier"), image=True),
    *_schemes("sts-image", ROOT, HEAD, X3D_HEADS),
)

"""pytorchvideo's names: a list of blocks, the stem first and the head last."""

from __future__ import annotations

from ...zoo.spec import GRAY
from .public_file import find_csn, find_linspace_slowfast, find_pooled_trunk, find_x3d
from .scheme import IR_CSNS, TRUNKS, X3DS, ZEROS, Rename, Scheme, renamer

CONVS = {f"conv{n}": f"branch2.conv_{letter}" for n, letter in enumerate("abc", 1)}
NORMS = {f"bn{n}": f"branch2.norm_{letter}" for n, letter in enumerate("abc", 1)}
SHORTCUT = {"downsample.0": "branch1_conv", "downsample.1": "branch1_norm"}
RESNET = {**CONVS, **NORMS, **SHORTCUT}
CSN = {
    **{f"conv{n}.0": CONVS[f"conv{n}"] for n in (1, 2, 3)},
    **{f"conv{n}.1": NORMS[f"bn{n}"] for n in (1, 2, 3)},
    **SHORTCUT,
}
X3D = {
    **RESNET,
    "bn2": "branch2.norm_b.0",
    "se.fc1": "branch2.norm_b.1.block.0",
    "se.fc2": "branch2.norm_b.1.block.2",
}


def _resnet(head: int, stages: tuple[int, ...]) -> Rename:
    outer = {
        "trunk.conv1": "blocks.0.conv",
        "trunk.bn1": "blocks.0.norm",
        "head": f"blocks.{head}.proj",
    }
    return renamer(outer, "blocks.{stage}.res_blocks.{block}", RESNET, stages=stages)


def _slowfast() -> Rename:
    outer = {"head": "blocks.6.proj"}
    for number, path in enumerate(("slow", "fast")):
        outer[f"{path}.conv1"] = f"blocks.0.multipathway_blocks.{number}.conv"
        outer[f"{path}.bn1"] = f"blocks.0.multipathway_blocks.{number}.norm"
    for stage in range(4):
        outer[f"lateral.{stage}.conv"] = f"blocks.{stage}.multipathway_fusion.conv_fast_to_slow"
        outer[f"lateral.{stage}.norm"] = f"blocks.{stage}.multipathway_fusion.norm"
    return renamer(
        outer,
        "blocks.{stage}.multipathway_blocks.{path}.res_blocks.{block}",
        RESNET,
        paths={"slow.": "0", "fast.": "1"},
    )


_csn = renamer(
    {"stem.0": "blocks.0.conv", "stem.1": "blocks.0.norm", "head": "blocks.5.proj"},
    "blocks.{stage}.res_blocks.{block}",
    CSN,
)

# The two kernels of X3D's stem have each other's names.
_x3d = renamer(
    {
        "stem.conv_s": "blocks.0.conv.conv_t",
        "stem.conv_t": "blocks.0.conv.conv_xy",
        "stem.norm": "blocks.0.norm",
        "conv5": "blocks.5.pool.pre_conv",
        "bn5": "blocks.5.pool.pre_norm",
        "fc1": "blocks.5.pool.post_conv",
        "head": "blocks.5.proj",
    },
    "blocks.{stage}.res_blocks.{block}",
    X3D,
)

LAYOUT = "pytorchvideo"

SCHEMES = (
    Scheme(
        LAYOUT, find_pooled_trunk, _resnet(5, (1, 2, 3, 4)), TRUNKS, GRAY, graph=ZEROS, pooled=False
    ),
    # The temporal pool of C2D and I3D is a block of its own, behind the first stage.
    Scheme(
        LAYOUT, find_pooled_trunk, _resnet(6, (1, 3, 4, 5)), TRUNKS, GRAY, graph=ZEROS, pooled=True
    ),
    Scheme(LAYOUT, find_csn, _csn, IR_CSNS, GRAY),
    Scheme(LAYOUT, find_linspace_slowfast, _slowfast(), r"slowfast-.+", GRAY),
    Scheme(LAYOUT, find_x3d, _x3d, X3DS, GRAY, graph={"norm_shortcut": False}),
)

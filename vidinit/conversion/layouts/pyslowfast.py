"""PySlowFast's names: stages s1 to s5 with numbered pathways, then the head."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ...zoo.spec import GRAY
from .public_file import find_linspace_slowfast, find_pooled_trunk, find_x3d
from .scheme import TRUNKS, X3DS, ZEROS, Rename, Scheme, renamer

RESNET = {
    **{f"conv{n}": f"branch2.{letter}" for n, letter in enumerate("abc", 1)},
    **{f"bn{n}": f"branch2.{letter}_bn" for n, letter in enumerate("abc", 1)},
    "downsample.0": "branch1",
    "downsample.1": "branch1_bn",
}
X3D = {**RESNET, "se.fc1": "branch2.se.fc1", "se.fc2": "branch2.se.fc2"}
STAGES = (2, 3, 4, 5)
BLOCK = "s{stage}.pathway0_res{block}"


def _slowfast() -> Rename:
    outer = {"head": "head.projection"}
    for number, path in enumerate(("slow", "fast")):
        outer[f"{path}.conv1"] = f"s1.pathway{number}_stem.conv"
        outer[f"{path}.bn1"] = f"s1.pathway{number}_stem.bn"
    for stage in range(4):
        outer[f"lateral.{stage}.conv"] = f"s{stage + 1}_fuse.conv_f2s"
        outer[f"lateral.{stage}.norm"] = f"s{stage + 1}_fuse.bn"
    return renamer(
        outer,
        "s{stage}.pathway{path}_res{block}",
        RESNET,
        stages=STAGES,
        paths={"slow.": "0", "fast.": "1"},
    )


_resnet = renamer(
    {
        "trunk.conv1": "s1.pathway0_stem.conv",
        "trunk.bn1": "s1.pathway0_stem.bn",
        "head": "head.projection",
    },
    BLOCK,
    RESNET,
    stages=STAGES,
)

_x3d = renamer(
    {
        "stem.conv_s": "s1.pathway0_stem.conv_xy",
        "stem.conv_t": "s1.pathway0_stem.conv",
        "stem.norm": "s1.pathway0_stem.bn",
        "conv5": "head.conv_5",
        "bn5": "head.conv_5_bn",
        "fc1": "head.lin_5",
        "head": "head.projection",
    },
    BLOCK,
    X3D,
    stages=STAGES,
)

_SPLIT = re.compile(r"(.+)\.split_bn\.(running_mean|running_var|num_batches_tracked)")


def joined_norms(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Norms that PySlowFast trained on parts of a batch, as ordinary ones; and what was done.

    Such a norm keeps the statistics of each part, behind one another, in ``split_bn``, and those
    of all of them in ``bn``, which are only as new as the last evaluation. They are computed anew,
    as PySlowFast does: the mean of means, the mean of variances and the variance of means.
    """
    names = {match[1] for key in state if (match := _SPLIT.fullmatch(key))}
    if not names:
        return dict(state), []
    joined: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        norm = module.removesuffix(".bn").removesuffix(".split_bn")
        if norm not in names or module == norm:
            joined[key] = value
        elif module == f"{norm}.bn" and leaf == "num_batches_tracked":
            joined[f"{norm}.{leaf}"] = value
    for norm in names:
        width = len(state[f"{norm}.bn.running_mean"])
        means = state[f"{norm}.split_bn.running_mean"].reshape(-1, width)  # (parts, channels)
        variances = state[f"{norm}.split_bn.running_var"].reshape(-1, width)
        mean = means.sum(0) / len(means)
        spread = ((means - mean) ** 2).sum(0) / len(means)
        joined[f"{norm}.running_mean"] = mean
        joined[f"{norm}.running_var"] = variances.sum(0) / len(means) + spread
    what = "1 norm" if len(names) == 1 else f"{len(names)} norms"
    return joined, [
        f"{what} had statistics of parts of a batch (sub-batch norms): they were joined"
    ]


LAYOUT = "pyslowfast"

SCHEMES = (
    # Tried first: the slow half of such a file looks like Slow.
    Scheme(LAYOUT, find_linspace_slowfast, _slowfast(), r"slowfast-.+", GRAY),
    Scheme(LAYOUT, find_pooled_trunk, _resnet, TRUNKS, GRAY, graph=ZEROS),
    Scheme(LAYOUT, find_x3d, _x3d, X3DS, GRAY, graph={"norm_shortcut": True}),
)

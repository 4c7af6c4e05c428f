"""Which layers of an image network a temporal plan changes, and which of them a cut keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from ...errors import UsageError
from ..sts import check_sts
from .read_network import Network, Site

TAPS = 3
BOTTLENECK_TAPS = {1: (3,), 2: (3, 1), 3: (3, 1), 4: (1, 3)}
"""Taps of a block's first 1x1, by stage; blocks take them in turn (I3D_8x8_R50 and _R101)."""

CUT_FORM = re.compile(r"(?P<end>top|bottom):(?P<count>\d+)|stages:(?P<stages>\d+(?:,\d+)*)")
SHORTCUTS = re.compile(r"(downsample|shortcut|skip\w*|identity)\b")


def plan_sites(plan: str, network: Network, trunk: nn.Module, *, bottleneck: bool) -> list[Site]:
    """The layers a plan changes in a network, in the order they run.

    Raises:
        UsageError: when there is none, with the reason.
    """
    if any(type(module).__name__ == "CondConv2d" for module in trunk.modules()):
        raise UsageError(
            f"plan {plan} cannot treat {network.name}: it mixes its kernels anew for every image",
            "use --to c2d",
        )
    for site in network.sites:
        if not site.whole_frames:
            raise UsageError(
                f"plan {plan} cannot treat {network.name}: {site.name} does not work on whole "
                "frames but on parts of them, as attention does",
                "it needs a convolutional network",
            )
    if plan == "tsm":
        sites = shift_sites(trunk, network)
    elif bottleneck:
        sites = _bottleneck_sites(network)
    else:
        sites = _sts_sites(network) if plan == "sts" else network.sites
    if not sites:
        where = "behind the stem" if network.sites else "(k odd, above 1)"
        raise UsageError(
            f"plan {plan} finds no k x k convolution {where} in {network.name}",
            "it needs a convolutional network",
        )
    if plan in ("i3d", "sts"):
        for site in sites:
            reason = why_no_volume(site.conv)
            if reason:
                raise UsageError(
                    f"plan {plan} cannot give {site.name} of {network.name} a temporal kernel: "
                    f"it {reason}",
                    "use --to s3d or --to tsm",
                )
    return sites


def why_no_volume(conv: nn.Conv2d) -> str:
    """Why a convolution cannot get a kernel with time, continuing "it"; empty where it can."""
    kind = type(conv)
    if kind.forward is not nn.Conv2d.forward and kind.__name__ != "Conv2dSame":
        return f"computes its kernel at run time ({kind.__name__})"
    if conv.dilation != (1, 1):
        return "is dilated"
    if conv.stride[0] != conv.stride[1]:
        return "has other strides down than across"
    return "" if conv.padding_mode == "zeros" else f"pads space by {conv.padding_mode}"


def _bottleneck_sites(network: Network) -> list[Site]:
    sites = [s for s in network.convs if s.name == "conv1" and s.is_spatial]
    blocks = 0
    for site in network.convs:
        match = re.fullmatch(r"layer([1-4])\.(\d+)\.conv1", site.name)
        if match and _is_plain_pointwise(site.conv):
            blocks += 1
            taps = BOTTLENECK_TAPS[int(match[1])]
            if taps[int(match[2]) % len(taps)] > 1:
                sites.append(site)
    if not blocks or sites[0].name != "conv1":
        raise UsageError(
            f"plan i3d with bottleneck=True is defined for ResNets with bottlenecks and one "
            f"convolution as stem, not for {network.name}",
            "use plan i3d without it",
        )
    return sites


def _sts_sites(network: Network) -> list[Site]:
    depthwise = [site for site in network.sites if site.is_depthwise]
    if depthwise:
        sites = [site for site in depthwise if not why_no_sts(site)]
    else:
        sites = [
            site
            for site in network.convs
            if re.fullmatch(r"layer[34]\.\d+\.conv1", site.name) and _is_plain_pointwise(site.conv)
        ]
    if not sites:
        raise UsageError(
            f"plan sts finds no kernel it is defined for in {network.name}: no depthwise 3x3 "
            "convolution with an even number of channels and no ResNet bottleneck",
            "use --to s3d or --to i3d",
        )
    return sites


def _is_plain_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1


def why_no_sts(site: Site) -> str:
    """Why the STS operator is not defined for a k x k kernel given time; empty where it is."""
    kernel = (TAPS, site.conv.kernel_size[0], site.conv.kernel_size[1])
    return check_sts(site.conv.in_channels, kernel, site.conv.groups)


def cut_sites(sites: list[Site], cut: str, plan: str, network: Network) -> list[Site]:
    """The part of a plan's layers that a cut keeps.

    Args:
        sites: the plan's layers, in the order they run.
        cut: ``all``, ``top:K`` (the last K), ``bottom:K`` (the first K) or ``stages:A,B``.
        plan: for messages.
        network: for messages.

    Raises:
        UsageError: for other words, for K = 0 or above the number of layers, and for a stage
            without such layers; the message says what there is.
    """
    if cut == "all":
        return sites
    match = CUT_FORM.fullmatch(cut)
    if match is None:
        raise UsageError(f"unknown cut '{cut}'", "use all, top:K, bottom:K or stages:A,B")
    if match["stages"]:
        wanted = {int(n) for n in match["stages"].split(",")}
        there = sorted({site.stage for site in sites})
        missing = sorted(wanted - set(there))
        if missing:
            raise UsageError(
                f"plan {plan} has no layer in stage {missing[0]} of {network.name}",
                f"its layers are in stage{'s' * (len(there) > 1)} {', '.join(map(str, there))}",
            )
        return [site for site in sites if site.stage in wanted]
    count = int(match["count"])
    if count > len(sites):
        raise UsageError(
            f"cut {cut} is too large: plan {plan} has {len(sites)} layers in {network.name}",
            f"use at most {match['end']}:{len(sites)}",
        )
    if count == 0:
        raise UsageError(f"cut {cut} leaves no layer that sees time", "use --to c2d")
    return sites[-count:] if match["end"] == "top" else sites[:count]


def shift_sites(trunk: nn.Module, network: Network) -> list[Site]:
    """Where plan tsm shifts: in front of these convolutions, in the order they run.

    The first convolution of every residual branch that holds a k x k one (TSM's ``blockres``). The
    block is the nearest ancestor with a ``drop_path``, as timm's residual blocks have. Branches
    side by side (RepVGG) that read the same tensor are one place. Where there is no such block
    (VGG, DenseNet, Inception): in front of the k x k convolution itself. Never in the stem.
    """
    places: dict[str, Site] = {}
    for site in network.sites:
        if site.stage == 0:
            continue
        block = next((a for a in _ancestors(site.name) if _is_block(trunk.get_submodule(a))), None)
        if block is None:
            places[site.name] = site
            continue
        inner = [s for s in network.convs if s.name.startswith(f"{block}.")]
        inner = [s for s in inner if not SHORTCUTS.match(s.name.removeprefix(f"{block}."))]
        first, *others = inner
        first.parallel = [s for s in others if s.reads == first.reads]
        places[first.name] = first
    return [site for site in network.convs if site.name in places]


def _ancestors(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _is_block(module: nn.Module) -> bool:
    return hasattr(module, "drop_path") or hasattr(module, "drop_path1")

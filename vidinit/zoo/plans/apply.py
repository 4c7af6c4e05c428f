"""The temporal plans: which layers of an image network see time, and how they are changed.

- ``c2d``: no temporal kernels, so that any network of one vector an image will do. Optionally a
  2x1x1 max-pool after the first stage (the C2D of the I3D/SlowFast line).
- ``i3d``: every k x k kernel, dense, grouped or depthwise, becomes 3 x k x k. ``bottleneck=True``
  is the I3D of the SlowFast line instead, for ResNets: a 5x7x7 stem and 3x1x1 kernels in place of
  the first 1x1 of every block (every other block from stage 2 on).
- ``s3d``: behind every k x k convolution with its norm and activation stands a 3 x 1 x 1
  convolution with as many groups, as in the S3D paper with a norm and, where it is idempotent
  (ReLU, ReLU6) and stands in the image network, the same activation. Identity kernels make that
  exact. In networks with depthwise kernels the temporal convolution stands alone: the pointwise
  convolution behind it brings its own norm and activation, and an identity kernel under a second
  ReLU6 gets no gradient wherever the first one returned zero. It stands alone too where the image
  network has no batch norm behind the convolution (ConvNeXt, NFNet, DenseNet, group norms).
- ``sts``: depthwise 3x3 kernels become 3x3x3 and work by the STS operator (as in the CSN and X3D
  of its paper); in a ResNet with bottlenecks the first 1x1 of every block of the last two stages
  becomes 3x1x1 (its SlowOnly). Kernels the operator is not defined for (5x5 depthwise, odd channel
  counts, dense 3x3) keep to single frames. ``sts=False`` is the plain twin with identical keys.
- ``tsm``: a shift in time in front of every residual branch, no parameters. Beyond the ends of a
  clip there are zeros, so that a still clip does not get the image network's logits.

All temporal kernels have stride 1 in time and, but for that stem, three taps; padding in space is
that of the image network, TensorFlow's SAME included. Even kernels (the patches of ConvNeXt's stem
and downsampling) have no middle and stay with single frames.

Gates (``gating=True``) stand behind the temporal convolution's group, S3D-G's way, with a scale of
2: of zero weights they pass their input unchanged, whatever the activation before them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...errors import UsageError
from ..folding import FrameCount
from ..names import PLANS, check_option
from ..spec import Origin
from ..temporal import SelfGating, TemporalConv, TemporalShift, VolumeConv, VolumePool
from .plan_layers import TAPS, cut_sites, plan_sites, why_no_sts
from .read_network import Network, Site

STEM_TAPS = 5  # of the I3D with bottleneck kernels
TIME_PADDINGS = ("zeros", "replicate")

Origins = dict[int, Origin]  # by the id of a tensor: keys change where modules are wrapped


class TemporalUnit(nn.Module):
    """The temporal half of the paper's separable convolution: 3x1x1, norm, activation (S3D).

    Args:
        conv: the temporal convolution.
        like: the norm of the spatial half, whose eps and momentum are taken over.
        act: the activation.
    """

    is_new = True  # its norm belongs to the temporal parameters too

    def __init__(self, conv: TemporalConv, like: nn.BatchNorm2d, act: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, eps=like.eps, momentum=like.momentum)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to the same."""
        return self.act(self.norm(self.conv(x)))


class ThenTime(nn.Module):
    """A module of the image network followed by temporal ones.

    Args:
        space: of the image network.
        time: a temporal convolution or unit; None where the space module holds it.
        gate: behind it; None for none.
    """

    def __init__(self, space: nn.Module, time: nn.Module | None, gate: nn.Module | None) -> None:
        super().__init__()
        self.space = space
        self.time = time
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        x = self.space(x)
        if self.time is not None:
            x = self.time(x)
        return x if self.gate is None else self.gate(x)


class ShiftFirst:
    """What a convolution of plan tsm does: shift, then convolve. Keys stay the image network's.

    Mixed into the convolution's own class by `shift_before`, because timm has several.
    """

    shift: TemporalShift

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        return super().forward(self.shift(x))  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank_shifted, (type(self).__bases__[1],), self.__dict__


_SHIFTED: dict[type, type] = {}


def _shifted(kind: type) -> type:
    if kind not in _SHIFTED:
        _SHIFTED[kind] = type(f"Shifted{kind.__name__}", (ShiftFirst, kind), {})
    return _SHIFTED[kind]


def _blank_shifted(kind: type) -> Any:
    """An instance for pickle to fill: the mixed class cannot be found by name."""
    made: Any = _shifted(kind)
    return made.__new__(made)


def shift_before(conv: nn.Conv2d, frames: FrameCount) -> None:
    """Give a convolution a `TemporalShift` of its input, in place."""
    conv.__class__ = _shifted(type(conv))
    conv.shift = TemporalShift(frames)


# ------------------------------------------------------------------ what becomes of a layer


def apply_plan(
    plan: str,
    trunk: nn.Module,
    network: Network,
    frames: FrameCount,
    *,
    cut: str,
    gating: bool,
    sts: bool,
    aligned: bool,
    pool: bool,
    bottleneck: bool,
    time_padding: str,
) -> Origins:
    """Change an image network in place; see `vidinit.zoo.plans.inflate.inflate` for the arguments.

    Returns:
        Where the new tensors come from, by id.

    Raises:
        UsageError: when the plan is not defined for this network, with the reason.
    """
    check_option("plan", plan, PLANS)
    check_option("padding in time", time_padding, TIME_PADDINGS)
    origins: Origins = {}
    if pool:
        _add_pool(trunk, plan, network, frames)
    if plan == "c2d":
        if cut != "all":
            raise UsageError(f"plan c2d has no layer that sees time, so no cut {cut}", "use c2d")
        return origins
    sites = plan_sites(plan, network, trunk, bottleneck=bottleneck)
    chosen = cut_sites(sites, cut, plan, network)
    alone = any(site.is_depthwise for site in network.sites)
    for site in chosen:
        if plan == "tsm":
            for place in (site, *site.parallel):
                shift_before(place.conv, frames)
            continue
        time: nn.Module | None = None
        if plan == "s3d":
            time = _separable(site, frames, time_padding, origins, alone=alone)
        else:
            taps = STEM_TAPS if bottleneck and site.is_spatial else TAPS
            new = _inflated(
                site,
                taps,
                frames,
                origins,
                sts=sts and plan == "sts",
                aligned=aligned,
                time_padding=time_padding,
            )
            _replace(trunk, site.name, new)
        gate = _gate(site, frames, origins) if gating else None
        if time is not None or gate is not None:
            space = trunk.get_submodule(site.end)
            _replace(trunk, site.end, ThenTime(space, time, gate))
    if plan != "tsm":
        _note_still_kernels(plan, network, origins)
    return origins


def _inflated(
    site: Site,
    taps: int,
    frames: FrameCount,
    origins: Origins,
    *,
    sts: bool,
    aligned: bool,
    time_padding: str,
) -> TemporalConv | VolumeConv:
    """The convolution with ``taps`` in time: t x k x k, or t x 1 x 1 of a pointwise one."""
    conv = site.conv
    if site.is_spatial:
        if conv.padding == "same":  # runs with stride 1 only
            conv.padding = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
        new: TemporalConv | VolumeConv = VolumeConv.of(
            conv, taps, frames, sts=sts, aligned=aligned, time_padding=time_padding
        )
    else:
        new = TemporalConv(
            conv.in_channels,
            conv.out_channels,
            taps,
            frames,
            bias=conv.bias is not None,
            sts=sts,
            time_padding=time_padding,
        ).to(conv.weight.device)
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    origins[id(new.weight)] = Origin(f"{site.name}.weight", "inflate")
    if new.bias is not None:
        origins[id(new.bias)] = Origin(f"{site.name}.bias", "copy")
    return new


def _separable(
    site: Site, frames: FrameCount, time_padding: str, origins: Origins, *, alone: bool
) -> nn.Module:
    """The 3x1x1 convolution behind a k x k one, with norm and activation unless it is alone."""
    channels = site.conv.out_channels
    conv = TemporalConv(
        channels, channels, TAPS, frames, groups=site.conv.groups, time_padding=time_padding
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    conv = conv.to(site.conv.weight.device)
    origins[id(conv.weight)] = Origin(None, "dirac")
    if alone or not isinstance(site.norm, nn.BatchNorm2d):
        return conv
    # The activation once more where repeating it changes nothing.
    again = type(site.act)() if isinstance(site.act, (nn.ReLU, nn.ReLU6)) else nn.Identity()
    unit = TemporalUnit(conv, site.norm, again).to(site.conv.weight.device)
    rules = {"weight": "unit-gain", "running_var": "ones"}
    for part, tensor in unit.norm.state_dict(keep_vars=True).items():
        origins[id(tensor)] = Origin(None, rules.get(part, "zeros"))
    return unit


def _gate(site: Site, frames: FrameCount, origins: Origins) -> SelfGating:
    gate = SelfGating(site.conv.out_channels, frames, scale=2.0).to(site.conv.weight.device)
    origins[id(gate.fc.weight)] = Origin(None, "zeros")
    return gate


def _note_still_kernels(plan: str, network: Network, origins: Origins) -> None:
    """Say of the kernels that a plan cannot treat why they see one frame only."""
    for site in network.convs:
        kh, kw = site.conv.kernel_size
        reason = ""
        if kh % 2 == 0 or kw % 2 == 0:
            reason = f"an even kernel has no middle, {kh}x{kw}"
        elif site.is_spatial and site.in_classifier:
            reason = "it belongs to the classifier"
        elif plan == "sts" and site.is_spatial and site.is_depthwise:
            reason = why_no_sts(site)
        if reason:
            origins[id(site.conv.weight)] = Origin(
                f"{site.name}.weight", "copy", f"single-frame: {reason}"
            )


def _add_pool(trunk: nn.Module, plan: str, network: Network, frames: FrameCount) -> None:
    first = getattr(trunk, "layer1", None)
    if not isinstance(first, nn.Sequential):
        raise UsageError(
            f"the temporal pool of plan {plan} is defined for ResNets, not for {network.name}",
            "leave out the option pool",
        )
    first.append(VolumePool((2, 1), (2, 1), frames))


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)

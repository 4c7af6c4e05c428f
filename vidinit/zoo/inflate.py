"""A timm CNN plus a temporal plan is a video model.

`inflate` puts temporal kernels into an image network and remembers, for every tensor of the result,
which tensor of the image network it came from and by which rule. Conversion reads that table.

What the plans mean:

- ``c2d``: no temporal kernels. Optionally a 2x1x1 max-pool after the first stage (the C2D of the
  I3D/SlowFast line).
- ``i3d``: every k x k kernel, dense, grouped or depthwise, becomes 3 x k x k.
- ``s3d``: behind every k x k convolution with its norm and activation stands a 3 x 1 x 1
  convolution, as in the S3D paper with a norm and, where it is idempotent (ReLU, ReLU6) and stands
  in the image network, the same activation. Identity kernels make that exact. In networks with
  depthwise kernels the temporal convolution is depthwise too (dense behind the dense stem) and
  stands alone: the pointwise convolution behind it brings its own norm and activation, and an
  identity kernel under a second ReLU6 gets no gradient wherever the first one returned zero.
- ``sts``: depthwise 3x3 kernels become 3x3x3 and work by the STS operator (facts of the CSN and
  X3D variants of the paper); in a ResNet with bottlenecks the first 1x1 of every block of the last
  two stages becomes 3x1x1 (its SlowOnly variant). Kernels the operator is not defined for (5x5
  depthwise, odd channel counts, dense 3x3) keep to single frames. ``sts=False`` is the plain twin
  with identical keys.

All temporal kernels have three taps, stride 1 and zero padding in time; padding in space is that of
the image network, TensorFlow's SAME included.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .base import Origin, VideoModel
from .sts import check_sts
from .temporal import TemporalConv, VolumeConv, VolumePool

TAPS = 3


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
    """A module of the image network followed by a temporal one."""

    def __init__(self, space: nn.Module, time: nn.Module) -> None:
        super().__init__()
        self.space = space
        self.time = time

    def forward(self, x: Tensor) -> Tensor:
        """(B*T, C, H, W) to (B*T, C', H', W')."""
        return self.time(self.space(x))


class InflatedNet(VideoModel):
    """An image network run frame by frame, with temporal kernels inside where the plan says."""

    def __init__(self, trunk: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        self.trunk = trunk
        self.notes: list[str] = []

    def embed_frames(self, x: Tensor) -> Tensor:
        """Pooled features per frame, averaged over the frames of each clip."""
        features = self.trunk(x)
        return features.view(-1, self.frames.value, self.num_features).mean(dim=1)


# ------------------------------------------------------------------ reading the image network


@dataclass
class Site:
    """A k x k convolution of an image network with what follows it.

    Attributes:
        name: module name of the convolution.
        conv: the convolution.
        norm: its batch norm, or None.
        end: name of the last module of the conv-norm-activation group.
        act: the activation of the group, or None where the norm ends it.
    """

    name: str
    conv: nn.Conv2d
    norm: nn.Module | None
    end: str
    act: nn.Module | None


def find_sites(trunk: nn.Module) -> list[Site]:
    """All convolutions with kernels above 1x1, in the order they run, with norm and activation.

    What follows what is read off a forward pass: a module belongs to the group when its input is
    the very tensor the last one returned, unchanged since (a residual sum in place changes it).
    """
    calls: list[tuple[str, nn.Module, Tensor, int, Tensor, int]] = []

    def hook(name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            # Versions are noted after an in-place module ran: its input is then its output.
            version = args[0]._version if args[0] is not out else out._version - 1
            calls.append((name, module, args[0], version, out, out._version))

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in trunk.named_modules()
        if name and (not list(module.children()) or isinstance(module, nn.BatchNorm2d))
    ]
    was_training = trunk.training
    trunk.eval()
    parameter = next(trunk.parameters())
    image = torch.zeros(1, 3, 32, 32, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad():
            trunk(image)
    finally:
        trunk.train(was_training)
        for handle in handles:
            handle.remove()

    def follower(out: Tensor, version: int, start: int) -> int | None:
        for i in range(start + 1, len(calls)):
            _, module, given, given_version, _, _ = calls[i]
            if given is out and given_version == version and not isinstance(module, nn.Identity):
                return i
        return None

    sites: list[Site] = []
    for i, (name, module, _, _, out, version) in enumerate(calls):
        if not isinstance(module, nn.Conv2d) or max(module.kernel_size) == 1:
            continue
        site = Site(name, module, None, name, None)
        j = follower(out, version, i)
        if j is not None and isinstance(calls[j][1], nn.BatchNorm2d):
            site.end, norm = calls[j][0], calls[j][1]
            site.norm = norm
            inner = getattr(norm, "act", None)  # timm's BatchNormAct2d holds its activation
            if isinstance(inner, nn.Module):
                site.act = None if isinstance(inner, nn.Identity) else inner
            else:
                k = follower(calls[j][4], calls[j][5], j)
                if k is not None and _is_activation(calls[k][1]):
                    site.end, site.act = calls[k][0], calls[k][1]
        sites.append(site)
    return sites


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.modules.activation", "timm.layers.activ"))


# ------------------------------------------------------------------ the plans


def _i3d(model: InflatedNet, sites: list[Site]) -> dict[str, Origin]:
    origins = {}
    for site in sites:
        _replace(model.trunk, site.name, VolumeConv.of(site.conv, TAPS, model.frames))
        origins[f"trunk.{site.name}.weight"] = Origin(f"{site.name}.weight", "inflate")
    return origins


def _s3d(model: InflatedNet, sites: list[Site]) -> dict[str, Origin]:
    origins = {}
    separable = any(is_depthwise(site.conv) for site in sites)
    for site in sites:
        channels, device = site.conv.out_channels, site.conv.weight.device
        groups = channels if is_depthwise(site.conv) else 1
        conv = TemporalConv(channels, channels, TAPS, model.frames, groups=groups)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        time: nn.Module = conv
        prefix = f"trunk.{site.end}.time"
        if separable:
            origins[f"{prefix}.weight"] = Origin(None, "dirac")
        else:
            time = TemporalUnit(conv, _norm_of(site), _repeatable(site.act))
            origins[f"{prefix}.conv.weight"] = Origin(None, "dirac")
            origins[f"{prefix}.norm.weight"] = Origin(None, "unit-gain")
            for part, rule in (
                ("bias", "zeros"),
                ("running_mean", "zeros"),
                ("running_var", "ones"),
                ("num_batches_tracked", "zeros"),
            ):
                origins[f"{prefix}.norm.{part}"] = Origin(None, rule)
        space = model.trunk.get_submodule(site.end)
        _replace(model.trunk, site.end, ThenTime(space, time.to(device)))
    return origins


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether every channel has a kernel of its own."""
    return conv.groups == conv.in_channels == conv.out_channels > 1


def _norm_of(site: Site) -> nn.BatchNorm2d:
    if not isinstance(site.norm, nn.BatchNorm2d):
        raise UsageError(
            f"plan s3d needs a batch norm behind every k x k convolution; {site.name} has none",
            "use --to i3d",
        )
    return site.norm


def _repeatable(act: nn.Module | None) -> nn.Module:
    """The activation once more where repeating it changes nothing, else none."""
    return type(act)() if isinstance(act, (nn.ReLU, nn.ReLU6)) else nn.Identity()


def _sts(model: InflatedNet, sites: list[Site], *, sts: bool) -> dict[str, Origin]:
    origins: dict[str, Origin] = {}
    depthwise = [site for site in sites if is_depthwise(site.conv)]
    for site in depthwise:
        kernel = (TAPS, site.conv.kernel_size[0], site.conv.kernel_size[1])
        reason = check_sts(site.conv.in_channels, kernel, site.conv.groups)
        if reason:
            origins[f"trunk.{site.name}.weight"] = Origin(
                f"{site.name}.weight", "copy", f"single-frame: {reason}"
            )
            continue
        _replace(model.trunk, site.name, VolumeConv.of(site.conv, TAPS, model.frames, sts=sts))
        origins[f"trunk.{site.name}.weight"] = Origin(f"{site.name}.weight", "inflate")
    if not depthwise:
        for name, conv in list(model.trunk.named_modules()):
            if isinstance(conv, nn.Conv2d) and re.fullmatch(r"layer[34]\.\d+\.conv1", name):
                if conv.kernel_size != (1, 1) or conv.groups != 1:
                    continue
                new = TemporalConv(
                    conv.in_channels, conv.out_channels, TAPS, model.frames, sts=sts
                ).to(conv.weight.device)
                nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
                _replace(model.trunk, name, new)
                origins[f"trunk.{name}.weight"] = Origin(f"{name}.weight", "inflate")
    if not any(o.rule == "inflate" for o in origins.values()):
        raise UsageError(
            "plan sts finds no kernel it is defined for: no depthwise 3x3 convolution with an even "
            "number of channels and no ResNet bottleneck",
            "use --to s3d or --to i3d",
        )
    return origins


def _c2d(model: InflatedNet, *, pool: bool) -> dict[str, Origin]:
    if pool:
        if not isinstance(getattr(model.trunk, "layer1", None), nn.Sequential):
            raise UsageError("the temporal pool of c2d is defined for ResNets only", "use --to c2d")
        first = model.trunk.get_submodule("layer1")
        assert isinstance(first, nn.Sequential)
        first.append(VolumePool((2, 1), (2, 1), model.frames))
    return {}


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)


def inflate(
    image_model: nn.Module,
    plan: str,
    *,
    num_classes: int,
    sts: bool = True,
    pool: bool = False,
) -> InflatedNet:
    """Put a temporal plan on a timm CNN.

    Args:
        image_model: a timm model whose classifier was removed (``num_classes=0``), so that it
            returns pooled features (B, C). It is changed in place and becomes the trunk.
        plan: ``c2d``, ``i3d``, ``s3d`` or ``sts``.
        num_classes: size of the new head.
        sts: False gives the plain twin of plan ``sts``: same keys, ordinary 3-D kernels.
        pool: 2x1x1 max-pool after the first stage; plan ``c2d`` on ResNets only.

    Returns:
        The model, with fresh values in all temporal kernels, and with `origins` filled.

    Raises:
        UsageError: when the plan is not defined for this network, with the reason.
    """
    features = int(image_model.num_features)  # type: ignore[arg-type]
    head_features = int(getattr(image_model, "head_hidden_size", features) or features)
    model = InflatedNet(image_model, head_features, num_classes)
    before = {id(t): key for key, t in image_model.state_dict(keep_vars=True).items()}
    # Tracing needs real or meta tensors of the network as it was, so it comes first.
    sites = find_sites(image_model) if plan != "c2d" else []
    if plan == "i3d":
        special = _i3d(model, sites)
    elif plan == "s3d":
        special = _s3d(model, sites)
    elif plan == "sts":
        special = _sts(model, sites, sts=sts)
    elif plan == "c2d":
        special = _c2d(model, pool=pool)
    else:
        raise UsageError(f"unknown plan '{plan}'", "plans are c2d, i3d, s3d, sts")
    for key, tensor in model.state_dict(keep_vars=True).items():
        if key in special:
            model.origins[key] = special[key]
        elif id(tensor) in before:
            model.origins[key] = Origin(before[id(tensor)], "copy")
        elif key.startswith("trunk."):  # the bias of an inflated convolution
            model.origins[key] = Origin(key.removeprefix("trunk."), "copy")
    return model

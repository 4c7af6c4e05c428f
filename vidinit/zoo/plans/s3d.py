"""``s3d``: behind every k x k convolution with its norm and activation stands a 3 x 1 x 1 one.

Xie et al., "Rethinking Spatiotemporal Feature Learning", 2018. As in the paper the temporal
convolution has a norm and, where the image network has one there and repeating it changes nothing
(ReLU, ReLU6), the same activation; it has as many groups as the spatial one. Identity kernels make
that exact.

It stands alone in networks with depthwise kernels. There the pointwise convolution behind it brings
its own norm and activation, and an identity kernel under a second ReLU6 would get no gradient
wherever the first one returned zero, while the norm, in training, is no identity. It stands alone,
too, where the image network has no batch norm behind the convolution (ConvNeXt, NFNet, DenseNet,
group norms).
"""

from __future__ import annotations

from torch import Tensor, nn

from ..names import check_option
from ..spec import Origin
from ..temporal import TIME_PADDINGS, TemporalConv
from .inflate import TAPS, InflatedNet, Inflation
from .plan import Plan
from .read_network import ConvLayer

NORM_RULES = {"weight": "unit-gain", "running_var": "ones"}
"""How the tensors of a new norm start; all others are zeros. In eval mode it passes its input."""


class TemporalUnit(nn.Module):
    """The temporal half of the paper's separable convolution: 3x1x1, norm, activation.

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


def s3d(
    image_model: nn.Module,
    *,
    num_classes: int,
    cut: str = "all",
    gating: bool = False,
    time_padding: str = "zeros",
) -> InflatedNet:
    """Put temporal convolutions behind the k x k ones of a CNN.

    Args:
        image_model: timm network without classifier; it becomes the trunk.
        num_classes: size of the new head.
        cut: which layers see time; see `Inflation.cut`.
        gating: S3D-G's gate behind each of them.
        time_padding: ``zeros``, or ``replicate``: the end frames repeated.

    Raises:
        UsageError: for networks and options that do not suit, with the reason.
    """
    check_option("padding in time", time_padding, TIME_PADDINGS)
    work = Inflation("s3d", image_model, num_classes)
    layers = work.network.layers
    alone = any(layer.is_depthwise for layer in layers)
    for layer in work.cut(layers, cut):
        conv = _temporal_conv(work, layer, time_padding)
        is_bare = alone or not isinstance(layer.norm, nn.BatchNorm2d)
        work.follow(layer, conv if is_bare else _unit(work, layer, conv), gating=gating)
    work.note_single_frames()
    return work.finish()


def _temporal_conv(work: Inflation, layer: ConvLayer, time_padding: str) -> TemporalConv:
    channels = layer.conv.out_channels
    conv = TemporalConv(
        channels,
        channels,
        TAPS,
        work.frames,
        groups=layer.conv.groups,
        time_padding=time_padding,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    conv = conv.to(layer.conv.weight.device)
    work.note(conv.weight, Origin(None, "dirac"))
    return conv


def _unit(work: Inflation, layer: ConvLayer, conv: TemporalConv) -> TemporalUnit:
    assert isinstance(layer.norm, nn.BatchNorm2d)
    # ReLU(ReLU(x)) = ReLU(x), which no other activation in use has.
    again = type(layer.act)() if isinstance(layer.act, (nn.ReLU, nn.ReLU6)) else nn.Identity()
    unit = TemporalUnit(conv, layer.norm, again).to(layer.conv.weight.device)
    for part, tensor in unit.norm.state_dict(keep_vars=True).items():
        work.note(tensor, Origin(None, NORM_RULES.get(part, "zeros")))
    return unit


PLAN = Plan(s3d)

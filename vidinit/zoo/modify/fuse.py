"""Neighbors that are linear made one, for inference: batch norms and convolutions, projections.

In eval mode a batch norm is a scale and a shift per channel:

    y = (w * x + b - mean) / sqrt(var + eps) * gain + bias,

which is a convolution with the kernel w * s and the bias (b - mean) * s + bias, where
s = gain / sqrt(var + eps). That holds for every convolution that is linear in its kernel with one
bias per output channel: spatial, temporal, volume and STS ones. The two projections behind
TimeSformer's attention over time are one matrix, too, and so are ZeroI2V's adapters with the
projections they stand before or behind.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..adapters.blocks import ShiftedBlock
from ..adapters.merging import fold_adapters, why_not_merged
from ..families.vit_blocks import DividedBlock
from ..temporal import ShiftFirst, TemporalConv, VolumeConv

if TYPE_CHECKING:
    from ..base import VideoModel


def fuse(model: VideoModel) -> VideoModel:
    """A copy for inference, every batch norm folded into the convolution right before it.

    So are the two projections of a `DividedBlock`, and the linear adapters of ZeroI2V into the
    projections around them. Weight-standardized convolutions, norms that stand elsewhere or serve
    several convolutions, and norms without running statistics stay as they are. Kernels are folded
    in float64.

    Args:
        model: left as it is.

    Returns:
        A model in eval mode, without gradients and with ``fused`` set, whose logits are those of
        ``model.eval()`` up to rounding. Its state dict has other keys: it can neither be saved as a
        model folder nor load one's weights.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    fused.fused = True
    fused.origins = {}
    left: dict[nn.Module, nn.Module] = {}
    for conv_name, norm_name in conv_norm_pairs(model):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        _fold(conv, norm)
        left[norm] = _without_norm(norm)
    for module in list(fused.modules()):
        for key, child in module.named_children():
            if child in left:
                setattr(module, key, left[child])
        if isinstance(module, DividedBlock):
            module.join_projections()
    if not why_not_merged(fused):
        for module in fused.modules():
            if isinstance(module, ShiftedBlock):
                fold_adapters(module)
    return fused


def conv_norm_pairs(model: VideoModel) -> list[tuple[str, str]]:
    """Names of all (convolution, batch norm) that `fuse` makes one, in the order they run.

    They are read off a forward pass on the meta device: the norm is given the very tensor the
    convolution returned, no other operation reads or changes that tensor, and both run once.
    """
    meta = copy.deepcopy(model).to("meta").eval()
    spec = meta.spec
    clip = torch.empty(1, meta.in_channels, spec.frames, spec.size, spec.size, device="meta")
    trace = _Trace()
    for name, module in meta.named_modules():
        if _can_take_a_scale(module):
            module.register_forward_hook(trace.after_conv(name))
        elif _can_be_folded(module):
            module.register_forward_pre_hook(trace.before_norm(name))
            module.register_forward_hook(trace.after_norm)
    with torch.no_grad(), trace:
        meta(clip.to(next(meta.parameters()).dtype))
    return trace.pairs()


class _Trace(TorchDispatchMode):
    """Notes which convolution's output each norm is given, and who else reads that output."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: Counter[str] = Counter()
        # By id, with the tensors: kept alive, so that no other tensor gets such an id.
        self.outputs: dict[int, tuple[str, Tensor]] = {}
        self.readers: dict[int, set[str]] = {}
        self.norm_inputs: dict[str, int] = {}
        self.inside = ""  # the norm that runs now

    def after_conv(self, name: str) -> Any:
        """A forward hook."""

        def hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            self.runs[name] += 1
            self.outputs[id(out)] = name, out
            self.readers[id(out)] = set()

        return hook

    def before_norm(self, name: str) -> Any:
        """A forward pre-hook."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.runs[name] += 1
            self.inside = name
            if id(args[0]) in self.outputs:
                self.norm_inputs[name] = id(args[0])

        return hook

    def after_norm(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        """A forward hook."""
        self.inside = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if id(value) in self.outputs:
                self.readers[id(value)].add(self.inside)
        return func(*args, **(kwargs or {}))

    def pairs(self) -> list[tuple[str, str]]:
        """(convolution, norm), by name."""
        return [
            (self.outputs[key][0], norm)
            for norm, key in self.norm_inputs.items()
            if self.readers[key] == {norm}
            and self.runs[norm] == 1
            and self.runs[self.outputs[key][0]] == 1
        ]


def _can_take_a_scale(module: nn.Module) -> bool:
    """True for a convolution that uses the kernel it holds as it is, and heeds a bias.

    Subclasses may do anything with their kernel (standardize it), so only known ones count; timm's
    are told by name, as in `conv_pads`. A shift before a convolution does not change that.
    """
    kind = type(module).__bases__[1] if isinstance(module, ShiftFirst) else type(module)
    return kind in (nn.Conv2d, TemporalConv, VolumeConv) or kind.__name__ == "Conv2dSame"


def _can_be_folded(module: nn.Module) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return False
    plain = type(module).forward is nn.BatchNorm2d.forward
    return plain or type(module).__name__ == "BatchNormAct2d"


def _exact(tensor: Tensor) -> Tensor:
    """In float64, so that folding rounds once; on the CPU where the device has no such type."""
    device = "cpu" if tensor.device.type == "mps" else tensor.device
    return tensor.detach().to(device, torch.float64)


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    assert isinstance(conv, (nn.Conv2d, VolumeConv)) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    weight, shift = conv.weight, -_exact(norm.running_mean)
    scale = (_exact(norm.running_var) + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * _exact(norm.weight)
    if conv.bias is not None:
        shift = shift + _exact(conv.bias)
    shift = shift * scale
    if norm.affine:
        shift = shift + _exact(norm.bias)
    kernel = _exact(weight) * scale.view(-1, *[1] * (weight.dim() - 1))
    # New parameters: another convolution may share the old one.
    conv.weight = nn.Parameter(kernel.to(weight.device, weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(weight.device, weight.dtype), requires_grad=False)


def _without_norm(norm: nn.Module) -> nn.Module:
    """The rest of a folded norm: nothing, or the dropout and activation inside timm's."""
    inner = (getattr(norm, "drop", None), getattr(norm, "act", None))
    parts = [m for m in inner if isinstance(m, nn.Module) and not isinstance(m, nn.Identity)]
    return nn.Sequential(*parts) if parts else nn.Identity()

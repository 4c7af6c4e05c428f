"""Reading an image network: which convolutions it has, what follows them, in which stage they are.

Everything is read off one forward pass of a blank image, so that it holds for any timm CNN: names
and module classes differ from family to family, but a convolution, its norm and its activation hand
on the very same tensors everywhere.

Stages are numbered as in ResNets: 0 is the stem, and the stages follow from 1. Where module names
tell, they count (``layer2``, ``s2``, ``denseblock2``, ``stage2``, ``level2`` are stage 2; lists
count from zero, so ``stages.1`` and ``blocks.1.0`` are stage 2 too); layers between stages belong
to the one before. Elsewhere (VGG, Inception, DPN) a stage is what returns one resolution: 0 the
first one in the network, 1 the next smaller one, and so on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ..images.heads import channels_of
from ..modify.eval_mode import in_eval_mode

SIZES = (32, 64, 128, 256)  # of the blank image; the smallest one that passes is taken

NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)

STAGE_NUMBER = re.compile(r"(?:^|\.)(?:layer|stage|level|denseblock|s(?=\d+\.b\d))(\d+)(?=\.)")
STAGE_LIST = re.compile(r"(?:^|\.)(?:stages\.(\d+)|blocks\.(\d+)\.\d+)(?=\.)")

CLASSIFIERS = re.compile(r"(head|pre_logits|classifier|fc)\b")  # VGG's first is a 7x7 convolution


@dataclass
class ConvLayer:
    """A convolution of an image network, and the norm and activation that follow it.

    Attributes:
        name: module name of the convolution.
        conv: the convolution.
        norm: its norm, or None.
        end: name of the last module of the conv-norm-activation group.
        act: the activation of the group, or None where another module ends it.
        stage: 0 for the stem, then from 1.
        side: height of its output for the blank image.
        reads: which tensor it reads, to compare with other layers'.
        whole_frames: False where it works on windows, heads or tokens that lie in the batch.
        parallel: other convolutions that read the same tensor (plan tsm fills it).
    """

    name: str
    conv: nn.Conv2d
    norm: nn.Module | None
    end: str
    act: nn.Module | None
    stage: int = 0
    side: int = 0
    reads: tuple[int, int] = (0, 0)
    whole_frames: bool = True
    parallel: list[ConvLayer] = field(default_factory=list)

    @property
    def is_spatial(self) -> bool:
        """True where its kernel sees neighbors and has a middle: odd, and above 1x1."""
        return max(self.conv.kernel_size) > 1 and all(k % 2 for k in self.conv.kernel_size)

    @property
    def in_classifier(self) -> bool:
        """True for a layer of the head that happens to be a convolution."""
        return CLASSIFIERS.match(self.name) is not None

    @property
    def is_depthwise(self) -> bool:
        """True where every channel has a kernel of its own."""
        conv = self.conv
        return conv.groups == conv.in_channels == conv.out_channels > 1

    @property
    def is_plain_pointwise(self) -> bool:
        """True for a dense 1x1 kernel of stride 1."""
        return self.conv.kernel_size == self.conv.stride == (1, 1) and self.conv.groups == 1


@dataclass
class Network:
    """The convolutions of an image network, read off a forward pass.

    Attributes:
        name: of the architecture, for messages.
        convs: all its convolutions, 1x1 too, in the order they run.
        features: width of the pooled features it returns.
    """

    name: str
    convs: list[ConvLayer]
    features: int

    @property
    def layers(self) -> list[ConvLayer]:
        """The k x k convolutions, which can see time, in the order they run.

        k is odd and above 1; 1x7 and 7x1 are such, too.
        """
        return [c for c in self.convs if c.is_spatial and not c.in_classifier]


@dataclass
class _Call:
    name: str
    module: nn.Module
    input: Tensor
    input_version: int
    out: Tensor
    out_version: int


def read_network(trunk: nn.Module) -> Network:
    """Run a blank image through a network and note its convolutions and what follows them.

    A module belongs to a convolution's group when its input is the very tensor the last one
    returned, unchanged since (a residual sum in place changes it), and when it runs only once: an
    activation that serves several convolutions ends none of their groups.

    Args:
        trunk: takes (N, channels, S, S), returns (N, C). It may be on the meta device.

    Raises:
        UsageError: when no size of image passes, or when the result is not one vector an image.
    """
    name = str((getattr(trunk, "pretrained_cfg", None) or {}).get("architecture", ""))
    name = name or type(trunk).__name__
    calls, result = _run(trunk, name)
    if not isinstance(result, Tensor) or result.dim() != 2:
        raise UsageError(
            f"{name} does not return one feature vector an image", "choose a convolutional network"
        )
    times = Counter(call.name for call in calls)

    def follower(start: int) -> int | None:
        last = calls[start]
        for i in range(start + 1, len(calls)):
            call = calls[i]
            if call.input is last.out and call.input_version == last.out_version:
                if isinstance(call.module, nn.Identity):
                    continue
                return i if times[call.name] == 1 else None
        return None

    convs: dict[str, ConvLayer] = {}
    for i, call in enumerate(calls):
        if not isinstance(call.module, nn.Conv2d) or call.name in convs:
            continue
        layer = ConvLayer(call.name, call.module, None, call.name, None)
        layer.side, layer.reads = call.out.shape[2], (id(call.input), call.input_version)
        layer.whole_frames = call.input.shape[0] == 1
        convs[call.name] = layer
        j = follower(i)
        if j is None or not isinstance(calls[j].module, NORMS):
            continue
        layer.end, layer.norm = calls[j].name, calls[j].module
        inner = getattr(layer.norm, "act", None)  # timm's BatchNormAct2d holds its activation
        if isinstance(inner, nn.Module):
            layer.act = None if isinstance(inner, nn.Identity) else inner
            continue
        k = follower(j)
        if k is not None and _is_activation(calls[k].module):
            layer.end, layer.act = calls[k].name, calls[k].module
    network = Network(name, list(convs.values()), result.shape[1])
    _number_stages(network)
    return network


def _run(trunk: nn.Module, name: str) -> tuple[list[_Call], Any]:
    """The calls of the smallest image that passes, and the result."""
    cfg = getattr(trunk, "pretrained_cfg", None) or {}
    own = [int(cfg[key][-1]) for key in ("min_input_size", "input_size") if cfg.get(key)]
    sizes = own[-1:] if cfg.get("fixed_input_size") else [*SIZES, *own]
    calls: list[_Call] = []

    def hook(key: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if not args or not isinstance(args[0], Tensor) or not isinstance(out, Tensor):
                return
            # Versions are noted after an in-place module ran: its input is then its output.
            version = args[0]._version if args[0] is not out else out._version - 1
            calls.append(_Call(key, module, args[0], version, out, out._version))

        return record

    handles = [
        module.register_forward_hook(hook(key))
        for key, module in trunk.named_modules()
        if key and (not list(module.children()) or isinstance(module, NORMS))
    ]
    parameter = next(trunk.parameters())
    problem = ""
    try:
        for size in sizes:
            calls.clear()
            image = parameter.new_zeros(1, channels_of(trunk), size, size)
            try:
                with in_eval_mode(trunk), torch.no_grad():
                    return calls, trunk(image)
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:
                problem = problem or f"{error}".partition("\n")[0]
    finally:
        for handle in handles:
            handle.remove()
    raise UsageError(f"{name} takes no blank image: {problem}", "choose a convolutional network")


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.modules.activation", "timm.layers.activ"))


def _number_stages(network: Network) -> None:
    named = [_stage_by_name(layer.name) for layer in network.convs]
    if len({stage for stage in named if stage}) > 1:
        current = 0
        for layer, stage in zip(network.convs, named, strict=True):
            current = layer.stage = current if stage is None else stage
        return
    level, levels, last = 0, {}, 0
    for side in sorted({layer.side for layer in network.layers}, reverse=True):
        level += last >= 1.5 * side  # convolutions without padding shrink the map a little too
        levels[side] = level
        last = side
    for layer in network.convs:
        layer.stage = levels.get(layer.side, level)


def _stage_by_name(name: str) -> int | None:
    match = STAGE_LIST.search(name)
    if match:
        return int(match[1] or match[2]) + 1
    match = STAGE_NUMBER.search(name)
    return int(match[1]) if match else None

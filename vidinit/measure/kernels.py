"""Statistics and pictures of temporal kernels: how much of each is appearance, what is motion.

A kernel with taps w_1 ... w_t of an output channel that reads one frame alone has all its energy in
the middle tap; one that averages the frames has equal taps. Two numbers measure that (both are
ours: the papers show pictures only), means over the output channels:

- center energy, |w_c|^2 / sum_t |w_t|^2: 1 behind an inflation that fills the middle tap, 1/t of a
  random or an averaging kernel;
- temporal variation, sum_t |w_t - mean|^2 / sum_t |w_t|^2: 0 of an averaging kernel, 1 - 1/t of a
  random one and of a lone middle tap.

How the first is distributed over the output channels is counted in ten bins; how the weights of
each tap are, by quantiles, as Xie et al. draw them ("Rethinking Spatiotemporal Feature Learning",
ECCV 2018).

The static half of an STS kernel (Li et al., "In Defense of Image Pre-Training for Spatiotemporal
Recognition", ECCV 2022) scans space with the taps that a plain kernel has for time, so its numbers
tell of space; the halves have rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..zoo.base import VideoModel
from ..zoo.sts import sts_split
from ..zoo.temporal import TemporalConv, VolumeConv

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the weights of a tap."""
BINS = 10
"""Of the center energy, from 0 to 1."""
_STRIPS = 32  # filters of a picture
_SIDE = 64  # channels that a picture of a kernel without pixels shows, of either kind
_GRAY = 127.5


@dataclass(frozen=True)
class KernelRow:
    """The two numbers of a temporal kernel, or of one half of an STS kernel.

    Attributes:
        name: of the module.
        kernel: its size and kind, as ``3x1x1`` or ``depthwise 3x3x3``.
        part: ``all`` of its output channels, or the ``static`` or ``dynamic`` ones of STS.
        channels: output channels of the part.
        center_energy: 0 to 1; None where all weights are zero.
        variation: 0 to 1; None where all weights are zero.
        histogram: output channels by their center energy, in `BINS` equal bins from 0 to 1; those
            that are zero are in none.
        taps: by temporal offset from the middle tap the `QUANTILES` of the weights.
    """

    name: str
    kernel: str
    part: str
    channels: int
    center_energy: float | None
    variation: float | None
    histogram: list[int]
    taps: dict[int, list[float]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, to six decimals; quantiles to six digits, as weights may be small."""
        values = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        values["taps"] = [
            {"offset": offset, "quantiles": [float(f"{value:.6g}") for value in own]}
            for offset, own in self.taps.items()
        ]
        return values


def kernel_table(model: VideoModel) -> list[KernelRow]:
    """The temporal kernels of a model in the order of its modules; empty where it has none.

    Plans that mix time without kernels, by shifts or attention, have none.
    """
    rows = []
    for name, module in _temporal(model):
        weight = _five_axes(module)
        taps, height, width = weight.shape[2:]
        kind = f"{taps}x{height}x{width}"
        if module.groups > 1:
            own = module.groups == weight.shape[0] == weight.shape[1] * module.groups
            kind = f"{'depthwise' if own else 'grouped'} {kind}"
        for part, channels in _parts(module):
            half = weight[channels]
            numbers = (*appearance(half), energy_histogram(half), tap_quantiles(half))
            rows.append(KernelRow(name, kind, part, len(half), *numbers))
    return rows


def summarize(rows: Sequence[KernelRow]) -> dict[str, dict[str, float]]:
    """Means of both numbers over the output channels of all kernels, by part."""
    found: dict[str, dict[str, float]] = {}
    for part in dict.fromkeys(row.part for row in rows):
        known = [r for r in rows if r.part == part and r.center_energy is not None]
        channels = sum(row.channels for row in known)
        if channels:
            found[part] = {
                key: round(sum(getattr(r, key) * r.channels for r in known) / channels, 6)
                for key in ("center_energy", "variation")
            }
    return found


def appearance(weight: Tensor) -> tuple[float | None, float | None]:
    """Center energy and temporal variation, means over the output channels that are not zero.

    Args:
        weight: (O, C, t, kh, kw). The middle of an even number of taps is the later one.
    """
    taps, energy = _by_tap(weight)
    if not len(energy):
        return None, None
    center = taps[:, taps.shape[1] // 2].square().sum(dim=1) / energy
    spread = (taps - taps.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2)) / energy
    return float(center.mean()), float(spread.mean())


def energy_histogram(weight: Tensor) -> list[int]:
    """How many output channels have which center energy, in `BINS` equal bins from 0 to 1.

    Args:
        weight: (O, C, t, kh, kw). A value between two bins is in the upper one, 1 in the last.
    """
    taps, energy = _by_tap(weight)
    center = taps[:, taps.shape[1] // 2].square().sum(dim=1) / energy
    counts, _ = np.histogram(center.numpy(), bins=BINS, range=(0, 1))
    return [int(count) for count in counts]


def tap_quantiles(weight: Tensor) -> dict[int, list[float]]:
    """`QUANTILES` of the weights of each tap, by its offset in frames from the middle one.

    Args:
        weight: (O, C, t, kh, kw). The middle of an even number of taps is the later one.
    """
    values = weight.detach().double().transpose(0, 2).flatten(1).numpy()  # (t, C*O*kh*kw)
    found = np.quantile(values, QUANTILES, axis=1).T
    return {tap - len(values) // 2: own.tolist() for tap, own in enumerate(found)}


def _by_tap(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The output channels that are not zero, (O, t, C*kh*kw), and the energy of each, (O,)."""
    taps = weight.detach().double().transpose(1, 2).flatten(2)
    energy = taps.square().sum(dim=(1, 2))
    return taps[energy > 0], energy[energy > 0]


def _temporal(model: nn.Module) -> Iterator[tuple[str, TemporalConv | VolumeConv]]:
    """Names and modules of the kernels with more than one temporal tap."""
    for name, module in model.named_modules():
        if isinstance(module, (TemporalConv, VolumeConv)) and module.weight.shape[2] > 1:
            yield name, module


def _five_axes(module: TemporalConv | VolumeConv) -> Tensor:
    """The weight as `nn.Conv3d` holds it, (O, C/groups, t, kh, kw)."""
    weight = module.weight.detach().float().cpu()
    return weight if weight.dim() == 5 else weight.unsqueeze(4)


def _parts(module: TemporalConv | VolumeConv) -> list[tuple[str, slice]]:
    """The output channels of each row of the table."""
    if not module.sts:
        return [("all", slice(None))]
    channels = module.weight.shape[0]
    if isinstance(module, TemporalConv):
        static = channels - sts_split(channels)[2]
    else:
        static = channels // 2
    return [("static", slice(0, static)), ("dynamic", slice(static, None))]


@dataclass(frozen=True)
class FirstFilters:
    """The first temporal kernel of a model, as it is drawn.

    Attributes:
        name: of the module.
        strips: uint8 (N, t, h, w, 3): N filters over time.
        note: what is shown, as plain text.
    """

    name: str
    strips: np.ndarray
    note: str


def first_filters(model: VideoModel) -> FirstFilters | None:
    """The kernel that reads pixels over time, else the first temporal one; None without any.

    A t x 1 x 1 kernel behind an image kernel is joined with it, and with the gain of the norm
    between them: that is the pair without its activation. A kernel deeper in the network has no
    pixels to show: the strength of its weights is drawn, output by input channel.
    """
    kernels = list(_temporal(model))
    if not kernels:
        return None
    name, module = next((k for k in kernels if _sees_pixels(model, k[1])), kernels[0])
    weight = _five_axes(module)
    note = "its halves: static, dynamic" if module.sts else ""
    if _sees_pixels(model, module):
        return FirstFilters(name, _colored(weight.transpose(1, 2)[:_STRIPS]), note)
    before = _pixels_before(model, module) if isinstance(module, TemporalConv) else None
    if before is not None:
        joined = join(before, weight, module.groups)
        caption = "; ".join(filter(None, ("joined with the image kernel before it", note)))
        return FirstFilters(name, _colored(joined[:_STRIPS]), caption)
    if weight.shape[1] == 1:  # depthwise
        return FirstFilters(name, _colored(weight.transpose(1, 2)[:_STRIPS]), note)
    strength = weight.square().sum(dim=(3, 4)).sqrt().permute(2, 0, 1)[:, :_SIDE, :_SIDE]
    dark = 255 - 255 * strength / strength.max().clamp(min=1e-12)
    strips = dark[None, ..., None].expand(-1, -1, -1, -1, 3).round().byte().numpy()
    caption = "; ".join(filter(None, ("strength of each weight, output by input channel", note)))
    return FirstFilters(name, strips, caption)


def join(space: Tensor, time: Tensor, groups: int = 1) -> Tensor:
    """The t x h x w kernels that an image kernel and a t x 1 x 1 kernel behind it make.

    Args:
        space: (M, C, h, w).
        time: (O, M/groups, t, 1, 1).
        groups: of the second.

    Returns:
        (O, t, C, h, w).
    """
    outer = time.flatten(2).unflatten(0, (groups, -1))  # (g, O/g, M/g, t)
    inner = space.unflatten(0, (groups, -1))  # (g, M/g, C, h, w)
    return torch.einsum("gomt,gmchw->gotchw", outer, inner).flatten(0, 1)


def _sees_pixels(model: VideoModel, module: TemporalConv | VolumeConv) -> bool:
    return module.groups == 1 and module.weight.shape[1] == model.in_channels


def _pixels_before(model: VideoModel, module: TemporalConv) -> Tensor | None:
    """The image kernel right before a module, times its norm's gain: (M, C, h, w); or None."""
    found: Tensor | None = None
    for layer in model.modules():
        if layer is module:
            break
        if isinstance(layer, (nn.Conv2d, VolumeConv)):
            own = isinstance(layer, nn.Conv2d) and layer.groups == 1
            own = own and layer.weight.shape[1] == model.in_channels
            found = layer.weight.detach().float().cpu() if own else None
        elif isinstance(layer, nn.BatchNorm2d) and found is not None:
            found = found * _gain(layer).view(-1, 1, 1, 1)
    if found is None or len(found) != module.weight.shape[1] * module.groups:
        return None
    return found


def _gain(norm: nn.BatchNorm2d) -> Tensor:
    """The factor of each channel in a norm in eval mode, (C,)."""
    assert norm.running_var is not None
    return (norm.weight * (norm.running_var + norm.eps).rsqrt()).detach().float().cpu()


def _colored(filters: Tensor) -> np.ndarray:
    """(N, t, C, h, w) to uint8 (N, t, h, w, 3): zero is gray, a filter's largest weight full."""
    if filters.shape[2] == 1:
        filters = filters.expand(-1, -1, 3, -1, -1)
    missing = 3 - filters.shape[2]  # optical flow has two channels
    shown = torch.cat([filters, torch.zeros_like(filters[:, :, :1]).repeat(1, 1, missing, 1, 1)], 2)
    scale = shown.abs().amax(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-12)
    return (_GRAY + _GRAY * shown / scale).round().byte().permute(0, 1, 3, 4, 2).numpy()

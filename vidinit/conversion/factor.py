"""R(2+1)D from an image ResNet: each k x k kernel in two halves, with a norm and a ReLU between.

An image kernel gives signed responses z = W x of N channels, of which the ReLU between the halves
would lose half. Three rules carry them through its M channels, by what there is room for:

- **sign split** (M >= 2N): z and -z, joined again by the temporal half as relu(z) - relu(-z).
  Exact.
- **shift** (N <= M < 2N): M - N channels are split; the 2N - M others are lifted by 20 standard
  deviations before the ReLU, and the norm behind the temporal half takes that off again. Exact as
  long as no response lies further than that below its mean.
- **low-rank** (M < N): the best fit of W in M dimensions (singular value decomposition), with M
  channels lifted. A split would leave M/2 dimensions. Not exact; the error is reported.

Temporal kernels hold their middle tap only, so nothing depends on the padding in time or on whether
their form is STS. The norms between the halves get the statistics the image network's own norm has
of z, and give z back: they pass it unchanged in eval mode, and in train mode as far as a batch
agrees with those statistics. Channels beyond 2N start with random spatial kernels that no temporal
kernel reads yet: they change nothing, and learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..zoo.base import VideoModel
from .table import MISFIT, ComputedTensor

LIFT = 20.0  # standard deviations


@dataclass(frozen=True)
class Halves:
    """An image kernel (N, I, k, k) in two halves with M channels between.

    Attributes:
        spatial: (M, I, k, k).
        gain, shift, mean, var: of the norm between, (M,).
        middle: middle tap of the temporal half, (N, M).
        outer_mean: running mean of the norm behind, (N,).
        rule: ``sign-split``, ``shift`` or ``low-rank``.
        error: of the product of both halves, relative to the image kernel (Frobenius norm).
    """

    spatial: Tensor
    gain: Tensor
    shift: Tensor
    mean: Tensor
    var: Tensor
    middle: Tensor
    outer_mean: Tensor
    rule: str
    error: float = 0.0


def split_and_lift(weight: Tensor, mean: Tensor, var: Tensor, eps: float, spare: Tensor) -> Halves:
    """The rules sign split and shift: as many channels split as there is room for, others lifted.

    Args:
        weight: image kernel, (N, I, k, k).
        mean, var: of its responses, (N,): the running statistics of the norm behind it.
        eps: of the norm between the halves.
        spare: kernels for the channels beyond 2N; of its (M, I, k, k) the last are taken.

    Raises:
        ValueError: for fewer than N channels.
    """
    outputs, mid = len(weight), len(spare)
    if mid < outputs:
        raise ValueError(f"{outputs} channels do not pass through {mid}")
    split = min(mid - outputs, outputs)
    used = split + outputs
    std = (var + eps).sqrt()
    lift = LIFT * std[split:]
    # Channels: split ones, their negatives, lifted ones, spare ones.
    rest = mid - used
    middle = weight.new_zeros(outputs, mid)
    index = torch.arange(outputs)
    middle[index[:split], index[:split]] = 1.0
    middle[index, index + split] = 1.0
    middle[index[:split], index[:split] + split] = -1.0
    zeros, ones = var.new_zeros(rest), var.new_ones(rest)
    return Halves(
        spatial=torch.cat([weight[:split], -weight[:split], weight[split:], spare[used:]]),
        gain=torch.cat([std[:split], std, ones]),
        shift=torch.cat([mean[:split], -mean[:split], lift, zeros]),
        mean=torch.cat([mean[:split], -mean[:split], mean[split:], zeros]),
        var=torch.cat([var[:split], var, ones]),
        middle=middle,
        # A lifted response arrives as z - mean + lift.
        outer_mean=torch.cat([mean[:split], lift]),
        rule="shift" if split < outputs else "sign-split",
    )


def fit_and_lift(weight: Tensor, mean: Tensor, var: Tensor, eps: float, mid: int) -> Halves:
    """The rule low-rank: the best fit of a kernel through fewer channels than it has.

    Of all bases of the fit's row space one is taken that consists of M of the fit's own rows: their
    responses are close to the image network's, whose statistics are known, so that the lift need
    not be larger than elsewhere. The norm behind takes off the mean of the fitted responses.

    Args:
        weight: image kernel, (N, I, k, k), in double precision.
        mean, var: of its responses, (N,).
        eps: of the norm between the halves.
        mid: M, at most the smaller side of the kernel as an (N, I*k*k) matrix.
    """
    matrix = weight.flatten(1)
    left = torch.linalg.svd(matrix, full_matrices=False)[0][:, :mid]
    fitted, fitted_mean = left @ (left.T @ matrix), left @ (left.T @ mean)
    # Partial pivoting picks the rows: left = order @ lower @ upper, all entries of lower below 1.
    order, lower, _ = torch.linalg.lu(left)
    rows = order.argmax(dim=0)[:mid]
    middle = order @ torch.linalg.solve_triangular(
        lower[:mid], lower, upper=False, left=False, unitriangular=True
    )
    std = (var[rows] + eps).sqrt()
    lift = LIFT * std
    return Halves(
        spatial=fitted[rows].unflatten(1, weight.shape[1:]),
        gain=std,
        shift=lift,
        mean=fitted_mean[rows],
        var=var[rows],
        middle=middle,
        outer_mean=middle @ lift,
        rule="low-rank",
        error=float((fitted - matrix).norm() / matrix.norm()),
    )


def match_eps(gain: Tensor, var: Tensor, eps: float, new_eps: float) -> tuple[Tensor, Tensor]:
    """(gain, variance) with which a norm of another eps does the same.

    The variance moves by the difference; where it would become negative it is zero, and the gain
    makes up for the rest.
    """
    moved = (var + (eps - new_eps)).clamp(min=0.0)
    return gain * ((moved + new_eps) / (var + eps)).sqrt(), moved


def factor(
    model: VideoModel,
    image_state: Mapping[str, Tensor],
    seed: int = 0,
    image_eps: float = 1e-5,
) -> tuple[dict[str, ComputedTensor], list[str]]:
    """Values for every tensor with the rule ``factor``, and for the norms those rules alter.

    Args:
        model: an R(2+1)D network with `VideoModel.origins`.
        image_state: state dict of the image ResNet of its depth.
        seed: of the spare kernels.
        image_eps: of the image network's norms. Norms of the model with another eps are adjusted,
            so that they do the same.

    Returns:
        The tensors by key of the model, in double precision, and notes for people: which kernels
        were fitted, with what error, and what exactness rests on.

    Raises:
        UsageError: when the image weights lack a tensor or have another shape.
    """
    generator = torch.Generator().manual_seed(seed)
    computed: dict[str, ComputedTensor] = {}
    notes: list[str] = []
    altered: dict[str, ComputedTensor] = {}  # running means of the norms behind, by the norm's name
    for prefix in _factored(model):
        behind = "stem.4" if prefix == "stem" else f"{prefix[:-1]}1"
        source = model.origins[f"{prefix}.0.weight"].source
        statistics = model.origins[f"{behind}.running_mean"].source
        assert source is not None and statistics is not None
        norm = statistics.rpartition(".")[0]
        spatial, inner, temporal = (model.get_submodule(f"{prefix}.{part}") for part in "013")
        assert isinstance(spatial, nn.Conv2d) and isinstance(inner, nn.BatchNorm2d)
        assert isinstance(temporal, nn.Conv2d)
        shape = (temporal.out_channels, *spatial.weight.shape[1:])
        weight = _tensor(image_state, source, shape)
        mean = _tensor(image_state, statistics, shape[:1])
        var = _tensor(image_state, f"{norm}.running_var", shape[:1])
        mid = spatial.out_channels
        if mid < len(weight):
            halves = fit_and_lift(weight, mean, var, inner.eps, mid)
            rank = min(weight.flatten(1).shape)
            notes.append(
                f"{source} passes {mid} channels instead of {rank}: "
                f"its best fit has a relative error of {halves.error:.3g}"
            )
        else:
            spare = torch.empty(spatial.weight.shape)
            nn.init.kaiming_normal_(spare, mode="fan_out", generator=generator)
            halves = split_and_lift(weight, mean, var, inner.eps, spare.double())
        taps = torch.zeros(temporal.weight.shape, dtype=halves.middle.dtype)
        taps[:, :, taps.shape[2] // 2, 0] = halves.middle
        values = {
            "0.weight": halves.spatial,
            "1.weight": halves.gain,
            "1.bias": halves.shift,
            "1.running_mean": halves.mean,
            "1.running_var": halves.var,
            "1.num_batches_tracked": torch.tensor(0),
            "3.weight": taps,
        }
        for key, value in values.items():
            computed[f"{prefix}.{key}"] = ComputedTensor(value, halves.rule, (source,))
        if halves.rule != "sign-split":
            altered[behind] = ComputedTensor(halves.outer_mean, halves.rule, (statistics,))
    if any(entry.rule == "shift" for entry in altered.values()):
        notes.append(
            f"kernels by the rule shift are exact while no response lies more than {LIFT:.0f} "
            "standard deviations below its mean"
        )
    computed.update({f"{name}.running_mean": mean for name, mean in altered.items()})
    computed.update(_matched(model, image_state, image_eps))
    return computed, notes


def _factored(model: VideoModel) -> list[str]:
    """Prefixes of the factored kernels: ``stem``, ``layer1.0.conv1.0``."""
    end = ".0.weight"
    return [
        key.removesuffix(end)
        for key, origin in model.origins.items()
        if origin.rule == "factor" and key.endswith(end)
    ]


def _matched(
    model: VideoModel, image_state: Mapping[str, Tensor], image_eps: float
) -> dict[str, ComputedTensor]:
    """Gains and variances of the copied norms whose eps is not the image network's."""
    computed: dict[str, ComputedTensor] = {}
    for name, module in model.named_modules():
        origin = model.origins.get(f"{name}.weight")
        if not isinstance(module, nn.BatchNorm2d) or origin is None or origin.rule != "copy":
            continue
        if module.eps == image_eps:
            continue
        norm = str(origin.source).rpartition(".")[0]
        shape = (module.num_features,)
        keys = (f"{norm}.weight", f"{norm}.running_var")
        gain, var = (_tensor(image_state, key, shape) for key in keys)
        gain, var = match_eps(gain, var, image_eps, module.eps)
        computed[f"{name}.weight"] = ComputedTensor(gain, "copy", keys[:1])
        computed[f"{name}.running_var"] = ComputedTensor(var, "copy", keys[1:])
    return computed


def _tensor(state: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of the image network in double precision."""
    if key not in state or state[key].shape != torch.Size(shape):
        found = tuple(state[key].shape) if key in state else "nothing"
        raise UsageError(
            f"{key} should be {shape}, the image weights have {found}",
            MISFIT,
        )
    return state[key].detach().cpu().double()

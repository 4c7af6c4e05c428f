"""Classifiers of image networks, as one linear layer on the features of the network without it.

Most are a linear layer or a 1x1 convolution. Others have a batch norm before it, or are several
whose logits are averaged or weighted, each on all features or on some of them (distillation heads,
CrossViT's two scales, EfficientViM's four). Whatever it is, `linear_head` finds the linear map by
trying it: the parts of the classifier are given unit vectors to read, in double precision.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 256  # vectors in one pass; only the classifier works on them


@dataclass(frozen=True)
class LinearHead:
    """The linear map from the features of an image network to its logits, in eval mode.

    Attributes:
        weight: (classes, C), in double precision.
        bias: (classes,), in double precision.
        classifiers: how many linear layers went into it.
        has_norm: True where a norm before them did, too.
        tokens: how many class tokens are side by side in the C features; 0 where the features are
            those of the network without its classifier.
    """

    weight: Tensor
    bias: Tensor
    classifiers: int
    has_norm: bool
    tokens: int = 0


def head_keys(image: nn.Module, bare: nn.Module) -> list[str]:
    """Tensors of the classifier: those that the network without it, ``bare``, has not."""
    without = set(bare.state_dict())
    return [key for key in image.state_dict() if key not in without]


def single_layer(image: nn.Module, keys: Sequence[str]) -> str:
    """Name of the linear layer or 1x1 convolution that is the classifier; empty for other kinds."""
    names = {key.rpartition(".")[0] for key in keys}
    if len(names) != 1 or {key.rpartition(".")[2] for key in keys} != {"weight", "bias"}:
        return ""
    (name,) = names
    layer = image.get_submodule(name)
    is_point = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    return name if is_point or isinstance(layer, nn.Linear) else ""


@torch.no_grad()
def linear_head(image: nn.Module, keys: Sequence[str]) -> LinearHead | str:
    """The classifier of a timm network as one linear map.

    Args:
        image: on the CPU, with its weights; it is not changed.
        keys: of its classifier, from `head_keys`.

    Returns:
        The map, or why there is none, continuing "the classifier".
    """
    maps = _random_like(_feature_maps(image), rows=4)
    network: Any = copy.deepcopy(image).double().eval()
    reads = _reads(network, maps, keys)
    absent = [key for key in keys if not any(key.startswith(f"{name}.") for name in reads)]
    if absent or not reads:
        part = (absent or list(keys))[0].rpartition(".")[0]
        return f"reads more than one vector of an image ({part} does)"
    widths = {name: read.shape[1] for name, read in reads.items()}
    total = sum(widths.values())
    row = _first_row(maps)

    def answers(vectors: Tensor) -> Tensor:
        parts = [_answer(network, row, widths, part) for part in vectors.split(ROWS)]
        return torch.cat(parts)

    found = answers(torch.cat([torch.eye(total), torch.zeros(1, total)]).double())
    bias = found[-1]
    weight = (found[:-1] - bias).T
    tried = torch.randn(4, total, generator=torch.Generator().manual_seed(1)).double()
    want = answers(tried)
    if not torch.allclose(tried @ weight.T + bias, want, rtol=1e-9, atol=1e-9 * float(want.std())):
        return "has a hidden layer, so its logits are no linear function of the features"
    linears = [k for k in keys if k.endswith("weight") and image.state_dict()[k].dim() >= 2]
    kind = (len(linears), any(k.endswith("running_var") for k in keys))
    read = torch.cat(list(reads.values()), dim=1)
    features = network.forward_head(maps, pre_logits=True)
    joined = _columns(weight, read, features)
    if joined is not None:
        return LinearHead(joined, bias, *kind)
    if isinstance(maps, Tensor) and maps.dim() == 3:
        joined = _columns(weight, read, maps[:, : len(reads)].flatten(1))
        if joined is not None:
            return LinearHead(joined, bias, *kind, tokens=len(reads))
    return "reads vectors of its own, and the features are others"


def _columns(weight: Tensor, read: Tensor, features: Tensor) -> Tensor | None:
    """A map of what the classifier reads as one of the features; None where they hold it not.

    Args:
        weight: (classes, F).
        read: (N, F), N random vectors.
        features: (N, C) that came with them; each column of ``read`` may be one of theirs.
    """
    same = (read.T.unsqueeze(1) == features.T).all(dim=-1)  # (F, C)
    if not bool(same.any(dim=1).all()):
        return None
    columns = same.float().argmax(dim=1)
    return weight.new_zeros(len(weight), features.shape[1]).index_add_(1, columns, weight)


def _reads(network: Any, maps: Any, keys: Sequence[str]) -> dict[str, Tensor]:
    """Inputs of the parts of a classifier, (N, F) each, by module name, outermost modules alone.

    Modules that read anything but one vector an image, or run twice, are not among them.
    """
    found: dict[str, Tensor | None] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0] if args else None
            is_vector = isinstance(x, Tensor) and math.prod(x.shape[2:]) == 1
            found[name] = x.flatten(1) if is_vector and name not in found else None  # type: ignore[union-attr]

        return record

    handles = []
    for name, module in network.named_modules():
        own = [f"{name}.{key}" for key in module.state_dict()]
        if name and own and set(own) <= set(keys):
            handles.append(module.register_forward_pre_hook(hook(name)))
    network.forward_head(maps)
    for handle in handles:
        handle.remove()
    vectors = {name: read for name, read in found.items() if read is not None}
    nested = [n for n in vectors if any(n.startswith(f"{other}.") for other in vectors)]
    return {name: read for name, read in vectors.items() if name not in nested}


def _answer(network: Any, row: Any, widths: Mapping[str, int], vectors: Tensor) -> Tensor:
    """Logits where the parts of the classifier read ``vectors`` (N, sum of the widths)."""
    maps = _map(row, lambda x: x.expand(len(vectors), *x.shape[1:]))
    handles = []
    for (name, _), part in zip(
        widths.items(), vectors.split(list(widths.values()), 1), strict=True
    ):
        module = network.get_submodule(name)
        handles.append(
            module.register_forward_pre_hook(
                lambda _, args, part=part: (part.reshape(args[0].shape), *args[1:])
            )
        )
    logits: Tensor = network.forward_head(maps)
    for handle in handles:
        handle.remove()
    return logits


def _feature_maps(image: Any) -> Any:
    """The input of a network's ``forward_head``, of a blank image of its own size."""
    cfg = getattr(image, "pretrained_cfg", None) or {}
    size = tuple(cfg.get("input_size") or (3, 224, 224))[1:]
    parameter = next(image.parameters())
    blank = parameter.new_zeros(1, channels_of(image), *size)
    return image.forward_features(blank)


def _random_like(maps: Any, rows: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    return _map(
        maps, lambda x: torch.randn(rows, *x.shape[1:], generator=generator, dtype=torch.float64)
    )


def _first_row(maps: Any) -> Any:
    return _map(maps, lambda x: x[:1])


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to a tensor, or to each of a list or tuple."""
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(_map(part, function) for part in value)


def channels_of(image: nn.Module) -> int:
    """Channels of the images that a network takes."""
    channels = getattr(image, "in_chans", None)
    return int(channels) if isinstance(channels, int) else 3

"""The table of a conversion: which tensor of the video model comes from where, by which rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..zoo.base import VideoModel
from ..zoo.spec import Origin
from ..zoo.temporal import TemporalConv
from . import rules

MISFIT = "the model is not made of this image network: use another one, or --to c2d"
"""The way out for weights that are whole, and that a model has no place for."""


@dataclass(frozen=True)
class Row:
    """One line of the table: the tensors of a stage that were treated alike.

    Attributes:
        stage: stage of the network, ``blocks.3`` for example.
        rule: what was done, for people.
        kind: ``copied``, ``inflated`` or ``initialized``.
        tensors: how many tensors.
        note: why kernels stayed single-frame; empty otherwise.
    """

    stage: str
    rule: str
    kind: str
    tensors: int
    note: str = ""


RULES = {
    "copy": ("copied as it is", "copied"),
    "inflate-center": ("image kernel at the middle tap", "inflated"),
    "inflate-mean": ("image kernel over t at every tap", "inflated"),
    "inflate-sts": ("image kernel times 1/9, 1/3, 1/9", "inflated"),
    "dirac": ("identity kernel", "initialized"),
    "unit-gain": ("norm that passes its input", "initialized"),
    "zeros": ("norm that passes its input", "initialized"),
    "ones": ("norm that passes its input", "initialized"),
    "unit-gain-2": ("norm that doubles its input, for a gate of 1/2", "initialized"),
    "double": ("copied times two, for a gate of 1/2", "copied"),
    "space-to-time": ("attention over space, copied for time", "inflated"),
    "silent": ("zeros, which add nothing at first", "initialized"),
    "random": ("random", "initialized"),
    "sign-split": ("image kernel and its negative, joined again behind the ReLU", "inflated"),
    "shift": ("image kernel lifted above the ReLU and lowered again", "inflated"),
    "low-rank": ("best fit of the image kernel in fewer channels", "inflated"),
    "fold-norm": ("classifier, the norm before it folded in", "copied"),
    "join-heads": ("classifiers of the image network as one", "copied"),
}
"""Each rule of an `Origin`: its description for people, and how the table counts it."""


def origins_of(model: VideoModel, classifier: str | None) -> dict[str, Origin]:
    """`VideoModel.origins` with the head's: the image network's classifier, copied, or random."""
    origins = dict(model.origins)
    for part in ("weight", "bias"):
        copied = Origin(f"{classifier}.{part}", "copy")
        origins[f"head.{part}"] = copied if classifier else Origin(None, "random")
    return origins


@dataclass(frozen=True)
class ComputedTensor:
    """A tensor that a rule over several layers gives, such as a kernel split in two.

    Attributes:
        value: of the video model's tensor.
        rule: a key of `RULES`.
        sources: image tensors that went into it.
    """

    value: Tensor
    rule: str
    sources: tuple[str, ...] = ()


def transfer(
    model: VideoModel,
    image_state: Mapping[str, Tensor],
    classifier: str | None,
    inflation: str,
    computed: Mapping[str, ComputedTensor] | None = None,
) -> list[Row]:
    """Fill the video model from an image state dict; every tensor of both sides accounted for.

    Args:
        model: with as many classes as the image classifier.
        image_state: state dict of the image network.
        classifier: key prefix of its classifier; None where it has none.
        inflation: a key of `rules.INFLATIONS`.
        computed: tensors whose rule spans several layers, by key of the video model.

    Returns:
        The rows of the table, in the order of the network.

    Raises:
        UsageError: when a tensor is missing, left over, or of another shape.
    """
    origins = origins_of(model, classifier)
    computed = computed or {}
    want = model.state_dict()
    state: dict[str, Tensor] = {}
    counted: dict[tuple[str, str, str, str], int] = {}
    used: set[str] = set()
    for key, target in want.items():
        origin = origins[key]
        rule = f"inflate-{inflation}" if origin.rule == "inflate" else origin.rule
        if key in computed:
            rule = computed[key].rule
            state[key] = computed[key].value
            used.update(computed[key].sources)
        else:
            source = None
            if origin.source is not None:
                if origin.source not in image_state:
                    raise UsageError(
                        f"the image weights lack {origin.source}, which {key} is made of",
                        MISFIT,
                    )
                source = image_state[origin.source]
                used.add(origin.source)
            state[key] = _value(model, key, target, rule, source)
        words, kind = RULES[rule]
        row = (stage_of(key), words, kind, origin.note)
        counted[row] = counted.get(row, 0) + 1
    # A tensor that several blocks share (CoaT's position encodings) has a name in each of them.
    taken = {image_state[key].data_ptr() for key in used}
    left = [key for key, tensor in image_state.items() if tensor.data_ptr() not in taken]
    if left:
        raise UsageError(
            f"{len(left)} image tensors have no place in {model.name}, {left[0]} first",
            MISFIT,
        )
    model.load_state_dict(state)
    # Timm's LeViT and its kin keep what they computed from weights in eval mode until they train.
    mode = model.training
    model.train().train(mode)
    table = [Row(stage, words, kind, n, note) for (stage, words, kind, note), n in counted.items()]
    return sorted(table, key=lambda row: row.stage == "head")  # it stands first in the state dict


def _value(model: VideoModel, key: str, target: Tensor, rule: str, source: Tensor | None) -> Tensor:
    if source is not None:
        if rule.startswith("inflate-"):
            # Where the video layer has further inputs, those of the image kernel come first.
            shape = torch.Size((target.shape[0], source.shape[1], *target.shape[2:]))
            value = rules.INFLATIONS[rule.removeprefix("inflate-")](source, shape)
        else:
            value = source * 2 if rule == "double" else source
            # A classifier may be a 1x1 convolution in the image network.
            value = value.reshape(target.shape) if value.numel() == target.numel() else value
        value = rules.widen(value, target.shape)
        if value.shape != target.shape:
            raise UsageError(
                f"{key} needs {tuple(target.shape)}, the image weights give {tuple(value.shape)}",
                MISFIT,
            )
        return value
    module: nn.Module = model.get_submodule(key.rpartition(".")[0])
    if rule == "random":
        return target.clone()
    if rule == "dirac":
        assert isinstance(module, TemporalConv)
        return rules.dirac(target.shape, module.groups)
    if rule.startswith("unit-gain"):
        assert isinstance(module, nn.BatchNorm2d)
        return rules.unit_gain(target.shape, module.eps) * (2 if rule == "unit-gain-2" else 1)
    return torch.ones_like(target) if rule == "ones" else torch.zeros_like(target)


def stage_of(key: str) -> str:
    """``trunk.blocks.3.0.conv_dw.weight`` to ``blocks.3``; the stem's parts to ``stem``."""
    key = key.removeprefix("trunk.")
    if re.match(r"(conv1|bn1|act1|conv_stem|stem)\b", key):
        return "stem"
    if re.match(r"(head|conv_head|norm_head|bn2)\b", key):
        return "head"
    match = re.match(r"(?:blocks|stages|features)\.(\d+)|([A-Za-z_]\w*)", key)
    return match.group(0) if match else key

"""The form of a layout: one function from our keys to the public ones, and a few facts beside it.

A layout's file holds one `Scheme` for each family that its code base has, under the name
``SCHEMES``. Import looks up the public name of each of our keys, export writes it, so the two
directions cannot disagree. Shapes differ in axes of size one only: 3-D networks elsewhere hold
(O, I, 1, k, k) where ours hold (O, I, k, k), (O, I, t, 1, 1) where ours hold (O, I, t, 1), and some
hold linear layers as 1 x 1 x 1 convolutions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...zoo.base import VideoModel
from ...zoo.build import builder_of, maker_of, options_of
from ...zoo.images.state_dicts import EXTRAS
from ...zoo.names import ALIASES, find_entry
from ...zoo.spec import ClipSpec
from ...zoo.temporal import TemporalConv, VolumePool
from .public_file import Candidate, PublicFile

Rename = Callable[[str], "str | None"]
Recognize = Callable[[PublicFile], "Candidate | None"]

# Zoo names that several code bases can hold, and an option under which their graphs are theirs.
TRUNKS = r"(c2d|i3d|(sts-)?slowonly)-r(50|101)"
IR_CSNS = r"ir-csn-(50|101|152)"
X3DS = r"x3d-(xs|s|m|l)"
ZEROS = {"time_padding": "zeros"}

OTHER_FAMILY = "it is another family"
FAST_FEATURES = 256  # of SlowFast's fast pathway
LAYER = re.compile(
    r"(?P<path>trunk\.|slow\.|fast\.|)layer(?P<stage>[1-4])\.(?P<block>\d+)\.(?P<layer>.+)"
)


@dataclass(frozen=True)
class Scheme:
    """One code base's names and shapes for the tensors of one of our families.

    Attributes:
        layout: name of the layout.
        recognize: the zoo model that a file holds, read off its keys and shapes; None where it is
            of another family. `public_file` has functions that several code bases share.
        public_key: our key to the public one, None where there is none.
        names: pattern of the zoo names the code base can hold; empty where it is only recognized.
        pixels: its mean and standard deviation are those of the code base's inputs.
        eps: of its norms; None where they are not all the same.
        graph: options a model must have for its graph to be the code base's.
        linear: our modules that are linear layers there too; all others are convolutions.
        planar: kernels are 2-D there.
        pooled: True for the names of C2D and I3D with their temporal pool, which shifts them, False
            for those without it; None where the names do not tell.
        sts: True where the code base knows STS kernels.
        fast_first: the head of SlowFast reads [fast, slow] there, ours [slow, fast].
        head_first: the classifier comes first in the file.
        leftovers: public keys with no place in our models, of which that is known.
        absent: our keys with no public name: zero there, or no part of the network.
        apart: what our keys of tensors begin with that its files do without, though there are names
            for them: those of a frozen tower, which has a file of its own. Empty for none.
        unsaid: options of the models that its files do not tell.
    """

    layout: str
    recognize: Recognize
    public_key: Rename
    names: str
    pixels: ClipSpec
    eps: float | None = 1e-5
    graph: Mapping[str, Any] = field(default_factory=dict)
    linear: tuple[str, ...] = ("head",)
    planar: bool = False
    pooled: bool | None = None
    sts: bool = False
    fast_first: bool = False
    head_first: bool = False
    leftovers: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    apart: str = ""
    unsaid: tuple[str, ...] = ()

    def is_leftover(self, key: str) -> bool:
        """True for a public key that is known to have no place in our models."""
        return key in self.leftovers or EXTRAS.fullmatch(key) is not None

    def is_apart(self, key: str) -> bool:
        """True for our key of a tensor that files do without; see `apart`."""
        return bool(self.apart) and key.startswith(self.apart)

    def absent_value(self, tensor: Tensor) -> Tensor:
        """The value of a tensor of ours that is `absent` there; ``tensor`` is a new model's."""
        return torch.zeros_like(tensor)

    def names_all(self, model: VideoModel) -> bool:
        """True where every tensor of the model has a public name."""
        keys = (key for key in model.state_dict() if key not in self.absent)
        return all(self.public_key(key) is not None for key in keys)

    def refusal(self, model: VideoModel) -> str:
        """Why the code base cannot hold this model; empty where it can."""
        modules = list(model.modules())
        if not re.fullmatch(self.names, ALIASES.get(model.name, model.name)):
            return OTHER_FAMILY
        if not self.sts and any(getattr(module, "sts", False) for module in modules):
            return "STS kernels are unknown there"
        if self.pooled not in (None, any(isinstance(module, VolumePool) for module in modules)):
            return f"there it is {'with' if self.pooled else 'without'} a temporal pool"
        options = {**option_defaults(model.name), **model.options}
        for option, value in self.graph.items():
            if options.get(option, value) != value:
                return f"there it is with {option}={value!r}, not {options[option]!r}"
        for module in modules:
            if isinstance(module, nn.BatchNorm2d) and self.eps not in (None, module.eps):
                return f"norms there have eps {self.eps:g}, not {module.eps:g}"
        return "" if self.names_all(model) else "some of its layers are unknown there"

    def public_shape(self, key: str, module: object, shape: Sequence[int]) -> tuple[int, ...]:
        """The public shape of our tensor ``key``, which is a parameter of ``module``."""
        if len(shape) < 2 or key.rpartition(".")[0] in self.linear:
            return tuple(shape)
        outputs, inputs, *kernel = shape
        if not kernel:
            kernel = [1, 1, 1]
        elif len(kernel) == 2 and not self.planar:
            kernel = [*kernel, 1] if isinstance(module, TemporalConv) else [1, *kernel]
        return (outputs, inputs, *kernel)

    def untold(self, model: VideoModel) -> dict[str, Any]:
        """Options of a model that the files do not tell, with its values."""
        if not self.unsaid:
            return {}
        made = inspect.signature(maker_of(find_entry(model.name))).parameters
        return {name: model.options.get(name, made[name].default) for name in self.unsaid}

    def added(self, model: VideoModel) -> dict[str, Tensor]:
        """Public tensors of no effect that its files have and a model may lack, by public key."""
        return {}

    def outward(self, key: str, value: Tensor) -> Tensor:
        """Our tensor with its columns in the public order."""
        if key == "head.weight" and self.fast_first:
            return torch.roll(value, FAST_FEATURES, dims=1)
        return value

    def inward(self, key: str, value: Tensor) -> Tensor:
        """A public tensor with its columns in our order."""
        if key == "head.weight" and self.fast_first:
            return torch.roll(value, -FAST_FEATURES, dims=1)
        return value


def option_defaults(name: str) -> dict[str, Any]:
    """Values of a zoo name's options where none are given; of a plan's only those of its entry."""
    entry = find_entry(name)
    signature: dict[str, Any] = {}
    if entry.builder is not None:
        parameters = inspect.signature(builder_of(entry)).parameters.values()
        signature = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**signature, **entry.options}


def known_options(name: str) -> list[str]:
    """Options that `create_model` takes for a zoo name."""
    entry = find_entry(name)
    return [*options_of(entry), "in_channels", *(["network"] if entry.plan else [])]


def renamer(
    outer: Mapping[str, str],
    block: str,
    layers: Mapping[str, str],
    *,
    stages: Sequence[int] = (1, 2, 3, 4),
    paths: Mapping[str, str] | None = None,
) -> Rename:
    """The function of a residual network.

    Args:
        outer: our modules outside the blocks, and their public names.
        block: public name of a block, with ``{path}``, ``{stage}`` and ``{block}``.
        layers: our modules inside a block, and their public names inside it.
        stages: public numbers of our four stages.
        paths: what stands for ``{path}``, by our prefix.
    """

    def public_key(key: str) -> str | None:
        module, _, leaf = key.rpartition(".")
        if module in outer:
            return f"{outer[module]}.{leaf}"
        match = LAYER.fullmatch(module)
        if match is None or match["layer"] not in layers:
            return None
        path = (paths or {}).get(match["path"], "")
        stage = stages[int(match["stage"]) - 1]
        inside = block.format(path=path, stage=stage, block=match["block"])
        return f"{inside}.{layers[match['layer']]}.{leaf}"

    return public_key

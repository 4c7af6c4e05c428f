"""Video checkpoints of other code bases: recognized, read and written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError
from ...zoo.base import VideoModel
from ...zoo.build import default_classes, has_frozen_tower
from ...zoo.images.networks import timm_module
from ...zoo.images.state_dicts import check_numbers, count, told
from ...zoo.names import ALIASES, CLASSES, ZOO, check_option, find_entry, parse_plan
from . import LAYOUTS
from .public_file import Candidate, PublicFile
from .scheme import OTHER_FAMILY, Scheme, known_options, option_defaults


def all_schemes() -> list[Scheme]:
    """The tables of all code bases, in the order `recognize` tries them."""
    files = (import_module(f".{file}", __package__) for file in LAYOUTS.values())
    return [scheme for file in files for scheme in file.SCHEMES]


TWINS = {
    "sts-slowonly-r50": "slowonly-r50",
    "sts-ir-csn-50": "ir-csn-50",
    "x3d-xs": "x3d-s",
    "x3d-m": "x3d-s",
    "sts-x3d-s": "x3d-s",
}
"""Networks with the same keys and shapes: the weights of one fit the other."""

DIFFERENCES = {
    ("slowfast", "sts-slowfast"): "its lateral connections have no norms",
    ("sts-slowfast", "slowfast"): "its lateral connections have norms",
    ("r2plus1d", "sts-r2plus1d"): "its shortcuts are factored and its stem is 83 wide",
    ("sts-r2plus1d", "r2plus1d"): "its shortcuts are whole and its stem is 45 wide",
}
"""Why a file of the second family cannot become a model of the first."""

FIRST_KERNELS = (
    *("trunk.conv1.weight", "slow.conv1.weight", "stem.conv_s.weight", "stem.0.weight"),
    *("conv1a.conv.weight", "trunk.patch_embed.proj.weight", "side.stem.weight"),
    "tower.vit.patch_embed.proj.weight",
)
"""Our keys of the kernels that read the pixels."""

COUNTER = "num_batches_tracked"  # of norms; many public files lack it


@dataclass(frozen=True)
class Found:
    """A recognized state dict: its layout, and the zoo model that it can become.

    Attributes:
        layout: one of `LAYOUTS`.
        target: the zoo name it most likely is.
        num_classes: size of its head; 400 where it has none.
        options: for `create_model`, what layout and shapes imply beyond the entry's defaults.
        refusal: why it cannot become a zoo model although it is understood; empty where it can.
        notes: what its keys do not tell, one sentence each.
        clip: frames and size, where parameters have values for each of them.
        tower: width and number of blocks of the model's frozen tower where it is not in the file.
    """

    layout: str
    target: str
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    notes: tuple[str, ...] = ()
    clip: dict[str, Any] = field(default_factory=dict)
    tower: tuple[int, int] | None = None


@dataclass(frozen=True)
class Imported:
    """The tensors that `read_layout` read, and those it did not.

    Attributes:
        loaded: our keys that were filled.
        leftovers: public keys that are known to have no place in our models.
        missing: our keys that the file lacks, or has in another shape: the head's, and with
            ``allow_partial`` all others.
        unexpected: public keys nothing is known of, or of another shape (``allow_partial``).
        notes: what was read under another name, is left out or new, one sentence each.
    """

    loaded: tuple[str, ...]
    leftovers: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    notes: tuple[str, ...] = ()


def recognize(state: Mapping[str, Tensor], layout: str | None = None) -> Found | None:
    """Recognize a public state dict by its keys and shapes.

    Args:
        state: without a wrapper's prefix (``module.``, ``model.``), but with mmaction2's
            ``backbone.``.
        layout: looked at alone; needed where keys cannot tell. R(2+1)D with mid-planes per
            convolution is VMZ's by default, all else of that form torchvision's; mmaction2's names
            are mmaction2's by default, not the STS repository's.

    Returns:
        None for a state dict of no video layout, or not of ``layout``.
    """
    for scheme in all_schemes():
        if layout not in (None, scheme.layout):
            continue
        file = PublicFile(scheme, with_plain_head(scheme, state), asked=layout is not None)
        candidate = scheme.recognize(file)
        if candidate is not None:
            return _found(file, candidate)
    return None


def with_plain_head(scheme: Scheme, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict whose classifier, if it is in a ``Sequential``, has its plain name."""
    inside = _layers_of_head(scheme, state)
    head = str(scheme.public_key("head.weight")).removesuffix(".weight")
    linear = [name for name in inside if name.endswith(".weight") and state[name].dim() >= 2]
    if f"{head}.weight" in state or len(linear) != 1:
        return state
    module = linear[0].removesuffix(".weight")
    if any(not name.startswith(f"{module}.") for name in inside):
        return state
    return {
        f"{head}{key.removeprefix(module)}" if key in inside else key: value
        for key, value in state.items()
    }


def _layers_of_head(scheme: Scheme, state: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors of numbered layers in the place of one linear layer: ``fc.1.weight``."""
    head = scheme.public_key("head.weight")
    if head is None:
        return []
    layer = re.compile(re.escape(head.removesuffix(".weight")) + r"\.\d+\.\w+")
    return [name for name in state if layer.fullmatch(name)]


def _found(file: PublicFile, candidate: Candidate) -> Found:
    """The candidate with the options that head, norms and first kernel imply."""
    layout, target, head = file.scheme.layout, candidate.target, file.get("head.weight")
    if not _exists(target):
        classes = CLASSES if head is None else int(head.shape[0])
        refusal = candidate.refusal or f"the zoo has no {target}"
        return Found(layout, target, classes, {}, refusal, candidate.notes)
    classes = default_classes(find_entry(target)) if head is None else int(head.shape[0])
    defaults, options = option_defaults(target), dict(candidate.options)
    if file.scheme.eps is not None and "bn_eps" in defaults:
        options["bn_eps"] = file.scheme.eps
    options = {k: v for k, v in options.items() if k not in defaults or defaults[k] != v}
    kernels = (value for key in FIRST_KERNELS if (value := file.get(key)) is not None)
    first = next(kernels, None)  # none where the tower that has them is elsewhere
    if first is not None and first.shape[1] != 3:
        options["in_channels"] = int(first.shape[1])
    return Found(
        layout,
        target,
        classes,
        options,
        candidate.refusal,
        candidate.notes,
        candidate.clip,
        candidate.tower,
    )


def _exists(target: str) -> bool:
    """True for a name of the zoo, or of a plan on a network of timm's."""
    plan = parse_plan(target)
    return target in ZOO or (plan is not None and bool(timm_module().is_model(plan[1])))


def fits(found: Found, target: str) -> str:
    """Why a file cannot become ``target``; empty where it can.

    STS models and their plain twins fit one another's files where their keys are the same, and so
    do TimeSformers: whether their shapes are the same is seen when the file is read.

    Raises:
        UsageError: for an unknown target.
    """
    target = ALIASES.get(target, target)
    entry = find_entry(target)
    if found.refusal:
        return found.refusal
    source = found.target
    other = find_entry(source)
    same = entry == other or entry.plan == "timesformer" == other.plan
    if has_frozen_tower(entry):  # by its short name or by timm's
        same = (entry.plan, entry.backbone) == (other.plan, other.backbone)
    if same or TWINS.get(source, source) == TWINS.get(target, target):
        if target == "sts-x3d-s" != source and not found.options.get("norm_shortcut"):
            return "its first shortcut has no norm"
        known = known_options(target)
        needed = implied(found, target)
        unknown = [f"{k}={v!r}" for k, v in needed.items() if k not in known]
        return f"it needs {', '.join(unknown)}, which {target} does not know" if unknown else ""
    difference = DIFFERENCES.get((_family(target), _family(source)))
    return difference or f"it is {source}, a network with other layers"


def implied(found: Found, target: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of `create_model` under which ``target`` takes the file.

    The norm in the first shortcut of X3D is an option of the plain networks, and always there in
    the STS one.

    Args:
        found: the file.
        target: zoo name.
        given: options that overrule; of ``network`` one by one.
    """
    given = dict(given or {})
    options = {**found.options, **given}
    if "network" in found.options:
        options["network"] = {**found.options["network"], **given.get("network", {})}
    if target == "sts-x3d-s":
        options.pop("norm_shortcut", None)
    elif found.target == "sts-x3d-s":
        options["norm_shortcut"] = True
    return options


def _family(name: str) -> str:
    """``sts-slowfast-r50-8x8`` to ``sts-slowfast``."""
    families = {family for pair in DIFFERENCES for family in pair}
    return next((f for f in families if name.startswith(f"{f}-")), "")


def read_layout(
    model: VideoModel, state: Mapping[str, Tensor], found: Found, *, allow_partial: bool = False
) -> Imported:
    """Load a public state dict into a model, every tensor of both accounted for.

    The pixel statistics of the model become those of the code base, since its weights want them,
    and its clips those that the file has parameters for.

    Args:
        model: built for ``found``: its number of classes, its options.
        state: the public state dict.
        found: what `recognize` returned for it.
        allow_partial: load what fits, and list the rest. A file without its head is whole: that
            stays as it is in the model, and so does a frozen tower that files do without.

    Raises:
        UsageError: naming the first tensor that is missing, unexpected or of another shape, or has
            values that no network can use.
    """
    model.spec = replace(model.spec, **found.clip)
    scheme, public_state = _reader(model, state, found.layout), state
    state = with_plain_head(scheme, state)
    ours = model.state_dict()
    loaded: dict[str, Tensor] = {}
    missing: list[str] = []
    used: set[str] = set()
    wrong: list[str] = []
    for key, tensor in ours.items():
        if key in scheme.absent:
            loaded[key] = scheme.absent_value(tensor)
            continue
        public = str(scheme.public_key(key))
        value = state.get(public)
        if value is None:
            if not (key.endswith(COUNTER) or (found.tower and scheme.is_apart(key))):
                missing.append(key)
            continue
        shape = _public_shape(scheme, model, key)
        if value.shape != shape:
            wrong.append(f"{public} is {tuple(value.shape)}, {model.name} needs {shape}")
            missing.append(key)
            continue
        used.add(public)
        loaded[key] = scheme.inward(key, value.reshape(tensor.shape))
    check_numbers(
        {key: state[key] for key in used},
        {str(scheme.public_key(key)): ours[key] for key in loaded if key not in scheme.absent},
        f"the {scheme.layout} file",
    )
    rest = [key for key in state if key not in used]
    ends = _layers_of_head(scheme, state)
    leftovers = [key for key in rest if scheme.is_leftover(key) or key in ends]
    unexpected = [key for key in rest if key not in leftovers]
    head = [key for key in missing if key.startswith("head.")]
    lacks_head = not any(key.startswith("head.") for key in loaded)
    if not allow_partial:
        others = [key for key in missing if not (lacks_head and key in head)]
        _check_whole(scheme, wrong, others, unexpected)
    notes = []
    if state is not public_state:
        notes.append(f"its classifier is {_layers_of_head(scheme, public_state)[0]}")
    if head and lacks_head and model.num_classes:
        what = f"its classifier ({told(ends)}) does not fit" if ends else "it has no classifier"
        notes.append(f"{what}: the head is new, for {model.num_classes} classes")
    if leftovers:
        notes.append(f"left out: {told(leftovers)}")
    blind = [key for key in missing if key.endswith(("running_mean", "running_var"))]
    if blind:
        notes.append(
            f"{count(len(blind))} statistics of norms that the file lacks: they are 0 and 1, and "
            "the model says nothing before it is trained"
        )
    model.load_state_dict(loaded, strict=False)
    _set_pixels(model, scheme)
    return Imported(
        tuple(loaded), tuple(leftovers), tuple(missing), tuple(unexpected), tuple(notes)
    )


def _reader(model: VideoModel, state: Mapping[str, Tensor], layout: str) -> Scheme:
    """The scheme under which most tensors of the model are found, by name and then by shape."""
    schemes = [s for s in all_schemes() if s.layout == layout and s.names_all(model)]
    if not schemes:
        raise UsageError(f"the layout {layout} has no names for {model.name}")
    ours = model.state_dict()

    def hits(scheme: Scheme) -> tuple[int, int]:
        there = [key for key in ours if scheme.public_key(key) in state]
        shapes = (
            _public_shape(scheme, model, key) == state[str(scheme.public_key(key))].shape
            for key in there
        )
        return len(there), sum(shapes)

    return max(schemes, key=hits)


def _public_shape(scheme: Scheme, model: VideoModel, key: str) -> tuple[int, ...]:
    module = model.get_submodule(key.rpartition(".")[0])
    shape = getattr(module, key.rpartition(".")[2]).shape
    return scheme.public_shape(key, module, shape)


def _check_whole(
    scheme: Scheme, wrong: list[str], missing: list[str], unexpected: list[str]
) -> None:
    problem = ""
    if wrong:
        problem = wrong[0]
    elif missing:
        problem = f"{count(len(missing))} missing, {scheme.public_key(missing[0])} first"
    elif unexpected:
        problem = f"{count(len(unexpected))} unexpected, {unexpected[0]} first"
    if problem:
        raise UsageError(
            f"the {scheme.layout} file does not fit: {problem}",
            "take what fits with --allow-partial, or give a file of this very network",
        )


def _set_pixels(model: VideoModel, scheme: Scheme) -> None:
    pixels = scheme.pixels.for_channels(model.in_channels)
    model.spec = replace(model.spec, mean=pixels.mean, std=pixels.std)


def write_layout(model: VideoModel, layout: str, *, of_detector: bool = False) -> dict[str, Tensor]:
    """The model's weights as a state dict of a public code base: its keys, shapes and columns.

    Args:
        model: with all its tensors.
        layout: one of `LAYOUTS`.
        of_detector: the model is a detector's trunk: its classifier is left out, and its last stage
            may be dilated.

    Raises:
        UsageError: for an unknown layout, or one whose code base cannot hold this model; it names
            those that can.
    """
    check_option("layout", layout, LAYOUTS)
    if "output_stride" in model.options and not of_detector:
        raise UsageError(
            f"the layout {layout} cannot hold this {model.name}: its last stage is dilated "
            "(output_stride=16), and no classifier's is there",
            "export the detector that it is the trunk of",
        )
    scheme = _writer(model, layout)
    state = model.state_dict()
    if of_detector:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    keys = sorted(state, key=lambda key: key.startswith("head.") != scheme.head_first)
    written: dict[str, Tensor] = {}
    for key in keys:
        if key in scheme.absent or scheme.is_apart(key):
            continue
        value = scheme.outward(key, state[key]).reshape(_public_shape(scheme, model, key))
        written[str(scheme.public_key(key))] = value.contiguous(
            memory_format=torch.contiguous_format
        )
    return written | scheme.added(model)


def said_of_reading(model: VideoModel, layout: str, given: Collection[str] = ()) -> list[str]:
    """Sentences for people on all that a file of a layout did not tell of a model.

    Args:
        model: read from the file.
        layout: the file's.
        given: options that were given, of which nothing is said.
    """
    untold = next(s for s in all_schemes() if s.layout == layout and s.names_all(model)).untold(
        model
    )
    return [
        f"the file does not tell {option}: it is {value}, as in the published Kinetics-400 "
        f"configuration; --option {option}=... gives another"
        for option, value in untold.items()
        if option not in given
    ]


def said_of_writing(model: VideoModel, layout: str) -> list[str]:
    """Sentences for people on all of a model that a file of a layout does not hold."""
    scheme = _writer(model, layout)
    notes = []
    if scheme.apart:
        notes.append(f"files of the layout {layout} do without the frozen tower, and so does this")
    if added := scheme.added(model):
        notes.append(f"{told(added)} of no effect, which the files have, were added as zeros")
    for option, value in scheme.untold(model).items():
        notes.append(f"the layout {layout} has no place for {option}, which is {value} here")
    return notes


def _writer(model: VideoModel, layout: str) -> Scheme:
    """The first scheme of a layout that can hold the model."""
    refusals = [(scheme, scheme.refusal(model)) for scheme in all_schemes()]
    able = [scheme for scheme, reason in refusals if not reason]
    for scheme in able:
        if scheme.layout == layout:
            return scheme
    own = [reason for scheme, reason in refusals if scheme.layout == layout]
    reason = next((reason for reason in own if reason != OTHER_FAMILY), OTHER_FAMILY)
    known = dict.fromkeys(scheme.layout for scheme in able)
    raise UsageError(
        f"the layout {layout} cannot hold this {model.name}: {reason}",
        f"use {' or '.join(known)}" if known else "no public layout can",
    )

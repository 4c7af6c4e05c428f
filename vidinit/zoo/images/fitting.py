"""A file's tensors in an image network: found, renamed where need be, every one accounted for.

Nothing here is loaded. `fit_image` compares a file with the names and shapes that timm's network
has, and says with which arguments the network is to be built so that the file fits: its classes,
its input channels, its size, the norm in front of its classifier.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError
from . import openclip_names, transformers_names
from .heads import channels_of
from .state_dicts import COUNTER, EXTRAS, Part, WeightsFile, begins, check_numbers, count, told

Build = Callable[..., nn.Module]
"""Makes timm's network, with random weights, from arguments of its function."""

KEPT = ("global_pool", "act_layer", "img_size")
"""Arguments that say what a network computes, whatever its classes and channels."""

OWN_NAMES = ("timm", "torchvision")
"""Layouts whose names are timm's."""
TIMM_FILTER = "timm's filter"
_LINEARS = (
    *("fc", "head", "head.fc", "classifier", "linear", "last_linear", "output", "head.proj"),
    *("cls_head.fc", "heads.head", "visual.head.proj", "head.head", "classification_head"),
)
"""Names of classifiers where they are others than timm's."""
_ENDS = ("fc", "head", "heads", "classifier", "linear", "last_linear", "cls_head", "mlp_head")


@dataclass
class Fitted:
    """A file that fits a network.

    Attributes:
        arguments: of timm's network, beyond its name: ``num_classes``, ``in_chans``, ``img_size``,
            ``global_pool``, ``act_layer``.
        state: the network's tensors.
        notes: what was taken, left out and is new, one sentence each, for people.
        read: the same for scripts: ``key``, ``prefix``, ``kind``, ``layout``, ``left_out``,
            ``new``.
    """

    arguments: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)
    notes: list[str]
    read: dict[str, Any]


@dataclass
class _Attempt:
    """A part of a file held against a network."""

    part: Part
    blank: nn.Module
    arguments: dict[str, Any]
    state: dict[str, Tensor]
    notes: list[str]
    left_out: list[str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    fits: int = 0

    @property
    def whole(self) -> bool:
        return not (self.missing or self.unexpected or self.wrong)

    @property
    def problem(self) -> str:
        """The first thing that does not fit; empty where all does."""
        if self.missing and self.fits:
            return f"{count(len(self.missing))} missing, {self.missing[0]} first"
        if self.wrong:
            name, want = self.wrong[0], self.blank.state_dict()[self.wrong[0]]
            return f"{name} is {tuple(self.state[name].shape)}, the model needs {tuple(want.shape)}"
        if self.missing:
            return "none of its tensors fits"
        return f"{count(len(self.unexpected))} unexpected, {self.unexpected[0]} first"


def fit_image(arch: str, build: Build, file: WeightsFile, layout: str | None = None) -> Fitted:
    """The tensors of a file that timm's network ``arch`` is made of.

    A file without a classifier is taken for the network without one; the same goes for a classifier
    of another form, which is left out.

    Args:
        arch: for messages.
        build: makes the network from further arguments.
        file: from `open_weights`.
        layout: ``openclip`` or ``transformers``, of names that could be others'; None to see.

    Raises:
        UsageError: for a file that does not fit, with what its names begin with; NaN, infinite
            values, and tensors that are not floating point where the network's are.
    """
    found = try_image(build, file, layout)
    if not found.whole:
        raise _refusal(arch, file, found)
    check_numbers(found.state, found.blank.state_dict(), file.origin)
    return _fitted(file, found)


def fit_any(
    architectures: Mapping[str, Build],
    file: WeightsFile,
    layout: str | None = None,
    *,
    filtered: bool = True,
) -> tuple[str, Fitted] | None:
    """The first of some architectures that a file fits; None where it fits none.

    ``filtered=False`` leaves timm's own filters out, which is quicker.
    """
    for arch, build in architectures.items():
        found = try_image(build, file, layout, filtered=filtered)
        if found.whole:
            check_numbers(found.state, found.blank.state_dict(), file.origin)
            return arch, _fitted(file, found)
    return None


def try_image(
    build: Build, file: WeightsFile, layout: str | None = None, *, filtered: bool = True
) -> _Attempt:
    """The best that a file can be for a network: as it is, renamed, or by timm's own filter."""
    blank = _blank(build)
    wanted = {name: tensor.shape for name, tensor in blank.state_dict().items()}
    attempts: list[_Attempt] = []
    if layout in (None, *OWN_NAMES):
        attempts.append(_attempt(build, blank, file.best(wanted), file))
    renamed = [part for whole in file.wholes() for part in image_parts(whole, layout)]
    if renamed and not any(a.whole and a.arguments.get("num_classes") != 0 for a in attempts):
        attempts.append(_attempt(build, blank, file.best(wanted, renamed), file))
    numbered = layout in (None, *OWN_NAMES) and not any(attempt.whole for attempt in attempts)
    if numbered and (part := _numbered(blank, file)) is not None:
        attempts.append(_attempt(build, blank, part, file))
    if filtered and not any(attempt.whole for attempt in attempts):
        for part in (*(a.part for a in attempts), *file.wholes(), *renamed):
            if (remade := _filtered(blank, part)) is not None:
                attempts.append(_attempt(build, blank, remade, file))
    if not attempts:
        raise UsageError(f"{file.origin} has no names of {layout}", "leave --layout out")
    return max(attempts, key=lambda attempt: (attempt.whole, attempt.fits))


def image_parts(whole: Part, layout: str | None = None) -> list[Part]:
    """A state dict under timm's names, where it has those of another code base."""
    found = []
    if layout in (None, transformers_names.LAYOUT) and transformers_names.find(whole.state):
        found.append(transformers_names.renamed(whole))
    if layout in (None, openclip_names.LAYOUT) and openclip_names.find(whole.state):
        found.append(openclip_names.renamed(whole))
    return found


def _blank(build: Build, **arguments: Any) -> nn.Module:
    """The network without values: names and shapes cost nothing."""
    with torch.device("meta"):
        return build(**arguments)


# ------------------------------------------------------------------ one part, one network


def _attempt(build: Build, blank: nn.Module, part: Part, file: WeightsFile) -> _Attempt:
    """Hold a part against the network, built so that the part fits as well as it can."""
    state, notes = dict(part.state), list(part.notes)
    outside = set(part.outside)
    whole = {} if part.layout else file.dicts[part.key]
    rest = {name: whole[name] for name in part.outside if name in whole}
    outside -= _name_classifier(build, blank, state, rest, notes)
    left_out = [name for name in part.outside if name in outside]
    arguments = _input_channels(blank, state) | _image_size(blank, state) | _pool(blank, state)
    arguments |= _activation(blank, part, file.config)
    classes = _classes(blank, state)
    own = arguments if classes is None else {**arguments, "num_classes": classes}
    tried = _compare(build, blank, part, state, own, notes, left_out)
    if tried.whole:
        return tried
    # The network without its classifier: what the file has in its place is left out, but for layers
    # that some networks keep under that name, a norm for example.
    bare_arguments = {**arguments, "num_classes": 0}
    bare = _built(build, bare_arguments) or blank
    wanted, starts = bare.state_dict(), tuple(f"{name}." for name in _classifiers(blank))
    ends = [k for k in state if k not in wanted and (k.startswith(starts) or _is_end(k))]
    kept = {k: v for k, v in state.items() if k not in ends}
    found = _compare(build, blank, part, kept, bare_arguments, notes, [*left_out, *ends])
    if found.missing or found.wrong:
        return tried
    if ends:
        found.notes.append(f"its classifier does not fit: {told(ends)}")
    return found


def _compare(
    build: Build,
    blank: nn.Module,
    part: Part,
    state: dict[str, Tensor],
    arguments: dict[str, Any],
    notes: list[str],
    left_out: list[str],
) -> _Attempt:
    made = _built(build, arguments) if arguments else blank
    made = blank if made is None else made
    wanted = made.state_dict()
    state = {
        name: value.reshape(wanted[name].shape)
        if name in wanted and _same_but_ones(value.shape, wanted[name].shape)
        else value
        for name, value in state.items()
    }
    rest = [name for name in state if name not in wanted]
    extras = [name for name in rest if EXTRAS.fullmatch(name)]
    return _Attempt(
        part,
        made,
        arguments,
        {name: value for name, value in state.items() if name in wanted},
        list(notes),
        left_out=[*extras, *left_out],
        missing=[n for n in wanted if n not in state and not n.endswith(COUNTER)],
        unexpected=[name for name in rest if name not in extras],
        wrong=[n for n in wanted if n in state and state[n].shape != wanted[n].shape],
        fits=sum(
            n in state and state[n].shape == t.shape and not n.endswith(COUNTER)
            for n, t in wanted.items()
        ),
    )


def _built(build: Build, arguments: Mapping[str, Any]) -> nn.Module | None:
    """The network with further arguments; None where it does not know one of them."""
    try:
        return _blank(build, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return None


def _same_but_ones(shape: torch.Size, wanted: torch.Size) -> bool:
    """True for a matrix where a 1 x 1 kernel is wanted, and the other way round."""
    return shape != wanted and [n for n in shape if n > 1] == [n for n in wanted if n > 1]


def _config(blank: nn.Module, key: str) -> Any:
    found: Any = getattr(blank, "pretrained_cfg", None) or {}
    return found.get(key)


def _classifiers(blank: nn.Module) -> tuple[str, ...]:
    """Names of the network's classifiers; timm tells them of networks without classes, too."""
    names = _config(blank, "classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _input_channels(blank: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """``in_chans`` where the file's first kernels read another number of channels."""
    names = _config(blank, "first_conv") or ()
    for name in (names,) if isinstance(names, str) else names:
        want, have = blank.state_dict().get(f"{name}.weight"), state.get(f"{name}.weight")
        if want is None or have is None or have.dim() != want.dim() or want.dim() < 2:
            continue
        # Some networks lay neighboring pixels side by side first, each with its channels.
        channels, rest = divmod(have.shape[1] * channels_of(blank), want.shape[1])
        if have.shape[1] != want.shape[1] and have.shape[2:] == want.shape[2:] and not rest:
            return {"in_chans": channels}
    return {}


def _image_size(blank: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """``img_size`` where the file has positions for another number of patches."""
    want, have = blank.state_dict().get("pos_embed"), state.get("pos_embed")
    embed: Any = getattr(blank, "patch_embed", None)
    if want is None or have is None or have.dim() != 3 or want.shape == have.shape:
        return {}
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    if grid is None or patch is None:
        return {}
    side = math.isqrt(max(have.shape[1] - (want.shape[1] - grid[0] * grid[1]), 0))
    prefix = want.shape[1] - grid[0] * grid[1]
    return (
        {"img_size": side * int(patch[0])} if side and side * side + prefix == have.shape[1] else {}
    )


def _pool(blank: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """``global_pool`` where the file's last norm is before, or behind, the pooling of tokens."""
    want = blank.state_dict()
    if "blocks.0.norm1.weight" not in want or not hasattr(blank, "global_pool"):
        return {}
    fc_norm, norm = "fc_norm.weight", "norm.weight"
    if fc_norm in state and norm not in state and norm in want and fc_norm not in want:
        return {"global_pool": "avg"}
    if norm in state and fc_norm not in state and fc_norm in want and norm not in want:
        return {"global_pool": "token"}
    return {}


_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
"""Activations in transformers' words, and timm's."""
_ACTIVATION_CLASSES = {"GELU": "gelu", "QuickGELU": "quick_gelu", "GELUTanh": "gelu_tanh"}


def _activation(blank: nn.Module, part: Part, config: Mapping[str, Any]) -> dict[str, Any]:
    """``act_layer`` where a transformer was trained with another activation than timm's has."""
    blocks: Any = getattr(blank, "blocks", None)
    if not isinstance(blocks, nn.Sequential) or not hasattr(blocks[0], "mlp"):
        return {}
    own = _ACTIVATION_CLASSES.get(type(getattr(blocks[0].mlp, "act", None)).__name__)
    told_of = config.get("vision_config") or config
    wanted = _ACTIVATIONS.get(str(told_of.get("hidden_act")), part.activation)
    return {"act_layer": wanted} if own and wanted and own != wanted else {}


def _classes(blank: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """The number of classes that a file's classifier has; None where it is the network's."""
    own = int(blank.num_classes)  # type: ignore[arg-type]
    starts = tuple(f"{name}." for name in _classifiers(blank))
    for name, tensor in blank.state_dict().items():
        if name.startswith(starts) and tensor.shape[:1] == (own,) and tensor.dim() > 1:
            have = state.get(name)
            if have is not None and have.dim() > 1 and have.shape[0] != own:
                return int(have.shape[0])
            if have is not None:
                return None
    if own == 0:
        for start in starts:
            have = state.get(f"{start}weight")
            if have is not None and have.dim() == 2:
                return int(have.shape[0])
    return None


def _name_classifier(
    build: Build,
    blank: nn.Module,
    state: dict[str, Tensor],
    rest: Mapping[str, Tensor],
    notes: list[str],
) -> set[str]:
    """Give a linear classifier of another name the network's.

    It may be a layer in a ``Sequential`` (``fc.1``), or stand outside the prefix of the rest.

    Args:
        build, blank: the network.
        state: its tensors in the file; changed.
        rest: tensors of the same state dict that stand outside.
        notes: that say so.

    Returns:
        Names in ``rest`` that were taken.
    """
    names = _classifiers(blank)
    own = int(blank.num_classes)  # type: ignore[arg-type]
    full = blank if own else _built(build, {"num_classes": 10})
    if full is None or len(names) != 1 or f"{names[0]}.weight" in state:
        return set()
    name, wanted = names[0], full.state_dict()
    want = wanted.get(f"{name}.weight")
    if want is None:
        return set()
    found = {
        key.removesuffix(".weight"): tensors
        for tensors in (state, rest)
        for key, tensor in tensors.items()
        if key.endswith(".weight")
        and _is_linear(key.removesuffix(".weight"))
        and tensor.dim() == 2
        and key not in wanted
    }
    if len(found) != 1:
        return set()
    module, tensors = next(iter(found.items()))
    weight, bias = tensors[f"{module}.weight"], tensors.get(f"{module}.bias")
    if weight.shape[1:] != want.shape[1:]:
        return set()
    taken = {key for key in (f"{module}.weight", f"{module}.bias") if key in tensors}
    if tensors is state:
        for key in taken:
            del state[key]
    state[f"{name}.weight"] = weight
    if f"{name}.bias" in wanted:
        state[f"{name}.bias"] = weight.new_zeros(len(weight)) if bias is None else bias
    missing = "" if bias is not None else "; it has no bias"
    notes.append(f"its classifier is {module}, which is {name} in timm{missing}")
    return taken if tensors is rest else set()


def _is_linear(module: str) -> bool:
    """True for what classifiers are called, with the number of a layer behind it or not."""
    return module in _LINEARS or re.sub(r"\.\d+$", "", module) in _LINEARS


def _is_end(name: str) -> bool:
    """True for a tensor of what stands in a classifier's place."""
    return name.split(".")[0] in _ENDS


def _numbered(blank: nn.Module, file: WeightsFile) -> Part | None:
    """A part whose outer layers have numbers for names, as in a ``Sequential`` of the network's.

    None where most of it is not there.
    """
    names = {str(i): name for i, (name, _) in enumerate(blank.named_children())}
    numbers = {name: number for number, name in names.items()}
    wanted: dict[str, torch.Size] = {}
    for key, tensor in blank.state_dict().items():
        first, dot, rest = key.partition(".")
        if first in numbers and dot:
            wanted[f"{numbers[first]}.{rest}"] = tensor.shape
    part = file.best(wanted) if wanted else None
    if part is None or sum(key in wanted for key in part.state) < 0.5 * len(wanted):
        return None
    state = {}
    for key, tensor in part.state.items():
        first, dot, rest = key.partition(".")
        state[f"{names[first]}.{rest}" if first in names and dot else key] = tensor
    note = "its layers have numbers for names, in the order of the network's"
    return replace(part, state=state, notes=(*part.notes, note))


def _filtered(blank: nn.Module, part: Part) -> Part | None:
    """A part as the filter that timm has for this network's published files makes it."""
    module = importlib.import_module(type(blank).__module__)
    filter_fn = getattr(module, "checkpoint_filter_fn", None)
    if filter_fn is None:
        return None

    def remade(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        try:
            return dict(filter_fn(dict(state), blank))
        except Exception:  # it is written for some files, and fails on others in all ways
            return None

    made = remade(part.state)
    if made is None or not all(isinstance(value, Tensor) for value in made.values()):
        return None
    here = {value.data_ptr() for value in made.values()}
    unseen = [k for k, v in part.state.items() if v.data_ptr() not in here]
    used = _read_by(remade, part.state, unseen)
    outside = tuple(name for name in unseen if name not in used)
    notes = [f"its names were read by timm's filter for {type(blank).__name__}"]
    position, before = made.get("pos_embed"), part.state.get("pos_embed")
    if position is not None and before is not None and position.shape != before.shape:
        old, new = before.shape[1], position.shape[1]
        notes.append(f"the position embedding was resized from {old} to {new} tokens")
    return replace(
        part,
        state=made,
        outside=(*part.outside, *outside),
        layout=TIMM_FILTER,
        notes=(*part.notes, *notes),
    )


def _read_by(
    remade: Callable[[Mapping[str, Tensor]], dict[str, Tensor] | None],
    state: Mapping[str, Tensor],
    names: list[str],
) -> set[str]:
    """Which tensors a filter reads, of those that it does not hand on as they are.

    Names that differ in numbers alone are treated alike: NaN in one of them shows in the result.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+", "N", name), []).append(name)
    used: set[str] = set()
    for group in alike.values():
        if not state[group[0]].is_floating_point():
            continue
        made = remade({**state, group[0]: torch.full_like(state[group[0]], float("nan"))})
        if made is None or any(bool(torch.isnan(v).any()) for v in made.values()):
            used.update(group)
    return used


# ------------------------------------------------------------------ what is said


def _fitted(file: WeightsFile, found: _Attempt) -> Fitted:
    part, arguments = found.part, found.arguments
    notes = file.said(part)
    if part.layout and part.layout != TIMM_FILTER:
        notes.append(f"its names are those of {part.layout}")
    notes.extend(found.notes)
    if found.left_out:
        notes.append(f"left out: {told(found.left_out)}")
    new: list[str] = []
    if arguments.get("num_classes") == 0:
        new = list(_classifiers(found.blank))
        if not any("classifier" in note for note in found.notes):
            notes.append("the file has no classifier")
    if "in_chans" in arguments:
        channels = arguments["in_chans"]
        notes.append(f"its images have {channels} channel{'s' if channels > 1 else ''}")
    if "img_size" in arguments:
        notes.append(f"its images have {arguments['img_size']} pixels a side")
    if "act_layer" in arguments:
        notes.append(f"its activation is {arguments['act_layer']}, not that of timm's network")
    if arguments.get("global_pool") == "avg":
        notes.append("it averages its tokens, and norms them then (fc_norm)")
    if arguments.get("global_pool") == "token":
        notes.append("it reads its class token, behind a norm of all tokens")
    read = {
        "key": part.key or None,
        "prefix": part.prefix or None,
        "kind": part.kind,
        "layout": part.layout or None,
        "left_out": found.left_out,
        "new": new,
    }
    return Fitted(arguments, found.state, notes, read)


def _refusal(arch: str, file: WeightsFile, found: _Attempt) -> UsageError:
    """A message on tensors that do not fit, both sides' first names, and a way out."""
    wanted = [name for name in found.blank.state_dict() if not name.endswith(COUNTER)]
    text = (
        f"the weights of {file.origin} do not fit the model: {found.problem}; "
        f"{found.fits} of {arch}'s {len(wanted)} tensors are there, by name and "
        "shape"
    )
    here = begins(found.part.state)
    if found.fits < 0.5 * len(wanted):
        text += f". Its names begin with {here}, {arch}'s with {begins(wanted)}"
    others = [key for key in file.dicts if key not in ("", found.part.key)]
    if others:
        hint = f"it holds {', '.join(others[:4])}, too: --weights-key says which is meant"
    elif found.fits < 0.1 * len(wanted):
        hint = "`vidinit list layouts` has the code bases that are understood"
    elif found.unexpected and not found.missing:
        hint = f"the network it is from has more layers than {arch}: give that as SOURCE"
    else:
        hint = f"the network it is from has other layers than {arch}: give that as SOURCE"
    return UsageError(text, hint)

"""State dicts in the files that trainers write: which one is meant, and behind which prefix.

A file may hold several (plain weights and their moving averages, teacher and student) under keys
of its own, and the names in one may stand behind the prefixes of wrappers (``module.``,
``_orig_mod.``, ``backbone.``). Where the network that is wanted is known, its own names and shapes
tell where it begins; a list of usual words only says what a place is called.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import re
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError, suggest

COUNTER = "num_batches_tracked"  # of norms; many files lack it, and none is worse for it

_PLAIN, _AVERAGED, _LEARNING, _MOMENTUM = "plain", "averaged", "student", "momentum"
_ORDERS = {
    None: (_AVERAGED, _PLAIN, _LEARNING, _MOMENTUM),
    True: (_AVERAGED, _MOMENTUM),
    False: (_PLAIN, _LEARNING),
}
"""Kinds of weights in the order they are preferred, by ``--ema``; others are refused."""
_KINDS = {
    # A teacher of self-distillation is the average of its student, and the one that is evaluated.
    **dict.fromkeys(
        (
            *("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "net_ema"),
            *("ema_weights", "ema_params", "model_ema_state_dict", "ema_model_state_dict"),
            *("averaged_model", "swa_model", "ema_network", "network_ema", "ema_net"),
            *("teacher", "teacher_model", "teacher_backbone", "target_encoder"),
        ),
        _AVERAGED,
    ),
    **dict.fromkeys(("student", "student_model", "student_backbone"), _LEARNING),
    # The slow encoders of contrastive learning; the other one is what their authors publish.
    **dict.fromkeys(
        (
            *("momentum_encoder", "encoder_k", "encoder_momentum", "momentum_backbone"),
            *("target_network", "backbone_momentum", "encoder_m", "momentum_network"),
        ),
        _MOMENTUM,
    ),
}
_WRAPPERS = {
    *("module", "_orig_mod", "_forward_module", "model", "net", "network", "backbone", "encoder"),
    *("encoder_q", "base_encoder", "online_network", "online_encoder", "trunk", "visual"),
    *("student", "teacher", "base_model", "feature_extractor", "body", "ema", "model_ema", "0"),
    *("ema_model", "target_encoder", "image_encoder", "vision_encoder", "base", "core", "video"),
    *("vision_model", "student_model", "teacher_model", "video_model", "inner", "wrapped", "cnn"),
}
"""Words that stand before a network's own names."""
_NOT_WEIGHTS = re.compile(
    r"(.*_)?(optim|optimi[sz]ers?|schedulers?|scaler|amp|loss|losses|criterion|callbacks?|loops?|rng"
    r"|args?|config|cfg|hparams|hyper|param_groups|history|metrics?|meta|message|epochs?|iters?"
    r"|steps?|labels?|classes)(_.*)?",
    re.IGNORECASE,
)
"""Containers beside the weights."""
_LISTS = {"classifiers"}
"""Containers that are lists of state dicts."""
_DEEP = 5  # containers in containers
_CLOSE = 0.98  # parts that fit this well, compared with the best, are the same network's
_SHARE = 0.2  # of a state dict's tensors, from which on a prefix is looked at

EXTRAS = re.compile(
    r"(.*\.)?(num_batches_tracked|relative_position_index|relative_coords_table|attn_mask"
    r"|rel_pos_index|position_ids|attention_bias_idxs|mask_tokens?|total_ops|total_params"
    r"|n_averaged|queue|queue_ptr|queue_label)"
    r"|(.*\.)?(decoder|decoder_\w+|projector|projection_head|proj_head|predictor|prediction_head"
    r"|criterion|losses|loss|loss_fn|\w+_loss|arcface|margin|encoder_k|momentum_encoder"
    r"|lm_head|dino_head|ibot_head|rpn|rpn_head|roi_heads?|fpn|neck|bbox_head|mask_head"
    r"|detection_head|decode_head|auxiliary_head|aux_head|aux\d?|AuxLogits|linear_classifier"
    r"|contrastive_head|target_network|optimizer|metrics?|train_acc\w*|val_acc\w*|test_acc\w*"
    r"|accuracy)(\..+)?"
    r"|(text|text_model|text_encoder|transformer|token_embedding|ln_final|pooler|text_decoder"
    r"|visual_projection|text_projection|attnpool|text_branch)\..+"
    r"|(positional_embedding|text_projection|logit_scale|logit_bias|center|pre_logits\..+)"
)
"""Tensors that are no part of an image or video network, where its own names do not want them."""


@dataclass(frozen=True)
class Part:
    """One state dict of a file behind one prefix.

    Attributes:
        key: containers that lead to it, joined by dots; empty where the file is the state dict.
        prefix: what its names stood behind.
        state: its tensors, without the prefix.
        outside: names, as the file has them, of the same state dict's tensors that are none of it.
        layout: how its tensors were renamed; empty where they were not.
        notes: what renaming did, one sentence each.
        activation: what its code base has behind linear layers, in timm's word, where that is sure.
    """

    key: str
    prefix: str
    state: dict[str, Tensor] = field(repr=False)
    outside: tuple[str, ...] = ()
    layout: str = ""
    notes: tuple[str, ...] = ()
    activation: str = ""

    @property
    def kind(self) -> str:
        """``plain``, ``averaged``, ``student`` or ``momentum``, by the words that lead to it."""
        words = [*self.key.split("."), *self.prefix.split(".")]
        return next((_KINDS[word] for word in words if word in _KINDS), _PLAIN)

    @property
    def place(self) -> str:
        """The words that lead to it, as ``--weights-key`` takes them."""
        return ".".join(word for word in (self.key, self.prefix.rstrip(".")) if word)


@dataclass(frozen=True)
class WeightsFile:
    """The state dicts of a file, and which of them are wanted.

    Attributes:
        origin: the file, for messages.
        dicts: its state dicts by the containers that lead to each, joined by dots.
        key: ``--weights-key``, of which alone ``dicts`` holds tensors then; empty for none.
        ema: ``--ema`` or ``--no-ema``; None for moving averages where there are any.
        config: the ``config.json`` beside the file, as Hugging Face's transformers write it;
            empty for files of other names than theirs.
        pixels: the ``preprocessor_config.json`` beside it.
    """

    origin: str
    dicts: dict[str, dict[str, Tensor]] = field(repr=False)
    key: str = ""
    ema: bool | None = None
    config: dict[str, Any] = field(default_factory=dict)
    pixels: dict[str, Any] = field(default_factory=dict)

    def wholes(self) -> list[Part]:
        """The state dicts as they are, those that are wanted most first."""
        parts = [Part(key, "", state) for key, state in self.dicts.items()]
        order = _ORDERS[None]
        return sorted(parts, key=lambda part: (order.index(part.kind), -len(part.state)))

    def candidates(self) -> Iterator[Part]:
        """Each state dict, as it is and without the prefixes that wrappers give, wanted ones first.

        For networks that are not known yet: whoever knows names decides which of them is one.
        """
        found = [part for whole in self.wholes() for part in _without_wrappers(whole)]
        order = self._order([part.kind for part in found])
        yield from sorted(
            (part for part in found if part.kind in order), key=lambda part: order.index(part.kind)
        )

    def best(self, wanted: Mapping[str, torch.Size], wholes: Iterable[Part] | None = None) -> Part:
        """The part that holds most of a network's tensors, by name and shape.

        Args:
            wanted: shapes of the network's tensors by name.
            wholes: state dicts to look in, renamed ones for example; default: the file's.

        Raises:
            UsageError: ``--ema`` without moving averages, ``--no-ema`` without plain weights.
        """
        counts = self._counted(wanted, self.wholes() if wholes is None else wholes)
        most = max(counts.values())
        close = [part for part, count in counts.items() if count >= _CLOSE * most]
        order = self._order([part.kind for part in map(_of, close)])
        fitting = [place for place in close if _of(place).kind in order]
        chosen = min(
            fitting,
            key=lambda p: (order.index(_of(p).kind), -counts[p], len(_of(p).place)),
        )
        return _taken(*chosen)

    def _counted(
        self, wanted: Mapping[str, torch.Size], wholes: Iterable[Part]
    ) -> dict[tuple[_Same, str], float]:
        """How much of a network each state dict holds behind each prefix; shapes count half."""
        counts: dict[tuple[_Same, str], float] = {}
        for whole in wholes:
            same = _Same(whole)
            counts[same, ""] = 0.0
            for name, tensor in whole.state.items():
                for start in (0, *(m.end() for m in re.finditer(r"\.", name))):
                    shape = wanted.get(name[start:])
                    if shape is not None and not name.endswith(COUNTER):
                        place = (same, name[:start])
                        value = 1.0 if tensor.shape == shape else 0.5
                        counts[place] = counts.get(place, 0.0) + value
        return counts

    def _order(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """The kinds that may be taken, the preferred one first."""
        order = _ORDERS[None] if self.key else _ORDERS[self.ema]
        there = set(kinds)
        if there & set(order):
            return order
        what, has = ("moving averages", "plain ones") if self.ema else ("plain weights", "averages")
        option = "--ema" if self.ema else "--no-ema"
        places = ", ".join(key for key in self.dicts if key) or "one state dict"
        raise UsageError(
            f"{option}: {self.origin} has no {what}, only {has}",
            f"leave {option} out; it holds {places}",
        )

    def said(self, part: Part) -> list[str]:
        """One sentence about where a part was, for people; none where the file is that alone."""
        others = self._others(part)
        if part.kind == _AVERAGED and "teacher" not in part.place:
            where = next(w for w in (part.key, part.place) if Part(w, "", {}).kind == _AVERAGED)
            text = f"the EMA weights of {where} were taken"
            plain = next((place for place, kind in others if kind != _AVERAGED), None)
            if plain is None:
                return [f"{text}; the file has no plain ones"]
            key = f", or --weights-key {plain}" if plain else ""
            return [f"{text}; the file has plain ones too: --no-ema{key}"]
        where = f"{part.key} of the file" if part.key else "the file"
        text = f"the weights are those of {where}"
        if part.prefix:
            text += (
                f" behind {part.prefix}" if part.outside else f", without the prefix {part.prefix}"
            )
        if others:
            listed = ", ".join(place or "those beside them" for place, _ in others[:4])
            return [f"{text}; it has others too: --weights-key {listed}"]
        return [text] if part.key or part.prefix else []

    def _others(self, part: Part) -> list[tuple[str, str]]:
        """Places of the same network's other weights in the file, with their kinds."""
        if self.key:
            return []
        wanted = {name: tensor.shape for name, tensor in part.state.items()}
        counts = self._counted(wanted, [whole for whole in self.wholes()])
        found = {
            (p.place, p.kind)
            for place, count in counts.items()
            if count >= 0.5 * len(wanted) and (p := _of(place)).place != part.place
        }
        # A renamed part has other names than its state dict: the latter is no other network.
        found = {other for other in found if not part.layout or other[0] != part.key}
        return sorted(found)


class _Same:
    """A state dict as a key of a table: by identity."""

    def __init__(self, whole: Part) -> None:
        self.whole = whole


def _of(place: tuple[_Same, str]) -> Part:
    """The words of a place, without its tensors."""
    whole = place[0].whole
    return Part(whole.key, whole.prefix + place[1], {})


def _taken(same: _Same, prefix: str) -> Part:
    """The tensors behind a prefix."""
    whole = same.whole
    state = {k[len(prefix) :]: v for k, v in whole.state.items() if k.startswith(prefix)}
    outside = tuple(f"{whole.prefix}{k}" for k in whole.state if not k.startswith(prefix))
    return replace(
        whole, prefix=whole.prefix + prefix, state=state, outside=whole.outside + outside
    )


def _without_wrappers(whole: Part) -> Iterator[Part]:
    counts: collections.Counter[str] = collections.Counter()
    for name in whole.state:
        words = name.split(".")[:-1]
        for length, word in enumerate(words, 1):
            if word not in _WRAPPERS and word not in _KINDS:
                break
            counts[".".join(words[:length]) + "."] += 1
    prefixes = [p for p, count in counts.items() if count >= _SHARE * len(whole.state)]
    for prefix in ("", *sorted(prefixes, key=len)):
        yield _taken(_Same(whole), prefix)


# ------------------------------------------------------------------ files


def open_weights(
    path: str | Path, *, key: str | None = None, ema: bool | None = None
) -> WeightsFile:
    """The state dicts of a file, or of a folder as Hugging Face's transformers write them.

    Pickles are read with ``weights_only=True``, so no code in them is run.

    Args:
        path: .safetensors, or .pth, .pt, .bin and other names of pickles; or a folder with
            ``config.json`` beside ``model.safetensors`` or ``pytorch_model.bin``.
        key: containers, joined by dots, that lead to the state dict meant (``model_ema``), and a
            prefix of its names behind them.
        ema: moving averages, or plain weights; None for averages where there are any.

    Raises:
        UsageError: no such file, no state dict in it, or none under ``key``.
    """
    path = Path(path)
    if key is not None and ema is not None:
        option = "--ema" if ema else "--no-ema"
        raise UsageError(f"--weights-key {key} says which weights already", f"leave {option} out")
    loaded, folder = _load_all(path)
    dicts = dict(_state_dicts(loaded))
    if not dicts:
        has = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else ""
        raise UsageError(
            f"{path} holds no state dict" + (f", only {has}" if has else ""),
            "it must map names to tensors",
        )
    if key is not None:
        dicts = _named(dicts, key, path)
    # What lies beside a file of another name may be another network's.
    own = path.is_dir() or path.name in _IN_FOLDERS
    config, pixels = (read_json(folder / name) if own else {} for name in _BESIDE)
    return WeightsFile(str(path), dicts, key or "", ema, config, pixels)


_BESIDE = ("config.json", "preprocessor_config.json")
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")


def is_weights_folder(path: str | Path) -> bool:
    """True for a folder with weights as Hugging Face's transformers write them."""
    folder = Path(path)
    names = [name for file in _IN_FOLDERS for name in (file, f"{file}.index.json")]
    return (folder / _BESIDE[0]).is_file() and any((folder / name).is_file() for name in names)


def _load_all(path: Path) -> tuple[Any, Path]:
    """The content of a file or a folder, and the folder it is in."""
    if not path.is_dir():
        if not path.is_file():
            raise UsageError(f"no such weights file: {path}", "check the path")
        return _load(path), path.parent
    for name in _IN_FOLDERS:
        if (path / name).is_file():
            return _load(path / name), path
        shards = read_json(path / f"{name}.index.json").get("weight_map", {})
        if shards:
            loaded: dict[str, Any] = {}
            for shard in sorted(set(shards.values())):
                if not (path / shard).is_file():
                    raise UsageError(f"{path / shard} is missing", f"{name}.index.json names it")
                loaded.update(_load(path / shard))
            return loaded, path
    raise UsageError(f"{path} holds no weights", f"it needs {' or '.join(_IN_FOLDERS)}")


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of files, which are refused or read
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = _reason(error)
        way = "a state dict saved by torch.save or safetensors is needed"
        if reason == _SCRIPT:
            way = (
                "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), NEW_FILE) makes "
                "a state dict of it"
            )
        raise UsageError(f"cannot read weights from {path}", f"{way} ({reason})") from error


def _harmless() -> list[Any]:
    """Classes that trainers store beside the weights, which only hold values."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    rebuild = np.zeros(1).__reduce__()[0]
    kinds = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    found: list[Any] = [
        *(argparse.Namespace, types.SimpleNamespace, collections.defaultdict, dict, list, set),
        *(pathlib.PosixPath, pathlib.PurePosixPath, np.dtype, np.ndarray),
        *{type(np.dtype(kind)) for kind in kinds},
        *((pathlib.PurePath, f"pathlib.{name}") for name in ("WindowsPath", "PureWindowsPath")),
        *((pathlib.PosixPath, f"pathlib._local.{name}") for name in ("PosixPath",)),
    ]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found += [(scalar, f"{module}.scalar"), (rebuild, f"{module}._reconstruct")]
    return found


_SCRIPT = "it is a TorchScript archive, a program and not a state dict"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _reason(error: Exception) -> str:
    """Why a file cannot be read, from torch's or safetensors' message: no colors, no advice."""
    text = " ".join(_ANSI.sub("", str(error)).split())
    text = text.rpartition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0]
    if needed := re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)", text):
        name = next(filter(None, needed.groups())).rstrip(".")
        return f"it holds objects of {name}, and nothing but tensors and plain values is read"
    if "TorchScript" in text:
        return _SCRIPT
    if isinstance(error, KeyError) or text.startswith("Unsupported operand"):
        return "it is no file that torch.save writes"
    return re.split(r"(?<=[a-z\d)])\.? (?=[A-Z])", text)[0].rstrip(".,:; ") or type(error).__name__


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _state_dicts(loaded: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict]]:
    """All mappings of names to tensors in what a file holds, by the keys that lead to each."""
    if not isinstance(loaded, Mapping) or depth > _DEEP:
        return
    own = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor) and isinstance(k, str)}
    inner = {
        str(k): v
        for k, v in loaded.items()
        if isinstance(v, Mapping) and not _NOT_WEIGHTS.fullmatch(str(k))
    }
    for name in _LISTS & set(loaded):  # probes that were trained side by side
        if isinstance(loaded[name], list):
            inner |= {f"{name}.{i}": one for i, one in enumerate(loaded[name])}
    if own:
        yield key, own
    for name, value in inner.items():
        yield from _state_dicts(value, f"{key}.{name}" if key else name, depth + 1)


def _named(
    dicts: dict[str, dict[str, Tensor]], key: str, path: Path
) -> dict[str, dict[str, Tensor]]:
    """The state dicts that ``--weights-key`` names: containers, or a prefix of names in one."""
    below = {k: v for k, v in dicts.items() if k == key or k.startswith(f"{key}.")}
    if below:
        return below
    prefix = f"{key.rstrip('.')}."
    for container, state in dicts.items():
        start = f"{container}." if container else ""
        if not prefix.startswith(start):
            continue
        inside = prefix.removeprefix(start)
        kept = {k.removeprefix(inside): v for k, v in state.items() if k.startswith(inside)}
        if kept:
            return {key: kept}
    firsts = {k.split(".")[0] for state in dicts.values() for k in state if "." in k}
    known = [k for k in dicts if k]
    hint = f"it has {', '.join(known)}" if known else f"its names begin with {begins(firsts)}"
    raise UsageError(
        f"--weights-key {key}: {path} has no such weights", suggest(key, known) or hint
    )


# ------------------------------------------------------------------ what is told of names


def told(names: Iterable[str], limit: int = 6) -> str:
    """Names of tensors in few words: ``mask_token, encoder_k (161 tensors)``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        words = name.split(".")
        first = (i for i, word in enumerate(words) if word not in _WRAPPERS)
        own = next(first, len(words) - 1)
        groups.setdefault(".".join(words[: own + 1]), []).append(name)
    listed = [
        group[0] if len(group) == 1 else f"{first} ({len(group)} tensors)"
        for first, group in groups.items()
    ]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def begins(names: Iterable[str], limit: int = 4) -> str:
    """Beginnings of names, in few words: ``conv1., layer1.0.``."""
    firsts = dict.fromkeys(re.match(r"[^.]+(\.\d+)?", name)[0] for name in names if name)  # type: ignore[index]
    listed = list(firsts)
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")


def count(number: int, what: str = "tensor") -> str:
    """``1 tensor is``, ``2 tensors are``: the beginning of a sentence about so many."""
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"


def check_numbers(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], origin: str) -> None:
    """Refuse tensors whose values no network could use.

    Args:
        state: tensors to load, by name.
        wanted: the network's tensors by the same names.
        origin: where they are from, for the message.

    Raises:
        UsageError: naming the first tensor that is complex, of whole numbers or quantized where the
            network's are not, and the first with a value that is NaN or infinite.
    """
    for name, tensor in state.items():
        target = wanted.get(name)
        if target is None or not target.is_floating_point():
            continue
        if not tensor.is_floating_point() or tensor.is_quantized:
            raise UsageError(
                f"{name} of {origin} is {str(tensor.dtype).removeprefix('torch.')}, not floating "
                "point",
                "save the weights as the network had them when it was trained",
            )
        values = tensor if tensor.element_size() > 1 else tensor.float()
        # What is finite in double precision may not be in the network's.
        values = values.to(target.dtype) if tensor.dtype == torch.float64 else values
        if not bool(torch.isfinite(values).all()):
            wrong = int((~torch.isfinite(values)).sum())
            kind = "NaN" if bool(torch.isnan(values).any()) else "infinite"
            raise UsageError(
                f"{name} of {origin} has {wrong} of {tensor.numel()} values that are {kind}",
                "the training it is from had diverged: take an earlier checkpoint",
            )

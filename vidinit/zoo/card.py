"""model.yaml: what a model folder says of its model, typed, with every fault by its key.

It is the only way in: a file that was cut off, changed by hand or made to do harm is refused with
the key and what belongs there, and nothing in it is run, fetched or opened while it is read.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ..config.section import Section
from ..errors import UsageError, suggest
from .detect_settings import Detect
from .names import find_entry
from .spec import ClipSpec

FORMAT = 1

_LARGEST = 16 << 20  # bytes; the names of 100,000 classes are 3 MB
_MOST = 2_000_000  # values: what a few aliases of aliases stand for has no bound
_SHOWN = 5  # faults of one message
_ALWAYS = ("frames", "stride", "size", "mean", "std", "interpolation", "crop_pct")
_UNKNOWN = "unknown key "
_FILES = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("scriptable", "exportable", "no_jit"),
)
"""Arguments of ``timm.create_model`` that are none of a network: they read and fetch files."""

Name = Annotated[str, StringConstraints(min_length=1)]
Step = Annotated[dict[str, Any], Field(min_length=1)]


class Merged(Section):
    """The head that a source of a co-training shares with others."""

    head: Name
    """Its name."""
    outputs: list[Annotated[int, Field(ge=0)]]
    """For each class of the source the output of the head."""


class Pooler(Section):
    """The form of a pooler, beside the width of its tokens; see `poolers`."""

    form: Literal["coca", "vjepa2", "readout", "gru", "segments"] = "coca"  # of older folders
    """Which pooler it is."""
    blocks: int | None = Field(None, ge=1)
    """Blocks of attention; a readout has none."""
    heads: int | None = Field(None, ge=1)
    """Heads of the attention, where there is one."""
    time: Literal["none", "sincos", "learned"] | None = None
    """The time code, of forms that have one."""
    frames: int | None = Field(None, ge=1, le=100_000)
    """Frames of a learned time code."""
    readout: int | None = Field(None, ge=1, le=100_000)
    """Width of the descriptor, where it may differ from the tokens'."""
    eps: float | None = Field(None, gt=0, le=1)
    """Of the norms, where it is not that of V-JEPA 2's code."""
    readout_heads: int | None = Field(None, ge=1)
    """Heads of the readout behind a recurrent network."""
    parts: list[Literal["mean", "change", "segments"]] | None = None
    """Parts of a segments pooler, see `poolers.SegmentsPooler`."""
    segments: int | None = Field(None, ge=1, le=100_000)
    """How many of them a clip has."""

    def as_settings(self) -> dict[str, Any]:
        """Keywords of `poolers.make_pooler`."""
        return self.model_dump(exclude_none=True)


_POOLERS: dict[str, tuple[set[str], set[str]]] = {
    "coca": ({"heads", "blocks"}, set()),
    "vjepa2": ({"heads", "blocks"}, {"time", "frames", "eps"}),
    "readout": ({"heads"}, {"readout", "time", "frames"}),
    "gru": ({"heads", "blocks"}, {"readout", "readout_heads"}),
    "segments": ({"parts", "segments"}, set()),
}
"""Keys that a pooler of each form has to give, and keys that it may give."""


class Tower(Section):
    """A frozen tower that the folder does not hold; see `zoo.adapters.reference`."""

    name: Name
    """Its timm name."""
    weights: Name
    """A file, or ``hub``."""
    sha256: Name
    """Digest of its tensors."""


class Converted(Section):
    """A row of the table of a conversion; see `conversion.table.Row`."""

    stage: str
    """Stage of the network."""
    rule: str
    """How its tensors were made."""
    kind: str
    """The same in a word: copied, inflated or initialized."""
    tensors: int = Field(ge=0)
    """Number of tensors."""
    note: str = ""
    """Why, where that needs saying."""


class Card(Section):
    """The content of model.yaml."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    """Version of this form."""
    vidinit: str
    """Version of the program that wrote it."""
    name: Name
    """Zoo name, or ``<plan>-<timm name>``."""
    options: dict[str, Any]
    """Arguments of `create_model`."""
    num_classes: int = Field(ge=0)
    """Outputs of the model's own head; 0 for none."""
    clip: ClipSpec
    """How clips are cut and normalized."""
    classes: list[str] | None
    """Class names in the order of the outputs; null for none."""
    kind: Literal["single", "multi", "pair"] = "single"  # older folders have no other
    """Kind of the labels."""
    still: Literal["center", "sum"] = "center"  # nor did they know another
    """How temporal kernels see an image."""
    pooler: Pooler | None = None
    """An attentive pooler in place of the model's own pooling."""
    lineage: list[Step]
    """The steps that made the weights what they are, oldest first."""
    tower: Tower | None = None
    """The frozen tower, where the folder does not hold it."""
    head_classes: dict[str, list[str]] | None = None
    """Class names of each of several heads, or of each source of a co-training."""
    merged: dict[str, Merged] | None = None
    """Sources that share a head."""
    source_clips: dict[str, ClipSpec] | None = None
    """Clips of the sources, where they are not the model's."""
    detect: Detect | None = None
    """Of a detector: what it says of boxes, and how; all else is of its trunk."""
    conversion: list[Converted] | None = None
    """The rules of the conversion, a stage each."""

    @model_validator(mode="after")
    def _fits_together(self) -> Card:
        """Refuse values that contradict one another."""
        found = [f"{key}: {why}" for key, why in self._contradictions()]
        if found:
            raise PydanticCustomError("told", "{why}", {"why": "; ".join(found[:_SHOWN])})
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Keys, and what is wrong with them beside others."""
        try:
            find_entry(self.name)
        except UsageError as error:
            yield "name", f"{error.message} ({error.hint})"
        network = self.options.get("network", {})
        if not isinstance(network, dict):
            yield "options.network", f"should be a map of keys and values, not {_shown(network)}"
        elif wrong := [key for key in network if key in _FILES]:
            yield f"options.network.{wrong[0]}", "would read or fetch files, which no network needs"
        if self.classes is not None and len(self.classes) != self.num_classes:
            count = counted(len(self.classes), "name")
            yield "classes", f"{count} for {counted(self.num_classes, 'output')} (num_classes)"
        for number, step in enumerate(self.lineage):
            if not isinstance(step.get("step"), str):
                yield f"lineage.{number}.step", f"should be text, not {_shown(step.get('step'))}"
            difference = step.get("max_difference")
            if step.get("exact") is not None and not isinstance(difference, (int, float)):
                yield (
                    f"lineage.{number}.max_difference",
                    f"should be a number, not {_shown(difference)}",
                )
        yield from self._wrong_pooler()
        yield from self._wrong_channels()
        yield from self._wrong_heads()
        yield from self._wrong_detector()

    def _wrong_detector(self) -> Iterator[tuple[str, str]]:
        detect, stride = self.detect, self.options.get("output_stride")
        if stride not in (None, 16):
            yield "options.output_stride", f"should be 16 or left out, not {_shown(stride)}"
        if detect is None:
            return
        if detect.classes is not None and len(detect.classes) != detect.num_classes:
            count = counted(len(detect.classes), "name")
            yield "detect.classes", f"{count} for {counted(detect.num_classes, 'class')}"
        if detect.stride != stride:
            shown = _shown(stride)
            yield "detect.stride", f"is {_shown(detect.stride)}, options.output_stride {shown}"

    def _wrong_pooler(self) -> Iterator[tuple[str, str]]:
        if self.pooler is None:
            return
        given = set(self.pooler.as_settings()) - {"form"}
        needed, allowed = _POOLERS[self.pooler.form]
        for key in sorted(needed - given):
            yield f"pooler.{key}", f"is not given, which form {self.pooler.form} has"
        for key in sorted(given - needed - allowed):
            yield f"pooler.{key}", f"is nothing that form {self.pooler.form} has"

    def _wrong_channels(self) -> Iterator[tuple[str, str]]:
        channels = self.options.get("in_channels", 3)
        if type(channels) is not int or channels < 1:
            yield "options.in_channels", f"should be a whole number above 0, not {_shown(channels)}"
            return
        clips = {"clip": self.clip}
        clips |= {f"source_clips.{name}": clip for name, clip in (self.source_clips or {}).items()}
        for key, clip in clips.items():
            for part in ("mean", "std"):
                if (count := len(getattr(clip, part))) != channels:
                    yield f"{key}.{part}", f"{counted(count, 'value')} for {channels} channels"
            if clip.flow is not None and channels != 2:
                yield f"{key}.flow", f"flow has 2 channels, the model {channels}"
            if clip.flow is not None and not 0 < clip.flow.bound < float("inf"):
                yield f"{key}.flow.bound", f"should be above 0, not {clip.flow.bound}"

    def _wrong_heads(self) -> Iterator[tuple[str, str]]:
        heads = self.head_classes or {}
        for name in ("verb", "noun") if self.kind == "pair" else ():
            if name not in heads:
                yield "head_classes", f"no '{name}' is given, which labels of kind pair have"
        for key, names in (("merged", self.merged), ("source_clips", self.source_clips)):
            for name in names or {}:
                if name not in heads:
                    yield f"{key}.{name}", "head_classes has no such source"
        for source, merged in (self.merged or {}).items():
            wanted = len(heads.get(source, merged.outputs))
            if len(merged.outputs) != wanted:
                count = counted(len(merged.outputs), "output")
                yield f"merged.{source}.outputs", f"{count} for {counted(wanted, 'class')}"

    def as_dict(self) -> dict[str, Any]:
        """The values as YAML has them, without what the file left out."""
        values = self.model_dump(exclude_unset=True)
        values["clip"] = self.clip.as_dict()
        if self.detect is not None:
            values["detect"] = self.detect.as_dict()
        if self.source_clips is not None:
            values["source_clips"] = {k: v.as_dict() for k, v in self.source_clips.items()}
        return values


def read(file: Path) -> Card:
    """The content of a model.yaml.

    Raises:
        UsageError: naming the file, every wrong key, and what belongs there.
    """
    return checked(_plain(file), str(file))


def checked(values: Mapping[str, Any], where: str) -> Card:
    """The card of values as YAML has them.

    Args:
        values: numbers, text, lists and maps.
        where: the file, for messages.

    Raises:
        UsageError: naming every wrong key, and what belongs there.
    """
    version = values.get("format")
    if type(version) is int and version != FORMAT:
        raise UsageError(f"cannot read {where}", f"it is damaged or newer (format {version})")
    faults = [f"no {key} is given" for key in _left_out(values)]
    card: Card | None = None
    # JSON has lists where Python has tuples, and its true is no 1: strict rules that suit YAML.
    try:
        text = json.dumps(_translated(values, _HIDDEN))
        card = _translated(Card.model_validate_json(text, strict=True), _SHOWN_AGAIN)
    except ValidationError as error:
        faults += dict.fromkeys(_fault(item) for item in error.errors())
        faults.sort(key=lambda fault: not fault.startswith(_UNKNOWN))  # why others are missing
    if card is None or faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UsageError(
            f"{where}: {'; '.join(faults[:_SHOWN])}{more}",
            "it was changed or damaged: take a whole copy, or convert or train it again",
        )
    return card


_HIDDEN = {0xDC00 + byte: 0x10DC00 + byte for byte in range(0x80, 0x100)}
"""Bytes of names that are not UTF-8, as Python has them: Pydantic's text cannot have these, so that
it sees characters of the last private plane in their place."""
_SHOWN_AGAIN = {private: byte for byte, private in _HIDDEN.items()}


def _translated(value: Any, table: Mapping[int, int]) -> Any:
    """The same with other characters in all text."""
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, dict):
        return {_translated(k, table): _translated(v, table) for k, v in value.items()}
    if isinstance(value, list):
        return [_translated(item, table) for item in value]
    if isinstance(value, Section):
        given = {name: getattr(value, name) for name in value.model_fields_set}
        return value.model_copy(update={k: _translated(v, table) for k, v in given.items()})
    return value


def _left_out(values: Mapping[str, Any]) -> Iterator[str]:
    """Keys of clips that every version has written: another value in their place is a guess."""
    clips, sources = {"clip": values.get("clip")}, values.get("source_clips")
    if isinstance(sources, dict):
        clips |= {f"source_clips.{source}": clip for source, clip in sources.items()}
    for key, clip in clips.items():
        if isinstance(clip, dict):
            yield from (f"{key}.{name}" for name in _ALWAYS if name not in clip)


def _fault(item: Mapping[str, Any]) -> str:
    """One of Pydantic's errors, in words."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "told":  # words of our own, with their key
        return str(item["msg"])
    if item["type"] == "missing":
        return f"no {key} is given"
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known(item["loc"][:-1])
        hint = suggest(str(item["loc"][-1]), known)
        return f"{_UNKNOWN}{key}" + (f" ({hint})" if hint else "")
    text = _WORDS.get(item["type"]) or str(item["msg"]).removeprefix("Input ")
    text = text[0].lower() + text[1:]
    return f"{key}: {text}, not {_shown(item['input'])}"


_WORDS = {
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    **dict.fromkeys(("list_type", "tuple_type"), "should be a list"),
    **dict.fromkeys(("dict_type", "model_type", "dataclass_type"), "should be keys and values"),
    "too_short": "should not be empty",
    "string_too_short": "should not be empty",
}
"""Our words for those of Pydantic, which speaks of JSON and Python."""


def _known(loc: tuple[str | int, ...]) -> list[str]:
    """Keys of the map at a place of the card."""
    parts: dict[str, type[Section]] = {
        "pooler": Pooler,
        "tower": Tower,
        "conversion": Converted,
        "merged": Merged,
    }
    if not loc:
        return list(Card.model_fields)
    if loc[0] in parts:
        return list(parts[str(loc[0])].model_fields)
    if loc[0] == "detect":
        return list(Detect.__dataclass_fields__)
    return list(ClipSpec.__dataclass_fields__) if "clip" in str(loc[0]) else []


def _shown(value: Any) -> str:
    """A wrong value in a message, cut short."""
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if len(value) > 4 else _short(list(value))
    return f"a map of {len(value)}" if isinstance(value, dict) else _short(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def counted(count: int, noun: str) -> str:
    """``1 class``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


# --------------------------------------------------------------------------------------- YAML


def _plain(file: Path) -> dict[str, Any]:
    """The map in a YAML file, of numbers, text, lists and maps alone.

    Raises:
        UsageError: it cannot be read, is no YAML, no map, or holds more than that.
    """
    try:
        size = file.stat().st_size
        if size > _LARGEST:
            raise ValueError(f"{size / 1e6:.0f} MB are no description of a model")
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it should hold keys and values, not {_shown(values)}")
        _check_plain(values)
    except RecursionError as error:
        raise _unreadable(file, "values are nested too deep") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise _unreadable(file, reason) from error
    return values


def _unreadable(file: Path, reason: str) -> UsageError:
    return UsageError(f"cannot read {file} ({reason})", "take a whole copy of the model folder")


def _check_plain(values: dict[str, Any]) -> None:
    """Raise ValueError for what JSON has not, and for more values than a card could have.

    Aliases make one object stand in many places: a few lines of them stand for any number of
    values, and some for values that hold themselves. Objects are counted once for each place.
    """
    counts: dict[int, int] = {}
    open_ones: set[int] = set()

    def count(value: Any, key: str) -> int:
        if not isinstance(value, (dict, list)):
            _check_scalar(value, key)
            return 1 + len(value) // 100 if isinstance(value, str) else 1
        if id(value) in open_ones:
            raise ValueError(f"{key} holds itself")
        if id(value) not in counts:
            open_ones.add(id(value))
            total = 1
            for name, item in _items(value):
                if not isinstance(name, (str, int)) or isinstance(name, bool):
                    raise ValueError(f"a key in {key or 'it'} should be text, not {_short(name)}")
                total += count(item, f"{key}.{name}" if key else str(name))
                if total > _MOST:
                    raise ValueError(f"{key or 'it'} holds more than {_MOST:,} values")
            open_ones.remove(id(value))
            counts[id(value)] = total
        return counts[id(value)]

    count(values, "")


def _items(value: dict[Any, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    yield from value.items() if isinstance(value, dict) else enumerate(value)


def _check_scalar(value: Any, key: str) -> None:
    if isinstance(value, (datetime.date, datetime.datetime)):
        raise ValueError(f"{key}: should be text, not a date; quote it")
    if value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"{key}: should be text or a number, not {type(value).__name__}")
    if isinstance(value, str) and not _is_text(value):
        raise ValueError(f"{key}: {_short(value)} is no text: half a character is in it")


def _is_text(value: str) -> bool:
    try:
        value.encode(errors="surrogateescape")  # bytes of names that are not UTF-8 are text
    except UnicodeEncodeError:
        return False
    return True

"""From presets, files, overrides and flags to a checked configuration.

A configuration is built from layers: defaults, a preset, a file, ``section.key=value`` overrides,
and command-line flags; a later layer wins. Everything that is wrong with any of them is told at
once, each error with the layer (file and line) that caused it. Where each value came from is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ..errors import UsageError, suggest
from . import DEFAULT, RunConfig
from .layers import CALLER, Layer, file_layer, override_layer
from .presets import find_preset, preset_path

C = TypeVar("C", bound=RunConfig)


def build(
    cls: type[C],
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    flags: Mapping[str, Any] | None = None,
) -> C:
    """A checked configuration: defaults < preset < file < overrides < flags.

    Args:
        cls: the configuration class of a command.
        preset: name below ``presets/``, with or without the command.
        file: YAML in the form of a run's config.yaml.
        overrides: ``section.key=value`` texts, or a dict from dotted keys to values.
        flags: dotted keys to values; None values are left out.

    Returns:
        It, with the place that each value comes from in `RunConfig.origins`.

    Raises:
        UsageError: naming every unknown key and wrong value, and where each stands.
    """
    layers = []
    if preset is not None:
        full = find_preset(preset, cls.command)
        layers.append(file_layer(preset_path(full), f"preset {full}"))
    if file is not None:
        layers.append(file_layer(Path(file)))
    layers.append(override_layer(overrides))
    values = {k: v for k, v in (flags or {}).items() if v is not None}
    layers.append(Layer(values, CALLER.get()))
    return _merged(cls, layers)


def check_file(file: Path, known: Mapping[str, type[RunConfig]], command: str | None = None) -> str:
    """Check a configuration file; it need not name a model.

    Args:
        file: YAML, a preset's copy for instance.
        known: the configuration class of each command.
        command: which command it is for; default: what it says itself, else finetune.

    Returns:
        The command.

    Raises:
        UsageError: naming everything that is wrong with it.
    """
    layer = file_layer(file)
    named = command or layer.command or "finetune"
    if named not in known:
        hint = suggest(named, known) or f"commands are {', '.join(known)}"
        where = CALLER.get() if command else layer.where("command")
        raise UsageError(f"unknown command '{named}' in {where}", hint)
    _merged(known[named], [Layer({"model": ""}, DEFAULT), layer])
    return named


def _merged(cls: type[C], layers: list[Layer]) -> C:
    fields = dict(_fields(cls))
    problems: list[str] = []
    merged: dict[str, Any] = {}
    source: dict[str, Layer] = {}
    for layer in layers:
        problems += layer.problems
        if layer.command is not None and layer.command != cls.command:
            problems.append(
                f"{layer.where('command')} is for `vidinit {layer.command}`, "
                f"not for `vidinit {cls.command}`"
            )
        for key, value in layer.values.items():
            wrong = _misplaced(key, value, layer, fields)
            if wrong:
                problems.append(wrong)
            elif key in fields:
                merged[key], source[key] = value, layer
    try:
        config = cls.model_validate(_nested(merged))
    except ValidationError as error:
        found = _by_key(error, fields)
        problems += _wrong_values(found, source, fields)
        invalid = {key for key in fields if any(_holds(key, w) or _holds(w, key) for w in found)}
        rest = {key: value for key, value in merged.items() if key not in invalid}
        right = cls.model_validate(_nested({"model": "", **rest}))
        raise UsageError(
            "; ".join([*problems, *_contradictions(right, source, invalid)])
        ) from error
    problems += _contradictions(config, source)
    if problems:
        raise UsageError("; ".join(problems))
    config.origins.update({k: source[k].where(k) if k in source else DEFAULT for k in fields})
    return config


def _misplaced(key: str, value: Any, layer: Layer, fields: Mapping[str, FieldInfo]) -> str:
    """An error in a key, or in the kind of its value; empty for none."""
    if key not in fields:
        if any(name.startswith(f"{key}.") for name in fields):
            if value is None or value == {}:  # a section of which all is left out
                return ""
            return f"'{key}' in {layer.where(key)} is a section and takes no value"
        return f"unknown key '{key}' in {layer.where(key)}{_tip(_nearest_key(key, fields))}"
    # Python takes True for 1, so nothing behind this would object.
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, bool) and bool not in _members(fields[key].annotation):
            return f"{key} in {layer.where(key)}: {item} is no value for it{_yaml_tip(item)}"
    return ""


_OTHER_WORDS = {
    "lr": "learning_rate base_lr rate",
    "epochs": "num_epochs max_epochs n_epochs",
    "batch_size": "bs batch batchsize",
    "frames": "num_frames n_frames clip_len num_segments",
    "stride": "frame_interval sampling_rate frame_stride",
    "size": "image_size img_size resolution crop_size input_size",
    "workers": "num_workers",
    "weight_decay": "wd",
    "optimizer": "opt optim",
    "clip_grad": "grad_clip max_grad_norm clip_norm",
    "class_names": "classes",
    "model": "backbone arch",
}
"""Settings by the last part of their key, and what others call them."""


def meant_keys(key: str, fields: Collection[str]) -> list[str]:
    """The settings that a key means which is none: in another section, or in others' words.

    Args:
        key: as it was given, with its section or without.
        fields: the dotted keys that there are.
    """
    section, _, leaf = key.lower().replace("-", "_").rpartition(".")
    leaf = next((one for one, words in _OTHER_WORDS.items() if leaf in words.split()), leaf)
    meant = [field for field in fields if field.rpartition(".")[2] == leaf]
    if section and f"{section}.{leaf}" in meant:
        return [f"{section}.{leaf}"]
    return meant if len(meant) <= 3 else []


def _nearest_key(key: str, fields: Collection[str]) -> str:
    """A "did you mean" hint for a key that is unknown, or the empty string."""
    meant = meant_keys(key, fields)
    if meant:
        return "did you mean " + " or ".join(f"'{one}'" for one in meant) + "?"
    return suggest(key, fields)


def _contradictions(
    config: RunConfig, source: Mapping[str, Layer], invalid: Collection[str] = ()
) -> list[str]:
    """One sentence for each contradiction, but for those that rest on a invalid value."""
    problems = []
    for keys, text in config.contradictions():
        if not any(key in invalid for key in keys):
            places = dict.fromkeys(source[key].where(key) for key in keys if key in source)
            problems.append(f"{text} (in {' and '.join(places)})")
    return problems


def _holds(section: str, key: str) -> bool:
    return section in ("", key) or key.startswith(f"{section}.")


def _by_key(error: ValidationError, fields: Mapping[str, FieldInfo]) -> dict[str, list[Any]]:
    """Pydantic's errors by the dotted key of the value."""
    by_key: dict[str, list[Any]] = {}
    for item in error.errors():
        by_key.setdefault(_key_of(item["loc"], fields, item["type"]), []).append(item)
    return by_key


def _wrong_values(
    by_key: Mapping[str, list[Any]], source: Mapping[str, Layer], fields: Mapping[str, FieldInfo]
) -> list[str]:
    """One sentence for each key with a wrong value, whatever members its type has."""
    problems = []
    for key, items in by_key.items():
        layer = next((source[k] for k in _parents(key) if k in source), None)
        where = f" in {layer.where(key)}" if layer is not None else ""
        first, value = items[0], items[0]["input"]
        if first["type"] == "missing":
            problems.append(f"no {key} is given{where}")
        elif first["type"] == "extra_forbidden":
            tip = _tip(suggest(key.rpartition(".")[2], _entry_names(fields)))
            problems.append(f"unknown key '{key}'{where}{tip}")
        elif first["type"] == "told":  # a field's own words, which say all
            problems.append(f"{key}{where}: {first['msg']}")
        else:
            wanted = [item["msg"].partition(", unable")[0] for item in items]
            wanted = [text[0].lower() + text[1:] for text in wanted]
            wanted[1:] = [text.removeprefix("input should be ") for text in wanted[1:]]
            words = re.findall("'([^']+)'", " ".join(wanted))
            quoted = first["type"] in ("string_type", "literal_error")
            tip = _tip(suggest(value, words)) if isinstance(value, str) else ""
            tip = tip or (_yaml_tip(value) if quoted else "")
            problems.append(f"{key}{where}: {' or '.join(wanted)}, not {value!r}{tip}")
    return problems


def _key_of(loc: tuple[int | str, ...], fields: Mapping[str, FieldInfo], kind: str) -> str:
    """Pydantic's place of an error as a dotted key; it names members of unions, too."""
    parts = [str(part) for part in loc]
    if kind == "extra_forbidden":
        return ".".join(parts)
    known = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in fields), 0)
    rest = [p for p in parts[known:] if p.isdigit() or p in _entry_names(fields)]
    return ".".join(parts[:known] + rest)


def _entry_names(fields: Mapping[str, FieldInfo]) -> list[str]:
    """Names of the settings of entries, where a setting is a list of sections."""
    kinds = {kind for info in fields.values() for kind in _members(info.annotation)}
    entries = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [name for entry in entries for name in entry.model_fields]


def _parents(key: str) -> Iterator[str]:
    while key:
        yield key
        key = key.rpartition(".")[0]


def _tip(text: str) -> str:
    return f" ({text})" if text else ""


def _yaml_tip(value: object) -> str:
    """Why a word became something else than text."""
    if isinstance(value, bool):
        return " (YAML reads yes, no, on and off as true and false: quote words)"
    if value is None or isinstance(value, (str, list, dict)):
        return ""
    return " (quote it to make it text)"


def _members(kind: Any) -> set[Any]:
    """A type, or the members of a union at any depth."""
    return {kind}.union(*(_members(part) for part in get_args(kind)))


def _fields(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, info in cls.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def known_keys(cls: type[BaseModel]) -> Iterator[str]:
    """All dotted keys of a configuration class."""
    return (key for key, _ in _fields(cls))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        place = out
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return out


def dumped(config: RunConfig, *, origins: bool = False, defaults: bool = True) -> str:
    """A configuration as YAML that ``--config`` takes.

    Args:
        config: what to write.
        origins: say behind each value where it comes from.
        defaults: False leaves out what nobody has set.
    """
    lines: list[tuple[str, str]] = [(f"command: {config.command}", "")]
    section = ""
    for key, value in _leaves(config):
        before, _, leaf = key.rpartition(".")
        if not defaults and config.origins.get(key, DEFAULT) == DEFAULT:
            continue
        if before and before != section:
            lines.append((f"{before}:", ""))
        section = before
        shown = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
        text = f"{'  ' if before else ''}{leaf}: {shown.removesuffix('...' + chr(10)).strip()}"
        lines.append((text, config.origins.get(key, DEFAULT)))
    if not origins:
        return "".join(f"{text}\n" for text, _ in lines)
    width = min(40, max(len(text) for text, _ in lines))
    return "".join(
        f"{text:{width}}  # {origin}\n" if origin else f"{text}\n" for text, origin in lines
    )


def _leaves(config: BaseModel) -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values: those outside of sections first."""
    values = config.model_dump(mode="json")
    keys = sorted(known_keys(type(config)), key=lambda key: "." in key)
    for key in keys:
        value = values
        for part in key.split("."):
            value = value[part]
        yield key, value

"""From presets, files, overrides and flags to a checked configuration.

A configuration is built from layers: defaults, a preset, a file, ``section.key=value`` overrides,
and command-line flags; a later layer wins. Unknown keys are refused with a suggestion, and an error
names the layer (file and line) that caused it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from .config import COMMANDS, RunConfig
from .errors import UsageError, suggest

C = TypeVar("C", bound=RunConfig)

# ------------------------------------------------------------------ layers


@dataclass
class Layer:
    """Nested values from one place.

    Attributes:
        values: nested dict.
        origin: the place, for people: ``preset finetune/x``, ``my.yaml``, ``the command line``.
        lines: dotted key to line number, for files.
    """

    values: dict[str, Any]
    origin: str
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """The place of one key, with its line in a file."""
        return f"{self.origin}:{self.lines[key]}" if key in self.lines else self.origin


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
        cls: one of `COMMANDS`' values.
        preset: name below ``presets/``, with or without the command.
        file: YAML in the form of a run's config.yaml.
        overrides: ``section.key=value`` texts, or a dict from dotted keys to values.
        flags: dotted keys to values; None values are left out.

    Raises:
        UsageError: naming every unknown key or wrong value, and where it stands.
    """
    layers = []
    if preset is not None:
        layers.append(preset_layer(cls, preset))
    if file is not None:
        layers.append(file_layer(Path(file)))
    layers.append(override_layer(overrides))
    given = {k: v for k, v in (flags or {}).items() if v is not None}
    layers.append(Layer(_nested(given), "the command line"))
    merged: dict[str, Any] = {}
    origin: dict[str, Layer] = {}
    for layer in layers:
        _check_keys(cls, layer)
        for key, value in _flat(layer.values):
            _put(merged, key, value)
            origin[key] = layer
    try:
        return cls.model_validate(merged)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            source = origin.get(key) or origin.get(key.split(".")[0])
            where = f" in {source.where(key)}" if source is not None else ""
            got = f", not {item['input']!r}"
            message = item["msg"][0].lower() + item["msg"][1:]
            problems.append(
                f"no {key} is given"
                if item["type"] == "missing"
                else f"{key}{where}: {message}{got}"
            )
        raise UsageError("; ".join(problems)) from error


def _check_keys(cls: type[RunConfig], layer: Layer) -> None:
    known = set(known_keys(cls))
    sections = {key.rpartition(".")[0] for key in known} - {""}
    problems = []
    for key, value in _flat(layer.values):
        if key in sections and not isinstance(value, Mapping):
            problems.append(f"'{key}' in {layer.where(key)} is a section and takes no value")
        elif key not in known:
            hint = suggest(key, known)
            problems.append(f"unknown key '{key}' in {layer.where(key)}" + (hint and f"; {hint}"))
    if problems:
        raise UsageError("; ".join(problems))


def known_keys(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a configuration class."""
    for name, info in cls.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(nested: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        nested = nested.setdefault(section, {})
    nested[leaf] = value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in flat.items():
        _put(out, key, value)
    return out


def override_layer(overrides: Sequence[str] | Mapping[str, Any]) -> Layer:
    """``section.key=value`` texts as a layer; values are read as YAML.

    Raises:
        UsageError: for a text without ``=``.
    """
    if isinstance(overrides, Mapping):
        return Layer(_nested(overrides), "the overrides")
    values: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"'{text}' is no override", "write section.key=value")
        try:
            _put(values, key.strip(), yaml.safe_load(value))
        except (yaml.YAMLError, AttributeError, TypeError) as error:
            raise UsageError(f"cannot read the value of '{text}'", "quote it for YAML") from error
    return Layer(values, "the command line")


def file_layer(path: Path, origin: str | None = None) -> Layer:
    """A YAML file as a layer.

    Raises:
        UsageError: when it is missing or no YAML mapping.
    """
    if not path.is_file():
        raise UsageError(f"no such configuration file: {path}", "check the path given to --config")
    text = path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text) or {}
        tree = yaml.compose(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must map sections to values", "see a run's config.yaml")
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                key = f"{prefix}{key_node.value}"
                lines[key] = key_node.start_mark.line + 1
                walk(value_node, f"{key}.")

    walk(tree, "")
    values.pop("command", None)  # a run's config.yaml names its command
    return Layer(values, origin or str(path), lines)


# ------------------------------------------------------------------ presets


def preset_folder() -> Path:
    """The folder of the shipped recipes."""
    spec = importlib.util.find_spec("vidinit.presets")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if not places:
        raise UsageError("the presets are not installed", "reinstall vidinit")
    return Path(places[0])


def list_presets(command: str = "*") -> list[str]:
    """Names of the shipped recipes: ``<command>/<target>_<data>``."""
    root = preset_folder()
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.glob(f"{command}/*.yaml"))


def preset_layer(cls: type[RunConfig], name: str) -> Layer:
    """A shipped recipe as a layer.

    Raises:
        UsageError: for an unknown name, with a suggestion.
    """
    command = next(key for key, value in COMMANDS.items() if value is cls)
    full = name if name.startswith(f"{command}/") else f"{command}/{name}"
    known = list_presets(command)
    if full not in known:
        hint = suggest(full, known) or f"presets of {command}: {', '.join(known)}"
        raise UsageError(f"unknown preset '{name}'", hint)
    return file_layer(preset_folder() / f"{full}.yaml", f"preset {full}")

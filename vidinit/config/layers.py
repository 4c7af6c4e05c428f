"""Layers of a configuration: values from one place each, and where in it they stand."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError

COMMAND_LINE = "the command line"
CALLER: ContextVar[str] = ContextVar("caller", default="the arguments")
"""Origin of the values of flags and overrides; the default is a call from Python."""

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


@contextmanager
def called_from(place: str) -> Iterator[None]:
    """While entered, flags and overrides come from this place."""
    token = CALLER.set(place)
    try:
        yield
    finally:
        CALLER.reset(token)


@dataclass
class Layer:
    """Values from one place.

    Attributes:
        values: by dotted key.
        origin: the place, for people: ``preset finetune/x``, ``my.yaml``, ``the arguments``.
        lines: dotted key to line number, for files.
        problems: what is wrong with the place itself.
        command: which command a file says that it is for.
    """

    values: dict[str, Any]
    origin: str
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    command: str | None = None

    def where(self, key: str) -> str:
        """The place of one key, with its line in a file."""
        while key and key not in self.lines:  # the line of the list, where an item has none
            key = key.rpartition(".")[0]
        return f"{self.origin}:{self.lines[key]}" if key else self.origin


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings; an empty one is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def override_layer(overrides: Sequence[str] | Mapping[str, Any]) -> Layer:
    """``section.key=value`` texts as a layer, or a dict; values of texts are read as YAML."""
    if isinstance(overrides, Mapping):
        return Layer(dict(flat(overrides)), "the overrides")
    layer = Layer({}, CALLER.get())
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            layer.problems.append(f"'{text}' is no override (write section.key=value)")
            continue
        try:
            layer.values.update(flat({key.strip(): yaml.safe_load(value)}))
        except yaml.YAMLError:
            layer.problems.append(f"cannot read the value of '{text}' (quote it for YAML)")
    return layer


class _Loader(yaml.SafeLoader):
    """YAML whose keys are text, be they called ``on`` or ``1``."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
        return super().construct_mapping(node, deep=deep)


def file_layer(path: Path, origin: str | None = None) -> Layer:
    """A YAML file as a layer; a key that stands in it twice is one of its problems.

    Args:
        path: the file.
        origin: what to call it; default: its path.

    Raises:
        UsageError: when it is missing or no YAML mapping.
    """
    if not path.is_file():
        raise UsageError(f"no such configuration file: {path}", "check its path")
    layer = Layer({}, origin or str(path))
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=_Loader)
        tree = yaml.compose(text, Loader=_Loader)
        if tree is not None and isinstance(values, dict):
            _read_lines(tree, layer)
            layer.values = dict(flat(values))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        reason = getattr(error, "problem", None) or error
        raise UsageError(f"{where} is no valid YAML: {reason}") from error
    except RecursionError as error:
        raise UsageError(f"{path} refers to itself", "write every value out") from error
    if not isinstance(values, dict | None):
        raise UsageError(f"{path} must map sections to values", "see a run's config.yaml")
    command = layer.values.pop("command", None)  # a run's config.yaml names its command
    layer.command = None if command is None else str(command)
    return layer


def _read_lines(node: yaml.Node, layer: Layer, prefix: str = "") -> None:
    """Fill in the line of each key and list item, and note keys that stand there twice."""
    pairs: list[tuple[str, int, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(k.value), k.start_mark.line + 1, v) for k, v in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(str(n), v.start_mark.line + 1, v) for n, v in enumerate(node.value)]
    for name, line, value in pairs:
        key = prefix + name
        if key in layer.lines:
            layer.problems.append(
                f"'{key}' stands twice in {layer.origin}: in line {layer.lines[key]} and {line}"
            )
        layer.lines[key] = line
        _read_lines(value, layer, f"{key}.")

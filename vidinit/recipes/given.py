"""The forms in which the functions behind the commands take what they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import SourceConfig
from ..errors import UsageError, suggest

Overrides = Sequence[str] | Mapping[str, Any]
Places = str | Path | Sequence[str | Path]


def as_text(path: str | Path | None) -> str | None:
    """A path as text."""
    return None if path is None else str(path)


def text_or_list(given: str | Path | Sequence[str] | None) -> str | list[str] | None:
    """A file or a name as text, a list as it is."""
    return as_text(given) if given is None or isinstance(given, (str, Path)) else list(given)


def as_places(places: Places | None) -> str | list[str] | None:
    """One place as text, several as a list."""
    if places is None or isinstance(places, (str, Path)):
        return as_text(places)
    return str(places[0]) if len(places) == 1 else [str(place) for place in places] or None


def one_or_several(words: str | Sequence[str] | None) -> str | list[str] | None:
    """A word of its own (``trunk``) as it is, anything else as a list of patterns."""
    given = [words] if isinstance(words, str) else list(words or ())
    return given[0] if given in (["trunk"], ["none"]) else given or None


def named_texts(given: Mapping[str, str | Path] | Sequence[str] | None) -> list[str]:
    """``NAME=PATH`` texts, of which a mapping makes some."""
    if isinstance(given, Mapping):
        return [f"{name}={path}" for name, path in given.items()]
    return list(given or ())


def parse_source(text: str, kind: str) -> dict[str, Any]:
    """``NAME=DIR[,key=value...]`` as the values of a `SourceConfig`.

    Raises:
        UsageError: for another form, or an unknown key.
    """
    first, *rest = text.split(",")
    name, equals, path = first.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"'{text}' is no source", "write NAME=DIR, or NAME=DIR,frames=16")
    values: dict[str, Any] = {"name": name, "data": path, "kind": kind}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in SourceConfig.model_fields:
            known = list(SourceConfig.model_fields)
            raise UsageError(
                f"unknown setting '{part}' of source '{name}'",
                suggest(key, known) or f"settings are {', '.join(known)}",
            )
        values[key] = value
    return values

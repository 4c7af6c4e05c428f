"""Arguments of the functions behind the commands: their forms, and the settings they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Overrides = Sequence[str] | Mapping[str, Any]

Places = str | Path | Sequence[str | Path]


def as_text(path: str | Path | None) -> str | None:
    """A path as text."""
    return None if path is None else str(path)


def text_or_list(value: str | Path | Sequence[str] | None) -> str | list[str] | None:
    """A file or a name as text, a list as it is."""
    return as_text(value) if value is None or isinstance(value, (str, Path)) else list(value)


def as_places(places: Places | None) -> str | list[str] | None:
    """One place as text, several as a list."""
    if places is None or isinstance(places, (str, Path)):
        return as_text(places)
    return str(places[0]) if len(places) == 1 else [str(place) for place in places] or None


def as_list(texts: str | Sequence[str] | None) -> list[str]:
    """One text, several, or none of them, as a list."""
    return [texts] if isinstance(texts, str) else list(texts or ())


def one_or_several(words: str | Sequence[str] | None) -> str | list[str] | None:
    """A word of its own (``trunk``) as it is, anything else as a list of patterns."""
    value = as_list(words)
    return value[0] if value in (["trunk"], ["none"]) else value or None


def named_texts(value: Mapping[str, str | Path] | Sequence[str] | None) -> list[str]:
    """``NAME=PATH`` texts, of which a mapping makes some."""
    if isinstance(value, Mapping):
        return [f"{name}={path}" for name, path in value.items()]
    return list(value or ())


def training_flags(
    model: str | Path | None,
    init_from: str | Path | None,
    out: str | Path | None,
    device: str | None,
    precision: str | None,
    batch_size: int | str | None,
    epochs: int | None,
    lr: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """The flags that all training commands share, by the key each one sets."""
    return {
        "model": as_text(model),
        "init_from": as_text(init_from),
        "out": as_text(out),
        "device": device,
        "precision": precision,
        "data.batch_size": batch_size,
        "train.epochs": epochs,
        "train.lr": lr,
        "train.seed": seed,
    }

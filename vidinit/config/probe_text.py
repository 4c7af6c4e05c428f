"""Probes in words: ``linear``, ``linear:lr=0.1``, ``attentive:lr=0.001,blocks=2``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import suggest

LINEAR, ATTENTIVE, DIST = "linear", "attentive", "dist"


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def _rate(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


def _decay(text: str) -> float:
    if not 0 <= (value := float(text)) < float("inf"):
        raise ValueError
    return value


Setting = tuple[Callable[[str], float], str]
_COUNT: Setting = (_count, "a whole number from 1 up")
_OF_ALL: dict[str, Setting] = {
    "lr": (_rate, "a number above 0"),
    "weight_decay": (_decay, "a number from 0 up"),
}
KINDS: dict[str, dict[str, Setting]] = {
    LINEAR: _OF_ALL,
    ATTENTIVE: {
        **_OF_ALL,
        "blocks": _COUNT,
        "heads": _COUNT,
    },
    DIST: {
        **_OF_ALL,
        "gamma": _COUNT,
        "pools": _COUNT,
        "dim": _COUNT,
        "temporal_dim": _COUNT,
    },
}
"""The settings that a probe of each kind knows: how a value is read, and what it has to be."""


@dataclass(frozen=True)
class ProbeEntry:
    """One probe as the configuration has it.

    Attributes:
        kind: a key of `KINDS`.
        lr: its peak learning rate; None for that of the run.
        weight_decay: its own; None for that of the run.
        options: what else its kind knows.
    """

    kind: str
    lr: float | None = None
    weight_decay: float | None = None
    options: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        values = {"lr": self.lr, "weight_decay": self.weight_decay, **self.options}
        words = ",".join(
            f"{key}={value:.12g}" for key, value in values.items() if value is not None
        )
        return f"{self.kind}:{words}" if words else self.kind


def parse_probe(text: str) -> ProbeEntry:
    """An entry of ``train.probes``.

    Raises:
        ValueError: saying what is wrong with it.
    """
    kind, _, words = text.partition(":")
    kinds = f"probes are {', '.join(KINDS)}"
    if kind not in KINDS:
        raise ValueError(f"'{kind}' is no probe ({suggest(kind, KINDS) or kinds})")
    known = KINDS[kind]
    values: dict[str, float] = {}
    for word in words.split(",") if words else ():
        key, _, value = word.partition("=")
        if key not in known:
            tip = suggest(key, known) or f"it knows {', '.join(known)}"
            raise ValueError(f"probe {kind} has no setting '{key}' ({tip})")
        if key in values:
            raise ValueError(f"probe {kind} has '{key}' twice")
        read, wanted = known[key]
        try:
            values[key] = read(value)
        except ValueError:
            raise ValueError(f"{key}={value} of probe {kind} is not {wanted}") from None
    options = {key: int(value) for key, value in values.items() if key not in _OF_ALL}
    return ProbeEntry(kind, values.get("lr"), values.get("weight_decay"), options)


def named_probes(texts: Sequence[str]) -> dict[str, ProbeEntry]:
    """Entries by the name of the probe: its kind, with the settings where that stands twice.

    Raises:
        ValueError: saying what is wrong with an entry, or which one stands twice.
    """
    entries = [parse_probe(text) for text in texts]
    kinds = [entry.kind for entry in entries]
    names = [e.kind if kinds.count(e.kind) == 1 else str(e) for e in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"probe {name} stands twice")
    return dict(zip(names, entries, strict=True))

"""Probes in words: ``linear``, ``linear:lr=0.1``, ``attentive:lr=1e-3|3e-4,blocks=2``.

A setting with several values, divided by ``|``, stands for a probe with each of them; several such
settings for all combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..errors import suggest

LINEAR, ATTENTIVE, GRU, READOUT, DIST = "linear", "attentive", "gru", "readout", "dist"
RIDGE, LOGISTIC = "ridge", "logistic"
SOLVED = (RIDGE, LOGISTIC)
"""Probes that are solved over one pass of the trunk; the others are trained, step by step."""
MEAN, CHANGE, SEGMENTS, ALL = "mean", "change", "segments", "all"
FEATURES = (MEAN, CHANGE, SEGMENTS, ALL)
"""Features that a solved probe may read: see `pipelines.finetune.solved`."""


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


def _word(*words: str) -> Setting:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read, f"{', '.join(words[:-1])} or {words[-1]}"


Setting = tuple[Callable[[str], Any], str]
_COUNT: Setting = (_count, "a whole number from 1 up")
_TIME = _word("none", "sincos", "learned")
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
        "time": _TIME,
        "form": _word("vjepa2", "coca"),
    },
    GRU: {
        **_OF_ALL,
        "blocks": _COUNT,
        "heads": _COUNT,
        "readout": _COUNT,
        "readout_heads": _COUNT,
    },
    READOUT: {
        **_OF_ALL,
        "heads": _COUNT,
        "readout": _COUNT,
        "time": _TIME,
    },
    DIST: {
        **_OF_ALL,
        "gamma": _COUNT,
        "pools": _COUNT,
        "dim": _COUNT,
        "temporal_dim": _COUNT,
    },
    **{kind: {"features": _word("auto", *FEATURES), "segments": _COUNT} for kind in SOLVED},
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
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = {"lr": self.lr, "weight_decay": self.weight_decay, **self.options}
        words = ",".join(
            f"{key}={value if isinstance(value, str) else f'{value:.12g}'}"
            for key, value in values.items()
            if value is not None
        )
        return f"{self.kind}:{words}" if words else self.kind


def parse_probes(text: str) -> list[ProbeEntry]:
    """The probes that an entry of ``train.probes`` stands for: one, or several values of settings.

    Raises:
        ValueError: saying what is wrong with it.
    """
    kind, _, words = text.partition(":")
    kinds = f"probes are {', '.join(KINDS)}"
    if kind not in KINDS:
        raise ValueError(f"'{kind}' is no probe ({suggest(kind, KINDS) or kinds})")
    known = KINDS[kind]
    values: dict[str, list[Any]] = {}
    for word in words.split(",") if words else ():
        key, _, several = word.partition("=")
        if key not in known:
            tip = suggest(key, known) or f"it knows {', '.join(known)}"
            raise ValueError(f"probe {kind} has no setting '{key}' ({tip})")
        if key in values:
            raise ValueError(f"probe {kind} has '{key}' twice")
        values[key] = [_value(kind, key, value) for value in several.split("|")]
    entries = [
        _entry(kind, dict(zip(values, chosen, strict=True))) for chosen in product(*values.values())
    ]
    for entry in entries:
        if entry.options.get("form") == "coca" and "time" in entry.options:
            raise ValueError("probe attentive has no time code in the form coca (leave time out)")
    return entries


def _value(kind: str, key: str, text: str) -> Any:
    read, wanted = KINDS[kind][key]
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"{key}={text} of probe {kind} is not {wanted}") from None


def _entry(kind: str, values: dict[str, Any]) -> ProbeEntry:
    options = {key: value for key, value in values.items() if key not in _OF_ALL}
    return ProbeEntry(kind, values.get("lr"), values.get("weight_decay"), options)


def are_solved(texts: Sequence[str]) -> bool:
    """True where all probes are `SOLVED`, and there are some."""
    return bool(texts) and all(entry.kind in SOLVED for entry in named_probes(texts).values())


def named_probes(texts: Sequence[str]) -> dict[str, ProbeEntry]:
    """Entries by the name of the probe: its kind, with the settings where that stands twice.

    Raises:
        ValueError: saying what is wrong with an entry, or which one stands twice.
    """
    entries = [entry for text in texts for entry in parse_probes(text)]
    kinds = [entry.kind for entry in entries]
    names = [e.kind if kinds.count(e.kind) == 1 else str(e) for e in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"probe {name} stands twice")
    return dict(zip(names, entries, strict=True))

"""Classes with many clips and classes with few: how many, what is said of it, weights of the loss.

The classes of a pair are two lists, its verbs and its nouns; else there is one.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...config import RunConfig
from ...console import say
from ...data.rows import Rows
from ...data.sources.access import shown, suffix_of, text_lines
from ...data.sources.parts import positions_by_class
from ...engine.run_folder import RunFolder
from ...errors import DataError, UsageError, suggest

AUTO, NONE = "auto", "none"
"""Values of ``train.class_weights`` that are no file."""

_KEPT = "class_weights.json"
SKEWED = 10
"""How many times the clips of the rarest class the most frequent one has where that is said."""


def class_lists(rows: Rows) -> dict[str, tuple[str, ...]]:
    """The names of the classes, by what they are: ``class``, or of pairs ``verb`` and ``noun``."""
    if rows.nouns is not None:
        return {"verb": rows.classes or (), "noun": rows.nouns}
    return {"class": rows.classes or ()}


def class_counts(rows: Rows) -> list[list[int]]:
    """The clips of each class, for each of the `class_lists`; one of several classes counts in all.

    Returns:
        Counts by position of the class, 0 where it has no clip.
    """
    labels = [row.label for row in rows.rows if row.label is not None]
    if rows.nouns is not None:
        found = [Counter(label[k] for label in labels) for k in (0, 1)]  # type: ignore[index]
    else:
        found = [Counter(one for label in labels for one in _several(label))]
    return [
        [count[label] for label in range(len(names))]
        for count, names in zip(found, class_lists(rows).values(), strict=True)
    ]


def _several(label: int | tuple[int, ...]) -> tuple[int, ...]:
    return (label,) if isinstance(label, int) else label


def class_groups(rows: Rows) -> list[list[int]]:
    """The rows of each class, for ``data.balance=classes``; a pair is of its verb's.

    A clip with several classes is in the group of each. Those without any are a group of their
    own, so that they are trained on, too.

    Raises:
        UsageError: rows without labels.
    """
    if rows.classes is None:
        raise UsageError("data.balance=classes goes by labels, and there are none", "leave it out")
    groups = list(positions_by_class(rows).values())
    groups.append([i for i, row in enumerate(rows.rows) if row.label in (None, ())])
    return [group for group in groups if group]


def say_skew(
    rows: Rows, what: str, *, balance: str, class_weights: str
) -> tuple[dict[str, int], list[str]]:
    """How many clips the rarest and the most frequent class have; said where they are far apart.

    Args:
        rows: that are trained on.
        what: the data, for messages.
        balance: ``data.balance``.
        class_weights: ``train.class_weights``.

    Returns:
        ``{rarest, most_frequent}`` in clips (of a pair: of the verbs), of classes that have any;
        empty where there is none. And what was said: a line for each list of classes of which one
        has `SKEWED` times the clips of another.
    """
    extremes: dict[str, int] = {}
    notes = []
    for (kind, names), counts in zip(class_lists(rows).items(), class_counts(rows), strict=True):
        found = [(count, name) for count, name in zip(counts, names, strict=True) if count]
        if not found:
            continue
        least, most = min(found, key=lambda one: one[0]), max(found, key=lambda one: one[0])
        extremes = extremes or {"rarest": least[0], "most_frequent": most[0]}
        if most[0] < SKEWED * least[0]:
            continue
        note = (
            f"{what}: rarest {kind} '{least[1]}' {least[0]:,} clip{'s' if least[0] > 1 else ''}, "
            f"most frequent '{most[1]}' {most[0]:,}"
        )
        if balance != NONE and kind != "noun":
            note += f"; data.balance={balance} draws them equally often"
        elif class_weights != NONE:
            note += f"; train.class_weights={class_weights} weighs them in the loss"
        elif kind == "noun":
            note += "; train.class_weights=auto weighs them in the loss"
        else:
            note += (
                "; data.balance=classes draws them equally often, train.class_weights=auto weighs "
                "them in the loss"
            )
        say(f"note: {note}")
        notes.append(note)
    return extremes, notes


def check_class_weights(config: RunConfig) -> None:
    """Refuse class weights of a file that is not there, before anything heavy is imported.

    Raises:
        UsageError: naming the setting.
    """
    settings = {"train.class_weights": getattr(getattr(config, "train", None), "class_weights", "")}
    for source in getattr(config, "sources", []):
        settings[f"class_weights of source '{source.name}'"] = source.class_weights
    for key, value in settings.items():
        if not value or value in (AUTO, NONE) or Path(value).expanduser().is_file():
            continue
        raise UsageError(
            f"{key}={value}: there is no such file",
            suggest(value, (AUTO, NONE)) or "write auto, none, or the path of a file of weights",
        )


def class_weights(
    setting: str, rows: Rows, what: str, *, real: bool = True
) -> list[list[float]] | None:
    """The weights of the classes in the loss, for each of the `class_lists`; None for none.

    ``auto`` is the inverse frequency: T / (K n) of a class with n of all T labels, where K classes
    have any. That is scikit-learn's ``balanced``; its mean over the labels is 1, and it has no
    bound. A class without a clip gets 1. A file's weights are taken as they are.

    Args:
        setting: ``train.class_weights``.
        rows: that are trained on.
        what: the data, for messages.
        real: False for rows of random clips, whose classes no file knows.

    Raises:
        UsageError: the file cannot be read as text.
        DataError: it does not give each class a weight of at least 0, and one more than 0.
    """
    if setting == NONE:
        return None
    lists = class_lists(rows)
    if setting != AUTO and not real:
        say(f"note: without data there are no classes that {setting} could weigh: no class weights")
        return None
    if setting == AUTO:
        weights = [_inverse(counts) for counts in class_counts(rows)]
    else:
        weights = _from_file(Path(setting).expanduser(), lists)
    for (kind, names), own in zip(lists.items(), weights, strict=True):
        ordered = sorted(zip(own, names, strict=True))
        if ordered:
            (low, lowest), (high, highest) = ordered[0], ordered[-1]
            say(f"{what}: {kind} weights from {low:.4g} ('{lowest}') to {high:.4g} ('{highest}')")
    return weights


def keep_class_weights(
    run: RunFolder, weights: Mapping[str, Sequence[float]], names: Mapping[str, Sequence[str]]
) -> None:
    """Write class_weights.json into the folder of a run, or compare with it where that goes on.

    Args:
        run: the folder, open.
        weights: of the classes, by what they are of: ``class``, ``verb`` or ``noun``, or a source.
        names: of these classes.

    Raises:
        UsageError: the run began with other weights, as of a file that has changed.
    """
    found = {key: dict(zip(names[key], own, strict=True)) for key, own in weights.items()}
    file = run.root / _KEPT
    if found and file.is_file() and json.loads(file.read_text(encoding="utf-8")) != found:
        raise UsageError(
            f"{run.root} was started with other class weights: those of {file}",
            "give it the file as it was, or start anew in another --out",
        )
    if found:
        run.write_json(_KEPT, found)


def _inverse(counts: Sequence[int]) -> list[float]:
    total, present = sum(counts), sum(count > 0 for count in counts)
    return [total / (present * count) if count else 1.0 for count in counts]


Entry = tuple[str, str, Any]
"""Where a weight stands, the name of its class, and what stands there for it."""


def _from_file(file: Path, lists: dict[str, tuple[str, ...]]) -> list[list[float]]:
    entries = _entries(file)
    if len(lists) == 1:
        parts = {kind: entries for kind in lists}
    else:
        parts = {name: list(_pairs(found, file)) for _, name, found in entries}
        if parts.keys() != lists.keys() or suffix_of(str(file)) == ".csv":
            raise DataError(
                f"{file} has to weigh verbs and nouns",
                "write it as yaml or json with verb: {name: weight, ...} and noun: {...}",
            )
    return [_weights(file, kind, names, parts[kind]) for kind, names in lists.items()]


def _weights(file: Path, kind: str, names: Sequence[str], entries: Iterable[Entry]) -> list[float]:
    """The weight of each class, in their order."""
    known, found = set(names), {}
    for where, name, value in entries:
        if name not in known:
            hint = suggest(name, names) or f"the data's classes are {_some(names)}"
            raise DataError(f"{where}: the data has no {kind} '{name}'", hint)
        if name in found:
            raise DataError(f"{where}: {kind} '{name}' stands twice", "give each one weight")
        found[name] = _number(value, f"{where}: weight of {kind} '{name}'")
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{file} has no weight for {len(missing)} of {len(names)} classes: {_some(missing)}",
            "give every class of the data a weight; 1 changes nothing",
        )
    if names and not any(found.values()):
        raise DataError(f"{file}: all weights are 0", "then nothing is learned")
    return [found[name] for name in names]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _number(value: Any, what: str) -> float:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number >= 0):
        said = shown(str(value)) if isinstance(value, (str, int, float)) else "no number"
        raise DataError(f"{what} is {said}", "weights are numbers from 0 on")
    return number


def _entries(file: Path) -> list[Entry]:
    """The entries of a yaml, json or csv file; the last of two columns, with or without a header.

    Raises:
        UsageError: it is no text.
        DataError: it is of no such form.
    """
    suffix = suffix_of(str(file))
    form = "a yaml or json object from class name to weight, or a csv of name,weight"
    if suffix == ".csv":
        return list(_csv_entries(file))
    text = "".join(line for _, line in text_lines(str(file)))
    try:
        if suffix == ".json":
            found = json.loads(text, object_pairs_hook=_Pairs)
        else:
            found = yaml.compose(text, Loader=yaml.BaseLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{file} is no valid {suffix[1:] or 'yaml'}", f"expected {form}") from error
    entries = list(_pairs(found, file))
    if not entries:
        raise DataError(f"{file} holds no weights", f"expected {form}")
    return entries


class _Pairs(list[tuple[str, Any]]):
    """The members of a json object, also those of one name."""


def _pairs(found: Any, file: Path) -> Iterator[Entry]:
    """The entries of a yaml node or of a json object; nothing of what is neither."""
    if isinstance(found, yaml.MappingNode):
        for key, value in found.value:
            where = f"{file}:{key.start_mark.line + 1}"
            yield (
                where,
                str(key.value),
                value.value if isinstance(value, yaml.ScalarNode) else value,
            )
    elif isinstance(found, _Pairs):
        yield from ((str(file), name, value) for name, value in found)


def _csv_entries(file: Path) -> Iterator[Entry]:
    lines = [(n, line) for n, line in text_lines(str(file)) if line.strip()]
    for place, (number, line) in enumerate(lines):
        cells = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
        if len(cells) != 2:
            raise DataError(f"{file}:{number}: {len(cells)} columns", "expected name,weight")
        if place or cells[1].lower() != "weight":
            yield f"{file}:{number}", cells[0], cells[1]

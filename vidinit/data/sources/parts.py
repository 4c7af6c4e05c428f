"""Parts of data sets: picked, joined, held out by seed, and cut down to a few clips a class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from ...errors import DataError
from ..rows import LabelKind, Row, Rows, align
from ..views import SHOTS, SPLIT, rng
from .options import PartName
from .table import Part

_KINDS: dict[LabelKind, str] = {
    "single": "one label a clip",
    "multi": "several labels a clip",
    "pair": "a verb and a noun a clip",
}


def pick(parts: Sequence[Part], wanted: PartName) -> Part:
    """The wanted part of a source.

    A source without parts, or with a single one, is what is wanted, whatever its name. ``val`` is
    the test part where there is no validation part.

    Raises:
        DataError: the source has parts, but not this one.
    """
    if wanted == "all" and len(parts) > 1:
        return Part("all", join(parts), parts[0].where)
    if len(parts) == 1:
        return parts[0]
    by_name = {part.name: part for part in parts}
    found = by_name.get(wanted) or (by_name.get("test") if wanted == "val" else None)
    if found is None:
        raise DataError(
            f"{parts[0].where} has no part '{wanted}'", f"it has {' and '.join(sorted(by_name))}"
        )
    return found


def join(parts: Sequence[Part]) -> Rows:
    """The rows of several sources as one, with classes matched by name.

    Unless all have the same classes, they are numbered in the order of their first appearance.

    Raises:
        DataError: labels differ in kind, or are names in one source and ids in another.
    """
    first = parts[0].rows
    for part in parts[1:]:
        _check_agree(parts[0], part)
    if any((p.rows.classes, p.rows.nouns) != (first.classes, first.nouns) for p in parts):
        classes = _merged(part.rows.classes or () for part in parts)
        nouns = None if first.nouns is None else _merged(p.rows.nouns or () for p in parts)
        parts = [replace(p, rows=align(p.rows, classes, where=p.where, nouns=nouns)) for p in parts]
    return parts[0].rows.of([row for part in parts for row in part.rows.rows])


def _merged(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))


def _check_agree(a: Part, b: Part) -> None:
    """Refuse to join labels that do not mean the same kind of thing."""
    if a.rows.kind != b.rows.kind:
        raise DataError(
            f"{a.where} has {_KINDS[a.rows.kind]}, {b.where} has {_KINDS[b.rows.kind]}",
            "only data with the same kind of labels can be joined; "
            "a ';' after a label says that a list may have several",
        )
    for one, other in ((a, b), (b, a)):
        names, others = one.rows.classes or (), other.rows.classes or ()
        if _are_ids(names) and others and not _are_ids(others):
            raise DataError(
                f"{one.where} has class ids and {other.where} has class names",
                "give the class names in a file (data.class_names)",
            )


def _are_ids(names: Sequence[str]) -> bool:
    return bool(names) and all(name.isdecimal() for name in names)


def for_training(part: Part, train: Rows) -> Rows:
    """The rows of a validation part with the labels of the training data.

    Raises:
        DataError: a class is unknown in training, or the labels differ in kind.
    """
    rows = align(part.rows, train.classes or (), where=part.where, nouns=train.nouns)
    if rows.kind == "single" and train.kind == "multi":
        # A list in which every clip happens to have one label.
        several = [
            replace(row, label=(row.label,)) if isinstance(row.label, int) else row
            for row in rows.rows
        ]
        return train.of(several)
    if rows.kind != train.kind:
        raise DataError(
            f"{part.where} has {_KINDS[rows.kind]}, the training data has {_KINDS[train.kind]}"
        )
    return rows


def positions_by_class(rows: Rows) -> dict[int, list[int]]:
    """The positions of the rows of each class, by class, in order; a pair counts as its verb."""
    found: dict[int, list[int]] = {label: [] for label in range(len(rows.classes or ()))}
    for position, row in enumerate(rows.rows):
        for label in _labels(row, rows.kind):
            found[label].append(position)
    return found


def _labels(row: Row, kind: LabelKind) -> tuple[int, ...]:
    if isinstance(row.label, int):
        return (row.label,)
    return (row.label or ())[: 1 if kind == "pair" else None]


def hold_out(
    rows: Rows,
    fraction: float,
    seed: int,
    together: Callable[[Row], Hashable] = lambda row: (row.path, row.start, row.end),
) -> tuple[Rows, Rows]:
    """Training and validation rows: a share of every class, chosen by (seed, class).

    Of each class at least one clip is held out, and at least one stays, which comes first where
    clips have several classes. A class with a single clip stays in training, with a
    ``UserWarning`` that names it. Rows that are the same to ``together``, by default a clip that is
    listed several times, are in one of the two, and count as one.
    """
    held_out: set[int] = set()
    # A clip stands where it is first listed.
    listed: dict[Hashable, int] = {}
    clip = [listed.setdefault(together(row), i) for i, row in enumerate(rows.rows)]
    by_class = {
        label: list(dict.fromkeys(clip[i] for i in positions))
        for label, positions in positions_by_class(rows).items()
    }
    names = rows.classes or ()
    orders = {}
    for label, positions in by_class.items():
        if len(positions) == 1:
            warnings.warn(
                f"class '{names[label]}' has a single clip: it stays in training", stacklevel=3
            )
        if len(positions) > 1:
            count = min(max(1, round(len(positions) * fraction)), len(positions) - 1)
            order = rng(seed, 0, label, stream=SPLIT).permutation(len(positions))
            orders[label] = [positions[i] for i in order]
            # Where clips have several classes, another one may have taken them already.
            count -= sum(position in held_out for position in positions)
            free = [position for position in orders[label] if position not in held_out]
            held_out.update(free[: max(count, 0)])
    for label, positions in by_class.items():
        if positions and held_out.issuperset(positions):
            held_out.remove(orders[label][-1] if label in orders else positions[0])
    train = [row for row, place in zip(rows.rows, clip, strict=True) if place not in held_out]
    val = [row for row, place in zip(rows.rows, clip, strict=True) if place in held_out]
    return rows.of(train), rows.of(val)


def few_shots(rows: Rows, shots: int, seed: int) -> Rows:
    """``shots`` rows of every class, chosen by (seed, class); fewer are a part of more.

    Classes with fewer rows keep all, with a ``UserWarning`` that names them. A row with several
    classes counts for each of them, so that a class may end up with more than ``shots``.
    """
    kept: set[int] = set()
    short = []
    for label, positions in positions_by_class(rows).items():
        if 0 < len(positions) < shots:
            short.append(f"'{(rows.classes or ())[label]}' ({len(positions)})")
        order = rng(seed, 0, label, stream=SHOTS).permutation(len(positions))
        kept.update(positions[i] for i in order[:shots])
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        warnings.warn(
            f"fewer than {shots} clips, all kept: class {', '.join(short[:5])}{more}", stacklevel=3
        )
    return rows.of([row for i, row in enumerate(rows.rows) if i in kept])

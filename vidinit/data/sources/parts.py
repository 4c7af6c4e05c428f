"""Parts of data sets: picked, joined, held out by seed, and cut down to a few clips a class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np

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


def group_or_clip(row: Row) -> Hashable:
    """A key shared by rows that must stand in one part: their group, or without one their clip."""
    return (row.path, row.start, row.end) if row.group is None else row.group


def hold_out(
    rows: Rows,
    fraction: float,
    seed: int,
    together: Callable[[Row], Hashable] = group_or_clip,
) -> tuple[Rows, Rows]:
    """Training and validation rows: a share of every class, chosen by (seed, class).

    Of each class at least one clip is held out, and at least one stays, which comes first where
    clips have several classes. A class with a single clip stays in training, with a
    ``UserWarning`` that names it. Rows that are the same to ``together``, by default a group, or a
    clip that is listed several times, are in one of the two, and count as one.
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
            what = "is in a single group" if rows.rows[positions[0]].group else "has a single clip"
            warnings.warn(f"class '{names[label]}' {what}: it stays in training", stacklevel=3)
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


def in_groups(rows: Rows, held_out: Rows) -> str:
    """In words how a part was held out by groups; empty where the rows have none."""
    found = [{row.group for row in part.rows} - {None} for part in (rows, held_out)]
    if not found[0]:
        return ""
    return (
        f"{len(found[1])} of {len(found[0])} groups are held out, "
        f"{len(held_out)} of {len(rows)} clips: no group stands in both parts"
    )


def fold_of(rows: Rows, number: int, folds: int, seed: int) -> tuple[Rows, Rows]:
    """Training rows and those of one of several folds, in each of which classes have their share.

    Groups, and a clip that is listed several times, stay together. They are dealt out one after
    the other, those of most clips first and equals in the order of the seed, each to the fold for
    which the shares of the classes over the folds are then the most even (stratified by groups, as
    scikit-learn's ``StratifiedGroupKFold``).

    Args:
        rows: all of them.
        number: of the fold that is validated on, from 1.
        folds: how many there are.
        seed: of the order.

    Raises:
        DataError: there are fewer groups or clips than folds.
    """
    places: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows.rows):
        places.setdefault(group_or_clip(row), []).append(place)
    if len(places) < folds:
        kind = "groups" if any(row.group is not None for row in rows.rows) else "clips"
        raise DataError(f"{len(places)} {kind} cannot make {folds} folds", "ask for fewer folds")
    counts = np.zeros((len(places), max(len(rows.classes or ()), 1)))
    for index, own in enumerate(places.values()):
        for place in own:
            for label in _labels(rows.rows[place], rows.kind) or (0,):
                counts[index, label] += 1
    share = counts / np.maximum(counts.sum(axis=0), 1)
    shuffled = rng(seed, 0, folds, stream=SPLIT).permutation(len(places))
    order = shuffled[np.argsort(-counts.sum(axis=1)[shuffled], kind="stable")]
    filled, sizes = np.zeros((folds, share.shape[1])), np.zeros(folds)
    chosen = np.zeros(len(places), dtype=np.int64)
    for index in order:
        uneven = []
        for place in range(folds):
            after = filled.copy()
            after[place] += share[index]
            uneven.append((round(float(after.std(axis=0).mean()), 12), sizes[place], place))
        best = min(uneven)[2]
        chosen[index] = best
        filled[best] += share[index]
        sizes[best] += counts[index].sum()
    held = {
        place
        for index, own in enumerate(places.values())
        if chosen[index] == number - 1
        for place in own
    }
    train = [row for place, row in enumerate(rows.rows) if place not in held]
    return rows.of(train), rows.of([rows.rows[place] for place in sorted(held)])


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

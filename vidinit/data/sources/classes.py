"""Class names and their order: from a file, or from the labels themselves."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import DataError, UsageError, suggest
from ..rows import Label, LabelKind, Rows
from .access import read_json, shown, suffix_of, text_lines

# More classes than any data set has: an id above is a number that is no label.
_MOST_IDS = 1_000_000
_MOST_DIGITS = 4000  # of a number that Python reads
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?")

_ID_COLUMNS = ("id", "class_id", "label_id", "index")

_NAME_COLUMNS = ("name", "key", "class_name", "label_name", "class", "label", "category")


class NoLabelsError(DataError):
    """Labels are wanted of data that has none, which may be read without."""


@dataclass(frozen=True)
class ClassList:
    """Class names in order.

    Attributes:
        names: the names, all different.
        where: what defines them, for messages.
        first: the id of the first of them in the files of the data set, 0 or 1.
        codes: what the lists of the data set call them instead, as "c092"; empty for nothing else.
    """

    names: tuple[str, ...]
    where: str
    first: int = 0
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """The classes of a source, and the label that each of its texts stands for.

    Attributes:
        classes: names of the classes in order.
        kind: ``single`` or ``multi``.
        values: the label, as `Row.label` has it, of each text.
        notes: how labels were understood, where that is not plain to see.
    """

    classes: tuple[str, ...]
    kind: LabelKind
    values: Mapping[str, int | tuple[int, ...]]
    notes: tuple[str, ...] = ()


def read_class_names(file: str) -> ClassList:
    """The class names in a file, in order.

    The file is a name a line; ``id name`` or ``name,id`` lines, or a csv with an id and a name
    column, the ids counted from 0 or from 1; a json list of names, or of the words of each; a json
    object from name to id or from id to name; Charades' ``c000 name`` lines; FineGym's categories.

    Raises:
        UsageError: the file cannot be opened or is not text.
        DataError: it holds no name, a name or an id twice, or ids that do not count up.
    """
    if suffix_of(file) == ".json":
        return _from_json(file, read_json(file))
    lines = [(number, line) for number, line in text_lines(file) if line.strip()]
    if not lines:
        raise DataError(f"{file} holds no class name", "expected one name a line")
    coded = [re.fullmatch(r"(c\d{3}) (\S.*)", line.strip()) for _, line in lines]
    if all(coded):
        names = [(f"{file}:{n}", m[2]) for (n, _), m in zip(lines, coded, strict=True) if m]
        found = _unique(file, names)
        return replace(found, codes=tuple(m[1] for m in coded if m))
    numbered = _from_columns(file, lines)
    for form in (_id_first, _id_last, _gym) if numbered is None else ():
        pairs = [(n, form(line.strip())) for n, line in lines]
        if form is _id_last and len({pair and pair[1] for _, pair in pairs}) < len(pairs):
            continue  # "level, 1", "level, 2" are names
        if all(pair for _, pair in pairs):
            numbered = [(n, _integer(p[0]), p[1].strip(' "')) for n, p in pairs if p]
            break
    if numbered is None:
        names = [(f"{file}:{number}", line.strip().strip('"')) for number, line in lines]
        return _unique(file, names)
    return _by_id(file, [(f"{file}:{n}", label, name) for n, label, name in numbered])


def _id_first(line: str) -> tuple[str, str] | None:
    """Id and name of ``3 run``, or with a comma, semicolon or colon between them."""
    match = re.match(r"[0-9]+(?=[\s,;:])", line)
    name = "" if match is None else line[match.end() :].lstrip(" \t,;:")
    return (match[0], name) if match is not None and name else None


def _id_last(line: str) -> tuple[str, str] | None:
    """Id and name of ``run,3``, or with a semicolon or tab between them."""
    cut = max(line.rfind(separator) for separator in ",;\t")
    name, label = line[: max(cut, 0)].rstrip(" \t,;"), line[cut + 1 :].strip()
    return (label, name) if name and _is_id(label) else None


def _gym(line: str) -> tuple[str, str] | None:
    """Id and name of ``Clabel: 0; set: 1; Glabel: 1; (VT) round-off``."""
    match = re.match(r"Clabel:\s*([0-9]+);[^;]*;[^;]*;", line)
    name = "" if match is None else line[match.end() :].strip()
    return (match[1], name) if match is not None and name else None


def _integer(text: str) -> int:
    """The number that digits write; of thousands of them one that no class has."""
    return int(text) if len(text) < _MOST_DIGITS else _MOST_IDS


def _from_columns(file: str, lines: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]] | None:
    """Line number, id and name of the rows of a csv with a header; None without one."""
    cells = [cell.strip().lower() for cell in _cells(file, *lines[0])]
    name = next((cells.index(c) for c in _NAME_COLUMNS if c in cells), None)
    label = next((cells.index(c) for c in _ID_COLUMNS if c in cells), None)
    if name is None or (label is None and len(cells) > 1):
        return None
    if label is None and cells[0] not in _NAME_COLUMNS[:3]:  # else it is the name of a class
        return None
    found = []
    for i, (number, line) in enumerate(lines[1:]):
        row = _cells(file, number, line)
        if label is None:
            found.append((number, i, row[0].strip()))
        elif len(row) > max(label, name) and _is_id(row[label].strip()):
            found.append((number, _integer(row[label].strip()), row[name].strip()))
        else:
            raise DataError(f"{file}:{number}: expected an id and a name, as the header says")
    return found


def _cells(file: str, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error as error:
        raise DataError(f"{file}:{number}: no valid row ({error})") from error


def _from_json(file: str, value: Any) -> ClassList:
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return _unique(file, [(file, name) for name in value])
    if isinstance(value, list) and value and all(_are_words(words) for words in value):
        return _unique(file, [(file, " ".join(words)) for words in value])
    if isinstance(value, dict) and value:
        pairs = list(value.items())
        if not all(_is_id(str(label)) for _, label in pairs):
            pairs = [(name, label) for label, name in pairs]
        if all(_is_id(str(label)) and isinstance(name, str) for name, label in pairs):
            return _by_id(file, [(file, _integer(str(label)), name) for name, label in pairs])
    raise DataError(
        f"{file} holds no class names",
        "expected a json list of names, or an object from name to id",
    )


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(w, str) for w in value)


def _by_id(file: str, entries: Sequence[tuple[str, int, str]]) -> ClassList:
    """Names in the order of their ids, which must count from 0 or from 1."""
    ordered = sorted(entries, key=lambda entry: entry[1])
    first = ordered[0][1] if ordered else 0
    for i, (where, label, name) in enumerate(ordered):
        if first not in (0, 1) or label != first + i:
            raise DataError(
                f"{where}: id {label} of class '{shown(name)}' is out of order",
                "ids count from 0 or from 1, each one once",
            )
    names = _unique(file, [(where, name) for where, _, name in ordered])
    return ClassList(names.names, file, first)


def _unique(file: str, entries: Sequence[tuple[str, str]]) -> ClassList:
    seen: set[str] = set()
    for where, name in entries:
        if name in seen:
            raise DataError(
                f"{where}: class '{shown(name)}' is named twice", "name each class once"
            )
        seen.add(name)
    if not seen:
        raise DataError(f"{file} holds no class name", "expected one name a line")
    return ClassList(tuple(name for _, name in entries), file)


def read_labels(
    texts: Sequence[str],
    known: ClassList | None,
    *,
    place: Callable[[int], str],
    names_only: bool = False,
) -> Labels:
    """Turn label texts into classes and labels.

    Several labels in one text are separated by ``;`` or ``|``, or are integers separated by spaces
    or commas. Labels are all names or all ids. They are names when all of them are known names;
    else, when all are integers (also written "3.0"), ids. Ids count from 0; from 1 where all say
    so: there is no 0, and every id from 1 to the largest occurs, or the largest is the number of
    the classes that a file names.

    Args:
        texts: one a row.
        known: the classes; None: the integers up to the largest name the classes, "0" the first of
            them or "1", and names are sorted.
        place: where the text of a row stands, for messages.
        names_only: a text is one name, whatever is in it; without ``known``, also an integer is.

    Raises:
        DataError: an unknown name or id, or names mixed with ids.
    """
    distinct = dict.fromkeys(texts)
    several = {text: [text] for text in distinct}
    names = frozenset((*known.names, *known.codes) if known else ())
    if not names_only:
        several = _several(distinct, names)
    multi = any(found != [text] for text, found in several.items())
    notes = []
    if not names_only and _are_decimals(several.values(), names):
        several = {
            text: [atom.partition(".")[0] for atom in found] for text, found in several.items()
        }
        notes.append("labels as '3.0' are taken for ids, as '3'")
    atoms = dict.fromkeys(atom for found in several.values() for atom in found)

    def at(atom: str) -> str:
        return place(next(i for i, text in enumerate(texts) if atom in several[text]))

    if known is None:
        known = _derive(atoms, at, names_only=names_only)
        if known.first:
            notes.append(f"ids count from 1 to {len(known.names)}, so the first class is '1'")
    elif not known.first and _from_one(atoms, known):
        known = replace(known, first=1)
        notes.append(
            f"ids count from 1 to {len(known.names)}, so 1 is '{shown(known.names[0])}', the first "
            f"class of {known.where}"
        )
    ids = _number(atoms, known, at)
    values: dict[str, int | tuple[int, ...]] = {
        text: tuple(sorted({ids[atom] for atom in found})) if multi else ids[found[0]]
        for text, found in several.items()
    }
    return Labels(known.names, "multi" if multi else "single", values, tuple(notes))


def _are_decimals(several: Iterable[Sequence[str]], names: Collection[str]) -> bool:
    """True where labels are integers, some of them written with a point and zeros."""
    atoms = {atom for found in several for atom in found}
    whole = re.compile(r"[0-9]+(?:\.0+)?")
    return (
        any("." in atom for atom in atoms)
        and not atoms <= set(names)
        and all(map(whole.fullmatch, atoms))
    )


def _from_one(atoms: Collection[str], known: ClassList) -> bool:
    """True where ids count from 1 though the known classes, all of them names, say nothing."""
    if not atoms or not all(map(_is_id, atoms)) or any(map(_is_id, known.names)):
        return False
    numbers = {_integer(atom) for atom in atoms}
    return min(numbers) == 1 and max(numbers) == len(known.names)


def _number(
    atoms: Collection[str], known: ClassList, at: Callable[[str], str]
) -> Mapping[str, int]:
    """The position among the known classes of each label, a name or an id."""
    ids = {
        name: label for labels in (known.codes, known.names) for label, name in enumerate(labels)
    }
    by_id = all(map(_is_id, atoms)) and not ids.keys() >= set(atoms)
    numbered = by_id and all(map(_is_id, known.names))
    if numbered:  # the names are ids themselves: 1 is the class "1", wherever it stands
        places = {_integer(name): label for label, name in enumerate(known.names)}
        ids = {atom: places.get(_integer(atom), -1) for atom in atoms}
    elif by_id:
        ids = {atom: _integer(atom) - known.first for atom in atoms}
    for atom in atoms:
        if not 0 <= ids.get(atom, -1) < len(known.names):
            hint = f"ids run from {known.first} to {known.first + len(known.names) - 1}"
            if numbered:
                hint = f"ids run from {known.names[0]} to {known.names[-1]} in {known.where}"
            elif not by_id:
                hint = suggest(atom, known.names) or f"the classes are those of {known.where}"
            raise DataError(f"{at(atom)}: unknown class '{shown(atom)}'", hint)
    return ids


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _derive(atoms: Collection[str], at: Callable[[str], str], *, names_only: bool) -> ClassList:
    """The classes that labels make up where nothing else names them."""
    ids = [] if names_only else [atom for atom in atoms if _is_id(atom)]
    if not ids:
        if atoms and not names_only and all(map(_NUMBER.fullmatch, atoms)):
            number = min(atoms)
            raise NoLabelsError(
                f"{at(number)}: label '{shown(number)}' is a number, but no class id",
                "ids are whole numbers from 0 or 1; without labels: distill, predict",
            )
        return ClassList(tuple(sorted(atoms)), "the list")
    if len(ids) < len(atoms):
        other = next(atom for atom in atoms if not _is_id(atom))
        raise DataError(
            f"{at(ids[0])}: label '{shown(ids[0])}' is an id, but other labels are names, "
            f"as '{shown(other)}'",
            "use one of both throughout, or give the class names in a file (data.class_names)",
        )
    largest = max(ids, key=_integer)
    if _integer(largest) >= _MOST_IDS:
        raise DataError(
            f"{at(largest)}: label {shown(largest)} is too large for a class id", "ids count from 0"
        )
    numbers = {_integer(atom) for atom in ids}
    first = 1 if max(numbers) > 1 and numbers == set(range(1, len(numbers) + 1)) else 0
    return ClassList(tuple(str(i) for i in range(first, max(numbers) + 1)), "the list", first)


def _several(texts: Iterable[str], known: frozenset[str]) -> dict[str, list[str]]:
    """The single labels in each text."""
    split = {
        text: [atom.strip() for atom in re.split(r"[;|]", text) if atom.strip()]
        for text in texts
        if (";" in text or "|" in text) and text not in known
    }
    if split:
        return {text: split.get(text, [text]) for text in texts}
    lists = re.compile(r"\d+(?:[\s,]+\d+)*")
    if all(lists.fullmatch(text) for text in texts) and not known.issuperset(texts):
        return {text: re.findall(r"\d+", text) for text in texts}
    return {text: [text] for text in texts}


# The words, also inside CamelCase, snake_case and with -ward(s): not "bright", not "leftover".
_SIDES = re.compile(
    r"(?<![A-Za-z])(?:[Ll]eft|[Rr]ight)(?:wards?)?(?![a-z])"
    r"|(?<=[a-z])(?:Left|Right)(?:wards?)?(?![a-z])"
    r"|(?<![A-Za-z])(?:LEFT|RIGHT)(?![A-Za-z])"
)

_OTHER = {"left": "right", "Left": "Right", "LEFT": "RIGHT"}

_OTHER |= {right: left for left, right in _OTHER.items()}


def flippable(classes: Iterable[str]) -> bool:
    """True where clips may be mirrored: the word left or right is in no class name."""
    return not any(_SIDES.search(name) for name in classes)


def swap_sides(name: str) -> str:
    """A class name with left and right exchanged: "from left to right", "from right to left"."""

    def other(word: re.Match[str]) -> str:
        side = next(side for side in _OTHER if word[0].startswith(side))
        return _OTHER[side] + word[0].removeprefix(side)

    return _SIDES.sub(other, name)


def mirrored(rows: Rows, where: str) -> Rows:
    """The same rows with the labels that their mirror images have (DiST, ICCV 2023).

    A class becomes the one whose name has left and right exchanged, as "Pulling something from left
    to right" and "... from right to left" of Something-Something; all others stay.

    Args:
        rows: of any kind, also without labels.
        where: the data set, for messages.

    Raises:
        UsageError: a class has no such partner.
    """
    classes = _partners(rows.classes or (), where)
    nouns = _partners(rows.nouns or (), where)

    def moved(label: Label) -> Label:
        if label is None or isinstance(label, int):
            return None if label is None else classes[label]
        if rows.kind == "pair":
            return classes[label[0]], nouns[label[1]]
        return tuple(sorted(classes[one] for one in label))

    found = [(row, moved(row.label)) for row in rows.rows]
    return rows.of(
        [row if label == row.label else replace(row, label=label) for row, label in found]
    )


def _partners(names: Sequence[str], where: str) -> list[int]:
    """Where the partner of each name stands among them."""
    ids = {name: place for place, name in enumerate(names)}
    partners = [swap_sides(name) for name in names]
    alone = [name for name, partner in zip(names, partners, strict=True) if partner not in ids]
    if alone:
        more = f", nor has any of {len(alone) - 1} more" if len(alone) > 1 else ""
        raise UsageError(
            f"data.flip=swap: class '{alone[0]}' of {where} has no partner "
            f"'{swap_sides(alone[0])}'{more}",
            "with data.flip=auto nothing is mirrored where classes are named after left and right",
        )
    return [ids[partner] for partner in partners]

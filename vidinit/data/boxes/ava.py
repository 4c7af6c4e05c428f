"""The lists of AVA: ``video,second,x1,y1,x2,y2,action,person``, without a header.

Corners are fractions; seconds are those of the film, of which most people have cut out 900 to 1800
(see `located`). The same four coordinates, as text, are the same person, with several actions. In a
list of proposals a score stands in the eighth column, and the action may be empty. Beside the list:

- a label map, ``*.pbtxt``, names the actions that count, by ids that need not be successive; boxes
  of others keep their place without that action;
- ``*excluded*``, ``video,second`` lines, names key frames that count for nothing.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

from ...errors import DataError
from ..sources.access import content_lines, entries, shown, suffix_of, text_lines
from ..sources.classes import ClassList
from ..sources.options import PART_NAMES
from .collect import LISTS, BoxOptions, Collected

_ITEM = re.compile(r"(?:item|label)\s*\{([^{}]*)\}")
_ID = re.compile(r"\b(?:label_)?id\s*:\s*(\d{1,9})")
_NAME = re.compile(r"\bname\s*:\s*(?:\"([^\"\n]*)\"|'([^'\n]*)')")
_FORM = "'video,second,x1,y1,x2,y2,action,person', with corners from 0 to 1"


def ava_csv(file: str, options: BoxOptions) -> Collected | None:
    """The boxes of a list of AVA.

    Raises:
        DataError: a line is another, or what lies beside the list is wrong.
    """
    if suffix_of(file) not in LISTS:
        return None
    if _line(next(content_lines(file), (0, ""))[1]) is None:
        return None
    names = _class_names(file) if options.names is None else None
    excluded, where = _excluded(file)
    collected = Collected(file, what="time", fractions=True, merged="boxes", names_only=True)
    collected.excluded |= excluded
    dropped, unknown, persons = 0, 0, True
    known = None if names is None else {str(i): name for i, name in names.items()}
    for number, line in content_lines(file):
        parsed = _line(line)
        if parsed is None:
            raise DataError(
                f"{file}:{number}: '{shown(line)}' is no line of AVA", f"a line is {_FORM}"
            )
        video, time, box, action, last = parsed
        if box[2] < box[0] or box[3] < box[1]:
            raise DataError(f"{file}:{number}: the box ends before it begins", f"a line is {_FORM}")
        if (video, time) in excluded:
            dropped += 1
            continue
        label = action
        if action and known is not None:
            unknown += action not in known
            label = known.get(action, "")
        # A person's number is whole, a score is not: it is one where any line has a point.
        persons = persons and "." not in last
        collected.add(number, video, time, box, label, track=last)
    _finish(collected, options, names, persons)
    if dropped:
        collected.notes.append(f"{dropped:,} lines of key frames left out that {where} excludes")
    if unknown:
        collected.notes.append(
            f"{unknown:,} lines of actions that the label map does not name: their boxes stay, "
            "without that action"
        )
    return collected


def _finish(
    collected: Collected, options: BoxOptions, names: dict[int, str] | None, persons: bool
) -> None:
    """Say what was read, name the classes, and take the last column for what it is."""
    kind = "boxes and actions of persons"
    if not persons:
        kind = "proposals with a score"
        collected.tracks_are_scores()
    source = "named by ids"
    if names is not None:
        collected.names = ClassList(tuple(names.values()), collected.where)
        source = f"{len(names)} of the label map"
    elif options.names is not None:
        collected.names_only = False
        source = f"those of {options.names.where}"
    else:
        own = sorted((text for text in collected.labels if text), key=_as_number)
        collected.names = ClassList(tuple(own), collected.where) if own else None
    collected.form = f"AVA list: {kind}, in seconds of the film, classes {source}"


def _as_number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isascii() and text.isdecimal() else (0, text)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")] if len(line) < 1000 else []


def _line(line: str) -> tuple[str, float, list[float], str, str] | None:
    """Video, second, corners, action and last column of a line of AVA; None for another line."""
    cells = _cells(line)
    if len(cells) not in (7, 8) or not cells[0]:
        return None
    video, second, x1, y1, x2, y2, action, *rest = cells
    last = rest[0] if rest else ""
    try:
        time, box = float(second), [float(x1), float(y1), float(x2), float(y2)]
        fine = not last or math.isfinite(float(last))
    except ValueError:
        return None
    # Whatever is not a number is in no range.
    inside = 0 <= time <= 1e6 and all([0 <= side <= 1 for side in box])
    named = not action or (action.isascii() and action.isdecimal())
    return (video, time, box, action, last) if fine and inside and named else None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _class_names(file: str) -> dict[int, str] | None:
    """Id and name of the classes of the label map beside a list; None without one.

    Raises:
        DataError: it names no class, an id or a name twice, or several maps lie there.
    """
    folder = os.path.dirname(file)
    maps = [name for name in entries(folder) if suffix_of(name) == ".pbtxt"]
    if len(maps) > 1:
        # Of AVA's own two one names all 80 actions, the other the 60 that are evaluated.
        maps = [name for name in maps if "activitynet" in name.lower()] or maps
    if len(maps) > 1:
        raise DataError(
            f"{folder or os.curdir} has several label maps: {', '.join(map(shown, maps[:4]))}",
            "leave one of them there, or give the class names as data.class_names",
        )
    return read_label_map(os.path.join(folder, maps[0])) if maps else None


def read_label_map(file: str) -> dict[int, str]:
    """Names of the classes of a ``.pbtxt`` by their ids, which rise and may have gaps.

    Raises:
        DataError: it names no class, or an id or a name twice.
    """
    text = "".join(line.partition("#")[0] + "\n" for _, line in text_lines(file))
    found: dict[int, str] = {}
    for item in _ITEM.findall(text):
        number, name = _ID.search(item), _NAME.search(item)
        if number is None or name is None:
            raise DataError(f"{file}: an item without a name and an id: {shown(item)}")
        key, value = int(number[1]), (name[1] or name[2] or "").strip()
        if key in found or value in found.values() or not value:
            raise DataError(f"{file}: class '{shown(value)}' with id {key} is named twice or empty")
        found[key] = value
    if not found:
        raise DataError(f"{file} names no class", 'expected item { name: "run" id: 1 }')
    return dict(sorted(found.items()))


def _excluded(file: str) -> tuple[set[tuple[str, float]], str]:
    """The key frames that a file beside the list excludes, and its name.

    Raises:
        DataError: a line of it is no ``video,second``.
    """
    folder, own = os.path.split(file)
    part = next((PART_NAMES[word] for word in _words(own) if word in PART_NAMES), None)
    names = [
        name
        for name in entries(folder)
        if "excluded" in _words(name) and name != own and part in _parts(name)
    ]
    if len(names) > 1:
        versions = [name for name in names if _version(name) == _version(own)]
        names = versions if len(versions) == 1 else names
    if len(names) > 1:
        raise DataError(
            f"{folder or os.curdir} has several lists of excluded key frames: "
            f"{', '.join(map(shown, names[:4]))}",
            "leave one of them there",
        )
    if not names:
        return set(), ""
    return set(_timestamps(os.path.join(folder, names[0]))), names[0]


def _timestamps(file: str) -> Iterator[tuple[str, float]]:
    for number, line in content_lines(file):
        cells = _cells(line)
        if len(cells) != 2 or math.isnan(_number(cells[1])):
            raise DataError(
                f"{file}:{number}: '{shown(line)}' is no excluded key frame",
                "a line is 'video,second'",
            )
        yield cells[0], float(cells[1])


def _words(name: str) -> list[str]:
    return re.split(r"[\W_]+", name.lower())


def _parts(name: str) -> set[str | None]:
    """The parts that a name is of, and none where it names none."""
    found: set[str | None] = {PART_NAMES[word] for word in _words(name) if word in PART_NAMES}
    return found or {None}


def _version(name: str) -> str:
    found = re.search(r"v\d+(?:\.\d+)*", name.lower())
    return found[0] if found else ""

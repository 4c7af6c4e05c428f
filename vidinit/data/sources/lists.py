"""Lists with a clip a line: a path, and where labels are wanted, a label after it.

What separates them is a space, a tab, a comma, a semicolon, ``|`` or ``::``. A path ends at the
last known suffix with a label after it; without one it names a folder of frames, or a video by its
name without suffix, and the last separator is that before the label. The time that a line takes
grows with its length, and no faster.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from ...errors import DataError
from . import by_id
from .access import MEDIA_SUFFIXES, content_lines, shown, suffix_of
from .classes import NoLabelsError
from .columns import find_header
from .options import SourceOptions
from .table import Table

_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(MEDIA_SUFFIXES))
# Where a path may end: a known suffix, with a separator behind it.
_END = re.compile(rf"(?:{_SUFFIX})(?=[\s,;|]|::)", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[^"]|"")+)"(?=[\s,;|]|::)')
_SEPARATORS = " \t,;|:"
_WORDS = re.compile(r"[^\s,]+")
_TIMED = re.compile(r"\d+-\d+\s+\S+")
_FEWEST_FRAMES = 8  # numbers below it may be class ids as well
_HEADER = "or name the columns in a first line, as 'path,label'"


def plain_list(file: str, options: SourceOptions) -> Table:
    """The rows of any text file that is nothing else; a header of plain columns is left out.

    Raises:
        UsageError: the file is not text.
        DataError: a line has no label, or columns that nothing says the meaning of.
    """
    header = find_header(file)
    skipped = 0 if header is None else header.line
    lines = ((n, line) for n, line in content_lines(file) if n > skipped)
    return (_labeled if options.labeled else _unlabeled)(file, lines, options)


def _labeled(file: str, lines: Iterator[tuple[int, str]], options: SourceOptions) -> Table:
    table = Table(file)
    base = options.base_of(file)
    # Labels repeat: one string each, whatever the number of lines.
    labels: dict[str, str] = {}
    names = {*(options.names.names if options.names else ()), *(options.classes or ())}
    others = []
    separators: set[str] = set()
    for number, line in lines:
        parts = _split(line)
        if parts is None:
            others.append(len(table.paths))
            path, label = line, ""
        else:
            path, separator, label = parts
            if label not in names:
                _check_columns(f"{file}:{number}", path, separator, label, base)
            separators.add(separator)
        label = _unquoted(label)
        table.paths.append(path)
        table.labels.append(labels.setdefault(label, label))
        table.lines.append(number)
    forms = []
    if odd := sorted(separators - {" ", "\t", ","}):
        forms.append(f"read as lines of 'path{odd[0]}label'")
    if others:
        forms += _split_others(table, others, base, labels)
    else:
        forms += _counts(table, labels)
    forms += _located(table, base)
    table.form = "; ".join(forms)
    return table


def _split(line: str) -> tuple[str, str, str] | None:
    """Path, separator and label of a line whose path has a known suffix or is in quotes."""
    if quoted := _QUOTED.match(line):
        path, rest = quoted[1].replace('""', '"'), line[quoted.end() :]
        if label := rest.lstrip(_SEPARATORS):
            return path, _separator(rest[: len(rest) - len(label)]), label
    last = len(line.rstrip(_SEPARATORS))
    found = max((m.end() for m in _END.finditer(line) if m.end() < last), default=None)
    if found is None:
        return None
    rest = line[found:]
    label = rest.lstrip(_SEPARATORS)
    return line[:found], _separator(rest[: len(rest) - len(label)]), label


def _separator(between: str) -> str:
    """The separator of path and label, of the characters between them."""
    return next((s for s in ("::", ",", ";", "|", "\t") if s in between), " ")


def _check_columns(where: str, path: str, separator: str, label: str, base: str) -> None:
    """Refuse what would be read into a label though it stands in a column of its own.

    Raises:
        DataError: there is a third column.
    """
    if separator != " " and separator in label:
        cells = _cells(label, separator)
        numbers = separator == "," and all(cell.isdecimal() for cell in cells)
        if len(cells) > 1 and not numbers:
            _refuse_third(where, cells[1])
    words = label.split() if separator == " " and label[-1:].isdecimal() else []
    if words[1:] == ["-1"]:
        raise NoLabelsError(
            f"{where}: '{shown(label)}' is no label",
            "as in VideoMAE's lists for pretraining: pass one with 'path label'",
        )
    if len(words) > 2 and not words[0].isdecimal() and all(map(_is_number, words[-2:])):
        first = next(i for i in range(len(words), 0, -1) if not _is_number(words[i - 1]))
        _refuse_third(where, words[first])
    if _END.search(path) and not os.path.exists(os.path.join(base, path)):
        first_path = path[: next(_END.finditer(path)).end()]
        if os.path.exists(os.path.join(base, first_path)):
            raise DataError(
                f"{where}: two files in a line, '{shown(first_path)}' the first",
                "a line is one clip: 'path label'",
            )


def _cells(text: str, separator: str) -> list[str]:
    """The columns of a text; what is in double quotes is one."""
    if text[:1] != '"':
        return [cell.strip() for cell in text.split(separator)]
    closing = text.find('"', 1)
    while closing > 0 and text[closing : closing + 2] == '""':
        closing = text.find('"', closing + 2)
    if closing < 0:
        return [text]
    rest = [cell.strip() for cell in text[closing + 1 :].split(separator)]
    return [text[: closing + 1], *rest[1:]]


def _is_number(word: str) -> bool:
    return word.removeprefix("-").replace(".", "", 1).isdecimal()


def _refuse_third(where: str, cell: str) -> NoReturn:
    raise DataError(
        f"{where}, column 3: '{shown(_unquoted(cell))}' is not understood",
        f"a line is 'path label': put a label with a separator inside in double quotes, separate "
        f"several labels by ';', {_HEADER}",
    )


def _counts(table: Table, labels: dict[str, str]) -> list[str]:
    """Take the first of two numbers behind every file for its number of frames, if it is one.

    Raises:
        DataError: it may be that, or one of two labels.
    """
    pairs = {}
    for label in labels:
        words = _WORDS.findall(label) if len(label) < 100 else []
        if len(words) != 2 or not all(word.isascii() and word.isdecimal() for word in words):
            return []
        pairs[label] = (int(words[0]), int(words[1]))
    if not pairs or (len(pairs) > 1 and all(a < b for a, b in pairs.values())):
        return []
    fewest = min(frames for frames, _ in pairs.values())
    if fewest < _FEWEST_FRAMES or fewest <= max(label for _, label in pairs.values()):
        rising = [pairs[label][0] < pairs[label][1] for label in table.labels]
        row = 0 if all(rising) else rising.index(False)
        a, b = pairs[table.labels[row]]
        raise DataError(
            f"{table.place(row)}, columns 2 and 3: '{a}' may be a number of frames and '{b}' the "
            "label, or both are labels",
            f"write 'path label', or '{a};{b}' for two labels, {_HEADER}",
        )
    own = {label: str(second) for label, (_, second) in pairs.items()}
    table.labels = [own[label] for label in table.labels]
    return ["read as lines of 'path frames label', the number of frames not used"]


def _is_media(line: str) -> bool:
    """True where a line ends in a known suffix, so that no label follows."""
    return suffix_of(line.rstrip('"')) in MEDIA_SUFFIXES


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if text[:1] == '"' == text[-1:] else text


def _split_others(table: Table, others: list[int], base: str, labels: dict[str, str]) -> list[str]:
    """Path and label of the lines without a known suffix, which name folders of frames or videos.

    Returns:
        What they were taken for.
    """
    counted = (
        len(others) == len(table.paths)
        and all(_numbers_at_end(line)[1] > 1 for line in table.paths)
        and not os.path.isdir(os.path.join(base, _at_last_separator(table.paths[0])[0]))
    )
    offsets = counted
    if not counted and all(_TIMED.fullmatch(table.paths[row]) for row in others):
        raise DataError(
            f"{table.place(others[0])}: frames and an action, but no path in "
            f"'{shown(table.paths[others[0]])}'",
            "these are the parts of one video, as of Breakfast: list them as a csv with the "
            "columns path, label, start_frame, end_frame",
        )
    starts = counted and all(_count(table.paths[row]) in ("0", "1") for row in others)
    divide = _after_count if counted else _at_last_separator
    if not counted and _first_word_is_path([table.paths[row] for row in others], base):
        divide = _at_first_space
    for row in others:
        line = table.paths[row]
        path, label = divide(line)
        if not path or not label:
            raise NoLabelsError(
                f"{table.place(row)}: no label in '{shown(line)}'", "expected 'path label'"
            )
        if not counted:
            _check_others(table.place(row), line, path, base)
        offsets = offsets and len(label.split()) == 2
        table.paths[row] = path
        label = _unquoted(label)
        table.labels[row] = labels.setdefault(label, label)
    if offsets:
        raise DataError(
            f"{table.place(0)}: three numbers follow every folder",
            "expected 'folder num_frames label'; parts of videos need a first line with the "
            "columns path, start_frame, end_frame and label",
        )
    if starts:
        raise NoLabelsError(
            f"{table.place(0)}: every folder has 0 frames, or 1",
            "expected 'folder num_frames label'; VideoMAE's lists for pretraining have 'folder "
            "start num_frames', without a label",
        )
    return ["read as lines of 'folder frames label', the number of frames not used"] * counted


def _check_others(where: str, line: str, path: str, base: str) -> None:
    """Refuse a third column of a line whose path has no known suffix."""
    separator = next((s for s in "\t," if s in line), None)
    if separator is None or line.count(separator) == 1 or line[:1] == '"':
        return
    cells = [cell.strip() for cell in line.split(separator)]
    if '"' in line and len(cells := _quoted_cells(line, separator)) < 3:
        return
    if not os.path.exists(os.path.join(base, path)):
        _refuse_third(where, cells[2])


def _quoted_cells(line: str, separator: str) -> list[str]:
    """The columns of a line of which a later one may be in double quotes."""
    head, _, tail = line.partition(separator)
    return [head.strip(), *_cells(tail.strip(), separator)]


def _numbers_at_end(line: str) -> tuple[int, int]:
    """Where the numbers begin that a line ends with, and how many they are."""
    words = list(_WORDS.finditer(line))
    first = len(words)
    while first > 1 and words[first - 1][0].isdecimal():
        first -= 1
    return (words[first].start() if first < len(words) else len(line)), len(words) - first


def _count(line: str) -> str:
    """The first of the numbers that a line ends with."""
    return line[_numbers_at_end(line)[0] :].replace(",", " ").split(maxsplit=1)[0]


def _after_count(line: str) -> tuple[str, str]:
    """Folder and labels of a line with a number of frames between them."""
    start, _ = _numbers_at_end(line)
    count = _WORDS.search(line, start)
    assert count is not None
    return line[:start].rstrip(" ,\t"), line[count.end() :].strip(" ,\t")


def _at_last_separator(line: str) -> tuple[str, str]:
    """Path and label of a line at its last separator, the first kind there is of tab, ... space."""
    if _is_media(line):
        return line, ""
    if line.endswith('"') and (opening := _opening_quote(line)) > 0:
        return line[:opening].rstrip(_SEPARATORS), line[opening:]
    separator = next((s for s in ("\t", "::", ",") if s in line), "")
    if not separator:
        # Without any of these, ; and | separate labels unless only one word is before them.
        separator = next((s for s in ";|" if s in line and " " not in line.partition(s)[0]), " ")
        if separator != " ":
            path, _, label = line.partition(separator)
            return path, label.strip()
    path, found, label = line.rpartition(separator)
    if not found:
        return line, ""
    return _unquoted(path.rstrip(" ,\t")), label.strip()


def _first_word_is_path(lines: Sequence[str], base: str) -> bool:
    """True where a folder or file is named by the first word of a line, so that labels have more.

    The first line of more than two words decides.
    """
    line = next((line for line in lines if line.count(" ") > 1), "")
    if not line or any(separator in line for separator in '\t,"') or "::" in line:
        return False
    path, word = _at_last_separator(line)[0], line.partition(" ")[0]
    return not by_id.is_there(base, path) and by_id.is_there(base, word)


def _at_first_space(line: str) -> tuple[str, str]:
    path, _, label = line.partition(" ")
    return path, label.strip()


def _opening_quote(line: str) -> int:
    """Where the quoted text begins with which a line ends; 0 for none."""
    opening = line.rfind('"', 0, -1)
    while opening > 0 and line[opening - 1] == '"':  # a doubled quote inside of it
        opening = line.rfind('"', 0, opening - 1)
    return opening if line[max(opening - 1, 0)] in _SEPARATORS else 0


def _unlabeled(file: str, lines: Iterator[tuple[int, str]], options: SourceOptions) -> Table:
    """Paths only: a label that follows one is left out."""
    table = Table(file)
    base = options.base_of(file)
    others = []
    for number, line in lines:
        path = _unquoted(line)
        if not _is_media(line):
            parts = _split(line)
            if parts is None:
                others.append(len(table.paths))
                path = _unquoted(_first_column(line))
            else:
                path = parts[0]
        table.paths.append(path)
        table.lines.append(number)
    counted = all(_numbers_at_end(table.paths[row])[1] for row in others)
    if others and counted and not os.path.isdir(os.path.join(base, table.paths[others[0]])):
        for row in others:
            start, _ = _numbers_at_end(table.paths[row])
            table.paths[row] = table.paths[row][:start].rstrip(" ,\t")
    table.form = "; ".join(_located(table, base))
    return table


def _first_column(line: str) -> str:
    """The text before the first separator; a space is none, for it may be part of a name."""
    column = re.split(r"[,\t]|::", line, maxsplit=1)[0]
    word = re.split(r"[;|]", column, maxsplit=1)[0]
    return column if " " in word else word


def _located(table: Table, base: str) -> Iterable[str]:
    """Make listed paths those of files below a folder, and say how if they are not just these."""
    forms = by_id.turn_slashes(table, base)
    table.paths = [os.path.join(base, path) for path in table.paths]
    return [*forms, *by_id.add_suffixes(table, base), *by_id.find_bare(table, base)]

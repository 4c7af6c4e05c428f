"""Lists without a header that single data sets have: Jester, Something-Something V1, Moments.

The first line says that a list is one of these; then all lines must be such.
"""

from __future__ import annotations

import os

from ...errors import DataError
from . import by_id
from .access import MEDIA_SUFFIXES, content_lines, shown, suffix_of
from .classes import read_class_names
from .options import SourceOptions
from .table import Table


def id_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of a list of ``id;label`` lines, ids being numbers: Jester, Something-Something V1.

    Ids name folders of frames or files below the root. The names in ``...-labels.csv`` beside the
    list are the order of the classes.

    Raises:
        DataError: a line is another, or none of the clips is there.
    """
    first = next(content_lines(file), (0, ""))[1].partition(";")
    if not (first[0].isascii() and first[0].isdecimal() and first[2].strip()):
        return None
    table = Table(file)
    labels: dict[str, str] = {}
    for number, line in content_lines(file):
        name, _, label = (part.strip() for part in line.partition(";"))
        if not name or not label:
            raise DataError(
                f"{file}:{number}: '{shown(line)}' in a list of 'id;label' lines",
                "every line needs an id, a semicolon and a label",
            )
        table.paths.append(name)
        table.lines.append(number)
        if options.labeled:
            table.labels.append(labels.setdefault(label, label))
    table.names_only = not all(label.isdecimal() for label in labels)
    by_id.find_videos(table, (), (), options.base_of(file))
    if options.labeled and (names := by_id.labels_beside(file, "labels.csv")):
        table.names = read_class_names(names)
    what = "videos" if suffix_of(table.paths[0]) in MEDIA_SUFFIXES else "frame folders"
    table.form = f"{_name(file)} list: id;label, {what} by id"
    return table


def _name(file: str) -> str:
    name = os.path.basename(file).lower()
    known = {"jester": "Jester", "something": "Something-Something V1"}
    return next((known[word] for word in known if word in name), "Jester or Something-Something V1")


def moments_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of a list of Moments in Time: ``class/video.mp4,class`` and one or two counts.

    The counts are those of the annotators who said yes and no. Paths are below the root, or below
    its training/ or validation/. ``moments_categories.txt`` beside the list is the class order.

    Raises:
        DataError: a line is another.
    """
    columns = len(_moment(next(content_lines(file), (0, ""))[1]))
    if not columns:
        return None
    table = Table(file, names_only=True)
    labels: dict[str, str] = {}
    for number, line in content_lines(file):
        cells = _moment(line)
        if len(cells) != columns:
            raise DataError(
                f"{file}:{number}: '{shown(line)}' in a list of Moments in Time",
                "every line is 'class/video.mp4,class' and the counts of votes",
            )
        table.paths.append(cells[0])
        table.lines.append(number)
        if options.labeled:
            table.labels.append(labels.setdefault(cells[1], cells[1]))
    base = options.base_of(file)
    inner = next(
        (part for part in ("", "training", "validation") if _is_below(base, part, table.paths[0])),
        "",
    )
    table.paths = [os.path.join(base, inner, path) for path in table.paths]
    names = os.path.join(os.path.dirname(file), "moments_categories.txt")
    if options.labeled and os.path.isfile(names):
        table.names = read_class_names(names)
    votes = "votes, votes" if columns == 4 else "votes"
    table.form = f"Moments in Time list: path, label, {votes}" + (
        f"; videos below {os.path.join(base, inner)}" if inner else ""
    )
    return table


def _is_below(base: str, part: str, path: str) -> bool:
    return os.path.exists(os.path.join(base, part, path))


def _moment(line: str) -> list[str]:
    """The columns of a line of Moments; none where it is another."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) not in (3, 4) or suffix_of(cells[0]) not in MEDIA_SUFFIXES:
        return []
    folder = os.path.basename(os.path.dirname(cells[0]))
    counts = all(cell.isascii() and cell.isdecimal() for cell in cells[2:])
    same = folder.replace("+", " ") == cells[1].replace("+", " ")
    return cells if counts and same and not cells[1].isdecimal() else []

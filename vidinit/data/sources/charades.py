"""Charades: its own csv, and the lists of frames that PySlowFast makes of it and of other sets."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator

from ...errors import DataError
from . import by_id
from .access import content_lines, shown, text_lines
from .classes import NoLabelsError, read_class_names
from .options import SourceOptions
from .table import Table

_ACTION = re.compile(r"(\S+) [\d.]+ [\d.]+")
_FRAME_COLUMNS = (("original_vido_id", "original_video_id"), "video_id frame_id path labels")


def charades_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of Charades' csv, a video a row with the actions in it: several labels a clip.

    ``actions`` is ``c092 11.90 21.20;c147 0.00 12.60``: a code, and seconds. As the set is scored,
    a clip is a whole video with all of its actions; the times are not read. A video may have none.
    ``Charades_v1_classes.txt`` beside the list names the classes and their order.

    Raises:
        DataError: a row is wrong, or none of the videos is there.
    """
    first = next(content_lines(file), (0, ""))
    header = [cell.strip().lower() for cell in first[1].split(",")]
    if not {"id", "actions", "length"} <= set(header) or "label" in header:
        return None
    table = Table(file)
    name, actions = header.index("id"), header.index("actions")
    none = 0
    for number, cells in _records(file, first[0]):
        if len(cells) != len(header) or not cells[name].strip():
            raise DataError(
                f"{file}:{number}: {len(cells)} columns, the header has {len(header)}",
                "put what has a comma inside in double quotes",
            )
        table.paths.append(cells[name].strip())
        table.lines.append(number)
        if options.labeled:
            codes = list(_codes(f"{file}:{number}", cells[actions]))
            none += not codes
            table.labels.append("".join(f"{code}|" for code in codes) or "|")
    by_id.find_videos(table, (), (), options.base_of(file))
    names = os.path.join(os.path.dirname(file), "Charades_v1_classes.txt")
    if options.labeled and os.path.isfile(names):
        table.names = read_class_names(names)
    table.form = "Charades list: whole videos with all of their actions, the times not used"
    table.form += f"; {none} without an action" if none else ""
    return table


def _records(file: str, header: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(line for number, line in text_lines(file) if number > header)
    try:
        for cells in reader:
            if cells:
                yield header + reader.line_num, cells
    except csv.Error as error:
        where = f"{file}:{header + reader.line_num}"
        raise DataError(f"{where}: no valid row ({error})") from error


def _codes(where: str, text: str) -> Iterator[str]:
    for one in filter(None, map(str.strip, text.split(";"))):
        match = _ACTION.fullmatch(one)
        if match is None:
            raise DataError(
                f"{where}, column 'actions': '{shown(one)}'", "expected 'c092 11.90 21.20;...'"
            )
        yield match[1]


def frame_list(file: str, options: SourceOptions) -> Table | None:
    """The rows of PySlowFast's list of frames: ``original_vido_id video_id frame_id path labels``.

    A line is a frame of a video, with the numbers of its classes, ``"3,7"``. A clip is the folder
    of a video's frames, with all that its frames have.

    Raises:
        DataError: a line is wrong, or no frame has a label.
    """
    header = next(content_lines(file), (0, ""))
    first, _, rest = header[1].partition(" ")
    if first not in _FRAME_COLUMNS[0] or rest.split() != _FRAME_COLUMNS[1].split():
        return None
    table = Table(file)
    labels: dict[str, dict[str, None]] = {}
    for number, line in content_lines(file):
        if number == header[0]:
            continue
        cells = line.split()
        found = cells[4].strip('"').split(",") if len(cells) == 5 else ["?"]
        numbers = [one for one in found if one]
        if not all(one.isascii() and one.isdecimal() for one in numbers):
            raise DataError(
                f"{file}:{number}: '{shown(line)}'", "expected 'name 0 0 name/1.jpg \"3,7\"'"
            )
        folder = os.path.dirname(cells[3])
        if folder not in labels:
            labels[folder] = {}
            table.lines.append(number)
        labels[folder] |= dict.fromkeys(numbers)
    base = options.base_of(file)
    table.paths = [os.path.join(base, folder) for folder in labels]
    table.form = "PySlowFast's list of frames: folders of frames"
    if options.labeled:
        if not any(labels.values()):
            raise NoLabelsError(
                f"{file}: no frame has a label",
                "this list names the frames only: pass the one with the labels, as train.json",
            )
        table.labels = ["".join(f"{one}|" for one in found) or "|" for found in labels.values()]
        table.form += ", each with all labels of its frames"
    return table

"""Annotations of boxes, which are for detection: known, so that they are not taken for others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...errors import DataError
from .access import content_lines
from .options import SourceOptions
from .table import Table

_HINT = (
    "pass --task detect to train on boxes, and a model of such a training to score in them; to "
    "classify whole clips, list them as 'path label' or as a csv with path, label, start and end"
)
_CORNERS = frozenset(("x1", "xmin", "x_min", "xtl", "bbox", "boxes", "bbox_x", "box"))
_COCO = frozenset(("images", "annotations", "categories"))


def ava_list(file: str, options: SourceOptions) -> Table | None:
    """Never rows: refuses a list of AVA, ``video,second,x1,y1,x2,y2,action,person`` lines.

    Raises:
        DataError: the list is one.
    """
    number, line = next(content_lines(file), (0, ""))
    cells = [cell.strip() for cell in line.split(",")] if len(line) < 1000 else []
    box = [_fraction(cell) for cell in cells[2:6]]
    if len(cells) not in (7, 8) or _fraction(cells[1], 1e6) is None or None in box:
        return None
    raise DataError(f"{file}:{number}: a list of AVA, one box and action of a person a line", _HINT)


def _fraction(cell: str, most: float = 1.0) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value <= most else None


def refuse_box_columns(where: str, names: Collection[str]) -> None:
    """Refuse a header that names the corners of boxes.

    Raises:
        DataError: it does.
    """
    found = next((name for name in names if name in _CORNERS), None)
    if found is not None:
        raise DataError(f"{where}: column '{found}' says that these are boxes", _HINT)


def refuse_box_objects(where: str, value: Any) -> None:
    """Refuse a json object of COCO's form.

    Raises:
        DataError: it is one.
    """
    if isinstance(value, Mapping) and value.keys() >= _COCO:
        raise DataError(f"{where}: boxes in COCO's form (images, annotations, categories)", _HINT)

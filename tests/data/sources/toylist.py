"""A data format of one file: `toylist`, which the tests add to the library by one line.

A ``.toylist`` names a class in brackets and then its clips, one a line, until the next class::

    [jump]
    a.mp4
    b.mp4
"""

from __future__ import annotations

import os

from vidinit.data.sources.access import content_lines, suffix_of
from vidinit.data.sources.options import SourceOptions
from vidinit.data.sources.table import Table
from vidinit.errors import DataError


def toylist(file: str, options: SourceOptions) -> Table | None:
    """The clips of a ``.toylist``, each with the class above it."""
    if suffix_of(file) != ".toylist":
        return None
    table, label = Table(file), None
    for number, line in content_lines(file):
        if line.startswith("["):
            label = line.strip("[]")
            continue
        if label is None:
            raise DataError(f"{file}:{number}: no class stands above '{line}'", "write [class]")
        table.paths.append(os.path.join(options.base_of(file), line))
        table.labels.append(label)
        table.lines.append(number)
    return table

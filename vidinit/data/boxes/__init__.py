"""Boxes of actions in videos: every form of annotation to videos and boxes in columns.

The videos are `Rows`, as everywhere, without labels; the boxes stand beside them (`columns.Boxes`).
Which form a file has is seen from what is in it, in the order of `FORMS`:

- a csv of one's own with a header: see `own_csv`;
- AVA's lists, with exclusions and class names beside them, and files of proposals: see `ava`;
- JHMDB-GT, UCF101v2-GT and others of that form, and pyannot.pkl: see `tube_files`, and
  `plain_pickle` for how they are read without running anything;
- finalAnnots.mat: see `mat_file`;
- CVAT for video: see `cvat`; COCO: see `coco`.

No video is opened here: frames of times, and fractions of pixels, follow from the probes of the
videos (`located`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...errors import DataError, UsageError
from ..sources.access import require_existing
from ..sources.classes import read_class_names
from .ava import ava_csv
from .coco import coco_json
from .collect import BoxOptions, BoxPart, Collected
from .columns import Boxes
from .cvat import cvat_xml
from .mat_file import mat_file
from .own_csv import own_csv
from .tube_files import pickle_file

__all__ = ["FORMS", "BoxPart", "Boxes", "read_boxes", "try_boxes"]

FORMS: tuple[Callable[[str, BoxOptions], Collected | None], ...] = (
    pickle_file,
    mat_file,
    cvat_xml,
    coco_json,
    ava_csv,
    own_csv,
)
"""All forms, in the order in which they are asked: the first that does not say None is it."""


def read_boxes(
    path: str | Path,
    *,
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    split: int = 1,
    find: bool = True,
) -> list[BoxPart]:
    """The videos and boxes of a file of annotations, by part.

    What it was taken for, and all that was left out of it, is said by a ``UserWarning`` each.

    Args:
        path: the file.
        root: folder of the videos; default: that of the file.
        class_names: file with the class names in order; default: the file's own, else sorted.
        split: which official split of JHMDB.
        find: look for the videos below the root where the file names them without a suffix; else
            a row's path is that name.

    Raises:
        UsageError: nothing is there, or it is another kind of file.
        DataError: it holds no box, or something in it is wrong; file and line, or key, are named.
    """
    parts = try_boxes(path, root=root, class_names=class_names, split=split, find=find)
    if parts is None:
        raise DataError(
            f"{path} holds no boxes in a known form",
            "a csv has the header path,frame,x1,y1,x2,y2,label; other forms are in the guide",
        )
    return parts


def try_boxes(
    path: str | Path,
    *,
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    split: int = 1,
    find: bool = True,
) -> list[BoxPart] | None:
    """`read_boxes`, but None where the file is of no form with boxes."""
    file = require_existing(os.path.expanduser(path))
    if os.path.isdir(file):
        return None
    if root is not None and not os.path.isdir(os.path.expanduser(root)):
        raise UsageError(f"{root} is no folder", "data.root is the folder of the videos")
    options = BoxOptions(
        root=None if root is None else os.path.expanduser(root),
        names=None if class_names is None else read_class_names(os.path.expanduser(class_names)),
        split=split,
        find=find,
    )
    for form in FORMS:
        found = form(file, options)
        if found is not None:
            return found.parts(options)
    return None

"""finalAnnots.mat of UCF101-24: the same tubes as pyannot.pkl, counted in Matlab's way.

A struct array ``annot`` with ``name``, ``num_imgs`` and ``tubes`` a video; a tube has ``class``
(from 1), ``sf`` and ``ef``, which count **from 1** and are **both part of it**, and ``boxes`` of x,
y, width and height.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import DataError
from ..sources.access import shown, suffix_of
from ..sources.classes import ClassList
from .collect import BoxOptions, Collected, refuse
from .plain_mat import read_plain_mat
from .tube_files import UCF24, corners, table_of, whole_frames

_TUBE = ("class", "sf", "ef", "boxes")
_HINT = "expected annot(i).name and .tubes, with class, sf, ef and boxes, as finalAnnots.mat has it"


def mat_file(file: str, options: BoxOptions) -> Collected | None:
    """The boxes of finalAnnots.mat.

    Raises:
        DataError: it is another file of Matlab, or something in it is wrong.
    """
    if suffix_of(file) != ".mat":
        return None
    videos = read_plain_mat(file, "annot")
    if not isinstance(videos, list) or not videos or not isinstance(videos[0], dict):
        raise DataError(f"{file} has no struct 'annot'", _HINT)
    found = Collected(
        file,
        unit=", tube ",
        names=ClassList(UCF24, file),
        names_only=True,
        folders=("Frames", "rgb-images"),
        form=(
            "UCF101-24 in the form of finalAnnots.mat: frames from 1, both ends part of a tube, "
            "boxes of x, y, width and height"
        ),
    )
    number = 0
    for place, entry in enumerate(videos, 1):
        video, tubes = entry.get("name"), entry.get("tubes")
        if not isinstance(video, str) or not video:
            refuse(f"{file}, video {place}", video, "a video has a name")
        where = f"{file}, '{shown(video)}'"
        if not isinstance(tubes, list):  # one without tubes has an empty matrix there
            if np.size(tubes):
                refuse(where, tubes, _HINT)
            continue
        for tube in tubes:
            number += 1
            _add(found, number, where, video, tube)
    return found


def _add(found: Collected, number: int, where: str, video: str, tube: Any) -> None:
    if not isinstance(tube, dict) or not {*_TUBE} <= tube.keys():
        refuse(where, tube, _HINT)
    label, first, last = (_whole(where, key, tube[key]) for key in ("class", "sf", "ef"))
    if not 1 <= label <= len(UCF24):
        refuse(where, label, f"classes count from 1 to {len(UCF24)}")
    boxes = table_of(f"{where}, boxes", tube["boxes"], 4)
    if last - first + 1 != len(boxes):
        refuse(where, (first, last), f"from sf to ef, {len(boxes)} boxes are expected")
    frames = whole_frames(where, np.arange(first - 1, last), "frames count from 1")
    found.add_tube(number, video, frames, corners(boxes), UCF24[label - 1], track=number)


def _whole(where: str, what: str, value: Any) -> int:
    fine = isinstance(value, np.ndarray) and value.size == 1
    if not fine or not np.isfinite(value).all() or value.item() % 1:
        refuse(where, value, f"{what} is a whole number")
    return int(value.item())

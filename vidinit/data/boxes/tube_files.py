"""Pickles of tubes: boxes of one action in successive frames.

- JHMDB-GT.pkl, UCF101v2-GT.pkl and others in the form of Kalogeiton et al. (ICCV 2017), MultiSports
  too: a dictionary with ``labels``, ``gttubes`` {video: {label: [(n, 5)]}}, ``nframes``,
  ``train_videos`` and ``test_videos`` (a list for each split) and ``resolution`` {video: (h, w)}.
  A row of a tube is the frame **from 1**, x1, y1, x2, y2 in pixels.
- pyannot.pkl of UCF101-24 (Singh et al., ICCV 2017): {video: {numf, label, annotations: [{sf, ef,
  label, boxes}]}}; ``sf`` counts from 0, ``ef`` is the frame behind the last; boxes are x, y, width
  and height, in 8 or 16 bits, of which the sum needs more. pyannot_with_class_names.pkl has it as
  ``db``, beside ``classes`` and ``trainvideos``.
- Proposals: {"video,0902": (n, 5)}, x1, y1, x2, y2 in fractions and a score.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import DataError, UsageError
from ..sources.access import shown, suffix_of
from ..sources.classes import ClassList
from ..sources.options import PartName
from .collect import MOST_FRAMES, BoxOptions, Collected, refuse
from .plain_pickle import read_plain_pickle

UCF24 = (
    *("Basketball", "BasketballDunk", "Biking", "CliffDiving", "CricketBowling", "Diving"),
    *("Fencing", "FloorGymnastics", "GolfSwing", "HorseRiding", "IceDancing", "LongJump"),
    *("PoleVault", "RopeClimbing", "SalsaSpin", "SkateBoarding", "Skiing", "Skijet"),
    *("SoccerJuggling", "Surfing", "TennisSwing", "TrampolineJumping", "VolleyballSpiking"),
    "WalkingWithDog",
)
"""The classes of UCF101-24 in the order of their ids."""

_FOLDERS = ("Frames", "rgb-images")
_EXPECTED = "expected JHMDB-GT.pkl, UCF101v2-GT.pkl, pyannot.pkl, or a pickle of proposals"


def pickle_file(file: str, options: BoxOptions) -> Collected | None:
    """The boxes of a pickle in one of these forms.

    Raises:
        DataError: it is another one, holds more than plain data, or something in it is wrong.
    """
    if suffix_of(file) not in (".pkl", ".pickle"):
        return None
    value = read_plain_pickle(file)
    if isinstance(value, Mapping):
        if "gttubes" in value:
            return _act(file, value, options)
        if "db" in value:
            return _ucf24(file, value["db"], value.get("classes"), value.get("trainvideos"))
        first = next(iter(value.values()), None)
        if isinstance(first, Mapping) and "annotations" in first:
            return _ucf24(file, value, None, None)
        if isinstance(first, np.ndarray) and "," in text_of(next(iter(value))):
            return _proposals(file, value)
    names = [shown(str(key)) for key in list(value)[:4]] if isinstance(value, Mapping) else []
    keys = ", ".join(names) or type(value).__name__
    raise DataError(f"{file} holds no boxes in a known form ({keys})", _EXPECTED)


def _act(file: str, value: Mapping[Any, Any], options: BoxOptions) -> Collected:
    labels = value.get("labels")
    tubes = value["gttubes"]
    if labels is None or not isinstance(tubes, Mapping):
        raise DataError(f"{file}: no 'labels' and 'gttubes' as ACT's files have them", _EXPECTED)
    names = _texts(f"{file}, labels", labels)
    parts = _split_of(file, value, options.split)
    found = Collected(
        file,
        unit=", tube ",
        names=ClassList(tuple(names), file),
        names_only=True,
        folders=_FOLDERS,
        form=(
            "tubes in the form of ACT: frames from 1, corners as the file has them"
            + (f", split {options.split}" if parts else "")
        ),
    )
    number = left_out = 0
    for key, by_label in tubes.items():
        video = text_of(key)
        where = f"{file}, gttubes['{shown(video)}']"
        if not isinstance(by_label, Mapping):
            refuse(where, by_label, "expected {label: [tubes]}")
        part: PartName | None = parts.get(video) if parts else "all"
        for label, several in by_label.items():
            if not _is_whole(label) or not 0 <= int(label) < len(names):
                refuse(where, label, f"labels are numbers from 0 to {len(names) - 1}")
            for tube in _listed(f"{where}[{label}]", several):
                number += 1
                array = table_of(f"{where}[{label}]", tube, 5)
                if part is None:
                    left_out += 1
                    continue
                frames = whole_frames(where, array[:, 0] - 1, "frames count from 1")
                box = array[:, 1:]
                found.add_tube(
                    number, video, frames, box, names[int(label)], track=number, part=part
                )
    if left_out:
        found.notes.append(f"{left_out:,} tubes of videos in no part of split {options.split}")
    return found


def split_numbers(file: str) -> list[int]:
    """The official splits that a file of ACT's form has, from 1 on; none of another file.

    Raises:
        DataError: it is no whole pickle, or asks for anything but plain data.
    """
    if suffix_of(file) != ".pkl" or not os.path.isfile(file):
        return []
    value = read_plain_pickle(file)
    parts = value.get("train_videos") if isinstance(value, Mapping) else None
    return list(range(1, len(parts) + 1)) if isinstance(parts, (list, tuple)) else []


def _split_of(file: str, value: Mapping[Any, Any], split: int) -> dict[str, PartName]:
    """The part of each video in a split; nothing where the file has none.

    Raises:
        UsageError: there is no such split.
    """
    lists = [value.get(name) for name in ("train_videos", "test_videos")]
    if not all(isinstance(one, (list, tuple)) for one in lists):
        return {}
    train, test = lists
    assert train is not None and test is not None
    if not 1 <= split <= min(len(train), len(test)):
        most = min(len(train), len(test))
        raise UsageError(f"{file} has no split {split}", f"data.split runs from 1 to {most}")
    first = _texts(f"{file}, train_videos", train[split - 1])
    second = _texts(f"{file}, test_videos", test[split - 1])
    parts: dict[str, PartName] = dict.fromkeys(first, "train")
    return parts | dict.fromkeys(second, "test")


def _ucf24(file: str, videos: Any, classes: Any, train: Any) -> Collected:
    if not isinstance(videos, Mapping):
        refuse(f"{file}, db", videos, "expected {video: {numf, label, annotations}}")
    names = UCF24 if classes is None else tuple(_texts(f"{file}, classes", classes))
    known = None if train is None else set(_texts(f"{file}, trainvideos", train))
    found = Collected(
        file,
        unit=", tube ",
        names=ClassList(names, file),
        names_only=True,
        folders=_FOLDERS,
        form=(
            "UCF101-24 in the form of pyannot.pkl: frames from 0, the end not part of a tube, "
            "boxes of x, y, width and height"
        ),
    )
    number = late = 0
    for key, entry in videos.items():
        video = text_of(key)
        where = f"{file}, '{shown(video)}'"
        if not isinstance(entry, Mapping) or "annotations" not in entry:
            refuse(where, entry, "expected {numf, label, annotations}")
        part: PartName = "all" if known is None else "train" if video in known else "test"
        for tube in _listed(where, entry["annotations"]):
            number += 1
            if not isinstance(tube, Mapping):
                refuse(where, tube, "a tube is {sf, ef, label, boxes}")
            boxes = table_of(f"{where}, boxes", tube.get("boxes"), 4)
            label = _whole(where, "label", tube.get("label", entry.get("label")))
            # In Python's integers: numpy's of 8 bits would wrap around.
            first, end = (_whole(where, key, tube.get(key)) for key in ("sf", "ef"))
            if not 0 <= label < len(names):
                refuse(where, label, f"labels are numbers from 0 to {len(names) - 1}")
            if end - first != len(boxes):
                refuse(where, (first, end), f"from sf to ef, {len(boxes)} boxes are expected")
            frames = np.arange(first, end)
            late += _is_whole(entry.get("numf")) and end > int(entry["numf"])
            found.add_tube(
                number,
                video,
                whole_frames(where, frames, "frames count from 0"),
                corners(boxes),
                names[label],
                track=number,
                part=part,
            )
    if known is not None and (unknown := known - {text_of(key) for key in videos}):
        found.notes.append(
            f"{len(unknown)} of its training videos have no boxes, as {shown(min(unknown))}"
        )
    if late:
        found.notes.append(f"{late:,} tubes go on behind the end of their video (numf)")
    return found


def _proposals(file: str, value: Mapping[Any, Any]) -> Collected:
    found = Collected(
        file,
        unit=", key frame ",
        what="time",
        fractions=True,
        form="proposals of AVA: boxes in fractions with a score, without actions",
    )
    for number, (key, boxes) in enumerate(value.items(), 1):
        video, _, second = text_of(key).rpartition(",")
        where = f"{file}, '{shown(text_of(key))}'"
        array = table_of(where, boxes, 5)
        if not video or not second.strip().isdecimal():
            refuse(file, text_of(key), "keys are 'video,second'")
        if array.size and not (array[:, :4].min() >= -0.01 and array[:, :4].max() <= 1.01):
            refuse(where, array[:, :4].max(), "corners are fractions, from 0 to 1")
        times = np.full(len(array), float(second))
        found.add_tube(number, video, times, array[:, :4], "", scores=array[:, 4])
    return found


def corners(boxes: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of boxes of x, y, width and height, float64 (n, 4)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def table_of(where: str, value: Any, width: int) -> np.ndarray:
    """An array (n, width) of finite numbers as float64, in which no sum wraps around.

    Raises:
        DataError: it is none.
    """
    fine = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    if not fine or value.ndim != 2 or value.shape[1] != width:
        shape = value.shape if isinstance(value, np.ndarray) else type(value).__name__
        raise DataError(f"{where}: boxes are {shape}", f"expected an array (n, {width}) of numbers")
    found = np.asarray(value, dtype=np.float64)
    if not np.isfinite(found).all():
        raise DataError(f"{where}: a coordinate is not a number (nan or infinite)")
    return found


def whole_frames(where: str, frames: np.ndarray, hint: str) -> np.ndarray:
    """Numbers of frames from 0.

    Raises:
        DataError: one is none.
    """
    wrong = frames[(frames < 0) | (frames > MOST_FRAMES) | (frames % 1 != 0)]
    if len(wrong):
        raise DataError(f"{where}: frame {wrong[0]:g}, counted from 0, is none", hint)
    return frames


def _listed(where: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        refuse(where, value, "expected a list of tubes")
    return list(value)


def _texts(where: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.ndim):
        refuse(where, value, "expected a list of names")
    return [text_of(one) for one in value]


def text_of(value: Any) -> str:
    """A text, also of numpy or of bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _whole(where: str, what: str, value: Any) -> int:
    if not _is_whole(value):
        refuse(where, value, f"{what} is a whole number")
    return int(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

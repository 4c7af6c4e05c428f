"""Folders of NTU RGB+D and Toyota Smarthome, whose file names say class, subject and camera.

Their official parts are made of these, so that ``data.split`` picks one of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import DataError
from .access import MEDIA_SUFFIXES, suffix_of
from .folders import clips_below, walk
from .options import PartName, SourceOptions
from .table import Table

# Subjects of training by the papers: Shahroudy et al., CVPR 2016, and Liu et al., TPAMI 2019, of
# which the first 40 subjects are those of the former; Das et al., ICCV 2019.
_NTU_SUBJECTS = frozenset(
    (
        *(1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49),
        *(50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92),
        *(93, 94, 95, 97, 98, 100, 103),
    )
)
_SMARTHOME_SUBJECTS = frozenset((3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25))

Name = dict[str, str]
"""Parts of a file name: ``label``, ``subject``, ``camera``, and of NTU ``setup``."""


def _either(training: bool) -> PartName:
    return "train" if training else "val"


def _smarthome_view(training: frozenset[int]) -> Callable[[Name], PartName | None]:
    parts: dict[int, PartName] = {5: "val", 2: "test", **dict.fromkeys(training, "train")}
    return lambda name: parts.get(int(name["camera"]))


@dataclass(frozen=True)
class _Set:
    """A data set.

    Attributes:
        name: of it.
        pattern: of a file's name without suffix.
        splits: name of each official split, and the part of a file in it; None for in no part.
    """

    name: str
    pattern: re.Pattern[str]
    splits: tuple[tuple[str, Callable[[Name], PartName | None]], ...]


_SETS = (
    _Set(
        "NTU RGB+D",
        re.compile(
            r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R\d{3}(?P<label>A\d{3})(?:_rgb)?"
        ),
        (
            ("cross-subject", lambda name: _either(int(name["subject"]) in _NTU_SUBJECTS)),
            ("cross-view", lambda name: _either(int(name["camera"]) in (2, 3))),
            ("cross-setup", lambda name: _either(int(name["setup"]) % 2 == 0)),
        ),
    ),
    _Set(
        "Toyota Smarthome",
        re.compile(r"(?P<label>[A-Z][\w.]*)_p(?P<subject>\d+)_r\d+_v\d+_c(?P<camera>\d+)"),
        (
            ("cross-subject", lambda name: _either(int(name["subject"]) in _SMARTHOME_SUBJECTS)),
            ("cross-view 1", _smarthome_view(frozenset((1,)))),
            ("cross-view 2", _smarthome_view(frozenset((1, 3, 4, 6, 7)))),
        ),
    ),
)


def named_files(folder: str, options: SourceOptions) -> Table | None:
    """The clips of one of these sets, with the parts of official split ``options.split``.

    All clips at any depth must be named so, and some folder must hold several classes: folders of a
    class each are read as what they are. 1 is the split by subject; of NTU RGB+D 2 is that by
    camera and 3 that by setup, of Toyota Smarthome 2 and 3 are those by camera.

    Raises:
        DataError: there is no such split.
    """
    first = _first_clip(folder) if options.labeled else ""
    known = next((one for one in _SETS if one.pattern.fullmatch(first)), None)
    if known is None:
        return None
    clips = clips_below(folder, options.kinds, is_class=False)
    names = [known.pattern.fullmatch(os.path.splitext(os.path.basename(clip))[0]) for clip in clips]
    found = [match.groupdict() for match in names if match is not None]
    inside = {(os.path.dirname(c), f["label"]) for c, f in zip(clips, found, strict=False)}
    if len(found) < len(clips) or len({parent for parent, _ in inside}) == len(inside):
        return None
    if not 1 <= options.split <= len(known.splits):
        raise DataError(
            f"{folder} has no split {options.split}",
            "data.split is "
            + ", ".join(f"{i} ({name})" for i, (name, _) in enumerate(known.splits, 1)),
        )
    split, part_of = known.splits[options.split - 1]
    table = Table(folder, names_only=True)
    for clip, name in zip(clips, found, strict=True):
        if (part := part_of(name)) is not None:
            table.paths.append(clip)
            table.labels.append(name["label"])
            table.parts.append(part)
    left_out = len(clips) - len(table.paths)
    table.form = f"{known.name}, classes by file names, split {options.split} ({split})"
    table.form += f"; {left_out} clips are in none of its parts" if left_out else ""
    return table


def _first_clip(folder: str) -> str:
    """The name without suffix of some media file at any depth."""
    for _, _, names in walk(folder):
        for name in names:
            if suffix_of(name) in MEDIA_SUFFIXES:
                return os.path.splitext(name)[0]
    return ""

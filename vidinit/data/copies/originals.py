"""The videos that `prepare` starts from, and the names of their copies.

Copies lie as their originals do below the source, or below the folder that a list's paths are
relative to; a member of an archive lies in a folder called as the archive; and a file that is
listed but lies elsewhere is called by its absolute path. The suffix becomes ``.mp4``, which is how
annotations that go by a video's id still find it, but where two videos of a folder differ in their
suffix alone, ``.mp4`` is added. That does not depend on which of them is listed, so copies of
several lists of the same videos may share a folder.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..index.cache import file_key
from ..readers import archives
from ..rows import VIDEO_SUFFIXES, Label, LabelKind, Rows
from ..sources.access import MEDIA_SUFFIXES, suffix_of
from ..sources.folders import clips_below
from ..sources.formats import read
from ..sources.options import SourceOptions
from ..sources.parts import join
from ..sources.table import Part

_LABELS: dict[LabelKind, list[str]] = {
    "single": ["label"],
    "multi": ["labels"],
    "pair": ["verb", "noun"],
}


@dataclass(frozen=True)
class Originals:
    """The videos of a source.

    Attributes:
        source: where they were found.
        names: what the copy of each is called, a path with ``/`` below the target, by the path as
            rows have it, in the order of the names.
        parts: the rows of a list or of archives; none for a folder or a file.
    """

    source: str
    names: dict[str, str]
    parts: tuple[Part, ...] = ()

    @property
    def in_frames(self) -> bool:
        """True where a list counts the segments of its videos in frames."""
        return any(row.in_frames for part in self.parts for row in part.rows.rows)


def find(source: str, root: str | None = None) -> Originals:
    """The videos of a folder, or those that a list or archives name.

    Raises:
        UsageError: nothing exists there, or it is neither media nor text.
        DataError: no video was found or listed, or two would become one file.
    """
    source = os.path.expanduser(source)
    if os.path.isdir(source) and (clips := clips_below(source, "video", is_class=False)):
        return Originals(source, _names(clips, source))
    parts = _parts(source, root)
    paths = dict.fromkeys(row.path for part in parts for row in part.rows.rows)
    base = source if os.path.isdir(source) else SourceOptions(root=root).base_of(source)
    names = _names(paths, base)
    one_file = suffix_of(source) in MEDIA_SUFFIXES
    return Originals(source, names, () if one_file else tuple(parts))


def _parts(source: str, root: str | None) -> list[Part]:
    """The rows of a list or of archives, with labels if they have any."""
    bare = SourceOptions(root=root, labeled=False)
    if suffix_of(source) in MEDIA_SUFFIXES:
        return read(source, bare)
    try:
        return read(source, SourceOptions(root=root))
    except DataError as error:
        parts = read(source, bare)
        warnings.warn(f"the labels are left out: {error.message}", stacklevel=4)
        return parts


def _names(paths: Iterable[str], base: str) -> dict[str, str]:
    places = {path: _place(path, base) for path in paths}
    stems = Counter(map(_stem, _with_siblings(places)))
    names = {
        path: (place if stems[_stem(place)] > 1 else _stem(place)) + ".mp4"
        for path, place in places.items()
    }
    first: dict[str, str] = {}
    for path, name in names.items():
        # Lists may call one file by several names.
        if file_key(other := first.setdefault(name, path)) != file_key(path):
            raise DataError(f"{other} and {path} would both become {name}", "rename one of them")
    return dict(sorted(names.items(), key=lambda item: item[1].split("/")))


def _place(path: str, base: str) -> str:
    """Where an original lies below its base, with ``/``."""
    member = archives.parse(path)
    if member is not None:
        folder = os.path.splitext(_place(member.archive, base))[0]
        return posixpath.join(folder, posixpath.normpath("/" + member.member).lstrip("/"))
    absolute, start = os.path.abspath(path), os.path.join(os.path.abspath(base), "")
    below = absolute.startswith(start)
    place = absolute[len(start) :] if below else os.path.splitdrive(absolute)[1]
    return place.replace(os.sep, "/").lstrip("/")


def _with_siblings(places: dict[str, str]) -> set[str]:
    """The places of the originals, and of the other videos in their folders."""
    found = set(places.values())
    folders: dict[str, str] = {}
    for path, place in places.items():
        if archives.parse(path) is None:
            folders.setdefault(os.path.dirname(path), posixpath.dirname(place))
    for folder, place in folders.items():
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:
            continue  # its videos are missing, which is for each of them to say
        found.update(
            posixpath.join(place, name) for name in names if suffix_of(name) in VIDEO_SUFFIXES
        )
    return found


def _stem(place: str) -> str:
    """A place without the suffix of a video; a folder of images has none."""
    return os.path.splitext(place)[0] if suffix_of(place) in MEDIA_SUFFIXES else place


def write_list(originals: Originals, target: Path, place: Path) -> Path | None:
    """Write a list of the copies, where the originals came from one: a csv as `sources` reads it.

    Beside ``NAME.csv`` stands ``NAME.classes.json`` with the class names in order, for
    ``class_names``: names alone would be sorted. Rows whose copy fails are listed too, for an
    evaluation must miss them rather than pass them over.

    Args:
        originals: what the copies are made of.
        target: folder of the copies, in which the list is written.
        place: folder on the same disk, where files may grow.

    Returns:
        The list, or None where there is none to write.
    """
    if not originals.parts:
        return None
    source = os.path.basename(os.path.normpath(originals.source))
    name = os.path.splitext(source)[0].replace("{", "").replace("}", "")
    joined = join(originals.parts)
    if joined.classes is not None and joined.kind != "pair":
        text = json.dumps(joined.classes, indent=0, ensure_ascii=False)
        _put(target / f"{name}.classes.json", text, place)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    timed = any(row.start is not None or row.end is not None for row in joined.rows)
    several = len(originals.parts) > 1
    labels = [] if joined.classes is None else _LABELS[joined.kind]
    in_frames = timed and originals.in_frames
    times = ["start_frame", "end_frame"] if in_frames else ["start", "end"] * timed
    split = ["split"] * several
    grouped = any(row.group is not None for row in joined.rows)
    writer.writerow(["path", *labels, *times, *["group"] * grouped, *split])
    for part in originals.parts:
        for row in part.rows.rows:
            cells = [originals.names[row.path], *_words(row.label, part.rows)]
            if timed:
                word = str if in_frames else repr
                cells += ["" if at is None else word(at) for at in (row.start, row.end)]
            if grouped:
                cells.append(row.group or "")
            writer.writerow([*cells, part.name] if several else cells)
    _put(target / f"{name}.csv", buffer.getvalue(), place)
    return target / f"{name}.csv"


def _put(file: Path, text: str, place: Path) -> None:
    """A file appears with all of its text, or not at all."""
    place.mkdir(parents=True, exist_ok=True)
    partial = place / file.name
    # A name of other bytes than UTF-8 is written as it is.
    partial.write_text(text, encoding="utf-8", errors="surrogateescape")
    os.replace(partial, file)


def _words(label: Label, meaning: Rows) -> list[str]:
    """A label as the cells of a row."""
    if label is None or meaning.classes is None:
        return []
    if isinstance(label, int):
        return [meaning.classes[label]]
    if meaning.kind == "pair" and meaning.nouns is not None:
        return [meaning.classes[label[0]], meaning.nouns[label[1]]]
    # A separator at the end says that there could be more.
    return ["".join(f"{meaning.classes[one]}|" for one in label) or "|"]

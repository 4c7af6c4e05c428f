"""Checkpoints on disk: whole or recognized as damaged, in rotation, findable as `last` and `best`.

A checkpoint is a folder ``step_00000500``. It is written under a hidden name, sealed by a manifest
of all its files, and renamed, so that a kill at any moment leaves either all of it or none.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path

MANIFEST = "manifest.json"


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return checkpoints / f"step_{step:08d}"


def new_name(final: Path) -> Path:
    """Where a checkpoint is written before it is renamed."""
    return final.with_name(f".{final.name}.new")


def step_of(folder: Path) -> int:
    """The step of a checkpoint's folder, by its name."""
    return int(folder.name.removeprefix("step_"))


def step_folders(checkpoints: Path) -> list[Path]:
    """All checkpoints, whole or not, the newest first."""
    folders = [p for p in checkpoints.glob("step_*") if p.name[5:].isdigit()]
    return sorted(folders, key=step_of, reverse=True)


def seal(folder: Path) -> None:
    """Bring all files of a folder to the disk and write down their sizes and checksums.

    Raises:
        OSError: when the disk does not take them.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        _flush(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "crc32": _crc32(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
    _flush(manifest)


def damage(folder: Path, *, contents: bool) -> str | None:
    """The damage of a checkpoint in words, or None.

    Args:
        folder: a checkpoint.
        contents: read all files and compare their checksums, too, not only their sizes.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, recorded in files.items():
            size = (folder / name).stat().st_size
            if size != recorded["bytes"]:
                return f"{name} has {size} of {recorded['bytes']} bytes"
            if contents and _crc32(folder / name) != recorded["crc32"]:
                return f"{name} is not what was written"
    except OSError as error:
        return f"{Path(error.filename or MANIFEST).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    return None


def newest(checkpoints: Path) -> Path | None:
    """The latest checkpoint whose files are there in full size, or None."""
    folders = step_folders(checkpoints)
    return next((p for p in folders if damage(p, contents=False) is None), None)


def put(new: Path, final: Path) -> None:
    """Rename a sealed folder to its place; what was there stays until then."""
    aside = final.with_name(f".{final.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if final.exists():
        final.rename(aside)
    new.rename(final)
    _flush(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def tidy(checkpoints: Path) -> None:
    """Clear away what a killed process left behind."""
    for aside in checkpoints.glob(".step_*.old"):
        final = aside.with_name(aside.name[1 : -len(".old")])
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(final)
    for half in checkpoints.glob(".step_*.new"):
        shutil.rmtree(half, ignore_errors=True)
    for name in ("last", "best"):
        _new_link(checkpoints, name).unlink(missing_ok=True)


def rotate(saved: Path, keep: int, best_step: int | None) -> None:
    """Drop checkpoints that are no longer wanted.

    Args:
        saved: the one just written. Later ones are what a resumed run did not go on from.
        keep: how many of the newest stay; at least this one.
        best_step: the step of one more that stays.
    """
    checkpoints = saved.parent
    earlier = [
        folder
        for folder in step_folders(checkpoints)
        if step_of(folder) < step_of(saved) and damage(folder, contents=False) is None
    ]
    best = [] if best_step is None else [folder_of(checkpoints, best_step)]
    kept = {saved, *earlier[: keep - 1], *best}
    for folder in step_folders(checkpoints):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def point(checkpoints: Path, name: str, folder: Path) -> None:
    """Let ``last`` or ``best`` mean a checkpoint: a symlink, else a text file with its name.

    Where the checkpoint is gone, the name goes, too.
    """
    link, temporary = checkpoints / name, _new_link(checkpoints, name)
    if link.is_dir() and not link.is_symlink():  # a copied run: the copy followed the links
        shutil.rmtree(link)
    if not folder.is_dir():
        link.unlink(missing_ok=True)
        return
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(folder.name, target_is_directory=True)
    except (OSError, NotImplementedError):  # Windows without the right, or a FAT disk
        temporary.write_text(folder.name + "\n", encoding="utf-8")
    os.replace(temporary, link)


def _new_link(checkpoints: Path, name: str) -> Path:
    """Where ``last`` or ``best`` is written before it is renamed."""
    return checkpoints / f".{name}.new"


def pointed(checkpoints: Path, name: str) -> Path | None:
    """The checkpoint that ``last`` or ``best`` means, or None."""
    link = checkpoints / name
    try:
        target = os.readlink(link) if link.is_symlink() else link.read_text(encoding="utf-8")
    except OSError:
        return None
    folder = checkpoints / Path(target.strip()).name
    return folder if folder.is_dir() else None


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where the system can tell."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""The machine: folders, disks, memory that processes share, cores, open files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..engine.live_table import size
from ..files import cache_folder
from .finding import Finding, Status

_GIB = 1 << 30
_LITTLE, _TOO_LITTLE = 5 * _GIB, _GIB // 4  # free bytes where runs are written
_CACHE = _GIB // 4
_SHARED = _GIB  # of /dev/shm, which several GPUs talk through
_FILES = 1024  # open at once; a worker needs tens
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def machine() -> Iterator[Finding]:
    """Checks of the machine, but for the devices that compute."""
    try:
        yield working_folder(Path.cwd())
    except FileNotFoundError:
        yield Finding("working folder", "fail", "it was deleted", "start in another folder")
    yield cache(cache_folder)
    yield temporary_folder()
    yield shared_memory(Path("/dev/shm"))
    yield cores()
    yield open_files()


def working_folder(folder: Path) -> Finding:
    """Free disk where `runs/` is made by default."""
    free = shutil.disk_usage(folder).free
    found = f"{folder}: {size(free)} free"
    if problem := _unwritable(folder):
        return Finding(
            "working folder",
            "warn",
            f"{found}, but not writable ({problem})",
            "name a folder with --out, or start elsewhere",
        )
    if free < _LITTLE:
        status: Status = "fail" if free < _TOO_LITTLE else "warn"
        advice = "make room, or name a folder on another disk with --out"
        return Finding("working folder", status, found, advice)
    return Finding("working folder", "ok", found)


def cache(where: Callable[[], Path]) -> Finding:
    """The folder of probes of files; without it, each run probes its files anew."""
    try:
        folder = where()
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
    except RuntimeError as error:
        return Finding("cache folder", "warn", str(error), "set XDG_CACHE_HOME")
    free = shutil.disk_usage(nearest).free
    found = f"{folder}: {size(free)} free"
    problem = _unwritable(nearest)
    if problem or free < _CACHE:
        why = f"{found}, but not writable ({problem})" if problem else found
        return Finding("cache folder", "warn", why, "set XDG_CACHE_HOME to a folder with room")
    return Finding("cache folder", "ok", found)


def temporary_folder() -> Finding:
    """The folder for temporary files, and whether one can be made there."""
    advice = "set TMPDIR to a folder that can be written"
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            file.flush()
    except OSError as error:
        return Finding("temporary folder", "fail", str(error), advice)
    return Finding(
        "temporary folder", "ok", f"{folder}: {size(shutil.disk_usage(folder).free)} free"
    )


def shared_memory(folder: Path) -> Finding:
    """The memory that containers keep small. Our workers do not use it, several GPUs do (NCCL)."""
    if not folder.is_dir():
        return Finding("shared memory", "none", f"no {folder} on this system; none is needed")
    total = shutil.disk_usage(folder).total
    found = f"{folder}: {size(total)}; workers do not use it, NCCL between GPUs does"
    if total < _SHARED and len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) > 1:
        return Finding("shared memory", "warn", found, "docker run --shm-size=8g (or --ipc=host)")
    return Finding("shared memory", "ok", found)


def cores() -> Finding:
    """How many processors there are, and how many this process may use."""
    total = os.cpu_count() or 1
    usable = float(total)
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no number
        quota, period = _QUOTA.read_text().split()
        usable = min(usable, int(quota) / int(period))
    threads = os.environ.get("OMP_NUM_THREADS")
    found = f"{total}" + (f"; OMP_NUM_THREADS={threads}" if threads else "")
    if usable < total:
        count = max(1, int(usable))
        return Finding(
            "cores",
            "warn",
            f"{found}, of which this process may use {usable:g}",
            f"set OMP_NUM_THREADS={count} and data.workers={max(1, count - 1)}: defaults count all",
        )
    return Finding("cores", "ok", found)


def open_files() -> Finding:
    """How many files and sockets this process may have open at once."""
    try:
        import resource
    except ImportError:
        return Finding("open files", "none", "this system has no such limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "no limit")
    found = f"up to {soft}"
    if soft < _FILES:
        most = _FILES * 4 if hard == resource.RLIM_INFINITY else min(_FILES * 4, hard)
        return Finding("open files", "warn", found, f"`ulimit -n {most}` in the shell of the run")
    return Finding("open files", "ok", found)


def _unwritable(folder: Path) -> str:
    """Why no file can be made in a folder; empty where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__

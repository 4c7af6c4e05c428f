"""Files that appear whole or not at all, and folders that may be written into."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .console import say
from .errors import UsageError, VidinitError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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


def check_out(folder: Path, *, overwrite: bool = False, resume: bool | None = None) -> Path:
    """An output folder that may be written: absent, empty, or allowed to be replaced.

    Args:
        folder: the folder.
        overwrite: what vidinit wrote into it may be replaced.
        resume: go on in it; None of commands that do not go on with what was begun.

    Raises:
        UsageError: when it is a file, cannot be made, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file", "name a folder that is empty or absent")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if found and not (overwrite or resume):
        way = "name another folder, or pass --overwrite"
        if resume is not None and (folder / "config.yaml").is_file():
            way = "pass --resume to go on in it, or --overwrite to begin again, or name another"
        raise UsageError(f"--out {folder} is not empty", way)
    FolderLock.refuse_held(folder)
    if overwrite and (stranger := _stranger(folder)) is not None:
        raise UsageError(
            f"--overwrite would delete {stranger}, which vidinit did not write",
            "name another --out",
        )
    visible = any(not entry.name.startswith(".") for entry in found)
    if resume and visible and not (folder / "config.yaml").is_file():
        raise UsageError(f"--out {folder} holds no run to resume", "name the run's folder")
    check_writable(folder)
    return folder


def _stranger(folder: Path) -> Path | None:
    """A file that vidinit did not write in an output folder, or in one inside it; None for none.

    A set of runs holds output folders, each with a mark of its own.
    """
    ours = _marked(folder)
    known = _UNMARKED if ours is None else ours
    for entry in sorted(folder.glob("[!.]*")):
        if entry.name not in known:
            return entry
        is_output = not entry.is_symlink() and (entry / MARK).is_file()
        if is_output and (found := _stranger(entry)) is not None:
            return found
    return None


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


LOCK = ".lock"
"""A small file in a folder that a process writes: JSON with its host, its number, its start."""


class FolderLock:
    """The right to write into a folder, which one process at a time has.

    It is a lock of the system's on the file ``.lock`` in the folder (POSIX ``lockf``): the system
    gives it back when the process ends, however that happens, and child processes do not have it.
    Network disks share such locks between machines where they are NFS 4, NFS 3 with lockd, Lustre
    with ``flock``, or CephFS; on a disk without locks, and on Windows, nothing is locked.

    Args:
        folder: which is there.

    Raises:
        UsageError: another process has it; its number, host and start are told.
    """

    held: dict[Path, FolderLock] = {}  # noqa: RUF012
    """The locks of this process by folder; a second one of the same folder is the same lock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder.resolve(), folder.resolve() / LOCK
        self._handle: int | None = None

    @classmethod
    def take(cls, folder: Path) -> FolderLock:
        """The lock of a folder, taken now unless this process has it."""
        lock = cls.held.get(folder.resolve())
        if lock is not None and not lock.in_place():
            lock.release()
            lock = None
        if lock is None:
            lock = cls(folder)
            lock._acquire()
            cls.held[lock.folder] = lock
        return lock

    @classmethod
    def refuse_held(cls, folder: Path) -> None:
        """Raise UsageError if another process writes into a folder."""
        file = folder.resolve() / LOCK
        # To close a file gives back all of a process's locks on it, so its own is not looked at.
        if fcntl is None or folder.resolve() in cls.held or not file.is_file():
            return
        with suppress(OSError), file.open("r+b") as opened:
            try:
                fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise _in_use(folder, _holder(opened.fileno(), running=True)) from error

    def in_place(self) -> bool:
        """True while the folder is there and is the one that was locked."""
        if self._handle is None:
            return True
        try:
            return os.path.samestat(os.stat(self.file), os.fstat(self._handle))
        except OSError:
            return False

    def release(self) -> None:
        """Let others have the folder."""
        if self._handle is not None:
            if self.in_place():
                with suppress(OSError):
                    self.file.unlink()
            os.close(self._handle)
            self._handle = None
        if FolderLock.held.get(self.folder) is self:
            del FolderLock.held[self.folder]

    def _acquire(self) -> None:
        if fcntl is None:
            return
        while True:
            try:
                handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise UsageError(f"{self.folder} cannot be written ({error.strerror})") from error
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                held = error.errno in (errno.EACCES, errno.EAGAIN)
                other = _holder(handle, running=held)
                os.close(handle)
                if held:
                    raise _in_use(self.folder, other) from error
                say(f"note: the disk of {self.folder} has no locks ({error.strerror})")
                return
            self._handle = handle
            if self.in_place():  # not where its holder has just removed it
                break
            os.close(handle)
            self._handle = None
        if before := _holder(handle):
            say(f"{self.folder}: {_words(before)} has it no longer, it is taken over")
        own = {"host": socket.gethostname(), "pid": os.getpid(), "started": _now()}
        with suppress(OSError):  # on a full disk the lock is held, and says nothing of its holder
            # In one go, over all that an earlier holder wrote: others may read it at any time.
            os.pwrite(handle, json.dumps(own).ljust(_LINE - 1).encode() + b"\n", 0)


@contextmanager
def folder_locks() -> Iterator[None]:
    """A context that gives back, at its end, the locks of folders that were taken in it."""
    before = set(FolderLock.held)
    try:
        yield
    finally:
        for folder, lock in list(FolderLock.held.items()):
            if folder not in before:
                lock.release()


_LINE = 400  # bytes of a lock file


def _holder(handle: int, *, running: bool = False) -> dict[str, Any]:
    """The content of an open lock file; empty where it has none.

    With ``running`` it is waited for where the one who has the lock has not written it yet.
    """
    for _ in range(40 if running else 1):
        found = _read_holder(handle)
        here = found.get("host") == socket.gethostname()
        if found and not (running and here and not _runs(int(found["pid"]))):
            break
        if running:
            time.sleep(0.025)
    return found


def _runs(pid: int) -> bool:
    """True where a process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _read_holder(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, _LINE, 0))
        int(found["pid"])
        return {key: str(found[key]) for key in ("host", "pid", "started")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _words(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return "process {pid} on {host}, started {started},".format(**holder)


def _in_use(folder: Path, holder: dict[str, Any]) -> UsageError:
    return UsageError(
        f"{folder} is in use: {_words(holder)} writes into it",
        "wait until it has ended, or name another --out",
    )


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")

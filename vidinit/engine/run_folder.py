"""The folder of a run: configuration, metrics, health, checkpoints, model, report."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError, VidinitError
from ..files import LOCK, FolderLock, check_out, mark, written
from .trackers import Trackers

ORIGINS = "origins.json"
"""In a run's folder: dotted key to the place where the value of the setting comes from."""


def default_out(command: str, model: str) -> Path:
    """``runs/<command>-<model>-<n>`` with the first n that is free."""
    stem = re.sub(r"[^A-Za-z0-9._@+-]+", "_", f"{command}-{Path(model).name or model}")
    return free_name(Path("runs") / stem)


def free_name(place: Path) -> Path:
    """``place-<n>`` with the first n that is free."""
    n = 1
    while place.with_name(f"{place.name}-{n}").exists():
        n += 1
    return place.with_name(f"{place.name}-{n}")


class FolderLostError(VidinitError):
    """The folder of a run was removed, or another one is in its place: exit code 1."""


class RunFolder:
    """Paths and small files of one run. Only the main process writes, and no other run."""

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        self.root = root
        self.writes = writes
        self.metrics_file = root / "metrics.jsonl"
        self.checkpoints = root / "checkpoints"
        self.model = root / "model"
        self.trackers: Trackers | None = None
        self.config: dict[str, Any] | None = None
        self._lock: FolderLock | None = None
        self._marked: set[str] = set()

    @classmethod
    def open(
        cls,
        out: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        config: dict[str, Any] | None = None,
    ) -> RunFolder:
        """Make the folder, or enter it again; it is locked until `files.folder_locks` ends.

        Raises:
            UsageError: when it is not empty and neither flag says what to do, and when another
                process writes into it.
        """
        root = Path(out)
        run = cls(root)
        check_out(root, overwrite=overwrite, resume=resume)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {root} ({error.strerror})") from error
        run._lock = FolderLock.take(root)
        if overwrite and not resume:
            _empty(root)
        run.config = config
        mark(root, run.metrics_file.name, run.checkpoints.name, run.model.name)
        if config is not None:
            run.write("config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return run

    def write(self, name: str, text: str) -> None:
        """Write a small file under a temporary name, then rename it.

        Raises:
            VidinitError: the disk does not take it; what was there before is still there.
        """
        if not self.writes:
            return
        self.check()
        with written(self.claim(name)) as part:
            # A name of a file that is not UTF-8 is written as the bytes that it is.
            part.write_text(text, encoding="utf-8", errors="surrogateescape")

    def check(self) -> None:
        """Raise FolderLostError if the folder is gone, or another one is in its place."""
        if self.writes and self._lock is not None and not self._lock.in_place():
            what = "replaced by another" if self.root.is_dir() else "removed"
            raise FolderLostError(
                f"the folder {self.root} was {what} while the run was going on",
                "start it again in another --out",
            )

    def claim(self, name: str) -> Path:
        """The path of a file or folder about to be written; marked as ours to overwrite."""
        if self.writes and name not in self._marked:
            mark(self.root, name)
            self._marked.add(name)
        return self.root / name

    def write_json(self, name: str, value: Any) -> None:
        """`write` of indented JSON."""
        self.write(name, json.dumps(value, indent=2) + "\n")

    def log(self, **values: Any) -> None:
        """Append one line to metrics.jsonl, with its ``step``, and tell the trackers.

        Numbers that are not finite become null in the file.
        """
        if self.trackers is not None:
            self.trackers.log(values, values["step"])
        if self.writes:
            clean = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in values.items()
            }
            self.check()
            try:
                with self.metrics_file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(clean) + "\n")
            except OSError as error:
                raise VidinitError(
                    f"cannot write {self.metrics_file} ({error.strerror})",
                    "make room, then run the same command with --resume",
                ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl; a line cut off by a kill is dropped."""
        rows = []
        if self.metrics_file.is_file():
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return rows

    def drop_metrics_after(self, step: int, *, inside: bool) -> None:
        """Forget lines that a resumed run will write again.

        Args:
            step: the last step that is done.
            inside: whether it is inside an epoch: what ends that epoch is then still to come.
        """
        if self.writes and self.metrics_file.is_file():
            rows = [row for row in self.read_metrics() if row["step"] <= step]
            kept = [r for r in rows if "loss" in r or not inside or r["step"] < step]
            self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))


def _empty(root: Path) -> None:
    """Remove all that is in a folder but its lock, which this process has."""
    for entry in root.iterdir():
        if entry.name == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()

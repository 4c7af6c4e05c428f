"""Checks once, before a run, that every file decodes, so that no run fails over one.

A file is decoded in a process that can be killed (`pool`), because decoders hang and crash; what is
found is kept until the file changes (`cache`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from itertools import islice
from typing import Any, Literal

from ...errors import DataError
from ..readers import VideoReadError, probe
from ..rows import Probe, Row, Rows
from .cache import ProbeCache, Stamp, file_key, stamp_of
from .pool import Outcome, by_deadline, run_in_pool

__all__ = [
    "Health",
    "UnreadableError",
    "check",
    "known_probes",
    "probe_file",
    "quarantine",
    "remember",
]

Partial = Literal["keep", "drop"]
"""Ways to treat a file that is cut off or damaged: its beginning is kept, or it is bad."""

_SMALL = 1 << 26  # bytes up to which the deadline is as it is; above, it grows with the file
_AT_A_TIME = 500  # files that are looked up in one go
# Sizes and rates that are counted by name: a data set may hold images of as many sizes as files.
_MOST_COMMON = 20


@dataclass(frozen=True)
class Health:
    """Outcome of a check.

    Attributes:
        files: how many different files the rows have.
        good: the rows whose file can be read, in their order, each with its ``probe``; of a damaged
            file this is its beginning.
        bad: (path, reason) of every file that cannot be read, in their order.
    """

    files: int
    good: Rows
    bad: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The outcome in counts of files, ready for JSON; all values can be added up.

        ``{files, good, bad: [{path, reason}], reasons: {kind: files}, frames, hours, sizes:
        {"WIDTHxHEIGHT": files}, fps: {rate: files}, rotated, readers: {name: files}, outside:
        [{path, reason}], partial: [{path, kept, of, reason}]}``. ``sizes`` and ``fps`` name the 20
        most common ones and count the rest as "other". ``outside`` are rows whose segment begins
        behind the end of a good file. ``partial`` are good files whose beginning is kept, so many
        frames of so many (0: unknown).
        """
        probes = {row.path: row.probe for row in self.good.rows if row.probe is not None}
        values = probes.values()
        timed = [probe for probe in values if probe.fps > 0]
        return {
            "files": self.files,
            "good": self.files - len(self.bad),
            "bad": [{"path": path, "reason": reason} for path, reason in self.bad],
            "reasons": _counts(kind_of(reason) for _, reason in self.bad),
            "frames": sum(probe.num_frames for probe in values),
            "hours": round(sum(probe.num_frames / probe.fps for probe in timed) / 3600, 4),
            "sizes": _counts(f"{probe.width}x{probe.height}" for probe in values),
            "fps": _counts(f"{probe.fps:.4g}" for probe in timed),
            "rotated": sum(probe.rotation != 0 for probe in values),
            "readers": _counts(probe.reader for probe in values),
            "outside": [
                {"path": row.path, "reason": reason}
                for row in self.good.rows
                if (reason := _outside(row, row.probe))
            ],
            "partial": [
                {"path": path, "kept": probe.num_frames, "of": probe.total, "reason": probe.fault}
                for path, probe in probes.items()
                if probe.fault
            ],
        }

    def notes(self, reader: str = "auto") -> Iterator[str]:
        """Remarks for users on the files that are read: a line each, in words.

        Args:
            reader: what was asked for, see `check`.
        """
        probes = {row.path: row.probe for row in self.good.rows if row.probe is not None}
        kept = [(path, probe) for path, probe in probes.items() if probe.fault]
        if kept:
            path, probe = kept[0]
            more = f", and of {len(kept) - 1} more the beginning" if len(kept) > 1 else ""
            yield f"{path}: {probe.kept}{more}"
        others = sum(probe.reader == "pyav" for probe in probes.values())
        if reader == "decord" and others:
            files = "file" if len(probes) == 1 else "files"
            yield f"PyAV reads {others} of {len(probes)} {files}, for which decord is not exact"


def kind_of(reason: str) -> str:
    """A reason without what is particular to its file: numbers, details behind a ( or a colon."""
    return re.sub(r"\d+([.,]\d+)*", "N", re.split(r"\s*[(:]", reason)[0])


def _counts(values: Iterable[str]) -> dict[str, int]:
    counted = Counter(values).most_common()
    counts = dict(counted[:_MOST_COMMON])
    rest = sum(count for _, count in counted[_MOST_COMMON:])
    return {**counts, "other": rest} if rest else counts


def _outside(row: Row, probe: Probe | None) -> str:
    """Why nothing of a row's segment can be read, or the empty string."""
    if probe is None or row.start is None:
        return ""
    if row.in_frames:
        if row.start < probe.num_frames:
            return ""
        return f"it has {probe.num_frames} frames, its segment begins at frame {row.start:g}"
    if probe.fps <= 0:
        return ""
    seconds = probe.num_frames / probe.fps
    if row.start < seconds:
        return ""
    return f"it ends at {seconds:.2f} s, before its segment begins at {row.start:g} s"


class UnreadableError(DataError):
    """Nothing of a data set is readable, or too little: exit code 3.

    Attributes:
        health: what was found.
        report: the same, ready for JSON.
    """

    def __init__(self, message: str, hint: str, health: Health) -> None:
        super().__init__(message, hint)
        self.health, self.report = health, health.as_dict()


def check(
    rows: Rows,
    *,
    max_bad: float = 0.5,
    workers: int | None = None,
    deadline: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
    cache: bool = True,
    full: bool = False,
    partial: Partial = "keep",
    reader: str = "auto",
) -> Health:
    """Probe every file of ``rows`` once and keep the rows that can be read.

    Files are decoded in other processes always, be they few: one process costs 0.2 s, which is
    little for not being stopped by any file. Findings are kept at once for later checks, also that
    a file hung or crashed its decoder; missing and empty files are seen without a process each
    time.

    Args:
        rows: what to check.
        max_bad: largest share of unreadable files that is still accepted, 0 to 1.
        workers: processes at a time; None: one per core.
        deadline: seconds for one file of up to 64 MiB, in proportion for larger ones, after which
            its process is killed and it counts as bad.
        progress: called in this thread with (files done, files in all).
        cache: take over what earlier checks found of files that have not changed since. What this
            check finds is kept either way.
        full: decode every frame of every file; else some, and all only where there is a doubt.
        partial: ``keep``: of a file that is cut off or damaged the frames before that count as
            the file; ``drop``: it is bad.
        reader: ``decord``: find out for which files that is exact.

    Raises:
        UnreadableError: no file is readable, or more than ``max_bad`` of them are not.
        RuntimeError: the probe failed in an unforeseen way; its traceback is in the message. That
            is a fault of the probe: it says nothing of the file, which is not kept as bad.
    """
    findings = _Findings(rows, progress, _Wanted(full, partial, reader))
    with ProbeCache() as store:
        unknown = _files_to_probe(findings, store if cache else None)
        sized = [(findings.stamps[path].size, path) for path in unknown]
        results = _probed(sized, full, reader, workers or _cores(), deadline)
        with closing(results):
            for path, result in results:
                store.add(path, findings.stamps.pop(path), result)
                findings.add({path: result})
    return _require_enough(findings.health(), max_bad)


def known_probes(rows: Rows, partial: Partial = "keep") -> tuple[Rows, dict[int, str]]:
    """Probes of files as earlier checks found them, without opening any; and what is missing.

    Args:
        rows: what is to be read.
        partial: see `check`.

    Returns:
        The rows, those that are known to be readable with their probe, and why others cannot be
        read, by their index.
    """
    findings = _Findings(rows, None, _Wanted(partial=partial))
    with ProbeCache() as store:
        for _ in _files_to_probe(findings, store):
            pass  # it stays unknown
    known = [findings.results.get(file_key(row.path)) for row in rows.rows]
    probed = (
        replace(row, probe=result) if isinstance(result, Probe) else row
        for row, result in zip(rows.rows, known, strict=True)
    )
    reasons = {index: result for index, result in enumerate(known) if isinstance(result, str)}
    return rows.of(tuple(probed)), reasons


def quarantine(path: str, reason: str) -> None:
    """Have later checks count a file as bad, as long as it does not change.

    Args:
        path: as in `Row.path`.
        reason: why, in a few words: what it did to its decoder.
    """
    stamp = _stamp_or_fault(path)
    if isinstance(stamp, Stamp):
        with ProbeCache() as store:
            store.add(file_key(path), stamp, reason)


def remember(path: str, probe: Probe) -> None:
    """Have later checks know what was found of a file, as long as it does not change.

    Args:
        path: as in `Row.path`.
        probe: what was found.
    """
    stamp = _stamp_or_fault(path)
    if isinstance(stamp, Stamp):
        with ProbeCache() as store:
            store.add(file_key(path), stamp, probe)


def probe_file(item: list[Any]) -> list[Any]:
    """The fields of a file's `Probe`, as a process of the pool hands them over.

    Args:
        item: the path, and ``full`` and ``reader`` of `readers.probe`.

    Raises:
        VideoReadError: the file cannot be read.
    """
    path, full, reader = item
    try:
        return list(astuple(probe(path, full=full, reader=reader)))
    except MemoryError as error:
        raise VideoReadError(path, "it does not fit into memory") from error


@dataclass(frozen=True)
class _Wanted:
    """The questions asked of files, and the answers that count as good; see `check`."""

    full: bool = False
    partial: Partial = "keep"
    reader: str = "auto"

    def answered_by(self, result: Probe | str) -> bool:
        """True where an earlier result says all that is wanted."""
        if isinstance(result, str) or result.reader in ("image", "frames"):
            return isinstance(result, str) or result.full or not self.full
        compared = self.reader != "decord" or result.compared
        return compared and (result.full or not self.full)

    def judge(self, result: Probe | str) -> Probe | str:
        """A result as it counts here: a probe, or why the file is bad."""
        if isinstance(result, str):
            return result
        if result.fault and self.partial == "drop":
            return result.fault
        decord = result.reader == "decord" and self.reader != "decord"
        return replace(result, reader="pyav") if decord else result


class _Findings:
    """The files of some rows, and the result of each so far.

    Attributes:
        names: each file as the rows name it first, by its `file_key`.
        stamps: of the files that are being probed.
    """

    def __init__(
        self, rows: Rows, progress: Callable[[int, int], None] | None, wanted: _Wanted
    ) -> None:
        self.rows, self.progress, self.wanted = rows, progress, wanted
        self.names: dict[str, str] = {}
        for row in rows.rows:
            self.names.setdefault(file_key(row.path), row.path)
        self.stamps: dict[str, Stamp] = {}
        self.results: dict[str, Probe | str] = {}

    def add(self, results: dict[str, Probe | str]) -> None:
        self.results.update((key, self.wanted.judge(result)) for key, result in results.items())
        if self.progress is not None and results:
            self.progress(len(self.results), len(self.names))

    def health(self) -> Health:
        good = []
        for row in self.rows.rows:
            result = self.results[file_key(row.path)]
            if isinstance(result, Probe):
                good.append(replace(row, probe=result))
        bad = [(self.names[key], self.results[key]) for key in self.names]
        reasons = tuple((name, result) for name, result in bad if isinstance(result, str))
        return Health(len(self.names), self.rows.of(good), reasons)


def _probed(
    sized: list[tuple[int, str]], full: bool, reader: str, workers: int, deadline: float
) -> Generator[tuple[str, Probe | str], None, None]:
    """Files, with their bytes, and what processes of the pool find out of them, as it comes."""

    def outcomes(sized: list[tuple[int, str]], reader: str) -> Generator[Outcome, None, None]:
        name = f"{__name__}:{probe_file.__name__}"
        for seconds, paths in by_deadline(sized, _SMALL, deadline):
            items = ([path, full, reader] for path in paths)
            with closing(run_in_pool(name, items, workers=workers, deadline=seconds)) as found:
                yield from found

    sizes = {path: size for size, path in sized}
    killed = []  # by decord, perhaps: PyAV may read it yet
    with closing(outcomes(sized, reader)) as found:
        for outcome in found:
            path = outcome.item[0]
            if outcome.killed and reader == "decord":
                killed.append((sizes[path], path))
            else:
                yield path, outcome.reason or Probe(*outcome.value)
    with closing(outcomes(killed, "auto")) as found:
        for outcome in found:
            result = outcome.reason or replace(Probe(*outcome.value), compared=True)
            yield outcome.item[0], result


def _files_to_probe(findings: _Findings, store: ProbeCache | None) -> Iterator[str]:
    """The files that have to be probed; what is known of the others is settled on the way."""
    keys = iter(findings.names)
    while batch := list(islice(keys, _AT_A_TIME)):
        found = {key: _stamp_or_fault(key) for key in batch}
        stamps = {key: stamp for key, stamp in found.items() if isinstance(stamp, Stamp)}
        known: dict[str, Probe | str] = {} if store is None else store.find(stamps)
        known = {key: one for key, one in known.items() if findings.wanted.answered_by(one)}
        known.update((key, fault) for key, fault in found.items() if isinstance(fault, str))
        findings.add(known)
        for key in batch:
            if key not in known:
                findings.stamps[key] = stamps[key]
                yield key


def _stamp_or_fault(path: str) -> Stamp | str:
    """The stamp of a file that is there and has content, or what is wrong with it."""
    try:
        stamp = stamp_of(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "it is a broken link" if os.path.islink(path) else "no such file"
    except PermissionError:  # not kept: permissions are given without a trace in the stamp
        return "no permission to read it"
    except OSError as error:
        return f"it cannot be reached ({error.strerror})"
    if stamp.size == 0:
        return "the folder is empty" if os.path.isdir(path) else "the file is empty"
    return stamp


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_enough(health: Health, max_bad: float) -> Health:
    """The same health, unless it is too bad."""
    bad = health.bad
    if len(bad) == health.files:
        example = f": {bad[0][0]}: {bad[0][1]}" if bad else ""
        missing = bool(bad) and all(reason == "no such file" for _, reason in bad)
        hint = "the paths of a list are relative to --root DIR, else to the list" if missing else ""
        raise UnreadableError(f"none of {health.files} files can be read{example}", hint, health)
    if len(bad) > max_bad * health.files:
        raise UnreadableError(
            f"{len(bad)} of {health.files} files cannot be read, the first is "
            f"{bad[0][0]}: {bad[0][1]}",
            f"repair or remove them, or raise data.max_bad (--max-bad), now {max_bad:.4g}",
            health,
        )
    return health

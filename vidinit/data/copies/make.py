"""A copy of a data set that decodes fast and exactly, made once, by any number of machines.

Every file becomes an mp4 in a process of its own (`encode`), which grows in a hidden folder of the
target and is renamed when it is whole. So what stands under a final name is done, whoever did it,
and a call that was killed is simply repeated.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError, UsageError, VidinitError
from ..flow.precompute import prepare_flow
from ..flow.settings import Flow
from ..index.pool import by_deadline, run_in_pool
from ..readers import VideoReadError, archives
from ..rows import IMAGE_SUFFIXES
from ..sources.access import suffix_of
from .encode import Encoding, encode_item
from .originals import Originals, find, write_list

_HIDDEN = ".prepare"  # in the target: settings.json, and a folder of unfinished files per process
_STALE = 24 * 3600.0  # seconds after which what another machine left unfinished is given up
_SMALL = 1 << 26  # bytes up to which the deadline is as it is; above, it grows with the file


def prepare(
    source: str | Path,
    out: str | Path,
    encoding: Encoding | None = None,
    *,
    root: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    workers: int = 1,
    deadline: float = 600.0,
    progress: Callable[[int, int], None] | None = None,
    flow: Flow | None = None,
    partial: Literal["keep", "drop"] = "keep",
) -> dict[str, Any]:
    """Re-encode all videos of a data set, in the same layout; see `originals` for their names.

    A copy that is there and not older than its source is skipped, so another call goes on where one
    ended. What cannot be read is left out and reported; of what is cut off or damaged the frames
    before that are copied. The source is never written to.

    Args:
        source: a folder with videos at any depth, a video, or a list or archives as
            `sources.labeled_rows` takes them; of these a list of the copies is written too.
        out: folder of the copies: absent, empty, or from another call with the same settings.
        encoding: the settings.
        root: folder that paths in lists are relative to; default: the folder of the list.
        shard: (i, n): every n-th file from the i-th on, 1 <= i <= n, in the order of their names.
        workers: files at a time.
        deadline: seconds for a file of up to 64 MiB, in proportion for larger ones, after which
            its process is killed.
        progress: called in this thread with (files done, files in all), and for the flow again.
        flow: estimate the optical flow of the copies, too, and write it beside them.
        partial: ``drop``: leave out what cannot be read to its last frame.

    Returns:
        ``{files, done, skipped, failed: [{path, reason}], partial: [{path, kept, of, reason}], out,
        list, bytes_in, bytes_out}``: the number of files of this shard, of those made now, and of
        those that were there; ``partial`` are those of now that end before their source; ``list``
        is the list that was written, or None; the sizes before and after are of all that is there.
        With ``flow`` also ``flow``, see `flow.precompute.prepare_flow`.

    Raises:
        UsageError: a path does not exist, or ``out`` is not fit.
        DataError: there is no video, or, as its kind `UnpreparedError`, none can be read
            (of all; a shard without any is no error).
        VidinitError: the disk of ``out`` takes no more files.
    """
    encoding = encoding or Encoding()
    target = Path(out).expanduser()
    originals = find(str(source), None if root is None else str(root))
    _require_apart(originals, target)
    if encoding.fps is not None and originals.in_frames:
        raise UsageError(
            f"{source} counts its segments in frames, which another rate would move",
            "leave fps out, or write start and end in seconds",
        )
    _claim(target, encoding)
    run = _Run(originals, target, shard, progress, keep=partial == "keep")
    with _workplace(target) as place:
        try:
            listed = write_list(originals, target, place)
        except OSError as error:
            raise VidinitError(f"no list can be written to {target}: {error.strerror}") from error
        for seconds, items in run.to_do(encoding, place, deadline):
            run.encode(items, workers, seconds)
        result = run.result()
        if flow is not None:
            result["flow"] = prepare_flow(
                run.copies(), flow, place, workers=workers, deadline=deadline, progress=progress
            )
    result |= {"out": str(target), "list": None if listed is None else str(listed)}
    # What a shard cannot read need not be all.
    if shard[1] == 1 and len(run.failed) == len(run.targets):
        raise UnpreparedError(result)
    return result


class UnpreparedError(DataError):
    """No file can be read: exit code 3.

    Attributes:
        report: what `prepare` would have returned.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        first = report["failed"][0]
        super().__init__(
            f"none of {report['files']} files can be read: {first['path']}: {first['reason']}"
        )
        self.report = report


class _Run:
    """The files of a shard, and the result of each."""

    def __init__(
        self,
        originals: Originals,
        target: Path,
        shard: tuple[int, int],
        progress: Callable[[int, int], None] | None,
        *,
        keep: bool,
    ) -> None:
        self.keep = keep
        first, step = shard
        paths = {name: path for path, name in originals.names.items()}
        names = list(paths)[first - 1 :: step]
        self.targets = {paths[name]: target / name for name in names}
        self.progress = progress
        self.sizes: dict[str, int] = {}  # of originals
        self.made: dict[str, int] = {}  # sizes of copies, of now
        self.there: dict[str, int] = {}  # and of before
        self.failed: dict[str, str] = {}
        self.partial: dict[str, dict[str, Any]] = {}  # what was kept of damaged originals

    def to_do(
        self, encoding: Encoding, place: Path, deadline: float
    ) -> list[tuple[float, list[dict[str, Any]]]]:
        """The files that are not done, as items of the pool, by their deadline in seconds."""
        sized: list[tuple[int, dict[str, Any]]] = []
        for number, (path, target) in enumerate(self.targets.items()):
            try:
                self.sizes[path], changed = _size_and_time(path)
            except VideoReadError as error:
                self.failed[path] = error.reason
                continue
            if target.exists() and (copy := target.stat()).st_mtime_ns >= changed:
                self.there[path] = copy.st_size
                continue
            item: dict[str, Any] = {
                "source": path,
                "target": str(target),
                "partial": str(place / f"{number}.mp4"),
            }
            item |= {"encoding": asdict(encoding), "keep": self.keep}
            sized.append((self.sizes[path], item))
        self.report()
        return by_deadline(sized, _SMALL, deadline)

    def encode(self, items: list[dict[str, Any]], workers: int, deadline: float) -> None:
        """Encode files in processes; one that hangs or crashes is killed, and its file failed."""
        function = f"{encode_item.__module__}:{encode_item.__name__}"
        with closing(run_in_pool(function, items, workers=workers, deadline=deadline)) as outcomes:
            for outcome in outcomes:
                path = outcome.item["source"]
                if outcome.reason is not None:
                    self.failed[path] = outcome.reason
                    Path(outcome.item["partial"]).unlink(missing_ok=True)  # of a killed process
                elif "stopped" in outcome.value:
                    raise VidinitError(
                        f"{outcome.item['target']} cannot be written: {outcome.value['stopped']}",
                        "what is done stays, and another call goes on from there",
                    )
                else:
                    self.made[path] = outcome.value.pop("bytes")
                    if outcome.value:
                        self.partial[path] = outcome.value
                self.report()

    def report(self) -> None:
        """Report the progress."""
        if self.progress is not None:
            finished = len(self.made) + len(self.there) + len(self.failed)
            self.progress(finished, len(self.targets))

    def copies(self) -> list[Path]:
        """The copies that are there."""
        return [self.targets[path] for path in self.targets if path in {**self.made, **self.there}]

    def result(self) -> dict[str, Any]:
        """The part of `prepare`'s result that is known here."""
        reasons = [(path, self.failed[path]) for path in self.targets if path in self.failed]
        copies = {**self.made, **self.there}
        return {
            "files": len(self.targets),
            "done": len(self.made),
            "skipped": len(self.there),
            "failed": [{"path": path, "reason": reason} for path, reason in reasons],
            "partial": [
                {"path": path, **self.partial[path]}
                for path in self.targets
                if path in self.partial
            ],
            "bytes_in": sum(self.sizes[path] for path in copies),
            "bytes_out": sum(copies.values()),
        }


def _size_and_time(path: str) -> tuple[int, int]:
    """Bytes of an original, and when it was last written, in nanoseconds.

    Raises:
        VideoReadError: nothing can be made of it, which is seen without opening it.
    """
    member = archives.parse(path)
    name = path if member is None else member.archive
    try:
        found = os.stat(name)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(path) as entries:
                images = [entry.stat() for entry in entries]
            newest = max([found.st_mtime_ns, *(image.st_mtime_ns for image in images)])
            return sum(image.st_size for image in images), newest
    except FileNotFoundError as error:
        reason = "it is a broken link" if os.path.islink(name) else "no such file"
        raise VideoReadError(path, reason) from error
    except OSError as error:
        raise VideoReadError(path, f"it cannot be reached ({error.strerror})") from error
    size = found.st_size if member is None else member.size
    if not stat.S_ISREG(found.st_mode):
        raise VideoReadError(path, "it is no regular file")
    if not os.access(name, os.R_OK):
        raise VideoReadError(path, "no permission to read it")
    if size == 0:
        raise VideoReadError(path, "the file is empty")
    if suffix_of(path if member is None else member.member) in IMAGE_SUFFIXES:
        raise VideoReadError(path, "it is a still image")
    return size, found.st_mtime_ns


def _require_apart(originals: Originals, target: Path) -> None:
    """Refuse a target that would put copies among the originals.

    Raises:
        UsageError: it lies in the source, or around it, or has originals in one of its folders.
    """
    source, out = os.path.realpath(originals.source), os.path.realpath(target)
    inner, outer = (os.path.join(place, "") for place in sorted((source, out), key=len)[::-1])
    if os.path.isdir(source) and inner.startswith(outer):
        raise UsageError(
            f"{target} and {originals.source} lie in one another",
            "the copies need a folder of their own",
        )
    homes = {os.path.dirname(_file_of(path)) for path in originals.names}
    taken = {os.path.realpath(home) for home in homes}
    for folder in sorted({"", *(os.path.dirname(name) for name in originals.names.values())}):
        if os.path.realpath(target / folder) in taken:
            raise UsageError(
                f"copies would get among the originals in {target / folder}",
                "the copies need a folder of their own",
            )


def _file_of(path: str) -> str:
    member = archives.parse(path)
    return path if member is None else member.archive


def _claim(target: Path, encoding: Encoding) -> None:
    """Make the target, with the settings in it, or check that it was made with these.

    Raises:
        UsageError: there is something else, or it cannot be written.
    """
    file = target / _HIDDEN / "settings.json"
    try:
        if target.exists() and not target.is_dir():
            raise UsageError(f"{target} is a file", "choose a folder for the copies")
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            if before != asdict(encoding):
                old = ", ".join(f"{key} {value}" for key, value in before.items())
                raise UsageError(
                    f"{target} was prepared with other settings ({old})", "choose another folder"
                )
            return
        if target.exists() and any(not name.startswith(".") for name in os.listdir(target)):
            raise UsageError(
                f"{target} is not empty, and not from an earlier call", "choose another folder"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"settings-{_identity()}")
        partial.write_text(json.dumps(asdict(encoding)), encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A folder for unfinished files, gone at the end; what killed processes left goes too."""
    hidden = target / _HIDDEN
    for folder in [entry for entry in hidden.iterdir() if entry.is_dir()]:
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    place = hidden / _identity()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _identity() -> str:
    """A name for this process that no other one has, on any machine: ``HOST-NUMBERS``."""
    try:  # in containers, other processes of the same host may have the same number
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{socket.gethostname()}-{space}-{os.getpid()}"


def _is_abandoned(place: Path) -> bool:
    """True where the process that a workplace belongs to is gone, as far as can be known here."""
    others, _, number = place.name.rpartition("-")
    mine, _, _ = _identity().rpartition("-")
    if others == mine and os.name == "posix":
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return int(number) == os.getpid()
    return time.time() - place.stat().st_mtime > _STALE

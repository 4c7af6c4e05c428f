"""Predictions of clips that slide over long videos: lines of JSON, and a picture of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...console import ProgressBar, say
from ...data.index import Health, UnreadableError, check
from ...data.index.cache import file_key
from ...data.loading.loader import Loader
from ...data.loading.unprobed import SlidingWindows, TimelineDataset
from ...data.rows import Row, Rows
from ...engine.run_folder import RunFolder
from ...errors import VidinitError
from ...files import folder_locks
from ...scoring.score import Output, outputs_of
from ...zoo.probabilities import ranked
from ...zoo.view_outputs import views_of
from ..shared.clips import workers_of
from .events import Clip, Finding, Labeler, clock, find_events, smoothing_width, write_events
from .lines import Prediction
from .timeline_page import BinnedCurve, timeline_page

if TYPE_CHECKING:
    from .files import Predictor


FOLDER = "timelines"


_LONG = 30.0  # seconds of a video that one clip does not stand for
_SPANS = 8  # clips that lie side by side in it
_SMALL = 1 << 16  # bytes in which no video is that long


def long_video(predictor: Predictor) -> bool:
    """True where the one file is a video that is much longer than what a clip shows; it is said."""
    (file,) = predictor.files
    try:
        if os.path.getsize(file) < _SMALL:
            return False
    except OSError:  # whoever reads it says so
        return False
    rows, _ = _probed(predictor)
    for row in rows.rows:
        assert row.probe is not None
        seconds = row.probe.num_frames / row.probe.fps
        windows = _windows(predictor, row, None)
        span = windows.window / row.probe.fps
        if seconds > max(_LONG, _SPANS * span):
            say(
                f"{file} is {clock(seconds)} long and a clip shows {span:.2g} s of it: predicted "
                f"in {len(windows)} windows (--no-timeline: one answer from one clip)"
            )
            return True
    return False


@folder_locks()
def timelines(
    predictor: Predictor,
    every: float | None,
    finding: Finding,
    *,
    events: Path | None = None,
    overwrite: bool,
) -> list[Prediction]:
    """A timeline of each file: its events, and the mean over its clips.

    Args:
        predictor: the model and the files.
        every: seconds from one clip to the next, see `SlidingWindows.over`.
        finding: how clips become events.
        events: file to write the events of all videos into.
        overwrite: replace an earlier folder, and that file.
    """
    labeler = Labeler(predictor.heads, predictor.label_kind == "multi", finding)
    rows, reasons = _probed(predictor)
    assert predictor.config.out is not None
    run = RunFolder.open(predictor.config.out, overwrite=overwrite)
    folder = run.claim(FOLDER)
    folder.mkdir()
    say(f"timelines: {folder}")
    dataset = _clips(predictor, rows, every)
    names = _names([row.path for row in rows.rows])
    found = []
    with ProgressBar("predicting", "clips") as bar:
        clips = _counted(_outputs(predictor, dataset), sum(map(len, dataset.sliding)), bar.update)
        videos = groupby(clips, key=lambda output: output.index)
        for file in predictor.files:
            if file in reasons:
                bad = Prediction(file, [], reasons[file], events=[])
                found.append(predictor.emit(bad))
            else:
                index, outputs = next(videos)
                video = Video(file, names[index], rows.rows[index], dataset.sliding[index])
                found.append(_timeline(predictor, folder, video, outputs, labeler))
    if events is not None:
        write_events(events, {one.file: one.events or [] for one in found})
        say(f"events: {events}")
    return found


@dataclass(frozen=True)
class Video:
    """One of the videos.

    Attributes:
        file: as the user named it.
        name: of its files in the folder.
        row: with its probe.
        sliding: its windows.
    """

    file: str
    name: str
    row: Row
    sliding: SlidingWindows

    @property
    def seconds(self) -> float:
        """Its length."""
        assert self.row.probe is not None
        return self.row.probe.num_frames / self.row.probe.fps

    @property
    def step(self) -> float:
        """Seconds from one window to the next."""
        assert self.row.probe is not None
        return self.sliding.step / self.row.probe.fps


_NO_TIME = "pictures have no times, so there is no timeline of them"
_NO_SENSE = "its times make no sense, so there is no timeline of it"


def _probed(predictor: Predictor) -> tuple[Rows, dict[str, str]]:
    """The videos that have a timeline, with their probes, and why others have none, by path."""
    rows = Rows(tuple(Row(file) for file in predictor.files))
    data = predictor.config.data
    try:
        with ProgressBar("checking") as bar:
            health: Health = check(
                rows,
                max_bad=1.0,
                workers=data.workers or None,
                deadline=data.deadline,
                progress=bar.update,
                partial=data.partial,
                reader=data.reader,
            )
    except UnreadableError as error:
        health = error.health
    for row in health.good.rows:
        if row.probe is not None and row.probe.kept:
            say(f"note: {row.path}: {row.probe.kept}")
    bad = {file_key(path): reason for path, reason in health.bad}
    reasons = {file: bad[file_key(file)] for file in predictor.files if file_key(file) in bad}
    reasons |= {
        row.path: _NO_TIME if row.probe.reader in ("image", "frames") else _NO_SENSE
        for row in health.good.rows
        if row.probe and not row.probe.fps
    }
    return rows.of([row for row in health.good.rows if row.path not in reasons]), reasons


def _clips(predictor: Predictor, rows: Rows, every: float | None) -> TimelineDataset:
    sliding = [_windows(predictor, row, every) for row in rows.rows]
    return TimelineDataset(views_of(rows, predictor.spec, **predictor.views()), sliding)


def _windows(predictor: Predictor, row: Row, every: float | None) -> SlidingWindows:
    """The windows of a video, which has its probe."""
    assert row.probe is not None
    return SlidingWindows.over(row.probe.num_frames, row.probe.fps, predictor.spec.seen, every)


def _outputs(predictor: Predictor, dataset: TimelineDataset) -> Iterator[Output]:
    data = predictor.config.data
    at_once = max(1, data.clips // predictor.config.eval.crops)
    loader = Loader(
        dataset,
        dataset.keys(at_once),
        1,
        workers=workers_of(data, 1),
        deadline=data.deadline,
    )
    return outputs_of(
        predictor.model,
        loader,
        predictor.spec,
        predictor.accelerator,
        average=predictor.config.eval.average,
    )


def _counted(
    outputs: Iterable[Output], total: int, show: Callable[[int, int], None]
) -> Iterator[Output]:
    """The same outputs, counted for the progress bar."""
    for done, output in enumerate(outputs, start=1):
        yield output
        show(done, total)


def _names(paths: list[str]) -> list[str]:
    """A name for the timeline of each file: the file's own, with a number where it is taken."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        own = os.path.basename(os.path.abspath(path))[:200]
        name, number = own, 1
        while name in taken:
            number += 1
            name = f"{own}-{number}"
        taken.add(name)
        names.append(name)
    return names


def _timeline(
    predictor: Predictor, folder: Path, video: Video, outputs: Iterable[Output], labeler: Labeler
) -> Prediction:
    """Lines, events and page of one video, written under temporary names at first."""
    curve = BinnedCurve(sum(map(len, predictor.heads.values())))
    lines, picture = folder / f"{video.name}.jsonl", folder / f"{video.name}.html"
    temporary = folder / f".{video.name}.new"
    errors: list[str] = []
    count = 0
    with _saving(lines):
        stream = temporary.open("w", encoding="utf-8")

    def clips() -> Iterator[Clip]:
        nonlocal count
        for count, output in enumerate(outputs, start=1):
            if output.probabilities is not None and output.span is not None:
                curve.add(count - 1, sum(output.span) / 2, output.probabilities)
            elif output.error is not None and not errors:
                errors.append(output.error)
            line = json.dumps(predictor.predict(video.file, output).as_dict())
            with _saving(lines):
                stream.write(line + "\n")
            if output.span is not None:
                yield (*output.span, output.probabilities)

    try:
        width = smoothing_width(labeler.finding.smooth, video.step)
        events = find_events(clips(), labeler, width=width)
        with _saving(lines):
            stream.close()
            os.replace(temporary, lines)
        if curve.mean is not None:
            text = timeline_page(
                curve,
                predictor.heads,
                title=video.name,
                seconds=video.seconds,
                events=events,
                row=video.row,
                reader=predictor.config.data.reader,
            )
            with _saving(picture):
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, picture)
    finally:
        with suppress(OSError):  # what could not be written then cannot be now
            stream.close()
        temporary.unlink(missing_ok=True)
    told = _mean_prediction(predictor, video.file, str(lines), curve, count, errors)
    return predictor.emit(replace(told, events=events))


def _mean_prediction(
    predictor: Predictor, file: str, lines: str, curve: BinnedCurve, count: int, errors: list[str]
) -> Prediction:
    """The prediction of a whole file: the mean over its clips, and the first error of one."""
    mean, error = curve.mean, None
    if errors:
        lost = count - int(curve.counts.sum())
        error = f"{lost} of its {count} clips cannot be read: {errors[0]}"
    if mean is None:
        return Prediction(file, [], error, timeline=lines)
    best: dict[str, Any] = {**ranked(predictor.heads, mean, predictor.topk)}
    return Prediction(file, error=error, timeline=lines, **best)


@contextmanager
def _saving(place: Path) -> Iterator[None]:
    """Turn an OSError into a VidinitError that names the file."""
    try:
        yield
    except OSError as error:
        raise VidinitError(
            f"cannot write {place} ({error.strerror})", "make room, or name another --out"
        ) from error

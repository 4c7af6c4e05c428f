"""Predictions of clips that slide over long videos: lines of JSON, and a picture of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...console import ProgressBar, say
from ...data.index import Health, UnreadableError, check
from ...data.index.cache import file_key
from ...data.loading.loader import Loader
from ...data.loading.unprobed import SlidingWindows, TimelineDataset
from ...data.rows import Row, Rows
from ...engine.run_folder import RunFolder
from ...errors import VidinitError
from ...files import folder_locks
from ...report import plots
from ...report.html import Section, page, table
from ...scoring.score import Output, outputs_of
from ...zoo.probabilities import ranked
from ...zoo.view_outputs import views_of
from ..shared.clips import workers_of
from .lines import Prediction

if TYPE_CHECKING:
    from .files import Predictor


FOLDER = "timelines"


@folder_locks()
def timelines(predictor: Predictor, every: float | None, *, overwrite: bool) -> list[Prediction]:
    """A timeline of each file, and the mean over its clips.

    Args:
        predictor: the model and the files.
        every: seconds from one clip to the next, see `SlidingWindows.over`.
        overwrite: replace an earlier folder.
    """
    rows, reasons = _probed(predictor)
    assert predictor.config.out is not None
    run = RunFolder.open(predictor.config.out, overwrite=overwrite)
    folder = run.claim(FOLDER)
    folder.mkdir()
    say(f"timelines: {folder}")
    dataset = _clips(predictor, rows, every)
    names = _names([row.path for row in rows.rows])
    found = []
    with predictor.progress("clips") as show:
        clips = _counted(_outputs(predictor, dataset), sum(map(len, dataset.sliding)), show)
        videos = groupby(clips, key=lambda output: output.index)
        for file in predictor.files:
            if file in reasons:
                found.append(predictor.emit(Prediction(file, [], reasons[file])))
            else:
                index, outputs = next(videos)
                found.append(_timeline(predictor, folder, file, names[index], outputs))
    return found


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
    spec = predictor.spec
    sliding = [
        SlidingWindows.over(row.probe.num_frames, row.probe.fps, spec.seen, every)
        for row in rows.rows
        if row.probe is not None
    ]
    return TimelineDataset(views_of(rows, spec, **predictor.views()), sliding)


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
    predictor: Predictor, folder: Path, file: str, name: str, clips: Iterable[Output]
) -> Prediction:
    """Lines and picture of one video, written under temporary names at first."""
    curve = BinnedCurve(sum(map(len, predictor.heads.values())))
    lines, picture = folder / f"{name}.jsonl", folder / f"{name}.html"
    temporary = folder / f".{name}.new"
    errors: list[str] = []
    count = 0
    with _saving(lines):
        stream = temporary.open("w", encoding="utf-8")
    try:
        for count, output in enumerate(clips, start=1):
            if output.probabilities is not None and output.span is not None:
                curve.add(count - 1, sum(output.span) / 2, output.probabilities)
            elif output.error is not None and not errors:
                errors.append(output.error)
            line = json.dumps(predictor.predict(file, output).as_dict())
            with _saving(lines):
                stream.write(line + "\n")
        with _saving(lines):
            stream.close()
            os.replace(temporary, lines)
        if curve.mean is not None:
            text = timeline_page(curve, predictor.heads, title=name)
            with _saving(picture):
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, picture)
    finally:
        with suppress(OSError):  # what could not be written then cannot be now
            stream.close()
        temporary.unlink(missing_ok=True)
    return predictor.emit(_mean_prediction(predictor, file, str(lines), curve, count, errors))


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


# Points of a line: more than a picture has pixels for would be memory that grows with the video.
_BINS = 512


class BinnedCurve:
    """Mean probabilities in a bounded number of bins: neighbors are joined as a video goes on.

    Args:
        classes: how many probabilities a clip has.
        bins: how many bins there are at most, an even number.
    """

    def __init__(self, classes: int, bins: int = _BINS) -> None:
        self.sums = np.zeros((bins, classes))
        self.times = np.zeros(bins)
        self.counts = np.zeros(bins, dtype=np.int64)
        self.width = 1  # clips of a bin

    def add(self, clip: int, middle: float, values: np.ndarray) -> None:
        """One clip.

        Args:
            clip: its number in the video.
            middle: the time at its middle, in seconds.
            values: its probabilities, (classes,).
        """
        while clip // self.width >= len(self.sums):
            for name in ("sums", "times", "counts"):
                old = getattr(self, name)
                joined = old[0::2] + old[1::2]
                setattr(self, name, np.concatenate([joined, np.zeros_like(joined)]))
            self.width *= 2
        place = clip // self.width
        self.sums[place] += values
        self.times[place] += middle
        self.counts[place] += 1

    @property
    def mean(self) -> np.ndarray | None:
        """Probabilities of the video, (classes,); None without a clip."""
        total = int(self.counts.sum())
        return self.sums.sum(axis=0) / total if total else None

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Times in seconds, (bins,), and probabilities, (bins, classes), of bins with a clip."""
        filled = self.counts > 0
        counts = self.counts[filled]
        return self.times[filled] / counts, self.sums[filled] / counts[:, None]


_SHOWN = len(plots.COLORS)  # classes of a picture
_MINUTES_FROM = 300.0  # seconds; times of longer videos are shown in minutes


def timeline_page(curve: BinnedCurve, heads: Mapping[str, Sequence[str]], *, title: str) -> str:
    """A page with a picture of the classes that are most probable anywhere, for each head.

    Args:
        curve: of a video; it has at least one clip.
        heads: names of the classes of each head, in the order of the probabilities.
        title: the video.
    """
    seconds, values = curve.points()
    minutes = seconds[-1] >= _MINUTES_FROM
    times = (seconds / 60 if minutes else seconds).tolist()
    sections, start = [], 0
    mean = curve.mean
    assert mean is not None
    for head, names in heads.items():
        own = values[:, start : start + len(names)]
        overall = mean[start : start + len(names)]
        start += len(names)
        order = np.argsort(-own.max(axis=0), kind="stable")[:_SHOWN].tolist()
        series = {
            f"{names[place]}": list(zip(times, own[:, place].tolist(), strict=True))
            for place in order
        }
        picture = plots.curves(
            series, xlabel="minutes" if minutes else "seconds", ylabel="probability"
        )
        figures = table(
            ["class", "mean", "highest"],
            [[names[i], float(overall[i]), float(own[:, i].max())] for i in order],
        )
        note = "The classes with the highest peaks."
        if curve.width > 1:
            note += f" A point is the mean of {curve.width} neighboring clips."
        sections.append(Section(head.capitalize(), picture + figures, note))
    return page(title, sections, subtitle=f"{int(curve.counts.sum())} clips")

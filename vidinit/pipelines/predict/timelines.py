"""Long videos through a model, clip after clip: lines of JSON, and a picture of each."""

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
from ...data.loading.unprobed import Sliding, TimelineDataset
from ...data.rows import Row, Rows
from ...data.views import Sampling
from ...engine.run_folder import RunFolder
from ...errors import VidinitError
from ...report import plots
from ...report.html import Section, page, table
from ...scoring.predict import Output, Prediction, outputs_of
from ...zoo.probabilities import ranked
from ...zoo.views import views_of
from ..shared.clips import workers_of

if TYPE_CHECKING:
    from .files import Answers

FOLDER = "timelines"


_NO_TIME = "pictures have no times, so there is no timeline of them"


def timelines(answers: Answers, every: float | None, *, overwrite: bool) -> list[Prediction]:
    """A timeline of each file, and the mean over its clips.

    Args:
        answers: the model and the files.
        every: seconds from one clip to the next, see `Sliding.over`.
        overwrite: replace an earlier folder.
    """
    rows, reasons = _examined(answers)
    assert answers.config.out is not None
    run = RunFolder.open(answers.config.out, overwrite=overwrite)
    folder = run.root / FOLDER
    folder.mkdir()
    say(f"timelines: {folder}")
    dataset = _clips(answers, rows, every)
    names = _names([row.path for row in rows.rows])
    found = []
    with answers.progress("clips") as show:
        clips = _counted(_said(answers, dataset), sum(map(len, dataset.sliding)), show)
        videos = groupby(clips, key=lambda said: said.index)
        for file in answers.files:
            if file in reasons:
                found.append(answers.told(Prediction(file, [], reasons[file])))
            else:
                index, said = next(videos)
                found.append(_written(answers, folder, file, names[index], said))
    return found


def _examined(answers: Answers) -> tuple[Rows, dict[str, str]]:
    """The videos that have a timeline, with their probes, and why others have none, by path."""
    given = Rows(tuple(Row(file) for file in answers.files))
    data = answers.config.data
    try:
        with ProgressBar("checking") as bar:
            health: Health = check(
                given,
                max_bad=1.0,
                workers=data.workers or None,
                deadline=data.deadline,
                progress=bar.update,
            )
    except UnreadableError as error:
        health = error.health
    bad = {file_key(path): reason for path, reason in health.bad}
    reasons = {file: bad[file_key(file)] for file in answers.files if file_key(file) in bad}
    reasons |= {row.path: _NO_TIME for row in health.good.rows if row.probe and not row.probe.fps}
    return given.of([row for row in health.good.rows if row.path not in reasons]), reasons


def _clips(answers: Answers, rows: Rows, every: float | None) -> TimelineDataset:
    spec = answers.spec
    sampling = Sampling(spec.frames, spec.stride, spec.sampling, spec.short)
    sliding = [
        Sliding.over(row.probe.num_frames, row.probe.fps, sampling, every)
        for row in rows.rows
        if row.probe is not None
    ]
    return TimelineDataset(views_of(rows, spec, **answers.views()), sliding)


def _said(answers: Answers, dataset: TimelineDataset) -> Iterator[Output]:
    data = answers.config.data
    at_once = max(1, data.clips // answers.config.eval.crops)
    loader = Loader(
        dataset,
        dataset.keys(at_once),
        1,
        workers=workers_of(data, 1),
        deadline=data.deadline,
    )
    average = answers.config.eval.average
    return outputs_of(answers.model, loader, answers.spec, answers.accelerator, average=average)


def _counted(
    said_of: Iterable[Output], total: int, show: Callable[[int, int], None]
) -> Iterator[Output]:
    """The same clips, counted for whoever waits."""
    for done, said in enumerate(said_of, start=1):
        yield said
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


def _written(
    answers: Answers, folder: Path, file: str, name: str, clips: Iterable[Output]
) -> Prediction:
    """Lines and picture of one video, written under temporary names at first."""
    course = Course(sum(map(len, answers.heads.values())))
    lines, picture = folder / f"{name}.jsonl", folder / f"{name}.html"
    temporary = folder / f".{name}.new"
    errors: list[str] = []
    count = 0
    with _saving(lines):
        stream = temporary.open("w", encoding="utf-8")
    try:
        for count, said in enumerate(clips, start=1):
            if said.values is not None and said.span is not None:
                course.add(count - 1, sum(said.span) / 2, said.values)
            elif said.error is not None and not errors:
                errors.append(said.error)
            line = json.dumps(answers.answer(file, said).as_dict())
            with _saving(lines):
                stream.write(line + "\n")
        with _saving(lines):
            stream.close()
            os.replace(temporary, lines)
        if course.mean is not None:
            page = timeline_page(course, answers.heads, title=name)
            with _saving(picture):
                temporary.write_text(page, encoding="utf-8")
                os.replace(temporary, picture)
    finally:
        with suppress(OSError):  # what could not be written then cannot be now
            stream.close()
        temporary.unlink(missing_ok=True)
    return answers.told(_whole(answers, file, str(lines), course, count, errors))


def _whole(
    answers: Answers, file: str, lines: str, course: Course, count: int, errors: list[str]
) -> Prediction:
    """The mean of a video's clips, and what is wrong with some of them."""
    mean, error = course.mean, None
    if errors:
        lost = count - int(course.counts.sum())
        error = f"{lost} of its {count} clips cannot be read: {errors[0]}"
    if mean is None:
        return Prediction(file, [], error, timeline=lines)
    best: dict[str, Any] = {**ranked(answers.heads, mean, answers.topk)}
    return Prediction(file, error=error, timeline=lines, **best)


@contextmanager
def _saving(place: Path) -> Iterator[None]:
    """While entered, what the disk refuses is an error of this file."""
    try:
        yield
    except OSError as error:
        raise VidinitError(
            f"cannot write {place} ({error.strerror})", "make room, or name another --out"
        ) from error


# Points of a line: more than a picture has pixels for would be memory that grows with the video.
_BINS = 512


_SHOWN = len(plots.COLORS)


_MINUTES_FROM = 300.0  # seconds


class Course:
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
        there = self.counts > 0
        counts = self.counts[there]
        return self.times[there] / counts, self.sums[there] / counts[:, None]


def timeline_page(course: Course, heads: Mapping[str, Sequence[str]], *, title: str) -> str:
    """A page with a picture of the classes that are most probable anywhere, for each head.

    Args:
        course: of a video; it has at least one clip.
        heads: names of the classes of each head, in the order of the probabilities.
        title: the video.
    """
    seconds, values = course.points()
    minutes = seconds[-1] >= _MINUTES_FROM
    times = (seconds / 60 if minutes else seconds).tolist()
    sections, start = [], 0
    mean = course.mean
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
        if course.width > 1:
            note += f" A point is the mean of {course.width} neighboring clips."
        sections.append(Section(head.capitalize(), picture + figures, note))
    return page(title, sections, subtitle=f"{int(course.counts.sum())} clips")

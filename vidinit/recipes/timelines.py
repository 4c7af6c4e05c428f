"""Long videos through a model, clip after clip: lines of JSON, and a picture of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.index import Health, UnreadableError, check
from ..data.index.cache import file_key
from ..data.loading.loader import Loader
from ..data.loading.unseen import Sliding, TimelineDataset
from ..data.rows import Row, Rows
from ..data.views import Sampling
from ..engine.predict import Prediction, Said, listen, ranked
from ..engine.run_folder import RunFolder
from ..engine.scoring import views_of
from ..errors import VidinitError
from ..report.progress import ProgressBar, say
from ..report.timeline import Course, timeline_page
from .clips import workers_of

if TYPE_CHECKING:
    from .predicting import Answers

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


def _said(answers: Answers, dataset: TimelineDataset) -> Iterator[Said]:
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
    return listen(answers.model, loader, answers.spec, answers.accelerator, average=average)


def _counted(
    said_of: Iterable[Said], total: int, show: Callable[[int, int], None]
) -> Iterator[Said]:
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
    answers: Answers, folder: Path, file: str, name: str, clips: Iterable[Said]
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

"""`vidinit predict`: what is in any number of files, or over the time of a long one."""

from __future__ import annotations

import glob
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...checkpoint import is_detector, model_folder
from ...config import DEFAULT
from ...config.build import build
from ...config.data import CLIP
from ...console import with_messages
from ...data.sources.folders import clips_below
from ...engine.run_folder import default_out
from ...errors import DataError, UsageError
from ...files import check_out
from ...processes import in_group
from ..evaluate.settings import EvaluateConfig
from .events import Finding, check_events_file, threshold_of

if TYPE_CHECKING:
    from ...zoo.base import VideoModel
    from ...zoo.detector import Detector
    from ...zoo.pair import PairModel
    from ..shared.arguments import Overrides
    from .lines import Prediction

_READS = {
    "data": (
        *("batch_size", "workers", "deadline", "reader", "decode_side", "partial"),
        *CLIP,
        *("modality", "flow", "flow_bound", "flow_weights"),
    ),
    "eval": ("clips", "crops", "start", "average"),
}
"""The settings that have a meaning here, by section, beside those that are flags."""

_DETECTOR_READS = {
    "data": (*_READS["data"], "fit", "root", "split", "time_origin"),
    "detect": ("min_score",),
}
"""Those of a detector."""

_FLAGS = ("model", "head", "seed", "device", "precision")


def predict(
    model: VideoModel | PairModel | Detector | str | Path,
    paths: str | Path | Sequence[str | Path],
    *,
    topk: int = 5,
    clips: int | None = None,
    crops: int | None = None,
    head: str | None = None,
    timeline: bool | None = None,
    every: float | None = None,
    positive: str | None = None,
    threshold: str | float | None = None,
    smooth: float | None = None,
    events: str | Path | None = None,
    boxes: str | Path | None = None,
    people: str | None = None,
    people_weights: str | Path | None = None,
    ava: str | Path | None = None,
    video: bool = True,
    features: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    overrides: Overrides = (),
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    tell: Callable[[Prediction], None] | None = None,
) -> list[Prediction]:
    """The most probable classes of files, or of the clips of long videos.

    Files are read by other processes while the model computes; one that hangs or ends its process
    is an unreadable file as any other, and carries its error. The settings, and so the scores, are
    those of `vidinit.evaluate`: probabilities averaged over the views, each class its own where a
    clip may have several. Without class names classes are called by their numbers. An image is a
    video of one frame; ``data.frames=1`` makes it a clip of one frame.

    A detector (``vidinit finetune --task detect``) tells what people do in boxes. ``out`` then has
    ``boxes.csv``, ``detections.npz``, ``report.html`` and ``videos/`` with boxes drawn, and the
    classes of a file are the highest probabilities of any of its boxes.

    Args:
        model: a model, model folder, run folder, or zoo name (random weights).
        paths: video and image files, folders to be searched through, patterns as ``clips/*.mp4``,
            and ``-`` for a list of files and folders on stdin, one a line.
        topk: classes of a file, and of a box.
        clips: clips of a video; default 1.
        crops: crops of a clip, 1 or 3; default 1.
        head: which head of a co-trained model, or ``verb`` or ``noun``.
        timeline: predict clips that slide over each video, and join neighbors of one class to
            events. ``timelines/<file>.jsonl`` in ``out`` has a line for each clip,
            ``timelines/<file>.html`` the events on the time line; the prediction of a file is the
            mean of its clips. Memory does not grow with the length of a video, but for some bytes a
            frame. Default: where another option of timelines is given, and of one file that is
            longer than 30 s and 8 clips.
        every: seconds in a timeline from one clip to the next; default: its length, and of models
            that sample whole videos 2. With ``people`` from one key frame to the next; default 1.
        positive: events of this class alone, wherever it has ``threshold``.
        threshold: the least probability of an event, or the folder of an evaluation that chose one
            for a class (``vidinit eval --positive``), whose events are then found. Default: none,
            each clip is of its most probable class; with ``positive``, and where clips have several
            classes, 0.5.
        smooth: seconds over which the probabilities of events are averaged; default 0, each clip by
            itself.
        events: a file to write the events into: .csv, .json, or .srt of one video.
        boxes: of a detector, a file with people's boxes, in any form that `vidinit.finetune` takes;
            its key frames are those that are told about. Where it names actions that the model
            knows, they are the truth in the report. A detector with proposals of its own needs
            neither ``boxes`` nor ``people``.
        people: of a detector, where people are: a detector of torchvision's, as
            ``fasterrcnn_resnet50_fpn_v2``, or ``motion``: what moves while the camera stands still.
        people_weights: file with the weights of that detector; default: torchvision's, downloaded
            at first use.
        ava: of a detector, write ``ava.csv``, too, in the form that AVA's evaluators read: a label
            map (.pbtxt) with the ids of the classes, or ``numbers``, which count from 1.
        video: of a detector, write the videos with boxes drawn.
        features: an .npz file to write, with the input of the head for each file that can be read,
            averaged over its views: arrays 'features', float32 (N, C), 'paths' and 'model'.
        out: folder for timelines and boxes; default runs/predict-<model>-<n>.
        overwrite: replace ``features`` or ``events``, or an earlier folder.
        overrides: settings, see `vidinit.config.build.build`, that say how files are read and clips
            are cut (``data.*``) and averaged (``eval.average``); those of a clip stay in a model
            that is given as such.
        batch_size: clips of a forward pass, about.
        seed: of the random weights of a zoo name.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; a model that is
            given as such stays where it is.
        precision: ``fp32`` (default), ``bf16`` or ``fp16``.
        tell: called with each prediction as soon as it is known, in the order of the files: of a
            timeline with each clip, and then with the file.

    Returns:
        A prediction for each file, in their order.

    Raises:
        UsageError: a wrong value, and contradictions.
        DataError: there is no file at all.
        VidinitError: what is to be written cannot be.
    """
    detects = _is_detector(model)
    of_timelines: dict[str, object] = {
        "--positive": positive,
        "--threshold": threshold,
        "--smooth": smooth,
        "--events": events,
    }
    shared: dict[str, object] = {} if detects else {"--every": every, "--out": out}
    if any(value is not None for value in (*of_timelines.values(), *shared.values())):
        timeline = _wanted_timeline(timeline, {**of_timelines, **shared})
    _check(topk, timeline, every, smooth, features)
    from_detectors = {
        "--boxes": boxes,
        "--people": people,
        "--people-weights": people_weights,
        "--ava": ava,
        "--no-video": None if video else True,
    }
    of_clips = {**of_timelines, "--timeline": timeline, "--features": features, "--head": head}
    _check_detector(detects, from_detectors, of_clips)
    flags = {
        "model": _name(model),
        "eval.clips": clips,
        "eval.crops": crops,
        "head": head,
        "data.batch_size": batch_size,
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    config = build(EvaluateConfig, overrides=overrides, flags=flags)
    _refuse_foreign(config, _DETECTOR_READS if detects else _READS)
    if timeline and config.eval.clips != 1:
        raise UsageError("a timeline has clips of its own", "leave --clips out; --every sets them")
    if config.data.batch_size == "auto":
        raise UsageError("data.batch_size=auto is for training", "set a number of clips")
    if isinstance(model, (str, Path)):
        model_folder(model)
    elif head is not None or device is not None:
        raise UsageError(
            "a model that is loaded has its head and its device", "give its folder instead"
        )
    if timeline or detects:
        config.out = str(default_out("predict", config.model) if out is None else out)
        check_out(Path(config.out), overwrite=overwrite)
    if features is not None:
        features = _writable(Path(features), overwrite)
    if detects:
        from ..detect.predict import Wanted, predict_boxes

        wanted = Wanted(boxes, people, people_weights, every, ava, video, topk)
        wanted.check(cast("Detector | str | Path", model))
    least = (None, positive) if threshold is None else threshold_of(threshold, positive)
    finding = Finding(positive=least[1], threshold=least[0], smooth=smooth or 0.0)
    files = find_files([paths] if isinstance(paths, (str, Path)) else paths)
    if events is not None:
        check_events_file(Path(events), videos=len(files), overwrite=overwrite)
    if detects:
        detector = cast("Detector | str | Path", model)
        return predict_boxes(detector, config, files, wanted, overwrite=overwrite, tell=tell)

    from .files import Predictor, open_predictor

    classifier = cast("VideoModel | PairModel | str | Path", model)
    predictor: Predictor = open_predictor(classifier, config, files, topk, tell)
    by_itself = timeline is None and features is None and clips is None and len(files) == 1
    if timeline or (by_itself and config.eval.clips == 1):
        from .timelines import long_video, timelines

        if timeline or long_video(predictor):
            config.out = config.out or str(default_out("predict", config.model))
            place = None if events is None else Path(events)
            return timelines(predictor, every, finding, events=place, overwrite=overwrite)
    return predictor.predict_files(features)


def _name(model: VideoModel | PairModel | Detector | str | Path) -> str:
    """The model, for messages and records."""
    if isinstance(model, (str, Path)):
        return str(model)
    trunk = getattr(model, "model", model)  # of a pair
    return str(getattr(trunk, "name", "") or type(trunk).__name__)


def _wanted_timeline(timeline: bool | None, options: Mapping[str, object]) -> bool:
    """True: options of timelines ask for one."""
    if timeline is False:
        name = next(name for name, value in options.items() if value is not None)
        raise UsageError(f"{name} is for a timeline", "leave --no-timeline out")
    return True


def _check(
    topk: int,
    timeline: bool | None,
    every: float | None,
    smooth: float | None,
    features: str | Path | None,
) -> None:
    if in_group():
        raise UsageError("predict works in one process", "start it without a launcher")
    if topk < 1:
        raise UsageError(f"topk must be at least 1, not {topk}")
    if every is not None and not (every > 0 and math.isfinite(every)):
        raise UsageError(f"every is a time above 0 s, not {every:g}")
    if smooth is not None and not (smooth >= 0 and math.isfinite(smooth)):
        raise UsageError(f"smooth is a time of 0 s or more, not {smooth:g}")
    if timeline and features is not None:
        raise UsageError("--features has one row a file, --timeline many", "pass one of them")


def _is_detector(model: object) -> bool:
    """True for a detector, and for a folder with one."""
    if isinstance(model, (str, Path)):
        return is_detector(model)
    from ...zoo.detector import Detector

    return isinstance(model, Detector)


def _check_detector(
    detects: bool, options: Mapping[str, object], others: Mapping[str, object]
) -> None:
    """Refuse options of a detector for another model, and those of others for a detector."""
    for name, value in others.items() if detects else options.items():
        if value:
            kind = "a classifier of whole clips" if detects else "a detector"
            advice = f"leave {name} out" if detects else "train one by finetune --task detect"
            raise UsageError(f"{name} is for {kind}, which the model is not", advice)


def _refuse_foreign(config: EvaluateConfig, reads: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError for a setting that only evaluations and trainings read."""
    known = {*_FLAGS, *(f"{section}.{key}" for section, keys in reads.items() for key in keys)}
    for key, place in config.origins.items():
        if place != DEFAULT and key not in known:
            words = "; ".join(f"{part}.{{{','.join(keys)}}}" for part, keys in reads.items())
            raise UsageError(f"predict does not read {key} (in {place})", f"it reads {words}")


def _writable(file: Path, overwrite: bool) -> Path:
    """The file to write features into.

    Raises:
        UsageError: it has another suffix, is there already, or its folder is not.
    """
    if file.suffix != ".npz":
        raise UsageError(f"--features {file} is no .npz file", f"name it {file.name}.npz")
    if file.is_dir() or (file.exists() and not overwrite):
        raise UsageError(f"--features {file} exists", "name another file, or pass --overwrite")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise UsageError(
            f"--features {file} cannot be written", f"{file.parent} is no folder to write into"
        )
    return file


STDIN = "-"
"""The word for a list of files on stdin, one a line."""


def find_files(paths: Sequence[str | Path]) -> list[str]:
    """The videos, images and folders of frames that are meant, in the order they are named.

    A folder is searched through. A word that is no path may be a pattern, with ``**`` for folders
    at any depth. What is not there stays in the list: whoever reads it says so.

    Args:
        paths: files, folders, patterns, and ``-`` for such files and folders on stdin.

    Raises:
        DataError: there is none.
    """
    files = [file for path in paths for file in _expand(str(path))]
    if not files:
        words = ", ".join("stdin" if str(path) == STDIN else str(path) for path in paths[:3])
        raise DataError(
            f"there is no video and no image in {words or 'an empty list'}",
            "name files, or folders that hold some",
        )
    return files


def _expand(word: str) -> Iterator[str]:
    if word == STDIN:
        for line in _lines():
            yield from _in(line)
        return
    path = os.path.expanduser(word)
    if os.path.lexists(path) or not glob.has_magic(path):
        yield from _in(path)
        return
    matches = sorted(glob.glob(path, recursive=True))
    # A pattern may match a folder and what is in it.
    yield from dict.fromkeys(file for match in matches for file in _in(match)) or [path]


def _in(path: str) -> list[str]:
    """The clips below a folder, or the file itself."""
    if not os.path.isdir(path):
        return [path]
    return with_messages(lambda: clips_below(path, "any", is_class=False))


def _lines() -> Iterator[str]:
    """The lines of stdin that are not blank, in the encoding of file names."""
    for line in sys.stdin.buffer:
        text = os.fsdecode(line.rstrip(b"\r\n"))
        if text.strip():
            yield text

"""`vidinit demo --detect`: who does what, and where, by a detector that was trained in minutes.

Patches of real footage move over other footage, two in a clip, and how each one moves is its class.
The demo's video model learns it by the same functions a user calls: once from the boxes of the
patches, once, beside it, from the whole frame in their place, which tells no box from the other.
Then boxes are found without labels, by what moves.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config.layers import called_from
from ..console import say
from ..data.boxes import read_boxes
from ..data.readers import open_video
from ..detection import frame_ap
from ..detection.overlap import box_iou
from ..engine.run_folder import RunFolder, default_out
from ..errors import UsageError
from ..files import check_out, folder_locks, mark
from ..pipelines.convert import convert
from ..pipelines.detect.draw import Drawn, color_of, draw_boxes
from ..pipelines.detect.people import MOTION
from ..pipelines.detect.report import key_frame_sections
from ..pipelines.evaluate.api import evaluate
from ..pipelines.finetune.api import finetune
from ..pipelines.predict.api import predict
from ..report import plots
from ..report.answer import Figure, answer
from ..report.html import Section, figure, page, table
from ..report.pictures import animation
from ..scoring.detections import Detections, load
from ..scoring.metrics import wilson
from .clips import choose_footage, make_clips
from .patches import KEY, MOTIONS, SIDE, PatchSet, make_patch_clips
from .report import losses
from .run import BACKBONE, PRESET

BOX_PRESET = "s3d-tf_efficientnet_lite0_boxes_demo"

SIZES = {False: (2400, 384, 240), True: (160, 48, 24)}
"""By ``quick``: clips of the trunk, and of patches for training and testing."""

CHANCE = 1 / len(MOTIONS)

CEILING = 0.5
"""The most that the whole frame tells: of two boxes of different classes it has one right."""


@dataclass(frozen=True)
class BoxRow:
    """How one of the heads did.

    Attributes:
        model: what it saw, in words.
        accuracy: share of the true boxes whose most probable class is right.
        interval: of 95 %, over boxes.
        boxes: how many true ones there are.
        frame_ap: at IoU 0.5, protocol voc.
        seconds: of its training.
        run: its folder.
    """

    model: str
    accuracy: float
    interval: tuple[float, float]
    boxes: int
    frame_ap: float
    seconds: float
    run: str


@dataclass(frozen=True)
class DetectDemo:
    """Outcome of the demonstration.

    Attributes:
        rows: the detector, then the head on the whole frame.
        found: of the boxes that motion gives, ``recall`` of true ones at IoU 0.5, ``boxes`` in all,
            and the detector's ``frame_ap`` in them.
        clips: what it was trained and tested on.
        out: the folder with everything.
        seconds: in all.
    """

    rows: tuple[BoxRow, BoxRow]
    found: dict[str, float]
    clips: PatchSet
    out: Path
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The result for ``--json``."""
        return {
            "chance": round(CHANCE, 6),
            "ceiling_whole_frame": CEILING,
            "boxes": self.rows[0].boxes,
            "rows": [
                {
                    "model": row.model,
                    "accuracy": round(row.accuracy, 6),
                    "interval": [round(bound, 6) for bound in row.interval],
                    "frame_ap": round(row.frame_ap, 6),
                    "seconds": round(row.seconds, 1),
                    "run": row.run,
                }
                for row in self.rows
            ],
            "motion": {key: round(value, 6) for key, value in self.found.items()},
            "train_videos": [str(path) for path in self.clips.train_videos],
            "test_videos": [str(path) for path in self.clips.test_videos],
            "seconds": round(self.seconds, 1),
            "out": str(self.out),
        }

    def cells(self) -> list[list[str]]:
        """The table's cells."""
        return [
            [
                row.model,
                f"{row.accuracy:.3f}",
                f"{row.interval[0]:.3f} to {row.interval[1]:.3f}",
                f"{row.frame_ap:.3f}",
                f"{row.seconds:.0f}",
            ]
            for row in self.rows
        ]

    def lines(self) -> list[str]:
        """The outcome for a terminal, and where the report is."""
        wide = max(len(row.model) for row in self.rows)
        head = f"{HEADERS[0]:<{wide}}  {HEADERS[1]:>8}  {HEADERS[2]:>15}  {HEADERS[3]:>8}"
        told = [f"{self.rows[0].boxes} true boxes in footage never trained on", head]
        for name, accuracy, interval, precision, _ in self.cells():
            told.append(f"{name:<{wide}}  {accuracy:>8}  {interval:>15}  {precision:>8}")
        minutes, seconds = divmod(int(self.seconds), 60)
        return [
            *told,
            f"chance is {CHANCE:.3f}, and {CEILING} the most that the whole frame can tell",
            f"boxes of what moves: {self.found['recall']:.3f} of the true ones found, frame-AP "
            f"{self.found['frame_ap']:.3f} in them",
            f"{minutes} min {seconds} s   videos with boxes: {self.out}/predictions/videos   "
            f"report: {self.out}/report.html",
        ]


HEADERS = ("model", "accuracy", "95 % interval", "frame-AP", "training s")


def run_patches(
    *,
    videos: str | Path | None = None,
    quick: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> PatchSet:
    """Make the clips with boxes, and train nothing; arguments and errors are those of `run_detect`.

    Returns:
        Where they are: ``patches/`` below ``out`` has train/, val/ and the files of boxes.
    """
    files = choose_footage(None if videos is None else Path(videos))
    run = _opened(out, videos, overwrite=overwrite)
    return _patches(run, files, quick=quick, seed=seed)


@called_from("the demo")
@folder_locks()
def run_detect(
    *,
    videos: str | Path | None = None,
    quick: bool = False,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> DetectDemo:
    """Who does what, and where: a detector of moving patches, from clips to drawn boxes.

    Args:
        videos, quick, seed, device, precision, processes, out, overwrite: as for `run.run_demo`.

    Raises:
        VidinitError: as for `run.run_demo`.
    """
    began = time.perf_counter()
    how: dict[str, Any] = {"device": device, "precision": precision}
    if 8 % processes:
        raise UsageError(f"batches of 8 are not shared out among {processes} processes")
    shared = {**how, "processes": processes, "batch_size": 8 // processes}
    files = choose_footage(None if videos is None else Path(videos))
    run = _opened(out, videos, overwrite=overwrite)
    for name in ("clips", "unlabelled"):
        run.claim(name)
    motions = make_clips(run.root, files, train=SIZES[quick][0], test=20, unlabelled=0, seed=seed)
    patches = _patches(run, files, quick=quick, seed=seed)
    convert(BACKBONE, "s3d", out=run.claim("converted"), frames=8, size=64, seed=seed)
    finetune(
        run.root / "converted",
        data=motions.labelled,
        out=run.claim("trunk"),
        preset=PRESET,
        seed=seed,
        **shared,
    )
    say("the trunk has learned motions of whole frames; now boxes")
    rows = heads(run, run.root / "trunk", patches, seed=seed, computing=how, **shared)
    predictions = run.claim("predictions")
    predict(
        run.root / "detector",
        patches.folder / "val",
        people=MOTION,
        out=predictions,
        topk=len(MOTIONS),
        **how,
    )
    result = DetectDemo(
        rows=rows,
        found=scored(load(predictions), patches),
        clips=patches,
        out=run.root,
        seconds=time.perf_counter() - began,
    )
    run.write_json("result.json", result.as_dict())
    _write_report(run, result)
    return result


def heads(
    run: RunFolder,
    trunk: Path,
    patches: PatchSet,
    *,
    seed: int,
    computing: dict[str, Any],
    **training: Any,
) -> tuple[BoxRow, BoxRow]:
    """The detector, and the same head on the whole frame, trained and scored.

    Args:
        run: the folder that they are written into.
        trunk: the model that both start from.
        patches: what they are trained and scored on.
        seed: of the trainings.
        computing: device and precision of the scoring.
        training: further options of `finetune`.
    """
    rows = []
    for name, folder, boxes in (
        ("detector, the boxes", "detector", patches.keys),
        ("the whole frame", "whole-frame", _without_places(run, patches.keys)),
    ):
        started = time.perf_counter()
        place = run.claim(folder)
        finetune(trunk, data=boxes, out=place, preset=BOX_PRESET, seed=seed, **training)
        trained = time.perf_counter() - started
        mark(place, "eval")
        result = evaluate(place, data=boxes, out=place / "eval", **computing)
        right = right_boxes(load(place / "eval"))
        accuracy = float(right.mean())
        interval = wilson(accuracy, len(right))
        precision = float(result["frame_ap"])
        rows.append(BoxRow(name, accuracy, interval, len(right), precision, trained, str(place)))
        say(f"{name}: {accuracy:.3f} of {len(right)} boxes after {trained:.0f} s of training")
    return rows[0], rows[1]


def _opened(out: str | Path | None, videos: str | Path | None, *, overwrite: bool) -> RunFolder:
    """The folder that everything is written into."""
    footage = "packaged" if videos is None else str(videos)
    folder = Path(out) if out is not None else default_out("demo", footage)
    check_out(folder, overwrite=overwrite)
    return RunFolder.open(folder, overwrite=overwrite)


def _patches(
    run: RunFolder, files: tuple[list[Path], list[Path]], *, quick: bool, seed: int
) -> PatchSet:
    """The clips with boxes, below the folder."""
    folder = run.claim("patches")
    folder.mkdir(exist_ok=True)
    _, train, test = SIZES[quick]
    return make_patch_clips(folder, files, train=train, test=test, seed=seed)


def _without_places(run: RunFolder, keys: Path) -> Path:
    """The same file with the whole frame in place of each box."""
    place = keys.with_name("whole.csv")
    with (
        open(keys, newline="", encoding="utf-8") as given,
        open(place, "w", newline="", encoding="utf-8") as file,
    ):
        reader = csv.DictReader(given)
        table = csv.DictWriter(file, reader.fieldnames or (), lineterminator="\n")
        table.writeheader()
        for row in reader:
            table.writerow({**row, "x1": 0, "y1": 0, "x2": SIDE, "y2": SIDE})
    return place


def right_boxes(found: Detections) -> np.ndarray:
    """Which true boxes have their class as the most probable one, bool (M,).

    The box that overlaps a true one best tells; without one that overlaps by 0.5 it is wrong.
    """
    truth = found.truth
    assert truth is not None and truth.frame is not None
    key = truth.key_of_box()
    right = np.zeros(len(truth.box), dtype=bool)
    for box in range(len(truth.box)):
        own = np.flatnonzero(
            (found.row == truth.row[key[box]]) & (found.frame == truth.frame[key[box]])
        )
        overlap = box_iou(truth.box[box].astype(np.float64), found.box[own].astype(np.float64))
        if len(own) and overlap.max() >= 0.5:
            said = found.classes[int(found.scores[own[overlap.argmax()]].argmax())]
            right[box] = said == truth.classes[truth.labels[truth.label_starts[box]]]
    return right


def scored(found: Detections, patches: PatchSet) -> dict[str, float]:
    """How good boxes are that were found without labels: recall at IoU 0.5, number, frame-AP."""
    val = next(part for part in read_boxes(patches.keys) if part.name == "val")
    truth = val.boxes.records(val.rows.rows)
    own: dict[str, np.ndarray] = {
        path: found.in_pixels(found.row, found.box)[(found.row == row) & (found.frame == KEY)]
        for row, path in enumerate(found.paths)
    }
    hits = [
        len(boxes := own[one["video"]]) and box_iou(np.array(one["box"]), boxes).max() >= 0.5
        for one in truth
    ]
    return {
        "recall": float(np.mean(hits)),
        "boxes": float(len(found)),
        "frame_ap": frame_ap(truth, found.records(pixels=True))["mean"],
    }


# ------------------------------------------------------------------------------------- the report


def _write_report(run: RunFolder, result: DetectDemo) -> None:
    """Write report.html into the demo's folder."""
    detector, whole = result.rows
    motion = load(run.root / "predictions")
    figures = [
        Figure(f"{row.model}: accuracy per box", row.accuracy, row.interval) for row in result.rows
    ]
    told = (
        f"Of {detector.boxes} true boxes {detector.accuracy:.0%} get the right one of six motions. "
        f"The same head on the whole frame has {whole.accuracy:.0%}, and no such head can pass "
        "50 %: two boxes of a clip have different classes."
    )
    sections = [
        Section(
            "Does it tell who does what?",
            table(list(HEADERS), result.cells(), highlight=0),
            f"Footage that no model was trained on: {_names(result.clips.test_videos)}; training "
            f"footage: {_names(result.clips.train_videos)}. Intervals cover the drawing of boxes. "
            "Weights are those of the last step; each key frame was seen once.",
        ),
        Section("The clips", _examples(result.clips), "True boxes, a clip for each class."),
        *key_frame_sections(load(Path(detector.run) / "eval")),
        Section(
            "Boxes without labels",
            table(
                ["true boxes found", "boxes in all", "frame-AP"],
                [[result.found["recall"], int(result.found["boxes"]), result.found["frame_ap"]]],
            ),
            "Boxes of what moves before the still background, from differences of frames; a box "
            "counts as found by an IoU of 0.5. In predictions/videos they are drawn.",
        ),
        *key_frame_sections(motion),
        Section(
            "Training",
            plots.curves(
                {row.model: losses(Path(row.run)) for row in result.rows},
                xlabel="step",
                ylabel="loss",
            ),
        ),
    ]
    head = answer("Boxes with actions", told, figures, chance=CHANCE)
    run.write("report.html", page("vidinit demo --detect", sections, answer=head))


def _names(paths: tuple[Path, ...]) -> str:
    return ", ".join(path.name for path in paths)


def _examples(patches: PatchSet) -> str:
    """A clip of each class with its true boxes, HTML."""
    val = next(part for part in read_boxes(patches.frames) if part.name == "val")
    boxes, shown = val.boxes, []
    assert boxes.frame is not None
    for label, motion in enumerate(MOTIONS):
        key = boxes.key_of_box()[np.flatnonzero(boxes.labels == label)[0]]
        row = int(boxes.row[key])
        clip = open_video(val.rows.rows[row].path)
        drawn = []
        for number in np.flatnonzero(boxes.row == row):
            (frame,) = clip.get([int(boxes.frame[number])])
            first, stop = boxes.starts[number : number + 2]
            drawn.append(
                draw_boxes(frame, [
                    Drawn(tuple(box.tolist()), "", color_of(int(own)), 2)
                    for box, own in zip(
                        boxes.box[first:stop], boxes.labels[first:stop], strict=True
                    )
                ])
            )  # fmt: skip
        shown.append(figure(animation(np.stack(drawn), label=f"a patch: {motion}"), motion))
    return '<div style="display: flex; flex-wrap: wrap; gap: 1rem">' + "\n".join(shown) + "</div>"

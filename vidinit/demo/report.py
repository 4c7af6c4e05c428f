"""The demo's report: the table, curves, the confusion matrix, and pictures of the clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.readers import open_video
from ..engine.run_folder import RunFolder
from ..report import pictures, plots
from ..report.answer import Figure, answer
from ..report.html import Section, figure, page, table
from ..scoring.metrics import confusion_of
from .footage import CLASSES

if TYPE_CHECKING:
    from .result import DemoResult, Row


def write_demo_report(run: RunFolder, result: DemoResult) -> None:
    """Write report.html into the demo's folder."""
    from .result import HEADERS

    best = result.best
    winner = None if result.winner is None else result.winner + 1  # chance is the first row
    share = 100 * best.top1
    head = answer(
        f"{share:.0f} % right where chance is {100 * result.chance:.0f} %",
        result.verdict,
        [Figure(row.model, row.top1, row.interval) for row in (best, *_others(result))],
        chance=result.chance,
    )
    sections = [
        Section(
            "Does it see motion?",
            table(HEADERS, result.cells(), highlight=winner),
            f"{result.videos} test clips of footage that no model was trained on "
            f"({_names(result.clips.test_videos)}); training footage: "
            f"{_names(result.clips.train_videos)}. The intervals cover the drawing of clips, not "
            "of scenes. Each video model had the same recipe and saw each training clip once; "
            "weights are those of the last step. A row is brought out where its interval lies "
            "above all others.",
        ),
        Section(
            "The clips",
            clip_pictures(result.clips.labelled / "val"),
            "The middle frame of a clip, which stands here, comes from the same distribution for "
            "every class. Point at a clip, or tap it, and it plays.",
        ),
        Section(
            "Training",
            plots.curves(
                {row.model: losses(Path(row.run)) for row in result.rows[1:]},
                xlabel="step",
                ylabel="loss",
            ),
        ),
        Section(
            f"Where the best one errs: {best.model}",
            plots.confusion(confusion_of(Path(best.run) / "eval", list(CLASSES)), list(CLASSES)),
        ),
        Section(
            "Conversion",
            table(
                ["stage", "tensors", "rule", "kind"],
                [
                    [row["stage"], row["tensors"], row["rule"], row["kind"]]
                    for row in result.conversion["rows"]
                ],
            ),
            f"Largest logit difference on a still clip: "
            f"{result.conversion['max_difference']:.1e} "
            f"(largest logit {result.conversion['logit_scale']:.2f}).",
            folded=True,
        ),
    ]
    run.write(
        "report.html",
        page(
            "vidinit demo: does it see motion?",
            sections,
            subtitle=f"{result.conversion['target']}, 8 frames of 64x64",
            answer=head,
        ),
    )


def _others(result: DemoResult) -> list[Row]:
    """The rows but for the best, in their order."""
    return [row for row in result.rows if row is not result.best]


def _names(paths: tuple[Path, ...]) -> str:
    return ", ".join(path.name for path in paths)


def losses(run: Path) -> list[tuple[float, float]]:
    """(step, loss) points of a run's metrics."""
    rows = RunFolder(run, writes=False).read_metrics()
    return [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]


def clip_pictures(folder: Path) -> str:
    """A moving picture of one clip of each class, HTML."""
    figures = []
    for name in CLASSES:
        first = sorted((folder / name).glob("*.mp4"))[0]
        reader = open_video(first)
        frames = reader.get(np.arange(reader.num_frames))
        figures.append(figure(pictures.animation(frames, label=f"a clip: {name}"), name))
    return f'<div class="gallery">{"".join(figures)}</div>'

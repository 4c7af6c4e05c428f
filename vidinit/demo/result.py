"""The result of the demo: scores of its models, as a table and as JSON."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .clips import ClipSet


@dataclass
class Row:
    """One trained model: top-1 with its 95 % interval, seconds of training, and its run folder."""

    model: str
    top1: float
    interval: tuple[float, float]
    seconds: float
    run: str

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Row:
        """From its fields, as JSON has them."""
        low, high = saved["interval"]
        return cls(**{**saved, "interval": (low, high)})


@dataclass
class DemoResult:
    """Outcome of the demo.

    Attributes:
        rows: the image model, then the video models.
        chance: one over the number of classes.
        videos: test clips.
        out: the folder with everything.
        seconds: the whole demo.
        clips: the clips it made.
        conversion: what `convert` printed with ``--json``.
        quick: on few clips, without the model from scratch and without distillation.
    """

    rows: list[Row]
    chance: float
    videos: int
    out: Path
    seconds: float
    clips: ClipSet
    conversion: dict[str, Any] = field(repr=False)
    quick: bool = False

    @property
    def best(self) -> Row:
        """The row of the highest score, the first of equals."""
        return max(self.rows, key=lambda row: row.top1)

    @property
    def winner(self) -> int | None:
        """The row that stands out: its interval lies above those of all others; None for none."""
        best = self.best
        others = [row for row in self.rows if row is not best]
        clear = all(row.interval[1] < best.interval[0] for row in others)
        return self.rows.index(best) if clear else None

    @property
    def verdict(self) -> str:
        """The outcome in a sentence or two."""
        image, *videos = self.rows
        best = max(videos, key=lambda row: row.top1)
        low, times = best.interval[0], best.top1 / self.chance
        if low <= self.chance:
            more = " `vidinit demo` without --quick trains on more." if self.quick else ""
            return (
                f"No video model is told apart from chance ({self.chance:.2f}): so few clips show "
                f"the steps and cannot show more.{more}"
            )
        words = f"The {best.model} is right {times:.1f} times as often as chance"
        if image.interval[0] <= self.chance:
            words += ", and a model of one frame no more often than that: it sees motion."
        else:
            words += "; a model of one frame is above chance, too, so not all of it is motion."
        if low <= 2 * self.chance:
            words += " More clips would make it clearer."
        equals = [row.model for row in videos if row is not best and row.interval[1] >= low]
        if equals:
            words += f" It is not told apart from the {' and the '.join(equals)}."
        return words

    def as_dict(self) -> dict[str, Any]:
        """The result for ``--json``."""
        return {
            "chance": self.chance,
            "videos": self.videos,
            "verdict": self.verdict,
            "rows": [
                {
                    "model": row.model,
                    "top1": round(row.top1, 6),
                    "interval": [round(bound, 6) for bound in row.interval],
                    "times_chance": round(row.top1 / self.chance, 3),
                    "seconds": round(row.seconds, 1),
                    "run": row.run,
                }
                for row in self.rows
            ],
            "conversion": {
                key: self.conversion[key] for key in ("target", "exact", "max_difference")
            },
            "train_videos": [str(path) for path in self.clips.train_videos],
            "test_videos": [str(path) for path in self.clips.test_videos],
            "seconds": round(self.seconds, 1),
            "out": str(self.out),
        }

    def cells(self) -> list[list[str]]:
        """The table's cells, chance first."""
        lines = [["chance", f"{self.chance:.3f}", "", "1.0", ""]]
        for row in self.rows:
            low, high = row.interval
            times = f"{row.top1 / self.chance:.1f}"
            bounds = f"{low:.3f} to {high:.3f}"
            lines.append([row.model, f"{row.top1:.3f}", bounds, times, f"{row.seconds:.0f}"])
        return lines

    def table(self) -> str:
        """The table for a terminal, and where the report is."""
        from rich.table import Table

        from ..console import PlainConsole

        parts = ", ".join(path.name for path in self.clips.test_videos)
        table = Table(title=f"{self.videos} test clips of footage never trained on ({parts})")
        table.add_column("model", overflow="ellipsis", no_wrap=True, max_width=30)
        for column in HEADERS[1:]:
            table.add_column(column, justify="right", no_wrap=True)
        for line in self.cells():
            table.add_row(*line)
        text = io.StringIO()
        PlainConsole(text, width=80).print(table)
        minutes, seconds = divmod(int(self.seconds), 60)
        told = f"{self.verdict}\n{minutes} min {seconds} s   report: {self.out}/report.html"
        return f"{text.getvalue()}\n{told}"


HEADERS = ["model", "top-1", "95 % interval", "x chance", "seconds"]

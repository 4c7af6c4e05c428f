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
    """

    rows: list[Row]
    chance: float
    videos: int
    out: Path
    seconds: float
    clips: ClipSet
    conversion: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The result for ``--json``."""
        return {
            "chance": self.chance,
            "videos": self.videos,
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
        table.add_column("model")
        for column in HEADERS[1:]:
            table.add_column(column, justify="right")
        for line in self.cells():
            table.add_row(*line)
        text = io.StringIO()
        PlainConsole(text, width=100).print(table)
        minutes, seconds = divmod(int(self.seconds), 60)
        return f"{text.getvalue()}\n{minutes} min {seconds} s   report: {self.out}/report.html"


HEADERS = ["model", "top-1", "95 % interval", "x chance", "seconds"]

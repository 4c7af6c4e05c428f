"""The pictures of the docs: ``python docs/images/draw.py`` writes them beside this file.

Each is one SVG without a script, with its own panel, so that it reads on any page; colors follow
the reader's choice of light or dark.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

STYLE = """
.panel{fill:#fff;stroke:#d0d7de}.plain{fill:#f3f5f7;stroke:#8c959f}
.time{fill:#ffe3c2;stroke:#bc4c00}.frozen{fill:#dbeafe;stroke:#2f6feb;stroke-dasharray:5 3}
.made{fill:#dcf5e3;stroke:#1a7f37}.line{fill:none;stroke:#57606a;stroke-width:1.5}
.tip{fill:#57606a}text{fill:#1f2328;font-family:system-ui,sans-serif;font-size:13px}
.name{font-weight:600;font-size:15px}.small{font-size:12px;fill:#57606a}
.mono{font-family:ui-monospace,monospace;font-size:13px;font-weight:600}
@media (prefers-color-scheme:dark){.panel{fill:#0d1117;stroke:#30363d}
.plain{fill:#21262d;stroke:#8b949e}.time{fill:#5a2d06;stroke:#f0883e}
.frozen{fill:#122b52;stroke:#58a6ff}.made{fill:#10391d;stroke:#3fb950}
.line{stroke:#8b949e}.tip{fill:#8b949e}text{fill:#e6edf3}.small{fill:#9da7b1}}
"""


Box = tuple[str, str]


@dataclass
class Picture:
    """A panel of so many pixels; things are drawn in the order in which they are asked for."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """A line of text; ``y`` is its base line."""
        place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
        self.parts.append(f'<text {place} class="{kind}">{escape(words)}</text>')

    def box(self, x: float, y: float, w: float, h: float, words: str, kind: str = "plain") -> None:
        """A box by its left upper corner; its lines of text are separated by ``|``."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" class="{kind}"/>'
        )
        lines = words.split("|")
        for k, line in enumerate(lines):
            self.text(x + w / 2, y + h / 2 + 4.5 + 16 * (k - (len(lines) - 1) / 2), line)

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through points, with a tip at the last."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="line" marker-end="url(#tip)"/>')

    def svg(self) -> str:
        """The whole file."""
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
        tip = (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" class="tip"/>'
            "</marker></defs>"
        )
        panel = (
            f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="10" '
            'class="panel"/>'
        )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
        body = "\n".join(self.parts)
        title = f"<title>{escape(self.title)}</title>"
        return f"{head}\n{title}\n<style>{STYLE}</style>{tip}\n{panel}\n{body}\n</svg>\n"


def column(picture: Picture, x: float, y: float, name: str, rows: list[list[Box]]) -> None:
    """A network's unit as rows of boxes, one below the other, with an arrow from each to the next.

    Args:
        picture: drawn on.
        x: of the left side; the column is 160 wide.
        y: base line of the name.
        name: above the boxes.
        rows: of boxes (text, class), which share the width.
    """
    picture.text(x + 80, y, name, "name")
    top = y + 16
    for k, row in enumerate(rows):
        height = 24 + 16 * max(words.count("|") for words, _ in row)
        if k:
            picture.arrow((x + 80, top - 13), (x + 80, top - 1))
        width = (160 - 8 * (len(row) - 1)) / len(row)
        for n, (words, kind) in enumerate(row):
            picture.box(x + n * (width + 8), top, width, height, words, kind)
        top += height + 14


def plans() -> Picture:
    """What each plan does to a unit of the image network."""
    picture = Picture(760, 475, "What each plan makes of a unit of an image network")
    norm = [("norm, activation", "plain")]
    columns = [
        ("image network", [[("k x k", "plain")], norm]),
        ("c2d", [[("k x k, each frame", "plain")], norm,
                 [("at the very end:|mean over frames", "plain")]]),
        ("i3d", [[("3 x k x k", "time")], norm]),
        ("s3d", [[("1 x k x k", "plain")], norm, [("3 x 1 x 1", "time")], norm]),
        ("tsm", [[("1/8 of the channels|from the next frame,|1/8 from the last", "time")],
                 [("k x k", "plain")], norm]),
        ("sts", [[("half:|scans of|one frame", "plain"), ("half:|3 frames", "time")], norm]),
        ("timesformer", [[("attention over time", "time")], [("attention over space", "plain")],
                         [("MLP", "plain")]]),
    ]  # fmt: skip
    for k, (name, rows) in enumerate(columns):
        column(picture, 25 + 183 * (k % 4), 34 if k < 4 else 234, name, rows)
    x = 25 + 183 * 3
    picture.text(x + 80, 234, "dist", "name")
    for k, number in enumerate(("block 1", "block 2", "block N")):
        top = 250 + 56 * k
        picture.box(x, top, 66, 36, number, "frozen")
        picture.box(x + 94, top, 66, 36, "side", "time")
        picture.arrow((x + 67, top + 18), (x + 93, top + 18))
        if k:
            picture.arrow((x + 33, top - 20), (x + 33, top - 1))
            picture.arrow((x + 127, top - 20), (x + 127, top - 1))
    for left, kind, words in ((25, "plain", "works on single frames"),
                              (240, "time", "new, or changed: sees time"),
                              (480, "frozen", "frozen")):  # fmt: skip
        picture.box(left, 436, 22, 18, "", kind)
        picture.text(left + 30, 450, words, "small", "start")
    return picture


def flow() -> Picture:
    """From an image checkpoint to a model that is scored and used."""
    picture = Picture(760, 270, "From an image checkpoint to a video model in use")
    given = ("image checkpoint,|or video checkpoint", "videos|without labels",
             "several sets,|videos and images")  # fmt: skip
    made = ("video model,|proved on a still clip", "model that knows|your footage",
            "one trunk,|a head for each")  # fmt: skip
    for y, words, verb, result in zip(
        (30, 124, 198), given, ("convert", "distill", "cotrain"), made, strict=True
    ):
        picture.box(15, y, 150, 44, words)
        picture.arrow((165, y + 22), (239, y + 22))
        picture.text(202, y + 14, verb, "mono")
        picture.box(240, y, 160, 44, result, "made")
    picture.arrow((320, 74), (320, 123))
    picture.text(328, 103, "as student", "small", "start")
    picture.box(520, 30, 150, 44, "model that knows|your classes", "made")
    picture.arrow((400, 52), (519, 52))
    picture.text(455, 44, "finetune", "mono")
    for y, x, end in ((146, 470, 62), (220, 490, 69)):
        picture.arrow((400, y), (x, y), (x, end), (519, end))
    picture.arrow((595, 74), (595, 111))
    picture.box(520, 112, 220, 130, "")
    for k, (verb, what) in enumerate(
        (
            ("eval", "how good is it?"),
            ("predict", "what is in a file?"),
            ("export", "for other programs"),
            ("profile", "what does it cost?"),
        )
    ):
        picture.text(535, 138 + 28 * k, verb, "mono", "start")
        picture.text(605, 138 + 28 * k, what, "small", "start")
    return picture


def choose() -> Picture:
    """Labels first, then what tells the classes apart."""
    picture = Picture(760, 320, "Which initialization: labels, then what tells the classes apart")
    picture.box(15, 130, 110, 60, "How many|labeled clips?")
    ways = ((40, "none"), (140, "hundreds"), (240, "thousands"))
    for y, words in ways:
        picture.arrow((125, 160), (140, 160), (140, y + 20), (219, y + 20))
        picture.text(178, y + 13, words, "small")
    picture.box(220, 30, 170, 60, "Does an image network|fit the student?")
    picture.box(220, 130, 170, 60, "Does one frame|tell the classes?")
    picture.box(220, 230, 170, 60, "A large ViT, or|a CNN?")
    ends = (
        (14, 30, "yes", "convert; label a few", "or distill, and compare"),
        (62, 60, "no", "distill", "from random weights"),
        (114, 130, "yes", "c2d, frozen trunk, probes", "CLIP, DINOv2 or a CNN"),
        (162, 160, "no", "convert to s3d or i3d", "train.temporal_lr_scale=10"),
        (214, 230, "ViT", "dist, or timesformer", "frozen tower, or all of it"),
        (262, 260, "CNN", "convert, a paper's recipe", "sts-r3d50, s3d, slowfast"),
    )
    for y, start, answer, line, more in ends:
        picture.arrow((390, start + 15), (408, start + 15), (408, y + 22), (469, y + 22))
        picture.text(436, y + 16, answer, "small")
        picture.box(470, y, 270, 42, f"{line}|{more}", "made")
    return picture


PICTURES = {"plans.svg": plans, "flow.svg": flow, "choose.svg": choose}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw().svg(), encoding="utf-8")

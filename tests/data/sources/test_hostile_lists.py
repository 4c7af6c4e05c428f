"""Lists that are long, deep, huge or nonsense: one line that says so, in little time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.data.sources import labeled_rows, unlabeled_rows
from vidinit.data.sources.classes import read_class_names
from vidinit.errors import DataError, VidinitError

LONG = 60_000
# Characters that patterns may divide in many ways; where time grows with the square, any of these
# lines takes minutes.
LINES = {
    "numbers": "a" + " 1" * LONG + " x",
    "counted": "dir" + " 1" * LONG,
    "commas": "a.mp4" + ",1" * LONG + ",x",
    "spaces": "a" + " " * LONG + "b.mp4",
    "tabs": "a\t" + "\t " * LONG + "x",
    "suffixes": "a.mp4 " * LONG,
    "suffixes without end": "a.mp4" * LONG,
    "quotes": '"' * LONG + "x",
    "quoted": '"a.mp4" "' + '""' * LONG,
    "colons": "a.mp4" + ":" * LONG,
    "semicolons": "7" + ";" * LONG + "x",
    "backslashes": "a\\" * LONG + ".mp4 run",
    "digits": "a.mp4 " + "9" * LONG,
    "digits and points": "a.mp4 " + "0." * LONG,
    "bars": "a.mp4 " + "|a" * LONG,
    "header": "path,label," + "x," * LONG,
    "name": "path label" + "_" * LONG,
}
READ_ALL = """
import resource, sys, warnings
from vidinit.data.sources import labeled_rows, unlabeled_rows
from vidinit.data.sources.classes import read_class_names
from vidinit.errors import VidinitError
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_CPU, (40, 40))  # seconds for all, ten times what it takes
for file in sys.argv[1:]:
    for read in (labeled_rows, unlabeled_rows, read_class_names):
        try:
            read(file)
        except VidinitError as error:
            assert len(str(error)) < 2000, (file, len(str(error)))
            assert error.exit_code in (2, 3), file
    print(file)
"""


def test_time_grows_with_the_length_of_a_line_and_no_faster(tmp_path: Path) -> None:
    files = []
    for number, line in enumerate(LINES.values()):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(f"{line}\n{line}\n")
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(file) for file in files]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[" * 100_000, r"a\.json: json that is nested too deeply; a list of clips is"),
        ("a.json", '{"a":' * 100_000, r"a\.json: json that is nested too deeply"),
        (
            "a.json",
            f'[{{"path": "a.mp4", "label": {"9" * 5000}}}]',
            r"a\.json: json with a number that is too large",
        ),
        ("a.txt", f"a.mp4 0\nb.mp4 {'9' * 5000}\n", r"a\.txt:2: label 9{40}\.\.\.9+ is too large"),
        (
            "a.csv",
            f"path,label,start\na.mp4,1,{'9' * 5000}\n",
            r"a\.csv:2: start '9+\.\.\.9+' is n",
        ),
        (
            "a.csv",
            f"path,label,end_frame\na.mp4,1,{'9' * 5000}\n",
            r"a\.csv:2: end_frame '9+\.\.\.",
        ),
        ("a.csv", f"path,label\n{'a' * 200_000}.mp4,run\n", r"a\.csv:2: no valid row \(field larg"),
    ],
)
def test_what_is_too_much(write: Callable, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labeled_rows(write(name, text), classes=None)


def test_ids_of_thousands_of_digits_in_files_of_names(write: Callable) -> None:
    huge = "9" * 5000
    for name, text in (
        ("n.txt", f"0 run\n{huge} jump\n"),
        ("n.csv", f"id,name\n0,run\n{huge},jump\n"),
        ("n.json", json.dumps({"run": "0", "jump": huge})),
    ):
        with pytest.raises(
            DataError, match=r"n\.\w+(:\d)?: id \d+ of class 'jump' is out of order"
        ):
            read_class_names(str(write(name, text)))
    names = write("names.txt", "run\njump\n")
    with pytest.raises(DataError, match=r"a\.txt:2: unknown class '9+\.\.\.9+'; ids run from 0"):
        labeled_rows(write("a.txt", f"a.mp4 0\nb.mp4 {huge}\n"), class_names=names)
    write("classInd.txt", "1 Run\n2 Jump\n")
    with pytest.raises(DataError, match=r"trainlist01\.txt:1: unknown class '9+\.\.\.9+'"):
        labeled_rows(write("trainlist01.txt", f"Run/v_Run_g01_c01.avi {huge}\n"))


def test_commands_end_with_the_code_of_data_errors(write: Callable) -> None:
    for name, text in (("a.json", "[" * 100_000), ("a.txt", f"a.mp4 {'9' * 5000}\n")):
        done = CliRunner().invoke(app, ["data", "check", str(write(name, text))])
        assert done.exit_code == 3, done.output
        assert "unexpected" not in done.output and len(done.stderr.strip().splitlines()) == 1


PIECES = (
    *("a.mp4", "b.avi", "dir/c", "7", "007", "-1", "0.0", "3.5", "run", "riding a bike", "é", "\\"),
    *(",", ";", "::", "|", "\t", " ", '"', "'", "[", "]", "{", "}", ":", "#", "\n", "\n", "\r\n"),
    *("path", "label", "start", "end_frame", "id", "video_id", "youtube_id", "classname", "split"),
    *("verb", "noun", "id,actions,length", "original_vido_id video_id frame_id path labels\n"),
    *("null", "true", '"database":', '"annotations":', '"label":', '"path":', "\x00", "\x1c"),
    *("participant_id", "vid_name", "1-30 SIL", "0.1", "Clabel: 0; set: 1; Glabel: 1; x", "c000 x"),
)
VALUES = (None, True, 3, -1.5, "", "run", "a.mp4", [], {}, [1], [["a"]], {"label": "x"}, 10**40)
KEYS = (
    "path",
    "label",
    "id",
    "start",
    "annotations",
    "database",
    "subset",
    "segment",
    "class",
    "a.mp4",
)


def nonsense(draw: random.Random) -> tuple[str, str]:
    """The name of a file and what is in it."""
    if draw.random() < 0.5:
        count = draw.randrange(1, 40)
        suffix = draw.choice((".txt", ".csv", ".json", "_test_split1.txt"))
        return f"list{suffix}", "".join(draw.choice(PIECES) for _ in range(count))

    def value(depth: int) -> object:
        kind = draw.random()
        if depth and kind < 0.4:
            return {draw.choice(KEYS): value(depth - 1) for _ in range(draw.randrange(4))}
        if depth and kind < 0.6:
            return [value(depth - 1) for _ in range(draw.randrange(3))]
        return draw.choice(VALUES)

    return "list.json", json.dumps(value(4))


@pytest.mark.parametrize(
    "seeds", [range(400), pytest.param(range(600, 12_000), marks=pytest.mark.slow)]
)
def test_nonsense_is_read_or_refused(write: Callable, touch: Callable, seeds: range) -> None:
    touch("v/7.mp4", "v/a.mp4", "dir/c/1.jpg")
    outcomes = {"read": 0, "refused": 0}
    for seed in seeds:
        name, text = nonsense(random.Random(seed))
        listing = write(name, text)
        for read in (labeled_rows, unlabeled_rows, lambda file: read_class_names(str(file))):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    read(listing)
                    outcomes["read"] += 1
                except VidinitError as error:
                    assert error.exit_code in (2, 3) and "\n" not in str(error), (seed, text)
                    outcomes["refused"] += 1
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {name} {text!r}") from error
    assert min(outcomes.values()) > len(seeds) / 10

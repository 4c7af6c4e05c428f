"""`vidinit predict` as its user meets it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from predict_support import lively_run
from support import moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_run(trained, tmp_path_factory.mktemp("runs") / "lively")


def predict(*words: str | Path, stdin: str | bytes = "", columns: str = "200"):
    return CliRunner().invoke(
        app, ["predict", *map(str, words)], input=stdin, env={"COLUMNS": columns}
    )


def test_help_fits_and_its_examples_are_real():
    shown = predict("--help", columns="100").stdout
    assert max(map(len, shown.splitlines())) <= 100
    text = predict("--help").stdout
    options, used = (set(re.findall(r"--[a-z-]+", part)) for part in text.split("$ vidinit", 1))
    assert used and used <= options


def test_the_command_reads_nothing_heavy_before_names_are_checked(tmp_path):
    code = (
        "import sys\nfrom vidinit.commands import app\n"
        "try:\n    app(['predict', 'no-such', 'a.mp4'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "2 []" and "no-such" in done.stderr


def test_a_run_folder_needs_no_other_argument(run, motion_set):
    result = predict(run, motion_set / "val")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and lines[0].split() == ["probability", "class", "file"]
    files = sorted(str(file) for file in (motion_set / "val").rglob("*.mp4"))
    assert [line.split()[2] for line in lines[1::2]] == files
    assert [line.split()[2] for line in lines[2::2]] == files
    for first, second in zip(lines[1::2], lines[2::2], strict=True):
        shares = [float(line.split()[0]) for line in (first, second)]
        assert shares[0] >= shares[1] and sum(shares) == pytest.approx(1, abs=2e-4)


def test_lines_of_json_and_csv_name_what_was_given(run, motion_set, tmp_path, monkeypatch):
    monkeypatch.chdir(motion_set / "val")
    bad = tmp_path / "a, b.mp4"
    bad.write_bytes(b"")
    words = ["./left/0.mp4", bad, "right/*.mp4", "data.workers=0"]
    result = predict(run, *words, "--format", "jsonl", "--topk", "1")
    values = [json.loads(line) for line in result.stdout.splitlines()]
    given = ["./left/0.mp4", str(bad), *(f"right/{n}.mp4" for n in range(3))]
    assert [value["path"] for value in values] == given
    assert values[1] == {"path": str(bad), "classes": [], "error": "the file is empty"}
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"cannot read {bad}: the file is empty",
        "error: 1 of 5 files cannot be read; they are named above",
    ]
    rows = list(csv.DictReader(predict(run, *words, "--format", "csv").stdout.splitlines()))
    twice = [path for path in given for _ in range(1 if path == str(bad) else 2)]
    assert [row["path"] for row in rows] == twice
    assert rows[0]["rank"] == "1" and rows[1]["rank"] == "2"
    assert float(rows[0]["probability"]) == pytest.approx(
        values[0]["classes"][0]["probability"], rel=1e-6
    )
    assert rows[2] == dict(
        path=str(bad), rank="", **{"class": ""}, probability="", error="the file is empty"
    )
    whole = json.loads(predict(run, *words, "--json", "--topk", "1").stdout)
    assert whole["predictions"] == values and whole["files"] == 5
    assert whole["failed"] == [{"path": str(bad), "reason": "the file is empty"}]


def test_a_list_on_stdin(run, motion_set, tmp_path):
    spaced = tmp_path / " two  words.mp4"
    os.link(motion_set / "val" / "left" / "0.mp4", spaced)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    os.link(spaced, odd)
    listed = os.fsencode(f"{spaced}\n\n   \n{odd}\r\n{tmp_path / 'none.mp4'}\n") + b"*.mp4\n"
    result = predict(run, "-", "--format", "csv", "--topk", "1", "data.workers=0", stdin=listed)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert result.exit_code == 1
    assert [row["error"] for row in rows] == ["", "", "no such file", "no such file"]
    assert [row["path"] for row in rows] == [
        str(spaced), f"{tmp_path}/caf\\udce9.mp4", f"{tmp_path}/none.mp4", "*.mp4"
    ]  # fmt: skip
    assert rows[0]["probability"] == rows[1]["probability"]


def test_a_word_with_an_equals_sign_may_be_a_file(run, motion_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.link(motion_set / "val" / "left" / "0.mp4", "data.size=64")
    os.link("data.size=64", "take=2.mp4")
    words = ["data.size=64", "take=2.mp4", "data.workers=0", "--format", "jsonl"]
    result = predict(run, *words)
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == words[:2]
    result = predict(run, "take=2.mp4", "data.sise=64")
    assert result.exit_code == 2 and "data.size" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-"], 3, "no video and no image in stdin"),
        ([], 2, "Missing argument"),
        (["a.mp4"], 1, "cannot read a.mp4: no such file"),
        (["a.mp4", "--format", "json"], 2, "did you mean 'jsonl'"),
        (["a.mp4", "--format", "csv", "--json"], 2, "pass one of them"),
        (["a.mp4", "--crops", "2"], 2, "eval.crops"),
        (["a.mp4", "--head", "other"], 2, "one head only"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(run, words, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = predict(run, *words)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    if code > 1:
        assert result.stdout == ""


@pytest.mark.slow
def test_nothing_is_said_when_the_reader_of_the_lines_leaves(run, motion_set):
    file = motion_set / "val" / "left" / "0.mp4"
    line = [sys.executable, "-m", "vidinit", "predict", str(run), "-", "--format", "jsonl"]
    process = subprocess.Popen(
        [*line, "data.workers=0", "data.batch_size=1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    _, errors = process.communicate(f"{file}\n".encode() * 3, timeout=280)
    assert process.returncode == 141 and errors == b""


def test_a_timeline_has_lines_and_a_picture(run, tmp_path):
    clips = [moving_bar(-4, 1, frames=30), moving_bar(4, 2, frames=30)]
    video = write_video(tmp_path / "long.mp4", np.concatenate(clips))  # 5 s, clips of 4 frames
    still = tmp_path / "still.png"
    Image.fromarray(clips[0][0]).save(still)
    out = tmp_path / "out"
    words = [run, video, still, "--timeline", "--out", out, "--every", "1", "data.workers=0"]
    result = predict(*words, "--format", "jsonl")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    lines = (out / "timelines" / "long.mp4.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines]
    assert [(round(v["start"], 3), round(v["end"], 3)) for v in values] == [
        *((float(n), round(n + 1 / 3, 3)) for n in range(5)), (4.667, 5.0)
    ]  # fmt: skip
    assert "no times" in told[-1]["error"] and result.exit_code == 1
    assert "1 of 2 files" in result.stderr and f"timelines: {out}/timelines" in result.stderr
    assert (told[0]["start"], told[-2]["end"]) == (0.0, 5.0)
    assert {one["class"] for one in told[:-1]} == {v["classes"][0]["class"] for v in values}
    page = (out / "timelines" / "long.mp4.html").read_text()
    assert "<svg" in page and "probability over seconds: " in page and "http://" not in page[:200]
    assert sorted(p.name for p in (out / "timelines").iterdir()) == [
        "long.mp4.html", "long.mp4.jsonl"
    ]  # fmt: skip
    result = predict(*words)
    assert result.exit_code == 2 and "not empty" in result.stderr
    whole = json.loads(predict(*words[:2], *words[3:], "--overwrite", "--json").stdout)
    mean = np.mean([{c["class"]: c["probability"] for c in v["classes"]}["left"] for v in values])
    shares = {c["class"]: c["probability"] for c in whole["predictions"][0]["classes"]}
    assert shares["left"] == pytest.approx(mean)
    assert whole["predictions"][0]["timeline"] == str(out / "timelines" / "long.mp4.jsonl")


def looped(path: Path, piece: Path, times: int) -> Path:
    """A video shown ``times`` times, without coding it again."""
    with av.open(str(path), "w") as out:
        stream, offset = None, 0
        for _ in range(times):
            end = 0
            with av.open(str(piece)) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is not None:
                        end = max(end, packet.pts + packet.duration)
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = stream
                        out.mux(packet)
            offset += end
    return path


def peak_mb(*words: str | Path) -> tuple[float, float, str]:
    """Largest resident memory of a command, and of the largest process it starts, in MiB."""
    code = (
        "import resource, sys\nfrom vidinit.commands import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN\n"
        "print(*(resource.getrusage(one).ru_maxrss / 1024 for one in who), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    own, children = map(float, done.stderr.splitlines()[-1].split())
    return own, children, done.stdout


@pytest.mark.slow
def test_two_hours_take_no_more_memory_than_two_minutes(run, tmp_path):
    clips = [moving_bar(-4, 1, frames=250, side=96), moving_bar(4, 2, frames=250, side=96)]
    piece = write_video(tmp_path / "piece.mp4", np.concatenate(clips), fps=25)  # 20 s
    peaks = []
    for name, times in (("short", 6), ("long", 360)):
        video = looped(tmp_path / f"{name}.mp4", piece, times)
        out = tmp_path / name
        words = ["predict", run, video, "--timeline", "--every", "20", "--out", out]
        own, children, _ = peak_mb(*words, "--format", "jsonl")
        lines = (out / "timelines" / f"{name}.mp4.jsonl").read_text()
        assert len(lines.splitlines()) == times + 1  # the last one ends with the video
        peaks.append((own, children))
    assert json.loads(lines.splitlines()[-1])["end"] == pytest.approx(7200, abs=0.1)
    grown = np.subtract(peaks[1], peaks[0])
    assert (grown < 80).all(), peaks


@pytest.mark.slow
def test_ten_thousand_files_on_stdin(run, tmp_path):
    _many(run, tmp_path, 10_000)


def test_many_files_on_stdin(run, tmp_path):
    _many(run, tmp_path, 60)


def _many(run: Path, folder: Path, count: int) -> None:
    grain = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    first = folder / "a 0.png"
    Image.fromarray(grain).save(first)
    names = [str(first)]
    for number in range(1, count):
        names.append(str(folder / f"a {number}.png"))
        os.link(first, names[-1])
    names[count // 2] = str(folder / "gone.png")
    result = predict(run, "-", "--format", "jsonl", "--topk", "1", stdin="\n".join(names))
    values = [json.loads(line) for line in result.stdout.splitlines()]
    assert [value["path"] for value in values] == names and result.exit_code == 1
    assert [i for i, value in enumerate(values) if "error" in value] == [count // 2]

"""The docs by question: pictures are as they were drawn, sums add up, the path goes."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
import xml.etree.ElementTree as ET
from types import ModuleType

import pytest
from docs_support import PAGES, ROOT, lines_of
from support import moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.engine.optimizer import peak_lr
from vidinit.pipelines.shared.array_store import predicted_bytes

IMAGES = ROOT / "docs" / "images"
SCALING = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
VIDEOS, TRAINED = 260_232, 240_436  # of Kinetics-400


# ------------------------------------------------------------------ pictures


def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", IMAGES / "draw.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["draw"] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_pictures_are_what_the_script_draws():
    pictures = {name: draw().svg() for name, draw in drawing().PICTURES.items()}
    assert set(pictures) == {file.name for file in IMAGES.glob("*.svg")}
    for name, text in pictures.items():
        assert (IMAGES / name).read_text(encoding="utf-8") == text, "python docs/images/draw.py"
        assert len(text) < 60_000 and "prefers-color-scheme:dark" in text
        root = ET.fromstring(text)
        assert "script" not in text and root[0].text


def test_text_stays_inside_its_box():
    """About 7 pixels a letter: no words stick out of what they stand in."""
    for name in drawing().PICTURES:
        root = ET.fromstring((IMAGES / name).read_text(encoding="utf-8"))
        tag = "{http://www.w3.org/2000/svg}"
        boxes = [
            tuple(float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
            for rect in root.iter(f"{tag}rect")
        ][1:]
        for text in root.iter(f"{tag}text"):
            x, y, words = float(text.attrib["x"]), float(text.attrib["y"]), text.text or ""
            for left, top, width, height in boxes:
                if left < x < left + width and top < y < top + height:
                    room = width - (x - left) if text.attrib["text-anchor"] == "start" else width
                    assert 6.4 * len(words) <= room, f"{name}: {words}"


def test_every_picture_is_shown_and_told():
    shown = set()
    for page in PAGES:
        for words, place in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(), flags=re.S):
            assert (page.parent / place).is_file(), place
            assert len(words) >= 40, "words for those who do not see it"
            shown.add(place.rpartition("/")[2])
    assert shown >= {file.name for file in IMAGES.glob("*.svg")}


# ------------------------------------------------------------------ sizes and times


def row(begin: str) -> list[str]:
    """The cells of the table row that begins so."""
    (line,) = [line for line in SCALING.splitlines() if line.startswith(f"| {begin} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def number(cell: str) -> float:
    """The first number of a cell, in bytes where it is a size."""
    found = re.search(r"([\d,.]*\d)(?: ([kMGT])B)?", cell)
    assert found is not None, cell
    scale = {None: 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[found[2]]
    return float(found[1].replace(",", "")) * scale


def near(value: float) -> object:
    return pytest.approx(value, rel=0.03)


def measured(begin: str) -> float:
    return number(row(begin)[0])


def test_sizes_of_data_sets_follow_from_what_was_measured():
    second = measured("a prepared video of 10 s, 602x256, 25 frames/s, GOP 12, crf 20") / 10
    clip = measured("one clip of 8 frames from it, decoded, cropped, normalized") / 1000
    views = measured("10 x 3 views of a video") / 1000
    _, coding = map(float, re.findall(r"([\d.]+) s", row("preparing 10 s of video")[0]))
    for place, videos, trained, seconds in ((1, VIDEOS, TRAINED, 10), (2, 1e6, 1e6, 60)):
        assert number(row("videos")[place]) == videos
        assert number(row("prepared")[place]) == near(videos * seconds * second)
        hours = videos * seconds * coding / 10 / 3600
        assert number(row("preparing, 720p")[place]) == near(hours)
        shared = number(row("the same, 16 machines of 32 cores")[place])
        assert shared == near(hours / 512 * (60 if place == 1 else 1))
        assert number(row("reading one epoch, 8 frames")[place]) == near(trained * clip / 3600)
        assert number(row("45 million clips (DistInit)")[place]) == near(45e6 * clip / 3600)
    assert number(row("evaluation, 10 x 3 views")[1]) == pytest.approx(
        19_796 * views / 3600, abs=0.05
    )


def test_cores_and_disks_that_feed_a_gpu():
    file = measured("a prepared video of 10 s, 602x256, 25 frames/s, GOP 12, crf 20") / 1e6
    clip = measured("one clip of 8 frames from it, decoded, cropped, normalized") / 1000
    original = measured("the same from a file with a key frame every 10 s") / 1000
    for rate in (50, 100, 200):
        cores, more, disk, eight = row(str(rate))
        assert number(cores) == pytest.approx(rate * clip, abs=0.06)
        assert number(more) == pytest.approx(rate * original, abs=0.06)
        assert number(disk) / 1e6 == near(rate * file)
        assert number(eight) == near(8 * rate * clip)
        assert number(eight.partition(",")[2]) == near(8 * rate * file * 8 / 1000)


def test_the_length_of_a_training():
    work = 3 * 2 * 41.74e9 * TRAINED * 50
    hours = work / 50e12 / 3600
    for value in (f"{work:.1e}".replace("e+", "e"), f"{hours:.1f} hours", f"{hours / 8:.1f} hours"):
        assert value in SCALING
    assert round(TRAINED * 50 / hours / 3600, -1) == 200
    assert peak_lr(0.02, 128, 2 * 16) == 0.02 / 4, "a quarter of the rate"


def test_sizes_of_caches_are_those_the_run_would_tell():
    for name, width in (("`imagenet`, W = 1000", 1000), ("`dinov2`, W = 768", 768)):
        kinetics, small = row(name)
        whole = predicted_bytes(TRAINED * 250, (width,), "float16", 150 * TRAINED)
        assert number(kinetics) == near(whole)
        assert number(small) == near(predicted_bytes(2_500_000, (width,), "float16", 200_000))
    for name, shape in (
        ("ViT-B/16, 8 frames of 224", (12, 8, 1 + 14**2, 768)),
        ("ViT-L/14, 8 frames of 224", (24, 8, 1 + 16**2, 1024)),
    ):
        for cell, clips in zip(row(name), (1, 1_000, 10_000, TRAINED), strict=True):
            assert number(cell) == near(clips * math.prod(shape) * 4), (name, cell)


# ------------------------------------------------------------------ your own videos


def own_videos() -> list[str]:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    part = text.partition("\n## Your own videos\n")[2].partition("\n## ")[0]
    found = re.findall(r"```bash\n(.*?)```", part, flags=re.S)
    return [line for block in found for line in lines_of(block)]


TINY = " data.size=64 data.workers=0 data.batch_size=4"


def test_the_path_is_whole():
    verbs = [line.split()[1] for line in own_videos()]
    assert verbs == [
        *("data", "data", "convert", "distill", "finetune", "eval", "predict"),
        *("finetune", "eval", "export"),
    ]


@pytest.mark.slow
def test_the_path_from_a_folder_to_a_model_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["path,label"]
    for number_ in range(24):
        left = number_ % 2 == 0
        name = f"{'monday' if number_ < 12 else 'tuesday'}/{number_:04}.mp4"
        bar = moving_bar(-4 if left else 4, number_, frames=12, side=64)
        write_video(tmp_path / "raw" / name, bar)
        if number_ < 20:
            lines.append(f"{name},{'pour' if left else 'stir'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "raw" / "broken.mp4").write_text("no video")
    for line in own_videos():
        command, _, file = line.partition(" > ")
        words = command.split()[1:]
        if words[0] in ("distill", "finetune"):
            words += [*TINY.split(), "--epochs", "1"]
        elif words[0] == "eval":
            words += ["data.workers=0"]
        elif words[0] == "convert":
            words += ["--size", "64", "--frames", "4"]
        done = CliRunner().invoke(app, words)
        bad = words[0] == "data"  # one file is
        assert done.exit_code == (1 if bad else 0), f"{line}\n{done.output}"
        if file:
            (tmp_path / file).write_text(done.stdout)
    guesses = (tmp_path / "guesses.csv").read_text().splitlines()
    assert len(guesses) == 25 and guesses[0].startswith("path,rank,class")
    assert (tmp_path / "mine.onnx").stat().st_size > 1_000_000

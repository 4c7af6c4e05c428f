"""The docs by question: pictures are as they were drawn, and the path goes."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from types import ModuleType

import pytest
from docs_support import PAGES, ROOT, lines_of
from support import moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app

IMAGES = ROOT / "docs" / "images"


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


def test_every_picture_is_shown_and_told():
    shown = set()
    for page in PAGES:
        for words, place in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(), flags=re.S):
            assert (page.parent / place).is_file(), place
            assert len(words) >= 40, "words for those who do not see it"
            shown.add(place.rpartition("/")[2])
    assert shown >= {file.name for file in IMAGES.glob("*.svg")}


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

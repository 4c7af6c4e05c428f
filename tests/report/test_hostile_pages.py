"""No name of a file or a class gets a tag, a script or a control character into a page."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from report.browsing import Reader
from support import MODEL, moving_bar, write_video

import vidinit
from vidinit import checkpoint
from vidinit.data.rows import Probe
from vidinit.engine.run_folder import RunFolder
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.report.html import Section, figure, page, table
from vidinit.report.profile_page import profile_page
from vidinit.report.run_report import write_report

TAG = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>"
NASTY = f"{TAG}\x1b]0;t\x07\u202e\udcff $x_{{$ &amp; --> ]]> {{{{ 7 * 7 }}}}"
SHOWN = f"{TAG}\\x1b]0;t\\x07\\u202e\\udcff $x_{{$ &amp; --> ]]> {{{{ 7 * 7 }}}}"
# Of a file: no slash, and 255 bytes at most.
FILE = "<img src=x onerror=alert(1)>\"'><svg onload=alert(1)>\x1b]0;t\x07\u202e\udcff $x_{$ &amp;"
FILE_SHOWN = FILE[:52] + "\\x1b]0;t\\x07\\u202e\\udcff $x_{$ &amp;"


def harmless(text: str, *names: str) -> Reader:
    """The page as a parser sees it: it has the names as text, and nothing that they brought."""
    assert "default-src 'none'" in text
    text.encode("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    read = Reader(text)
    assert not {tag for tag, _ in read.tags} & {"script", "iframe", "object", "embed", "base"}
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert attributes.get("src", "data:").startswith("data:"), (tag, attributes)
        assert not (attributes.get("href") or "#").lower().startswith("javascript")
    words = "\n".join(text for texts in read.texts.values() for text in texts)
    for name in names:
        assert name in words, name
    return read


@pytest.mark.parametrize("body", [TAG, "<img src=x>", "<a href='javascript:x'>y</a>"])
def test_what_got_through_would_be_found(body: str) -> None:
    with pytest.raises(AssertionError):
        harmless(page("x", [Section("y", body)]))


def test_the_pieces() -> None:
    body = table([NASTY], [[NASTY]]) + figure("", NASTY)
    read = harmless(page(NASTY, [Section(NASTY, body, NASTY)], subtitle=NASTY), SHOWN)
    assert read.texts["h1"] == read.texts["h2"] == read.texts["td"] == [SHOWN]


def test_the_page_of_a_training(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log(epoch=1, step=1, loss=0.5, lr=0.1, **{f"top1_{NASTY}": 0.5})
    bad = [{"path": NASTY, "reason": NASTY}]
    run.write_json("result.json", {"steps": 6, "best": 0.9, "missing": [], "out": NASTY})
    run.write_json("data_health.json", {"files": 11, "good": 10, "bad": bad})
    write_report(
        run,
        title=NASTY,
        config=FinetuneConfig.model_validate({"model": TAG, "data": {"train": TAG}}),
        confusion=np.array([[3, 1], [0, 2]]),
        classes=[NASTY, "walk"],
        extra=[Section(NASTY, "")],
    )
    harmless((tmp_path / "report.html").read_text("utf-8"), SHOWN)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of classes with such names, and a data set of them."""
    root = tmp_path_factory.mktemp("pages")
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=2, frames=4)
    model.spec = replace(model.spec, size=32, stride=1)
    model.classes = [FILE, "walk"]
    model.lineage = [{"step": NASTY, "data": NASTY}]
    checkpoint.save_model(model, root / "model")
    for number, name in enumerate(model.classes):
        write_video(root / "made.mp4", moving_bar(4 - 8 * number, number))
        (root / "data" / name).mkdir(parents=True)
        (root / "made.mp4").rename(root / "data" / name / f"{FILE}.mp4")
    (root / "data" / FILE / f"bad{FILE}.mp4").write_bytes(b"no video")
    return root


def test_the_page_of_an_evaluation(hostile: Path, tmp_path: Path) -> None:
    vidinit.evaluate(
        hostile / "model",
        data=hostile / "data",
        out=tmp_path / "eval",
        overrides=["data.workers=0", "data.max_bad=0.9"],
    )
    harmless((tmp_path / "eval" / "report.html").read_text("utf-8"), FILE_SHOWN, SHOWN)
    listed = (tmp_path / "eval" / "predictions.csv").read_bytes()
    assert os.fsencode("\u202e\udcff $x_{$ &amp;.mp4") in listed, "files are named as they are"


def test_the_page_of_a_timeline(hostile: Path, tmp_path: Path) -> None:
    video = hostile / "data" / FILE / f"{FILE}.mp4"
    vidinit.predict(
        hostile / "model",
        video,
        timeline=True,
        out=tmp_path / "lines",
        overrides=["data.workers=0"],
    )
    (made,) = (tmp_path / "lines" / "timelines").glob("*.html")
    harmless(made.read_text("utf-8"), FILE_SHOWN)


def test_the_page_of_a_profile(hostile: Path, tmp_path: Path) -> None:
    (hostile / f"m{FILE}").symlink_to(hostile / "model")
    name = str(hostile / f"m{FILE}")
    vidinit.profile([name], count_only=True, stages=True, out=tmp_path / "profile")
    harmless((tmp_path / "profile" / "profile.html").read_text("utf-8"), f"m{FILE_SHOWN}")
    row = {"model": NASTY, "params": 1, "gmacs": 1.0, "gflops": 2.0, "frames": 8, "size": 32}
    more = {"score": 0.5, "metric": "top1", "interval": [0.4, 0.6], "views": 1, "result": NASTY}
    harmless(profile_page([{**row, **more}, {**row, **more, "model": f"b{NASTY}"}], {}), SHOWN)


def test_a_probe_says_what_is_wrong_in_words() -> None:
    """Its fault is text of a library, and may quote the file."""
    probe = Probe(3, 25.0, 32, 32, fault=NASTY)
    harmless(page("x", [Section("files", table(["file"], [[probe.kept]]))]), SHOWN)

"""The whole report in a browser where there is one, else in a parser; the test's id says which."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from report.browsing import BROWSER, Reader, browse
from support import moving_bar, write_video

from vidinit.data.rows import Row
from vidinit.engine.run_folder import RunFolder
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.report.clip_examples import clip_sections
from vidinit.report.html import Section, table
from vidinit.report.model_parts import cost_sections, kernel_sections
from vidinit.report.run_report import write_report
from vidinit.report.scores import calibration_sections
from vidinit.scoring.metrics import Scores
from vidinit.zoo.build import create_model

LIMIT = 5_000_000  # bytes of a report, whatever it is of


def metrics(epochs: int, steps: int, terms: int) -> str:
    lines = []
    for epoch in range(1, epochs + 1):
        for i in range(steps):
            step = (epoch - 1) * steps + i + 1
            losses = {f"loss_{k}": k / step for k in range(terms)}
            lines.append({"epoch": epoch, "step": step, "loss": 1 / step, "lr": 0.1, **losses})
        at = {"epoch": epoch, "step": epoch * steps}
        lines.append({**at, "data_wait": 0.3, "clips_per_second": 40.0 + epoch % 3})
        lines.append({**at, "top1": epoch / epochs, "top5": 1.0, "mean_class_accuracy": 0.5})
    return "\n".join(map(json.dumps, lines))


def full_report(root: Path, *, classes: int, epochs: int, steps: int = 2, terms: int = 2) -> Path:
    """A report with every part there is."""
    run = RunFolder(root)
    run.metrics_file.write_text(metrics(epochs, steps, terms))
    long = "/data/a_folder_with_a_name_that_is_rather_long_for_a_telephone/clip_{}.mp4"
    bad = [{"path": long.format(i), "reason": "no frame decodes"} for i in range(300)]
    run.write_json("data_health.json", {"files": 400, "good": 100, "bad": bad, "hours": 1.5})
    each = [{"class": f"c{i}", "top1": 0.1} for i in range(classes)]
    run.write_json("result.json", {"top1": 0.5, "sources": {"first": {"classes": each}}})
    rng = np.random.default_rng(0)
    names = [f"class {i} of a name with several words" for i in range(classes)]
    confusion = rng.integers(0, 3, (classes, classes)) + 9 * np.eye(classes, dtype=np.int64)
    paths = [write_video(root / "clips" / f"{i}.mp4", moving_bar(3, i)) for i in range(2)]
    said = np.full((2, classes), 0.1 / classes)
    said[:, 0] = 0.9
    bins = [{"low": 0.0, "high": 1.0, "videos": 9, "confidence": 0.5, "accuracy": 0.4}]
    model = create_model("r2plus1d-18", num_classes=2)
    row = {"model": "m", "params": 10, "gmacs": 1.0, "gflops": 2.0, "frames": 8, "size": 64}
    extra = [
        *calibration_sections({"ece": 0.1, "bins": bins}),
        *clip_sections([Row(str(p)) for p in paths], Scores(said, np.array([0, 1]), []), names),
        *cost_sections([row]),
        *kernel_sections({"trained": model}),
        Section("Wide", table([f"column {i}" for i in range(30)], [list(range(30))])),
    ]
    config = FinetuneConfig.model_validate({"model": "m", "train": {"epochs": epochs}})
    write_report(
        run, title="finetune m", config=config, confusion=confusion, classes=names, extra=extra
    )
    return root / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_report(tmp_path_factory.mktemp("report"), classes=12, epochs=3)


def test_parsed_it_is_closed_and_carries_its_pictures_with_it(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    read = Reader(text)
    pictures = [str(a.get("src")) for t, a in read.tags if t == "img"]
    pictures += re.findall(r'xlink:href="(?!#)([^"]*)"', text)
    assert len(pictures) >= 4 and all(src.startswith("data:image/") for src in pictures)
    told = [a.get("alt") or a.get("aria-label") for t, a in read.tags if t == "img" or
            (t == "svg" and a.get("class") == "plot")]  # fmt: skip
    assert len(told) >= 10 and all(told), "words for every picture"
    names = [a["id"] for _, a in read.tags if "id" in a]
    assert len(names) == len(set(names))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in read.tags}
    outside = set(re.findall(r"https?://[^\"\s]*", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_it_stays_small_whatever_it_is_of(tmp_path: Path) -> None:
    page = full_report(tmp_path, classes=400, epochs=1000, steps=1, terms=20)
    assert page.stat().st_size < LIMIT / 2
    Reader(page.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_it_stays_small_with_a_thousand_classes(tmp_path: Path) -> None:
    page = full_report(tmp_path, classes=1000, epochs=20_000, steps=1, terms=40)
    assert page.stat().st_size < LIMIT


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed: the page was parsed only")
@pytest.mark.parametrize(
    ("width", "dark"), [(360, False), pytest.param(1280, True, marks=pytest.mark.slow)]
)
def test_in_a_browser(report: Path, tmp_path: Path, width: int, dark: bool) -> None:
    seen, console = browse(report, tmp_path, width=width, dark=dark)
    assert console == ""
    assert seen["width"] == width and seen["needs"] <= width, "the page does not scroll sideways"
    assert len(seen["images"]) >= 3 and all(w > 0 for w in seen["images"])
    assert len(seen["plots"]) >= 8 and all(w > 100 for w in seen["plots"])
    assert (max(inner - box for box, inner in seen["boxes"]) > 0) is True, "wide tables do, alone"
    paper = [int(n) for n in re.findall(r"\d+", seen["paper"])[:3]]
    assert (max(paper) < 60) is dark


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
def test_the_browser_would_tell(tmp_path: Path) -> None:
    """A page that is too wide, with a picture that is none and a file from elsewhere."""
    policy = '<meta http-equiv="Content-Security-Policy" content="img-src data:">'
    body = '<img src="data:image/png;base64,AAAA"><img src="http://localhost:9/x.png">'
    page = tmp_path / "bad.html"
    page.write_text(
        f"<!DOCTYPE html><html><head>{policy}</head><body>{body}"
        '<div class="wide" style="width: 900px">x</div></body></html>'
    )
    seen, console = browse(page, tmp_path, width=360)
    assert "Content Security Policy" in console
    assert seen["needs"] > 360 and seen["images"] == [0, 0]

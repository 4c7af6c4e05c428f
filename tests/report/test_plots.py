from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from vidinit.report import plots

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
NAMES = ["walk", '$run$ <b> & "jump"', "跳"]
BINS = [
    {"low": 0.0, "high": 0.5, "videos": 0, "confidence": None, "accuracy": None},
    {"low": 0.5, "high": 1.0, "videos": 4, "confidence": 0.8, "accuracy": 0.25},
]
MATRIX = np.array([[7, 3, 0], [0, 5, 0], [0, 0, 0]])


def parse(svg: str) -> ET.Element:
    box = ET.fromstring(svg)
    assert box.attrib == {"class": "wide"} and [child.tag for child in box] == [f"{SVG}svg"]
    return box[0]


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in parse(svg).iter(f"{SVG}text")]


FIVE = [-1.0, -0.5, 0.0, 0.5, 2.0]


def all_plots() -> list[str]:
    return [
        plots.curves({"a": [(0, 1.0), (1, 0.5)]}, xlabel="step", ylabel="loss"),
        plots.curves({"a": [(0, 1.0), (1, 0.5)]}, xlabel="step", ylabel="loss"),
        plots.confusion(MATRIX, NAMES),
        plots.bars({"x": 0.4}, xlabel="accuracy", intervals={"x": (0.2, 0.6)}, chance=0.1),
        plots.reliability(BINS),
        plots.gains({"up": 12.5, "down": -3.0}, xlabel="points"),
        plots.boxes({"conv": {"-1": FIVE, "0": FIVE}, "x": {"0": FIVE}}, ylabel="weight"),
    ]


def test_several_plots_share_a_page() -> None:
    seen: set[str] = set()
    for svg in all_plots():
        root = parse(svg)
        ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        assert ids and len(ids) == len(set(ids)) and not seen & set(ids)
        seen |= set(ids)
        links = [node.attrib[HREF] for node in root.iter() if HREF in node.attrib]
        wanted = {link[1:] for link in links if link.startswith("#")}
        wanted |= set(re.findall(r"url\(#([^)]*)\)", svg))
        assert wanted == set(ids)


def test_plots_need_nothing_from_elsewhere_and_leave_the_page_alone() -> None:
    for svg in all_plots():
        outside = set(re.findall(r"https?://[^\"\s]*", svg))
        assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "<style" not in svg and "<!DOCTYPE" not in svg and "DejaVu" not in svg
        assert parse(svg).attrib["role"] == "img" and parse(svg).attrib["aria-label"]


def test_text_takes_the_color_of_the_page() -> None:
    for svg in all_plots():
        assert "currentColor" in svg and plots._INK not in svg
    # Only the numbers inside the opaque cells of a confusion matrix have colors of their own.
    for svg in (all_plots()[0], *all_plots()[3:]):
        assert "#000000" not in svg and "#ffffff" not in svg


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_line_colors_stand_out(paper: str) -> None:
    for color in plots.COLORS:
        dark, light = sorted((luminance(color), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_curves_name_axes_and_series() -> None:
    svg = plots.curves(
        {NAMES[1]: [(1, 0.1), (2, float("nan")), (3, 0.3)], "other": [(1, 0.2)]},
        xlabel="epoch",
        ylabel="fraction",
    )
    assert {"epoch", "fraction", NAMES[1], "other"} <= set(texts(svg))
    assert not {"1.5", "2.5"} & set(texts(svg))
    assert NAMES[1] in parse(svg).attrib["aria-label"]


def y_ticks(svg: str) -> list[float]:
    """The numbers along the axis of y; those of x are whole here."""
    found = [text.replace("−", "-") for text in texts(svg)]  # noqa: RUF001 - matplotlib's minus
    numbers = [float(text) for text in found if re.fullmatch(r"-?\d+\.\d+", text)]
    return sorted(numbers)


def test_axes_fit_what_is_drawn() -> None:
    shares = plots.curves({"a": [(0, 0.9), (1, 0.95)]}, xlabel="x", ylabel="y", fractions=True)
    assert (y_ticks(shares)[0], y_ticks(shares)[-1]) == (0.0, 1.0)
    alone = y_ticks(plots.curves({"a": [(0, 1.0), (1, 1.0)]}, xlabel="x", ylabel="y"))
    assert alone[0] == 0.0 and 1.0 in alone and alone[-1] < 1.2
    apart = y_ticks(plots.curves({"a": [(0, 0.9), (1, 0.95)]}, xlabel="x", ylabel="y"))
    assert apart[0] >= 0.89 and apart[-1] <= 0.96


def test_a_point_is_brought_out_and_named() -> None:
    drawn = plots.curves(
        {"a": [(0, 1.0), (1, 0.5)]}, xlabel="x", ylabel="y", marks={"threshold 0.7": (0.5, 0.75)}
    )
    assert "threshold 0.7" in texts(drawn) and "a" in texts(drawn)


def test_curves_without_points() -> None:
    for series in ({}, {"a": []}, {"a": [(0, float("nan"))]}):
        with pytest.raises(ValueError, match="no points to draw for 'loss'"):
            plots.curves(series, xlabel="step", ylabel="loss")


def test_confusion_writes_counts_and_colors_shares() -> None:
    svg = plots.confusion(MATRIX, NAMES)
    shown = texts(svg)
    assert [shown.count(name) for name in NAMES] == [2, 2, 2]
    assert sorted(t for t in shown if t.isdigit()) == ["3", "5", "7"]
    image = next(n for n in parse(svg).iter(f"{SVG}image") if n.attrib["width"] == "3")
    png = base64.b64decode(image.attrib[HREF].partition(",")[2])
    cells = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)
    if "matrix(1 0 0 -1" in image.attrib.get("transform", ""):
        cells = cells[::-1]
    brightness = cells[..., :3].sum(axis=-1)
    assert brightness[1, 1] > brightness[0, 0] > brightness[0, 1] > brightness[0, 2]
    assert (cells[2, :, 3] == 0).all() and (cells[:2, :, 3] == 255).all()


def test_confusion_of_many_classes_has_no_counts() -> None:
    names = [f"class {i}" for i in range(21)]
    shown = texts(plots.confusion(np.eye(21, dtype=int) * 777, names))
    assert "777" not in shown and shown.count("class 20") == 2
    assert "777" in texts(plots.confusion(np.eye(20, dtype=int) * 777, names[:20]))


def test_confusion_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        plots.confusion(MATRIX, ["a", "b"])


def test_bars_show_values_names_and_chance() -> None:
    svg = plots.bars({"walk": 0.25, NAMES[1]: 0.5}, xlabel="accuracy", chance=0.1)
    assert {"walk", NAMES[1], "0.25", "0.5", "accuracy", "chance"} <= set(texts(svg))
    assert "chance" not in texts(plots.bars({"walk": 0.25}, xlabel="accuracy"))
    for values in ({}, {"walk": float("nan")}):
        with pytest.raises(ValueError, match="finite"):
            plots.bars(values, xlabel="accuracy")


def test_reliability_tells_what_it_shows() -> None:
    svg = plots.reliability(BINS)
    assert {"confidence", "share that is right", "videos"} <= set(texts(svg))
    assert parse(svg).attrib["aria-label"].endswith(": 0.5 to 1: 0.25 of 4")
    with pytest.raises(ValueError, match="a bin with a video"):
        plots.reliability(BINS[:1])


def test_boxes_name_groups_and_boxes() -> None:
    svg = plots.boxes({"conv1": {"-1": FIVE, "0": FIVE}, "conv2": {"0": FIVE}}, ylabel="weight")
    assert {"conv1", "conv2", "-1", "0", "weight"} <= set(texts(svg))
    with pytest.raises(ValueError, match="no boxes"):
        plots.boxes({"conv1": {}}, ylabel="weight")


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = (
        "import sys, vidinit.report.plots, vidinit.report.html;"
        "sys.exit(bool({'matplotlib', 'jinja2', 'PIL', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""The pictures of DistInit: what is counted, what is drawn, what is said."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from support import MODEL

import vidinit
from vidinit.pipelines.distill import report
from vidinit.pipelines.distill.report import (
    Comparison,
    ModelOutputs,
    distinit_page,
    gains,
    lines_of,
    result,
    scatter,
)
from vidinit.report import plots

LABELS = np.array([0, 0, 0, 2, 2, 2, 2])
CLASSES = ["run", "never", "<jump>"]


def looked(predicted, seed=0):
    features = np.random.default_rng(seed).normal(size=(len(LABELS), 5)).astype(np.float32)
    return ModelOutputs(features, None if predicted is None else np.array(predicted))


def heads() -> Comparison:
    models = {
        "distilled": looked([0, 0, 1, 2, 2, 2, 0]),
        "inflated": looked([0, 1, 2, 2, 2, 2, 2]),
        "scratch": looked([0, 0, 0, 0, 0, 0, 0]),
    }
    return Comparison(LABELS, CLASSES, models, ["broken.mp4"])


@pytest.fixture(scope="module")
def models():
    start = vidinit.create_model(MODEL, num_classes=3)
    start.lineage = [{"step": "convert"}, {"step": "distill"}]
    flat = vidinit.create_model("c2d-mobilenetv2_050", num_classes=3)
    return {"distilled": start, "inflated": start, "scratch": flat}


class Checked(HTMLParser):
    """Tags that are open, and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("img", "svg"):
            self.labels.append(given.get("alt") or given["aria-label"])
        if tag == "img":
            assert given["src"].startswith("data:")
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html: str) -> Checked:
    page = Checked()
    page.feed(html)
    assert page.open == []
    return page


# ------------------------------------------------------------------ what is counted


def test_accuracies_are_those_of_the_heads_where_all_have_one():
    clips = heads()
    assert clips.measure == "head"
    assert clips.by_class("distilled") == pytest.approx({"run": 2 / 3, "<jump>": 3 / 4})
    assert clips.by_class("scratch") == {"run": 1, "<jump>": 0}
    over = gains(clips, "distilled", "inflated")
    assert over == pytest.approx({"run": 1 / 3, "<jump>": -1 / 4}) and next(iter(over)) == "run"
    assert list(gains(clips, "distilled", "scratch")) == ["<jump>", "run"]


def test_one_model_without_a_head_for_these_classes_and_all_go_by_their_neighbors():
    apart = np.eye(3, dtype=np.float32)[LABELS] + 0.01 * np.arange(7, dtype=np.float32)[:, None]
    models = {"distilled": ModelOutputs(apart, None), "inflated": heads().outputs["scratch"]}
    clips = Comparison(LABELS, CLASSES, models, [])
    assert clips.measure == "neighbor"
    assert clips.by_class("distilled") == {"run": 1, "<jump>": 1}
    assert clips.by_class("inflated") != {"run": 1, "<jump>": 0}, "not what its head says"


def test_the_result(models):
    found = result(models, heads())
    assert [row["name"] for row in found["models"]] == list(models)
    first = found["models"][0]
    assert first["network"] == MODEL and first["accuracy"] == pytest.approx(5 / 7, abs=1e-6)
    assert first["interval"][0] < 5 / 7 < first["interval"][1]
    assert first["kernels"]["all"]["center_energy"] > 0 and found["models"][2]["kernels"] == {}
    assert (found["measure"], found["videos"], found["missing"]) == ("head", 7, ["broken.mp4"])
    assert found["classes"] == [
        {"class": "run", "videos": 3, "distilled": 0.666667, "inflated": 0.333333, "scratch": 1},
        {"class": "<jump>", "videos": 4, "distilled": 0.75, "inflated": 1, "scratch": 0},
    ]
    told = list(lines_of({**found, "out": "o"}))
    assert told[0].startswith("distilled: 71.4 % (") and told[-1] == "page: o/report.html"
    assert list(result(models, None)) == ["models"]


# ------------------------------------------------------------------ what is drawn


def test_the_page(models):
    html = distinit_page(models, heads(), subtitle="of <b>")
    page = parsed(html)
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == ["Models", "Filters over time", "Features by class", "Gain of each class"]
    assert len(page.labels) == 2 + 3 + 2  # c2d has no temporal kernels
    assert "gain of distilled over inflated, points: run +33.3, <jump> -25" in page.labels
    assert "&lt;jump&gt;" in html and "<jump>" not in html and "of &lt;b&gt;" in html
    assert "convert, distill" in html and "random weights" in html
    assert "8x224" in html and "of flow" not in html
    assert "1 videos could not be read" in html
    assert len(html) < 300_000


def test_a_page_of_one_model_without_data(models):
    html = distinit_page({"distilled": models["distilled"]}, None, subtitle="")
    parsed(html)
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["Models", "Filters over time"]
    none = distinit_page({"scratch": models["scratch"]}, None, subtitle="")
    assert re.findall(r"<h2>(.*?)</h2>", none) == ["Models"], "it has no temporal kernel"


def test_a_page_of_one_model_has_accuracies_in_place_of_gains(models):
    clips = Comparison(LABELS, CLASSES, {"distilled": heads().outputs["distilled"]}, [])
    html = distinit_page({"distilled": models["distilled"]}, clips, subtitle="")
    assert "Accuracy of each class" in html and "points:" not in html


def test_many_clips_and_classes_stay_a_page(models, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "tsne", lambda x: drawn.append(x) or x[:, :2].astype(np.float32))
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(400), 5))
    classes = [f"class {i}" for i in range(400)]
    said = np.where(rng.random(2000) < 0.5, labels, 0)
    one = ModelOutputs(rng.normal(size=(2000, 8)).astype(np.float32), said)
    other = ModelOutputs(one.features, labels)
    chosen = {"distilled": models["distilled"], "inflated": models["inflated"]}
    clips = Comparison(labels, classes, {"distilled": one, "inflated": other}, [])
    html = distinit_page(chosen, clips, subtitle="")
    assert [len(points) for points in drawn] == [1000, 1000]
    assert np.linalg.norm(drawn[0], axis=1) == pytest.approx(1)
    assert "1000 of the 2000 clips are shown" in html and "The 12 largest classes" in html
    assert "The pictures show the 20 largest and smallest gains" in html
    assert len(html) < 2_000_000


def test_gray_is_for_the_small_classes():
    labels = np.repeat(np.arange(14), [3] * 12 + [1, 2])
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    html = scatter(points, labels, [f"name{i}" for i in range(14)], title="a<b")
    assert "name11" in html and "name12" not in html and "name13" not in html
    assert html.count("#6f7681") >= 1 and "a&lt;b" in html
    page = parsed(html)
    assert page.labels[0].startswith("39 clips as a<b sees them, of name0, name1")


def test_bars_go_to_both_sides():
    html = plots.gains({"up": 12.5, "even": 0.0, "down": -3.0}, xlabel="points")
    assert "#1f77c9" in html and "#cc5c00" in html
    for text in ("+12.5", ">0<", "-3", "up", "down"):
        assert text in html
    assert parsed(html).labels == ["points: up +12.5, even +0, down -3"]

"""What `profile` shows: tables, pictures, the page."""

from __future__ import annotations

import pytest

from vidinit.report import plots
from vidinit.report.profile_page import _energies, _weights, profile_page, sheets


def row(model="a", frames=8, batch=1, latency=10.0, **more):
    return {
        "model": model,
        "params": 31_505_325,
        "gmacs": 40.519081,
        "gflops": 81.038162,
        "frames": frames,
        "size": 112,
        "batch_size": batch,
        "device": "cpu",
        "precision": "fp32",
        "clips_per_second": 1000 * batch / latency,
        "latency_ms": latency,
        "peak_memory_mb": 95.4,
        **more,
    }


def counted(model="a", **more):
    keys = ("params", "gmacs", "gflops", "frames", "size")
    return {"model": model, **{k: v for k, v in row().items() if k in keys}, **more}


def scored(model, score, latency, **more):
    more = {"score": score, "metric": "top1", "interval": [score - 0.1, score + 0.1], **more}
    return row(model, latency=latency, **{"views": 1, "result": "runs/x", **more})


def column(sheet, header):
    return [cells[sheet.headers.index(header)] for cells in sheet.rows]


def test_costs():
    rows = [row(), row(batch=2, clips_per_second=None, latency_ms=None, peak_memory_mb=None)]
    (sheet,) = sheets(rows)
    assert column(sheet, "params M") == [31.505] * 2
    assert column(sheet, "GMACs") == [40.519] * 2 and column(sheet, "GFLOPs") == [81.038] * 2
    assert column(sheet, "frames x side") == ["8x112"] * 2
    assert column(sheet, "clips a second") == [100, None]
    assert column(sheet, "peak MB") == [95, None]
    assert sheet.title == "Costs: cpu, fp32"
    (short,) = sheets([counted()])
    assert short.headers == ["model", "frames x side", "params M", "GMACs", "GFLOPs"]
    trained, full = sheets([row(training_memory_mb={"total": 12.6}),
                            row(training_memory_mb=None)]), "training MB"  # fmt: skip
    assert column(next(trained), full) == [13, None]
    (mixed,) = sheets([scored("a", 0.5, 10.0), scored("b", 0.6, 9.0, metric="best"), row("c")])
    assert column(mixed, "score") == [0.5, 0.6, None]


def test_stages_input_and_kernels():
    stages = [
        {"stage": "stem", "params": 1000, "gmacs": 0.001, "ms": 1.0},
        {"stage": "rest", "params": 0, "gmacs": 0.003, "ms": 3.0},
    ]
    share = {"waiting": 0.612, "copying": 0.01, "model": 0.378, "clips_per_second": 7.5}
    share = {**share, "workers": 1, "advice": "input-bound: do this"}
    kernel = {"name": "conv", "kernel": "3x1x1", "part": "all", "channels": 4}
    kernel |= {"center_energy": 0.51234, "variation": None}
    kernels = {"kernels": [kernel], "kernel_means": {}}
    found = list(
        sheets([row(stages=stages, input=share, **kernels), row(frames=16, stages=stages)])
    )
    _, first, second, inputs, table = found
    assert (first.title, second.title) == ("Stages of a, 1 x 8x112", "Stages of a, 1 x 16x112")
    assert column(first, "% of GMACs") == [25, 75] and column(first, "% of ms") == [25, 75]
    assert column(inputs, "% waiting for data") == [61.2] and "do this" in inputs.note
    assert table.rows == [["conv", "3x1x1", "all", 4, 0.512, None]]


def test_the_page_has_what_was_measured():
    html = profile_page([row(), row(batch=2), row(frames=16), row(frames=16, batch=2)], {})
    assert "Throughput" in html and "a, 16 frames" in html
    assert html.count('class="plot"') == 1 and "Accuracy" not in html
    assert 'class="plot"' not in profile_page([row()], {}), "one batch size makes no curve"
    html = profile_page([scored("a<b", 0.5, 10.0), scored("c", 0.6, 20.0), row("d")], {})
    assert html.count('class="plot"') == 2
    assert "a&lt;b" in html and "a<b" not in html
    counts = profile_page([counted("a", score=0.5, metric="map", interval=None, views=3,
                                   result="runs/x")], {})  # fmt: skip
    assert counts.count('class="plot"') == 1
    assert "mean average precision over GMACs of a video" in counts
    assert "0.5 for 122;" in counts, "three views of 40.5 GMACs"


# ------------------------------------------------------------------ the pictures


def test_the_frontier():
    points = {"a": (1.0, 0.5), "worse": (2.0, 0.5), "b": (3.0, 0.7), "same cost": (3.0, 0.6)}
    assert plots.frontier(points) == ["a", "b"]
    svg = plots.tradeoff(points, xlabel="GMACs", ylabel="top-1", intervals={"a": (0.4, 0.6)})
    assert "not beaten: a, b" in svg and "worse 0.5 for 2" in svg
    for bad in ({}, {"a": (0.0, 0.5)}, {"a": (1.0, float("nan"))}):
        with pytest.raises(ValueError, match="finite points of positive cost"):
            plots.tradeoff(bad, xlabel="x", ylabel="y")


def kernel(part="all", histogram=(0, 1, 3), low=-1.0):
    taps = [{"offset": t, "quantiles": [low, -0.5, 0.0, 0.5, 1.0]} for t in (-1, 0, 1)]
    names = {"name": "trunk.conv", "kernel": "3x1x1", "part": part, "channels": 4}
    numbers = {"center_energy": 0.5, "variation": 0.5, "histogram": list(histogram)}
    return {**names, **numbers, "taps": taps}


def test_weights_by_tap_and_kernels_by_appearance():
    kernels = [kernel("static"), kernel("dynamic", histogram=(2, 2, 0))]
    rows = [counted(kernels=kernels, kernel_means={}), counted("b", kernels=[], kernel_means={})]
    weights, appearance = _weights(rows)
    assert weights.title == "Weights of the taps, by layer" and "a</figcaption>" in weights.body
    assert appearance.title == "Kernels by appearance"
    html = weights.body + appearance.body
    assert "weight of -1, 0, +1 in conv static, conv dynamic" in html
    assert "share of the kernels over center energy: a, static, a, dynamic" in html
    energies = _energies([kernel(), kernel(histogram=(1, 1, 2))])
    assert energies == {"all": [(1 / 6, 1 / 8), (0.5, 2 / 8), (5 / 6, 5 / 8)]}
    assert _energies([kernel(histogram=(0, 0, 0))]) == {}
    assert list(_weights([counted(kernels=[], kernel_means={})])) == []

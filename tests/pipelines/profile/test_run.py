"""`vidinit.profile`: what is measured, what is asked together, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import MODEL

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import DataError, UsageError, VidinitError
from vidinit.measure import costs as measuring
from vidinit.pipelines.profile import api as module
from vidinit.pipelines.profile.api import profile
from vidinit.zoo.build import create_model
from vidinit.zoo.names import list_models

SMALL, TINY = "c2d-tf_efficientnet_lite0", "c2d-mobilenetv2_050"
FAST: dict[str, Any] = {"frames": 2, "size": 64, "seconds": 0.1, "device": "cpu"}


@pytest.fixture
def no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("measured before everything was checked")

    monkeypatch.setattr(module, "measure", refuse)


def test_profile_of_a_family_that_is_no_timm_network() -> None:
    (row,) = profile(["fast-s3d"], frames=14, size=32, seconds=0.1, device="cpu")
    assert row["params"] == 6_859_696


def test_profile_of_a_zoo_name() -> None:
    (row,) = profile([SMALL], batch_size=2, **FAST)
    assert list(row) == [
        "model",
        "params",
        "gmacs",
        "gflops",
        "frames",
        "size",
        "batch_size",
        "device",
        "precision",
        "clips_per_second",
        "latency_ms",
        "peak_memory_mb",
    ]
    given = {"model": SMALL, "frames": 2, "size": 64, "batch_size": 2}
    assert given.items() <= row.items()
    assert (row["device"], row["precision"]) == ("cpu", "fp32")
    assert row["params"] == 3_371_008 + 1280 * 400 + 400
    assert row["gflops"] == pytest.approx(2 * row["gmacs"], abs=2e-6)
    assert 0.05 < row["gmacs"] < 0.08  # two frames of 64 x 64: 0.163 of one of 224 x 224
    assert row["latency_ms"] > 0
    assert row["clips_per_second"] == pytest.approx(2000 / row["latency_ms"], rel=1e-2)
    if sys.platform == "linux" and row["peak_memory_mb"] is not None:
        assert 10 < row["peak_memory_mb"] < 200  # its weights alone take 15 MiB


def test_profile_of_folders_keeps_the_order_and_their_clip(tmp_path: Path) -> None:
    model = create_model(SMALL, num_classes=7, frames=3)
    save_model(model, tmp_path / "run" / "model")
    names = [str(tmp_path / "run"), SMALL, str(tmp_path / "run" / "model")]
    rows = vidinit.profile(names, size=32, seconds=0.01, device="cpu")
    assert [row["model"] for row in rows] == names
    assert [row["frames"] for row in rows] == [3, 8, 3]
    assert rows[0]["params"] == rows[1]["params"] - 393 * 1281


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([SMALL, "sts-r3d5O"], "sts-r3d50"),
        ([SMALL, "c2d-resnot50"], "resnet50"),
        ([SMALL, "no/such/folder"], "no/such/folder"),
        (["s3e@*"], "no zoo name matches 's3e@\\*'"),
        ([], "no model"),
        (SMALL, "list"),
    ],
)
def test_unknown_names(no_measurement: None, names: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile(names, **FAST)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"frames": 0}, "frames must be at least 1"),
        ({"size": -1}, "size must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"frames": [8, -1]}, "frames must be at least 1, not -1"),
        ({"workers": 2}, "--workers: there is nothing to read"),
        ({"workers": -1, "data": "."}, "workers must be at least 0"),
        ({"kernels": True, "data": "."}, "--kernels runs nothing, --data has to"),
        ({"count_only": True, "training": True}, "--count-only runs nothing, --training has to"),
        ({"results": "."}, "leave out --frames and --size"),
        ({"data": "no/videos"}, "no/videos does not exist"),
        ({"seconds": 0.0}, "seconds must be above 0"),
        ({"precision": "int8"}, "fp32, bf16, fp16"),
        ({"device": "tpu"}, "auto, cpu, cuda, mps"),
    ],
)
def test_wrong_options(no_measurement: None, option: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile([SMALL], **{**FAST, **option})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(no_measurement: None) -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        profile([SMALL], **{**FAST, "device": "cuda"})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sts-tf_efficientnet_lite0", "takes no images of 100 pixels: STS.*divisible by 32"),
        ("c2d-vit_tiny_patch16_224", "patches of 16 pixels, and a size of 100 is no multiple"),
    ],
)
def test_a_clip_that_does_not_fit(no_measurement: None, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        profile([SMALL, name], **{**FAST, "size": 100})
    assert caught.value.exit_code == 2
    assert name.removeprefix("c2d-") in str(caught.value)


# ------------------------------------------------------------------ several clips and batches


@pytest.mark.slow
def test_a_row_for_each_clip_length_and_batch_size() -> None:
    options = {**FAST, "frames": [2, 4], "batch_size": [1, 4, 1], "seconds": 0.01}
    rows = profile([TINY], **options, training=True)
    assert [(r["frames"], r["batch_size"]) for r in rows] == [(2, 1), (2, 4), (4, 1), (4, 4)]
    gmacs = [row["gmacs"] for row in rows]
    assert gmacs[0] == gmacs[1] and gmacs[2] == pytest.approx(2 * gmacs[0], rel=0.05)
    for row in rows:
        pace = 1000 * row["batch_size"] / row["latency_ms"]
        assert row["clips_per_second"] == pytest.approx(pace, rel=1e-2)

    one, four, longer, _ = (row["training_memory_mb"] for row in rows)
    parts = {"weights", "gradients", "optimizer", "average", "activations", "total"}
    assert set(one) == parts
    assert one["gradients"] == one["optimizer"] == pytest.approx(4 * 1_200_080 / 2**20, abs=0.1)
    assert one["average"] == 0
    assert 2 * one["activations"] < four["activations"] < 4.5 * one["activations"]
    assert one["activations"] < longer["activations"] < four["activations"]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    real = measuring.measure_speed

    def small_gpu(model: Any, clip: Any, **options: Any) -> Any:
        if len(clip) > 2:
            raise torch.cuda.OutOfMemoryError("full")
        return real(model, clip, **options)

    monkeypatch.setattr(measuring, "measure_speed", small_gpu)
    rows = profile([TINY], **{**FAST, "batch_size": [4, 1], "seconds": 0.01})
    assert [row["latency_ms"] is None for row in rows] == [True, False]
    assert rows[0]["gmacs"] == rows[1]["gmacs"]
    assert "4 clips of 2 x 64 x 64 do not fit" in capsys.readouterr().err
    with pytest.raises(VidinitError, match="nothing of that fits"):
        profile([TINY], **{**FAST, "batch_size": 4})


# ------------------------------------------------------------------ without running anything


def test_patterns_stand_for_zoo_names(no_measurement: None) -> None:
    rows = profile(["s3d@top:[0-2]", "x3d-s"], frames=8, size=64, count_only=True)
    assert [row["model"] for row in rows] == [*list_models("s3d@top:[0-2]"), "x3d-s"]
    assert len(rows) == 4
    gmacs = [row["gmacs"] for row in rows[:-1]]
    assert gmacs == sorted(gmacs), "each further temporal kernel costs"


def test_stages_without_times(no_measurement: None) -> None:
    (row,) = profile(["r2plus1d-18"], count_only=True, stages=True)
    names = [stage["stage"] for stage in row["stages"]]
    assert names == ["stem", "layer1", "layer2", "layer3", "layer4", "head", "rest"]
    assert all(set(stage) == {"stage", "params", "gmacs"} for stage in row["stages"])


def test_kernels_of_several_models_in_a_folder(no_measurement: None, tmp_path: Path) -> None:
    model = create_model(MODEL, num_classes=5)
    save_model(model, tmp_path / "run" / "model")
    names = [str(tmp_path / "run"), "sts-x3d-s", "c2d-resnet18"]
    rows = profile(names, kernels=True, out=tmp_path / "out")
    found = {kernel["part"] for kernel in rows[1]["kernels"]}
    assert found == {"all", "static", "dynamic"}  # its stem is no STS kernel
    assert set(rows[0]["kernel_means"]) == {"all"}
    assert (rows[2]["kernels"], rows[2]["kernel_means"]) == ([], {})
    page = (tmp_path / "out" / "profile.html").read_text()
    assert page.count('src="data:image/png') == 2
    assert "It has no temporal kernels." in page


# ------------------------------------------------------------------ with data, with results


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_real_clips_show_where_the_time_goes(motion_set: Path, workers: int) -> None:
    options = {**FAST, "size": 32, "seconds": 0.2, "batch_size": [1, 4]}
    rows = profile([TINY], **options, data=motion_set, workers=workers)
    for row in rows:
        share = row["input"]
        assert sum(share[k] for k in ("waiting", "copying", "model")) == pytest.approx(1, abs=2e-4)
        assert all(share[k] > 0 for k in ("waiting", "copying", "model"))
        assert share["clips_per_second"] > 0 and share["workers"] == workers
        assert (share["advice"] is None) == (share["waiting"] <= 0.3)


def test_results_give_the_clip_and_the_score(trained: Path, motion_set: Path, tmp_path) -> None:
    runs = tmp_path / "runs"
    vidinit.evaluate(
        trained, data=motion_set, out=runs / "eval", device="cpu", overrides=["data.workers=0"]
    )
    rows = profile([MODEL], results=runs, seconds=0.05, device="cpu", out=tmp_path / "p")
    assert (rows[0]["frames"], rows[0]["size"]) == (4, 32), "the run's clip"
    assert rows[0]["params"] == sum(p.numel() for p in vidinit.load(trained).parameters())
    assert (rows[0]["metric"], rows[0]["views"]) == ("top1", 1)
    assert rows[0]["interval"][0] < rows[0]["score"] < rows[0]["interval"][1]
    both = profile([MODEL, "x3d-s"], results=runs, count_only=True)
    assert (both[0]["score"], "score" in both[1]) == (rows[0]["score"], False)
    page = (tmp_path / "p" / "profile.html").read_text()
    assert "Accuracy against cost" in page and page.count('class="plot"') == 2
    with pytest.raises(UsageError, match=f"no result of x3d-s; it has {MODEL}"):
        profile(["x3d-s"], results=runs)
    with pytest.raises(DataError, match="holds no result"):
        profile([MODEL], results=tmp_path / "p")

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import UsageError
from vidinit.measure import profile as module
from vidinit.measure.profile import profile
from vidinit.measure.speed import PeakMemory, measure_speed
from vidinit.zoo.build import create_model

SMALL = "c2d-tf_efficientnet_lite0"
FAST: dict[str, Any] = {"frames": 2, "size": 64, "seconds": 0.1, "device": "cpu"}


@pytest.fixture
def no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("measured before everything was checked")

    monkeypatch.setattr(module, "_measure", refuse)


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
        ("sts-tf_efficientnet_lite0", "divisible by 32"),
        ("c2d-vit_tiny_patch16_224", "doesn't match model"),
    ],
)
def test_a_clip_that_does_not_fit(no_measurement: None, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        profile([SMALL, name], **{**FAST, "size": 100})
    assert caught.value.exit_code == 2 and f"{name} cannot take clips of 2 x 100 x 100" in str(
        caught.value
    )


class Probe(nn.Module):
    """Records how it is called; holds ``mib`` MiB for the time of a pass."""

    def __init__(self, mib: int = 0) -> None:
        super().__init__()
        self.mib = mib
        self.linear = nn.Linear(4, 4)
        self.calls: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, x: Tensor) -> Tensor:
        held = torch.ones(self.mib, 2**18)
        y = self.linear(x)
        self.calls.append((self.training, torch.is_inference_mode_enabled(), y.dtype))
        return y + held.sum() * 0


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_speed_is_taken_in_eval_and_inference_mode(precision: str, dtype: torch.dtype) -> None:
    model = Probe().train()
    speed = measure_speed(model, torch.zeros(5, 4), precision=precision, seconds=0.02)
    assert set(model.calls) == {(False, True, dtype)}
    assert len(model.calls) == speed.batches + 3
    assert speed.batches > 1
    assert speed.clips_per_second == pytest.approx(5000 / speed.latency_ms)


def test_a_short_time_still_gives_one_batch() -> None:
    assert measure_speed(Probe(), torch.zeros(1, 4), seconds=1e-9).batches == 1


def test_peak_memory_sees_what_a_pass_holds_for_a_moment() -> None:
    memory = PeakMemory(torch.device("cpu"))
    kept = torch.ones(64, 2**18)  # 64 MiB that stay, as a model's weights do
    torch.ones(512, 2**18).sum()  # before `start`, so not counted
    memory.start()
    measure_speed(Probe(96), torch.zeros(1, 4), seconds=0.01)
    peak = memory.peak_mb()
    if peak is None:
        pytest.skip("this system does not tell the peak of the resident memory")
    assert kept.numel() and 155 < peak < 220

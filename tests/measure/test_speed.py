"""Speed and peak memory, measured by running a model."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from vidinit.measure.speed import measure_speed


class Probe(nn.Module):
    """Records how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.calls: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        self.calls.append((self.training, torch.is_inference_mode_enabled(), y.dtype))
        return y


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


PEAK = """
import torch
from vidinit.measure.speed import PeakMemory, measure_speed

class Probe(torch.nn.Module):
    def forward(self, x):
        held = torch.ones(96, 2**18)
        return x + held.sum() * 0

memory = PeakMemory(torch.device("cpu"))
kept = torch.ones(64, 2**18)  # 64 MiB that stay, as a model's weights do
torch.ones(512, 2**18).sum()  # before `start`, so not counted
memory.start()
measure_speed(Probe(), torch.zeros(1, 4), seconds=0.01)
print(memory.peak_mb() if kept.numel() else None)
"""


@pytest.mark.slow
def test_peak_memory_sees_what_a_pass_holds_for_a_moment() -> None:
    """In a process of its own: the system may take back pages of one that has run for long."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=120, check=True
    )
    if done.stdout.strip() == "None":
        pytest.skip("this system does not tell the peak of the resident memory")
    assert 155 < float(done.stdout) < 220

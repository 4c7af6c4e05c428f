from __future__ import annotations

import pytest
import torch
from engine.showing import Clock

from vidinit.engine.timing import RecentMeans, WaitTimer


def test_recent_keeps_what_is_rare() -> None:
    recent = RecentMeans(span=4)
    recent.add({"loss": torch.tensor(9.0), "images": torch.tensor(3.0)})
    for value in range(10):
        recent.add({"loss": torch.tensor(float(value)), "videos": torch.tensor(float(value))})
    recent.request()
    assert recent.arrived()
    assert recent.means == {"loss": 7.5, "images": 3.0, "videos": 7.5}
    assert list(recent.means) == ["loss", "images", "videos"]


class Device:
    """A device with a queue, as its events show it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.free = clock, clock.now

    def queue(self, seconds: float) -> None:
        self.free = max(self.free, self.clock.now) + seconds

    def event(self, enable_timing: bool = False) -> Event:
        return Event(self)


class Event:
    def __init__(self, device: Device) -> None:
        self.device, self.time = device, 0.0

    def record(self) -> None:
        self.device.queue(0.0)
        self.time = self.device.free

    def query(self) -> bool:
        return self.time <= self.device.clock.now

    def synchronize(self) -> None:
        self.device.clock.now = max(self.device.clock.now, self.time)

    def elapsed_time(self, later: Event) -> float:
        return 1000 * (later.time - self.time)


@pytest.mark.parametrize(("work", "idle"), [(1.0, 0.0), (0.5, 1.2)])
def test_a_busy_device_does_not_wait(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, work: float, idle: float
) -> None:
    device = Device(clock)
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    timer = WaitTimer(torch.device("cuda"))
    for _ in range(5):  # a batch takes 0.8 s, queueing a step none, the device ``work``
        with timer.timed():
            clock.now += 0.8
        device.queue(work)
    assert timer.first == pytest.approx(0.8)
    assert timer.settle() == pytest.approx(0.8 + idle)


def test_the_device_is_not_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(clock)
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    timer = WaitTimer(torch.device("cuda"))
    began = clock.now
    for _ in range(5):
        with timer.timed():
            pass
        device.queue(10.0)
        assert timer.seconds == 0
    assert clock.now == began


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_waits_on_a_gpu() -> None:
    import time

    device = torch.device("cuda")
    matrix = torch.randn(8192, 8192, device=device)

    def waits(pause: float, products: int) -> float:
        timer = WaitTimer(device)
        for _ in range(6):
            with timer.timed():
                time.sleep(pause)
            for _ in range(products):
                torch.mm(matrix, matrix)
        return timer.settle() - (timer.first or 0.0)

    waits(0.0, 1)
    assert waits(0.02, 40) < 0.02, "more than 0.02 s of work is queued in each step"
    assert waits(0.1, 1) > 0.3
    recent = RecentMeans()
    recent.add({"loss": matrix.sum() * 0 + 2})
    recent.request()
    assert recent.arrived(wait=True) and recent.means == {"loss": 2.0}

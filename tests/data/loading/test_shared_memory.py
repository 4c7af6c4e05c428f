"""Batches that go from one process to another in memory both can reach."""

from __future__ import annotations

import multiprocessing
import os
import socket
from typing import Any

import torch

from vidinit.data.loading import shared_memory


def test_a_batch_arrives_as_it_was_sent() -> None:
    here, there = socket.socketpair()
    batch: dict[str, Any] = {
        "clip": torch.arange(2 * 3 * 5, dtype=torch.uint8).reshape(2, 3, 5),
        "label": torch.tensor([-1, 2**40]),
        "hot": torch.rand(3, 7),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "none": torch.zeros(0, 4),
        "bad": ["a.mp4", "b c.mp4"],
        "error": None,
    }
    shared_memory.send(there, 12, batch)
    answer = shared_memory.receive(here)
    assert answer is not None and answer[0] == 12
    found = answer[1]
    assert list(found) == list(batch)
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[key], value) and found[key].dtype == value.dtype
        else:
            assert found[key] == value
    assert found["hot"].data_ptr() % 64 == 0
    found["clip"].add_(1)
    assert torch.equal(found["clip"], batch["clip"] + 1)


def test_a_batch_outlives_its_sender() -> None:
    here, there = socket.socketpair()
    # Made here: a fork of a process that has computed waits for threads that it does not have.
    batch = torch.full((1000, 1000), 7.0)

    def send_and_die() -> None:
        here.close()
        shared_memory.send(there, 0, batch)
        os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=send_and_die)
    process.start()
    there.close()
    process.join()
    answer = shared_memory.receive(here)
    assert answer is not None and bool((answer[1] == 7).all())
    assert shared_memory.receive(here) is None


def test_nothing_stays_open() -> None:
    here, there = socket.socketpair()

    def used() -> tuple[int, int]:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            mapped = sum("vidinit-batch" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), mapped

    if not os.path.exists("/proc/self/maps"):
        return
    before = used()
    for number in range(50):
        shared_memory.send(there, number, {"clip": torch.zeros(100, 100)})
        assert shared_memory.receive(here) is not None
    assert used() == before

"""Processes that are told to stop agree on when."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidinit.engine.collectives import StopRequest


class Process:
    """One of two, as the loop's accelerator; they meet where they gather."""

    num_processes = 2
    device = torch.device("cpu")

    def __init__(self, rank: int, board: list[int], barrier: threading.Barrier) -> None:
        self.rank, self.board, self.barrier = rank, board, barrier
        self.stop = StopRequest()
        self.late: Any = lambda: None

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        self.board[self.rank] = int(own)
        self.late()  # what has gone out has gone out
        self.barrier.wait(10)
        both = torch.tensor(self.board)
        self.barrier.wait(10)
        return both

    def run(self, steps: int) -> None:
        """Steps until both leave; `left` is where this one did, and why."""
        self.left: tuple[int, int | None] | None = None
        for self.step in range(1, steps + 1):
            number = self.stop.agreed(self)
            if number:
                self.left = (self.step, number)
                return


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("late", [False, True])
def test_both_leave_at_the_same_step_whenever_the_signal_comes(rank, late):
    """A late one comes when this process has told the other that there is none."""
    board, barrier = [0, 0], threading.Barrier(2)
    pair = [Process(k, board, barrier) for k in range(2)]
    told = pair[rank]

    def signaled() -> None:
        if told.step == 3:
            told.stop.number = signal.SIGTERM

    if late:
        told.late = signaled
    else:
        told.stop.number = signal.SIGTERM
    threads = [threading.Thread(target=process.run, args=(6,)) for process in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    step = 4 if late else 1
    assert [process.left for process in pair] == [(step, 15), (step, 15)]


def test_one_process_asks_nobody():
    with StopRequest() as stop:
        alone: Any = SimpleNamespace(num_processes=1)
        assert stop.agreed(alone) is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.agreed(alone) == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is not stop._note

"""Rows that hang or kill the worker that reads them, and loaders that meet them."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.ten_clips import MUCH, clips, views

from vidinit.data.loading.loader import eval_loader, train_loader
from vidinit.data.loading.quarantine import Quarantine
from vidinit.data.rows import Rows

DEADLINE = 1.0
SLACK = 10.0  # of a busy machine


def sleep() -> None:
    time.sleep(600)


def sleep_with_the_lock() -> None:
    """As native code that hangs and does not let go of the interpreter."""
    ctypes.PyDLL(None).sleep(600)


def die(number: int) -> Callable[[], None]:
    def do() -> None:
        faulthandler.disable()  # pytest's: its report is for faults that are not meant
        os.kill(os.getpid(), number)

    return do


def once(marker: Path, act: Callable[[], object]) -> Callable[[], None]:
    """Do something the first time, in whatever process."""

    def do() -> None:
        if not marker.exists():
            marker.touch()
            act()

    return do


def training(rows: Rows, **options: Any) -> Any:
    usual = {"batch_size": 4, "workers": 2, "seed": 0, "epoch": 0, "drop_last": False}
    dataset = clips(rows, augment=MUCH)
    return train_loader(dataset, deadline=DEADLINE, context="fork", **{**usual, **options})


def expected(rows: Rows, *positions: int, **options: Any) -> list[dict[str, Any]]:
    """The batches of a run in which some rows cannot be read."""
    quarantine = Quarantine(dict.fromkeys(positions, "it was said to be bad"))
    return list(training(rows, workers=0, quarantine=quarantine, **options))


def evaluation(rows: Rows, **options: Any) -> Any:
    usual = {"batch_size": 5, "workers": 2}
    return eval_loader(
        views(rows, clips=2), deadline=DEADLINE, context="fork", **{**usual, **options}
    )


def paths(quarantine: Quarantine) -> list[str]:
    return [event["path"] for event in quarantine.events]

"""Progress of a training run: a table on a terminal, plain lines elsewhere, and its rates."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from time import perf_counter
from typing import TypeVar

import torch
from rich.live import Live as Screen
from torch import Tensor

from ..console import STDERR, PlainConsole, duration, say
from ..processes import is_main_process
from .live_table import interactive, memory, number, size, table
from .timing import RecentMeans, WaitTimer

T = TypeVar("T")

LINES_EVERY = 15.0  # seconds between two plain lines
DRAW_EVERY = 0.25  # seconds between two drawings of the table, at least
DRAW_SHARE = 1 / 200  # of the time, at most, goes into drawing, however slow the terminal is
BOUND = 0.3  # share of waiting that is worth a word
ENOUGH_STEPS, ENOUGH_SECONDS = 10, 20.0  # before a share of waiting means something
LONG_EPOCH = 120.0  # seconds after which that word does not wait for the end of the epoch
_WINDOW = 64  # steps that rates and the time left are taken from

# Of all epochs of a run. The first wait of an epoch starts workers and fills caches, so the advice
# goes by the later ones.
_SUMMED = ("steps", "clips", "seconds", "waited", "first", "later")


class Live:
    """Progress of a run, epoch by epoch. All processes measure; only the main one shows anything.

    Nothing is read from the device before a drawing is due, and no drawing waits for the device::

        live = Live("finetune", epochs=10, steps=len(loader), device=device)
        with live.epoch(1) as epoch:
            for batch in epoch.batches(loader):
                ...
                epoch.step({"loss": loss, **losses}, lr=lr, clips=clips)
        log(**live.rates())

    Args:
        title: before the epoch.
        epochs: of the run.
        steps: of an epoch.
        device: what is trained on.
        advice: from the share of time spent waiting for data, 0 to 1, to a line that is said, once,
            when it is too large; None for none.
    """

    def __init__(
        self,
        title: str,
        *,
        epochs: int,
        steps: int,
        device: torch.device,
        advice: Callable[[float], str] | None = None,
    ) -> None:
        self.title, self.epochs, self.steps, self.device = title, epochs, steps, device
        self.advice = advice
        self.shows = is_main_process()
        self.on_screen = self.shows and interactive()
        self.began = perf_counter()
        self.losses = RecentMeans()
        self.due = self.began
        self._last: Epoch | None = None
        self._open = False  # the last epoch is not in the sums yet
        self._pauses: list[float] = []
        self._sums: dict[str, float] = dict.fromkeys(_SUMMED, 0)
        self._before: Mapping[str, float] = {}

    def continue_from(self, spent: Mapping[str, float]) -> None:
        """Add to the totals what a resumed run had `spent` before."""
        self._before = spent

    def epoch(self, number: int, start: int = 0) -> Epoch:
        """An epoch to be entered.

        Args:
            number: from 1.
            start: steps of it that were done before.
        """
        if self._last is not None:
            self._pauses.append(perf_counter() - self._last.ended)
        self._last, self._open = Epoch(self, number, start), True
        return self._last

    def rates(self) -> dict[str, float]:
        """How the epoch went that has just ended; all processes call it.

        Says once in a run that it is bound by its input, if it is.

        Returns:
            ``data_wait``: the share of its time that the process that waited longest spent waiting
            for data, 0 to 1: the others wait for that one. ``clips_per_second`` of all processes.
            Empty for an epoch without a step.
        """
        last, self._open = self._last, False
        if last is None or last.done == last.start:
            return {}
        seconds = max(last.ended - last.began, 1e-9)
        first = last.timer.first or 0.0
        waited = last.timer.settle()
        waited, later = map(max, zip(*_gathered((waited, waited - first)), strict=True))
        parts = last.done - last.start, last.clips, seconds, waited, first, later
        for name, value in zip(_SUMMED, parts, strict=True):
            self._sums[name] += value
        sums = self._sums
        self.advise(int(sums["steps"]), sums["later"], sums["seconds"] - sums["first"])
        share = min(waited / seconds, 1.0)  # another process's time may be a little longer
        return {"data_wait": share, "clips_per_second": last.clips / seconds}

    def spent(self) -> dict[str, float]:
        """Time and clips of the run so far, at any moment, those of `continue_from` included.

        Returns:
            ``seconds`` with evaluation and everything else, of which ``training`` were in epochs,
            and of these ``waited`` for data; ``clips`` that were trained on.
        """
        now, sums, last = perf_counter(), self._sums, self._last
        spent = {
            "seconds": now - self.began,
            "training": sums["seconds"],
            "waited": sums["waited"],
            "clips": sums["clips"],
        }
        if self._open and last is not None:
            spent["training"] += now - last.began
            spent["waited"] += last.timer.seconds
            spent["clips"] += last.clips
        return {name: value + self._before.get(name, 0) for name, value in spent.items()}

    def totals(self) -> dict[str, float]:
        """The whole run, from its first start.

        Returns:
            ``seconds``, with evaluation and everything else; ``data_wait`` and
            ``clips_per_second`` of the time in epochs, see `rates`.
        """
        spent = self.spent()
        inside = max(spent["training"], 1e-9)
        return {
            "seconds": spent["seconds"],
            "data_wait": min(spent["waited"] / inside, 1.0),
            "clips_per_second": spent["clips"] / inside,
        }

    def advise(self, steps: int, waited: float, seconds: float) -> None:
        """Say the advice, once, if so many seconds of waiting in so many steps are too many."""
        if self.advice is None or not self.shows:
            return
        enough = steps >= ENOUGH_STEPS and seconds >= ENOUGH_SECONDS
        if enough and waited > BOUND * seconds:
            say(self.advice(waited / seconds))
            self.advice = None

    def seconds_left(self, number: int, left: int, per_step: float) -> tuple[float, float]:
        """Of the epoch and of the run, at so many seconds a step and as much between epochs."""
        of_epoch = left * per_step
        pause = sum(self._pauses) / len(self._pauses) if self._pauses else 0.0
        return of_epoch, of_epoch + (self.epochs - number) * (self.steps * per_step + pause)


class Epoch:
    """One epoch of `Live`, entered once."""

    def __init__(self, live: Live, number: int, start: int) -> None:
        self.live, self.number, self.start = live, number, start
        self.done, self.clips, self.lr = start, 0, 0.0
        self.timer = WaitTimer(live.device)
        self.began = self.ended = perf_counter()
        self._window = deque([(self.began, 0, start, 0.0)], maxlen=_WINDOW)
        self._shown = start
        self._screen: Screen | None = None
        if live.on_screen:
            console = PlainConsole(STDERR)
            self._screen = Screen(
                get_renderable=lambda: table(
                    self.name(), self.done, live.steps, self.facts(), width=console.width
                ),
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # else it is somebody's file
            )

    def __enter__(self) -> Epoch:
        if self._screen is not None:
            self._screen.start(refresh=True)
        else:
            self.live.due = max(self.live.due, self.began + LINES_EVERY)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._screen is not None:
            self._screen.stop()
        if kind is None:  # a device that has failed must not be asked
            losses = self.live.losses
            losses.arrived(wait=True)
            losses.request()
            losses.arrived(wait=True)
        self.ended = perf_counter()
        if self.live.shows and self.done > self._shown:
            say(self.line())

    def batches(self, loader: Iterable[T]) -> Generator[T, None, None]:
        """The batches of ``loader``; waiting for them is timed."""
        source, end = iter(loader), object()
        while True:
            with self.timer.timed():
                batch = next(source, end)
            if batch is end:
                return
            yield batch  # type: ignore[misc]

    def step(self, values: Mapping[str, Tensor], *, lr: float, clips: int) -> None:
        """One step is queued.

        Args:
            values: scalar tensors by the name they are shown under, in that order; ``loss``, its
                terms, ``accuracy``. They are only kept here.
            lr: the learning rate.
            clips: of this step, of all processes.
        """
        self.done += 1
        self.clips += clips
        if not self.live.shows:
            return
        self.lr = lr
        now = perf_counter()
        self._window.append((now, self.clips, self.done, self.timer.seconds))
        losses = self.live.losses
        losses.add(values)
        if now < self.live.due:
            return
        losses.request()
        if losses.arrived():
            self._show(now)

    def _show(self, now: float) -> None:
        if self._screen is not None:
            self._screen.refresh()
            cost = perf_counter() - now
            self.live.due = now + max(DRAW_EVERY, cost / DRAW_SHARE)
        else:
            self.live.due = now + LINES_EVERY
            self._shown = self.done
            say(self.line())
        if now - self.began > LONG_EPOCH:
            first = self.timer.first or 0.0
            seconds = now - self.began - first
            self.live.advise(self.done - self.start, self.timer.seconds - first, seconds)

    def facts(self) -> dict[str, str]:
        """Losses, rates and times by the name they are shown under."""
        facts = {name: number(value) for name, value in self.live.losses.means.items()}
        began, clips, done, waited = self._window[0]
        now, clips_now, done_now, waited_now = self._window[-1]
        if done_now == done:
            return facts
        seconds = max(now - began, 1e-9)
        left = max(self.live.steps - self.done, 0)
        of_epoch, of_run = self.live.seconds_left(self.number, left, seconds / (done_now - done))
        facts["lr"] = f"{self.lr:.3g}"
        facts["clips/s"] = f"{(clips_now - clips) / seconds:.1f}"
        facts["data wait"] = f"{min((waited_now - waited) / seconds, 1):.0%}"
        facts["memory"] = size(memory(self.live.device))
        if left and self.number < self.live.epochs:
            facts["epoch left"] = duration(of_epoch)
        if of_run:
            facts["run left"] = duration(of_run)
        return facts

    def name(self) -> str:
        """Title and epoch."""
        return f"{self.live.title}  epoch {self.number}/{self.live.epochs}"

    def line(self) -> str:
        """The state in words."""
        facts = self.facts()
        words = [
            f"{fact} {name}" if name == "clips/s" else f"{name} {fact}"
            for name, fact in facts.items()
        ]
        return f"{self.name()}  step {self.done}/{self.live.steps}  " + "  ".join(words)


def _gathered(values: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The values of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [values]
    parts: list[tuple[float, ...]] = [values] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, values)
    return parts

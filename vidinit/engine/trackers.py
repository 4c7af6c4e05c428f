"""TensorBoard and Weights & Biases, through Accelerate's trackers.

`Accelerator.init_trackers` and `log` are not used: an error of one tracker would end the training,
a nested configuration be refused, and a resumed run begin new curves.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..console import say
from ..errors import UsageError
from ..extras import install_extra
from ..files import mark
from ..processes import is_main_process

_HINTS = {
    "tensorboard": "see that the run's folder can be written to",
    "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed, without importing any.

    Args:
        names: of ``train.trackers``; each is the name of its package and of its extra.

    Raises:
        UsageError: for the first missing one, with what installs it.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        # wandb leaves a folder of its name behind, which Python takes for an empty package.
        if spec is None or spec.origin is None:
            raise UsageError(f"train.trackers: {name} is not installed", install_extra(name))


class Trackers:
    """The open trackers of a run: none of them in any process but the main one.

    A tracker that fails while training is dropped with a message: metrics.jsonl has everything.
    """

    def __init__(self, trackers: Mapping[str, Any]) -> None:
        self._open = dict(trackers)

    @classmethod
    def open(
        cls, names: Sequence[str], run: Path, *, config: Mapping[str, Any], step: int = 0
    ) -> Trackers:
        """Start the trackers; comes after the Accelerator was made.

        TensorBoard writes into ``<run>/events``, W&B into ``<run>/wandb``: offline if WANDB_MODE
        says so, into the project of WANDB_PROJECT, else ``vidinit``. A resumed run goes on in the
        curves that it had.

        Args:
            names: of ``train.trackers``.
            run: the run's folder, which exists.
            config: the configuration, plain values, nested.
            step: steps that were done before; TensorBoard forgets what came after them.

        Raises:
            UsageError: when a package is missing, or a tracker does not start.
        """
        check_trackers(names)
        trackers = cls({})
        for name in names if is_main_process() else ():
            start = _start_tensorboard if name == "tensorboard" else _start_wandb
            try:
                trackers._open[name] = start(run, config, step)
            except Exception as error:
                trackers.close()
                raise UsageError(
                    f"{name} does not start ({_first(error)})", _HINTS[name]
                ) from error
        return trackers

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Hand on the numbers among the values of a line of metrics.jsonl.

        Args:
            values: by name, as in metrics.jsonl; what is no number is left out, and the step.
            step: optimizer steps done.
        """
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "step"
        }
        for name, tracker in list(self._open.items()):
            try:
                tracker.log(numbers, step=step)
            except Exception as error:  # a week of training is worth more than its curves
                say(f"{name} failed and gets no more metrics ({_first(error)})")
                del self._open[name]

    def close(self) -> None:
        """Write what is left and end; a second call does nothing."""
        while self._open:
            name, tracker = self._open.popitem()
            try:
                tracker.finish()
            except Exception as error:
                say(f"{name} could not be closed ({_first(error)})")

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _start_tensorboard(run: Path, config: Mapping[str, Any], step: int) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # Steps after the checkpoint are done again: without this each would have two points.
    purge = {"purge_step": step + 1} if step else {}
    mark(run, "events")
    tracker = _started(TensorBoardTracker("events", str(run), **purge))
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    # Four spaces make it a block of code: TensorBoard shows text as Markdown.
    tracker.log({"config": "".join(f"    {line}\n" for line in text.splitlines())}, step=step)
    return tracker


def _start_wandb(run: Path, config: Mapping[str, Any], step: int) -> Any:
    from accelerate.tracking import WandBTracker

    # W&B goes on in a run by its id, so that is kept where a resumed run finds it.
    name_file = run / "wandb" / "run-id"
    mark(run, "wandb")
    again = step > 0 and name_file.is_file()
    if not again:
        name_file.parent.mkdir(exist_ok=True)
        name_file.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    tracker = _started(
        WandBTracker(
            os.environ.get("WANDB_PROJECT", "vidinit"),
            dir=str(run),
            name=run.name,
            id=name_file.read_text(encoding="utf-8"),
            resume="allow" if again else None,
        )
    )
    tracker.store_init_configuration(dict(config))
    return tracker


def _started(tracker: Any) -> Any:
    """Accelerate's older trackers start when they are made and have no method for it."""
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


def _first(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

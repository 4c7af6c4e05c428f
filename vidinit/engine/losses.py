"""The losses of a run: written now and then, and watched for what is no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import VidinitError
from .run_folder import RunFolder

# Files that an error names.
_NAMED = 8


class LossLog:
    """Keeps the losses of the steps since the last look, so that no step waits for the device.

    Args:
        run: whose metrics.jsonl gets them.
        accelerator: the losses of its processes are averaged.
    """

    def __init__(self, run: RunFolder, accelerator: Any) -> None:
        self.run, self.accelerator = run, accelerator
        self._steps: list[tuple[int, dict[str, Tensor], Callable[[], list[str]]]] = []

    def add(self, step: int, losses: dict[str, Tensor], paths: Callable[[], list[str]]) -> None:
        """Note the losses of a step, scalar tensors by name, and what it was made of."""
        self._steps.append((step, losses, paths))

    @staticmethod
    def shown(losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sum, and its terms where there are several."""
        if len(losses) == 1:
            return {"loss": next(iter(losses.values()))}
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def write(self, epoch: int, lr: float) -> None:
        """Write the mean over all processes of the latest step's losses.

        Raises:
            VidinitError: see `check`.
        """
        step, losses, _ = self._steps[-1]
        values = torch.stack(list(losses.values())).float().cpu()
        self.check()
        mean = self.accelerator.reduce(values.to(self.accelerator.device), reduction="mean")
        by_name = dict(zip(losses, mean.tolist(), strict=True))
        self.run.log(
            epoch=epoch,
            step=step,
            loss=sum(by_name.values()),
            lr=lr,
            **{f"loss_{name}": value for name, value in by_name.items() if name != "loss"},
        )

    def check(self) -> None:
        """Look at the steps since the last look.

        Raises:
            VidinitError: the losses of one are no numbers; it names the step, the terms, the files.
        """
        steps, self._steps = self._steps, []
        for step, losses, paths in steps:
            values = {name: float(value) for name, value in losses.items()}
            if all(map(_is_number, values.values())):
                continue
            terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
            files = list(dict.fromkeys(paths()))
            more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
            raise VidinitError(
                f"the loss became {sum(values.values()):g} at step {step} ({terms}), on the clips "
                f"of {', '.join(files[:_NAMED])}{more}",
                "lower train.lr, or set train.clip_grad=1",
            )


def _is_number(value: float) -> bool:
    return value - value == 0

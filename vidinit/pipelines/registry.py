"""All configured commands, by name.

Nothing heavy is imported until a part of a command is asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from ..config.base import RunConfig


@dataclass(frozen=True)
class Command:
    """A configured command.

    Attributes:
        config: ``module:class`` of its settings.
        execute: ``module:function`` that runs it in one process.
        trains: whether it is a training.
    """

    config: str
    execute: str
    trains: bool = True


COMMANDS: dict[str, Command] = {
    "cotrain": Command(
        "vidinit.pipelines.cotrain.settings:CotrainConfig", "vidinit.pipelines.cotrain.run:execute"
    ),
    "distill": Command(
        "vidinit.pipelines.distill.settings:DistillConfig", "vidinit.pipelines.distill.run:execute"
    ),
    "eval": Command(
        "vidinit.pipelines.evaluate.settings:EvaluateConfig",
        "vidinit.pipelines.evaluate.run:execute",
        trains=False,
    ),
    "finetune": Command(
        "vidinit.pipelines.finetune.settings:FinetuneConfig",
        "vidinit.pipelines.finetune.run:execute",
    ),
}


def config_class(command: str) -> type[RunConfig]:
    """The class of a command's settings."""
    return _load(COMMANDS[command].config)


def config_classes() -> dict[str, type[RunConfig]]:
    """The classes of all commands' settings, by command."""
    return {command: config_class(command) for command in COMMANDS}


def execute(
    command: str,
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run a configured command in this process, alone or as one of a group."""
    only_training = {"dry_run": True} if dry_run else {}
    run = _load(COMMANDS[command].execute)
    return dict(run(config, resume=resume, overwrite=overwrite, **only_training))


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)

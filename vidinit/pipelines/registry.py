"""All commands, by name: a line for each, and the only place that lists them.

The parts of a command are named as text, ``module:name``, and imported when they are asked for, so
that neither help nor `import vidinit` waits for torch. A new command is a module with the parts
that its line names; see docs/adding.md.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config.base import RunConfig

START, BUILD, MEASURE, SHARE, DATA = "Start here", "Build", "Measure", "Share", "Data"


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        panel: where `vidinit --help` shows it.
        function: the function behind it, whose keywords are the options; empty where there are
            several, or where it belongs to the command line alone.
        config: class of its settings, a `RunConfig`; empty for a command without presets,
            config.yaml and ``section.key=value``.
        execute: runs it in one process: ``execute(config, *, resume, overwrite)`` to the dict that
            ``--json`` prints; a training also takes ``dry_run``.
        trains: whether it is a training: it resumes, takes ``--dry-run``, and leaves a model.
        steps: whether it takes many steps, so that freed memory is worth keeping.
    """

    panel: str
    function: str = ""
    config: str = ""
    execute: str = ""
    trains: bool = False
    steps: bool = False


def _pipeline(panel: str, folder: str, function: str, config: str, *, trains: bool) -> Command:
    """A configured command whose parts lie in a folder below `vidinit.pipelines`."""
    here = f"{__package__}.{folder}"
    return Command(
        panel,
        function=f"{here}.api:{function}",
        config=f"{here}.settings:{config}",
        execute=f"{here}.run:execute",
        trains=trains,
        steps=True,
    )


COMMANDS: dict[str, Command] = {
    "fit": Command(START, "vidinit.pipelines.fit.api:fit", steps=True),
    "demo": Command(START, "vidinit.demo.run:run_demo", steps=True),
    "doctor": Command(START),
    "convert": Command(BUILD, "vidinit.pipelines.convert:convert"),
    "distill": _pipeline(BUILD, "distill", "distill", "DistillConfig", trains=True),
    "cotrain": _pipeline(BUILD, "cotrain", "cotrain", "CotrainConfig", trains=True),
    "finetune": _pipeline(BUILD, "finetune", "finetune", "FinetuneConfig", trains=True),
    "preset": Command(BUILD),
    "eval": _pipeline(MEASURE, "evaluate", "evaluate", "EvaluateConfig", trains=False),
    "predict": Command(MEASURE, "vidinit.pipelines.predict.api:predict", steps=True),
    "profile": Command(MEASURE, "vidinit.pipelines.profile.api:profile"),
    "list": Command(MEASURE),
    "export": Command(SHARE, "vidinit.exports.export:export"),
    "data": Command(DATA),
}
"""In the order of `vidinit --help`, within its panels."""


def config_class(command: str) -> type[RunConfig]:
    """The class of a configured command's settings."""
    return part(COMMANDS[command].config)


def config_classes() -> dict[str, type[RunConfig]]:
    """The classes of all configured commands' settings, by command, in alphabetical order."""
    return {name: config_class(name) for name, one in sorted(COMMANDS.items()) if one.config}


def execute(
    command: str,
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run a configured command in this process, alone or as one of a group."""
    from ..files import folder_locks

    only_training = {"dry_run": True} if dry_run else {}
    run = part(COMMANDS[command].execute)
    with folder_locks():
        return dict(run(config, resume=resume, overwrite=overwrite, **only_training))


def part(path: str) -> Any:
    """The function or class ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)

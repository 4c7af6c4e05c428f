"""From a configuration to a result: checks that cost nothing, then one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoint import model_folder
from ..config import DEFAULT, RunConfig
from ..config.build import dumped
from ..console import say
from ..engine.run_folder import default_out
from ..engine.trackers import check_trackers
from ..errors import UsageError
from ..files import check_out
from ..processes import in_group
from ..text.towers import is_image_tower
from . import launch
from .registry import COMMANDS, execute
from .shared.init_from import check_initial
from .shared.skewed_classes import check_class_weights
from .shared.text_head import check_text


def run(
    command: str,
    config: RunConfig,
    *,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run a configured command; names and paths are checked before anything heavy is imported.

    Args:
        command: a key of `registry.COMMANDS`.
        config: as built by `vidinit.config.build.build`.
        processes: how many to start on this machine; 1 inside a group that was launched already.
        resume: go on in the same folder.
        overwrite: replace an earlier run's folder.
        dry_run: of a training: take one step and write nothing.

    Raises:
        VidinitError: with the exit code of the kind of failure.
    """
    if processes < 1:
        raise UsageError(f"--processes must be at least 1, not {processes}")
    if resume and config.out is None:
        raise UsageError("--resume needs the run's folder", "pass --out DIR")
    if resume and dry_run:
        raise UsageError("--dry-run starts anew and --resume does not", "pass one of them")
    if command == "eval" and config.data.batch_size == "auto":
        raise UsageError("data.batch_size=auto is for training", "set a number of clips")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", "pass one of them")
    init_from = getattr(config, "init_from", None)
    if init_from is not None:
        check_initial(init_from, config.model)
    check_class_weights(config)
    check_text(config, embeds=not dry_run or config.data.train is not None)
    zero_shot = getattr(config, "zero_shot", False)
    if init_from != config.model and not (zero_shot and is_image_tower(config.model)):
        model_folder(config.model)
    if config.out is None:
        config.out = str(default_out(command, config.model))
    elif not in_group():  # another process of the group may have begun to write
        can_resume = COMMANDS[command].trains
        check_out(Path(config.out), overwrite=overwrite, resume=resume if can_resume else None)
    for path in _paths(config):
        if "{" not in path and not Path(path).expanduser().exists():  # braces: a row of tar shards
            raise UsageError(f"{path} does not exist", "check the path of the data")
    if config.data.reader != "auto":
        from ..data.readers import require_reader

        require_reader(config.data.reader)
    check_trackers(getattr(getattr(config, "train", None), "trackers", []))
    if processes > 1 and not in_group():
        return launch.launch(
            command, config, processes, resume=resume, overwrite=overwrite, dry_run=dry_run
        )
    return execute(command, config, resume=resume, overwrite=overwrite, dry_run=dry_run)


def _paths(config: RunConfig) -> list[str]:
    places: list[str | list[str] | None] = [config.data.train, config.data.val, config.data.root]
    places.append(getattr(config, "test", None))
    for source in getattr(config, "sources", []):
        places += [source.data, source.val, source.root]
    detect = getattr(config, "detect", None)
    places.append(None if detect is None else detect.boxes)
    lists = [[one] if isinstance(one, str) else one or [] for one in places]
    return [path for paths in lists for path in paths]


def run_training(
    command: str,
    built: RunConfig,
    processes: int,
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
) -> dict[str, Any]:
    """`run` of a training; a dry run first says what the configuration is, and from where."""
    if dry_run:
        lines = dumped(built, origins=True, defaults=False).splitlines()
        for line in lines:  # a message is a line of its own
            say(line)
        unset = sum(origin == DEFAULT for origin in built.origins.values())
        say(f"# {unset} more settings have their defaults, see docs/settings.md")
    return run(
        command,
        built,
        processes=processes,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
    )

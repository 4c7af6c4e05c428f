"""Completions of a shell: names that are cheap to know. Nothing heavy is imported.

Where no name fits, the shell goes on with files and folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer


def models(incomplete: str) -> list[str]:
    """Zoo names; the cuts of the Inception family once there is an @."""
    from vidinit.zoo.names import list_models

    return list_models(f"{incomplete}*")


def targets(incomplete: str) -> list[str]:
    """Plans and zoo names, for ``--to``."""
    from vidinit.zoo.names import PLANS

    return list(dict.fromkeys([*_fitting(PLANS, incomplete), *models(incomplete)]))


def teachers(incomplete: str) -> list[str]:
    """Short names of teachers."""
    from vidinit.zoo.images.teacher_names import TEACHERS

    return _fitting(TEACHERS, incomplete)


def presets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Recipes of the command, without its name; all, with theirs, of `vidinit preset`."""
    from vidinit.config.presets import list_presets
    from vidinit.pipelines.registry import COMMANDS

    names = list_presets()
    if ctx.info_name in COMMANDS and COMMANDS[ctx.info_name].config:
        own = f"{ctx.info_name}/"
        names = [name.removeprefix(own) for name in names if name.startswith(own)]
    return _fitting(names, incomplete)


def words(*known: str) -> Callable[[str], list[str]]:
    """A few words that never change."""

    def offered(incomplete: str) -> list[str]:
        return _fitting(known, incomplete)

    return offered


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]

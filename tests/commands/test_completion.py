"""What TAB offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import click
import pytest
import typer
from support import imported_by
from vidinit.commands import app

GROUP = typer.main.get_command(app)


def offered(command: str, parameter: str, incomplete: str) -> list[str]:
    context = click.Context(GROUP, info_name="vidinit")
    found: click.Command = GROUP
    for name in command.split():
        found = found.commands[name]  # type: ignore[attr-defined]
        context = click.Context(found, parent=context, info_name=name)
    param = next(one for one in found.params if parameter in (one.name, *one.opts))
    return [item.value for item in param.shell_complete(context, incomplete)]


@pytest.mark.parametrize(
    ("command", "parameter", "incomplete", "expected"),
    [
        ("finetune", "model", "timesformer-b", ["timesformer-b16", "timesformer-b16-hr"]),
        ("cotrain", "model", "mc3", ["mc3-18"]),
        ("eval", "model", "fast-s3d", ["fast-s3d"]),
        ("predict", "model", "slowonly", ["slowonly-r50"]),
        ("export", "model", "x3d-x", ["x3d-xs"]),
        ("profile", "models", "s3d@top:1", ["s3d@top:1", "s3d@top:10", "s3d@top:11"]),
        ("distill", "--student", "i2", ["i2d"]),
        ("distill", "--teacher", "imagenet-", ["imagenet-lite"]),
        ("convert", "--to", "st", ["st-adapter", "sts"]),
        ("convert", "--to", "r3d-1", ["r3d-18"]),
        ("finetune", "--preset", "sts-r3d50_k", ["sts-r3d50_k400"]),
        ("preset show", "name", "finetune/sts-r3d50_k", ["finetune/sts-r3d50_k400"]),
        ("finetune", "--device", "c", ["cpu", "cuda"]),
        ("eval", "--precision", "f", ["fp32", "fp16"]),
        ("list", "kind", "p", ["plans"]),
        ("finetune", "model", "runs/", []),
    ],
)
def test_names(command, parameter, incomplete, expected):
    assert offered(command, parameter, incomplete)[: len(expected)] == expected
    if not expected:
        assert offered(command, parameter, incomplete) == []


def test_presets_are_those_of_the_command():
    ours, theirs = offered("finetune", "--preset", ""), offered("distill", "--preset", "")
    assert "sts-r3d50_k400" in ours and "sts-r3d50_k400" not in theirs
    assert "r2plus1d-18_kinetics" in theirs and "r2plus1d-18_kinetics" not in ours
    every = set(offered("preset copy", "name", ""))
    assert {f"finetune/{name}" for name in ours} <= every
    assert {f"distill/{name}" for name in theirs} <= every


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_in_bash(tmp_path):
    """The script that `--show-completion` prints, as bash calls it."""
    tool = tmp_path / "vidinit"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vidinit "$@"\n')
    tool.chmod(0o755)
    script = """
        eval "$(_VIDINIT_COMPLETE=source_bash vidinit)"
        offer() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _vidinit_completion vidinit
            echo "${COMPREPLY[*]}"
        }
        offer vidinit fine
        offer vidinit convert resnet50 --time
        offer vidinit finetune sts-r3d5
        offer vidinit eval runs/mine --data vid
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    # The last line is empty: bash goes on with files there.
    assert done.stdout.splitlines() == ["finetune", "--time-padding", "sts-r3d50", ""], done.stderr


def test_nothing_heavy_is_imported():
    code = (
        "from vidinit.commands import completion as c\n"
        "import vidinit.commands\nassert c.targets('') and c.teachers('')\n"
        "class Context: info_name = 'finetune'\nassert c.presets(Context, '')"
    )
    assert imported_by(code, "torch", "timm", "numpy", "av") == []

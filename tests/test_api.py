"""The Python API: what it exports, and that it equals the command line."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from vidinit.commands import (
    convert,
    cotrain,
    data,
    demo,
    distill,
    evaluate,
    export,
    finetune,
    fit,
    profile,
)

import vidinit
from vidinit.demo.run import run_demo

ONLY_CLI = {"json", "debug"}
PAIRS = [
    (convert.convert, vidinit.convert, {"option"}),
    (distill.distill, vidinit.distill, set()),
    (cotrain.cotrain, vidinit.cotrain, set()),
    (finetune.finetune, vidinit.finetune, set()),
    (fit.fit, vidinit.fit, set()),
    (evaluate.evaluate, vidinit.evaluate, set()),
    (profile.profile, vidinit.profile, set()),
    (export.export, vidinit.export, set()),
    (data.check, vidinit.check_data, set()),
    (demo.demo, run_demo, {"clips_only", "detect"}),
]


@pytest.mark.parametrize(("command", "function", "extra"), PAIRS)
def test_commands_and_functions_have_the_same_options(command, function, extra):
    given = dict(inspect.signature(command).parameters)
    taken = dict(inspect.signature(function).parameters)
    taken.pop("options", None)
    assert set(given) - ONLY_CLI - extra == set(taken)
    for name in set(given) & set(taken):
        mine, theirs = given[name].default, taken[name].default
        if None in (mine, theirs) or inspect.Parameter.empty in (mine, theirs):
            continue  # None on the command line stands for the function's default
        if name != "overrides":
            assert mine == theirs, name


def test_everything_public_is_there():
    for name in vidinit.__all__:
        assert getattr(vidinit, name) is not None
    assert set(vidinit.__all__) <= set(dir(vidinit))
    with pytest.raises(AttributeError):
        _ = vidinit.no_such_name


def test_rooms_load_when_asked_for():
    code = (
        "import sys, vidinit\n"
        "assert 'torch' not in sys.modules\n"
        "x = vidinit.zoo.temporal.sts_conv\n"
        "assert 'torch' in sys.modules and callable(x)\n"
        "assert vidinit.errors.VidinitError is vidinit.VidinitError\n"
        "try:\n    vidinit.zoo.nothing\nexcept AttributeError:\n    print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr

"""The allocator's setting: done where it can be, and never against the user's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vidinit.processes import keep_freed_memory

STEP = """
import resource
from vidinit.processes import keep_freed_memory
assert not {keep} or keep_freed_memory()
import torch

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_blocks_are_reused_without_page_faults():
    counts = []
    for keep in (False, True):
        code = STEP.format(keep=keep)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts[1] < counts[0] / 10


def test_a_users_setting_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert keep_freed_memory() is False


def test_commands_of_many_steps_set_it_and_the_library_does_not():
    code = (
        "import vidinit.processes as a\n"
        "called = []\n"
        "a.keep_freed_memory = lambda: called.append(1)\n"
        "from typer.testing import CliRunner\n"
        "from vidinit.commands import app\n"
        "for line in (['list', 'plans'], ['finetune', 'no-such-model', '--data', 'x']):\n"
        "    CliRunner().invoke(app, line)\n"
        "    print(len(called))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "1"], done.stderr

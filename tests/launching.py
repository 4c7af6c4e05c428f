"""The command line in groups of processes, as other launchers than ``--processes`` start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import logged

TORCHRUN = "torch.distributed.run"
ACCELERATE = "accelerate.commands.launch"

FSDP = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: 'no'
num_machines: 1
num_processes: 2
machine_rank: 0
main_process_port: 0
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: SHARDED_STATE_DICT
"""
"""A file for `accelerate launch --config_file`."""


def start(launcher: str, flags: list[str], line: list[str], **env: str) -> subprocess.Popen[str]:
    """`launcher FLAGS -m vidinit LINE`, with one thread in each process."""
    return subprocess.Popen(
        [sys.executable, "-m", launcher, *flags, "-m", "vidinit", *line],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def launch(launcher: str, flags: list[str], line: list[str], **env: str) -> tuple[int, str, str]:
    """`start`, to the end."""
    return finish(start(launcher, flags, line, **env))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, but for those that tell times."""
    return [row for row in logged(out) if "clips_per_second" not in row]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in metrics(out) if "loss" in row]

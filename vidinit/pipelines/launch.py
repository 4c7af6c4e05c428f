"""Several processes on this machine, through torch.distributed's elastic launcher.

The command runs in worker processes that read the configuration from a file and write their result,
or the error that ended them, to another one.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import DataError, Interrupted, UsageError, VidinitError
from ..processes import OWN_GROUP, is_main_process, keep_freed_memory, wait_for_first_error
from .registry import config_class, execute

# Until a process that was asked to stop is killed.
_SECONDS_TO_SAVE = 600

_KINDS: dict[str, type[VidinitError]] = {
    kind.__name__: kind for kind in (UsageError, DataError, Interrupted, VidinitError)
}
"""Kinds of error that come back from a worker, special ones first; any other is one of these."""


def launch(
    command: str,
    config: RunConfig,
    processes: int,
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run a configured command in ``processes`` processes and return what it returned.

    Raises:
        VidinitError: whatever the first failing worker raised.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Processes with more threads than cores wait for one another by spinning: a step of a second
    # then takes minutes. So a number meant for one process is brought down too.
    threads = max(1, (os.cpu_count() or 1) // processes)
    own_threads = os.environ.get("OMP_NUM_THREADS", "")
    if not own_threads.isdigit() or int(own_threads) > threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    for name in ("torch.distributed", "torch.distributed.elastic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our error line says it better
    with tempfile.TemporaryDirectory(prefix="vidinit-") as folder:
        settings, result = Path(folder) / "config.json", Path(folder) / "result.json"
        payload = {"config": config.model_dump(mode="json"), "origins": config.origins}
        settings.write_text(json.dumps(payload), encoding="utf-8")
        wishes = {"resume": resume, "overwrite": overwrite, "dry_run": dry_run}
        flags = [flag for flag, on in wishes.items() if on]
        job = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.2,
            **_patience(LaunchConfig),
        )
        arguments = ["-m", __name__, command, str(settings), str(result), *flags]
        try:
            elastic_launch(job, sys.executable)(*arguments)
        except ChildFailedError as error:
            raise _error_of(result, command) from error
        except SignalException as error:
            if result.is_file() and "kind" not in (done := json.loads(result.read_text())):
                return dict(done)  # it was at its end, where a signal changes nothing any more
            report = _error_of(result, command)
            if not isinstance(report, Interrupted):
                report = Interrupted(
                    "stopped by a signal, and the state was not saved",
                    "--resume goes on from the last checkpoint, if there is one",
                )
            report.exit_code = 128 + int(error.sigval)
            raise report from error
        return dict(json.loads(result.read_text()))


def _patience(kind: type) -> dict[str, Any]:
    """Seconds for processes to save their state, where this version of torch takes them.

    Its 30 s are too few for a large model's step and checkpoint.
    """
    known = "shutdown_timeout" in {field.name for field in fields(kind)}
    set_by_user = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" in os.environ
    return {"shutdown_timeout": _SECONDS_TO_SAVE} if known and not set_by_user else {}


def _error_of(result: Path, command: str) -> VidinitError:
    try:
        report = json.loads(result.read_text())
        error = _KINDS[report["kind"]](report["message"], report["hint"])
        error.exit_code = report["exit_code"]
        return error
    except (OSError, ValueError, KeyError):
        return VidinitError(f"a process of {command} died", "see the messages above")


def work(arguments: list[str]) -> int:
    """Run a worker, from its words: COMMAND CONFIG RESULT [resume] [overwrite] [dry_run]."""
    os.environ[OWN_GROUP] = "1"
    keep_freed_memory()
    _end_with_parent()
    command, settings, result, *flags = arguments
    payload = json.loads(Path(settings).read_text(encoding="utf-8"))
    config = config_class(command).model_validate(payload["config"])
    config.origins.update(payload["origins"])
    try:
        value = execute(command, config, **dict.fromkeys(flags, True))
    except VidinitError as error:
        report = {
            "kind": next(name for name, kind in _KINDS.items() if isinstance(error, kind)),
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        _write(Path(result), report)
        return 1
    except Exception:
        wait_for_first_error()  # the end of another process may be all that went wrong here
        raise
    if is_main_process():
        _write(Path(result), value)
    return 0


def _end_with_parent() -> None:
    """Have the kernel end this worker with its launcher: a resumed run would share its folder."""
    if sys.platform == "linux":
        import ctypes

        set_signal_of_parents_death = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_signal_of_parents_death, int(signal.SIGKILL))


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


if __name__ == "__main__":
    code = work(sys.argv[1:])
    if code:
        os._exit(code)  # the others may wait for this process: the launcher ends them

"""What the tests have workers do, well and badly; `does` takes (name, argument)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from vidinit.data.readers import VideoReadError


def does(item: list[Any]) -> Any:
    name, *arguments = item
    return globals()[name](*arguments)


def double(value: Any) -> Any:
    return value * 2


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hang() -> None:
    """For ever in native code that holds the interpreter lock: no signal handler is run."""
    ctypes.PyDLL(None).sleep(3600)


def crash(number: int = signal.SIGSEGV) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)


def leave(code: int) -> None:
    os._exit(code)


def unreadable() -> None:
    raise VideoReadError("some/file", "it is broken")


def fault() -> float:
    return 1 / 0


def no_json() -> object:
    return object()


def chatter() -> str:
    """Writes to everything that a decoder could write to, and reads what it could read."""
    print("printed")
    print("printed", file=sys.stderr)
    os.write(1, b'{"value": "a lie"}\n')
    os.write(2, b"x" * 300_000)
    return "read " + repr(sys.stdin.read())


def process(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def child() -> int:
    """Starts a process of its own, says which in its answer, and leaves it running."""
    import subprocess

    return subprocess.Popen(["sleep", "3600"]).pid


def child_and_hang(file: str) -> None:
    Path(file).write_text(str(child()))
    hang()


def environment() -> dict[str, Any]:
    import resource

    return {
        "path": sys.path,
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "threads": os.environ["OMP_NUM_THREADS"],
        "session": os.getsid(0) == os.getpid(),
        "main": "__main__" in sys.modules and hasattr(sys.modules["__main__"], "does"),
    }


def probe(item: list[Any]) -> list[Any]:
    """The real probe, but for files with certain names."""
    from vidinit.data.index import probe_file

    does = {"hang": hang, "crash": crash, "fault": fault}
    if item[2] == "decord":
        does["decord_crash"] = crash
    does.get(Path(item[0]).stem, lambda: None)()
    return probe_file(item)

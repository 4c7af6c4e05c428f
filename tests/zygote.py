"""Runs of the command line without its start-up: all is imported once, then each run is a fork.

The script reads one JSON object a line: ``{"run": [arguments], "err": file, "out": file}``, and
maybe ``"kill_at": number, "below": folder``, answers with the process id, ``{"wait": id}`` with the
exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def main() -> None:
    import accelerate  # noqa: F401
    import timm  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                become(asked)
        print(answer, flush=True)


def become(asked: dict[str, Any]) -> None:
    """The command line, in this process."""
    os.setsid()  # a group of its own, so that a test can kill its decoding workers with it
    files = [os.open(os.devnull, os.O_RDONLY)]
    files += [os.open(asked[name], os.O_WRONLY) for name in ("out", "err")]
    for target, handle in enumerate(files):
        os.dup2(handle, target)
    if hasattr(signal, "SIGHUP"):  # the tests may run below nohup, which a command respects
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if "kill_at" in asked:
        kill_at_event(asked["kill_at"], asked["below"])
    sys.argv = ["vidinit", *asked["run"]]
    code: Any = 0
    try:
        from vidinit.commands import app

        app(prog_name="vidinit")
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.truncate"}


def kill_at_event(number: int, below: str) -> None:
    """Kill this process just before its n-th change of a file, or look into one, below a folder."""
    own, seen = os.getpid(), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in CHANGES and os.getpid() == own and any(below in str(a) for a in arguments):
            seen += 1
            if seen == number:
                os.kill(own, signal.SIGKILL)

    sys.addaudithook(hook)


class Run:
    """A command that was started."""

    def __init__(self, zygote: Zygote, pid: int, out: Path, err: Path) -> None:
        self._zygote, self.pid, self._out, self._err = zygote, pid, out, err

    def wait(self) -> int:
        """Its exit code, negative for the signal that ended it."""
        return self._zygote.ask({"wait": self.pid})

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()


class Zygote:
    """The process that forks, and where its runs leave what they print."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, what: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, *line: str | Path, kill_at: int = 0, below: Path | None = None) -> Run:
        """Start a command; ``kill_at`` kills it before its n-th change of a file below a folder."""
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        for file in (out, err):
            file.touch()
        asked = {"run": [str(word) for word in line], "out": str(out), "err": str(err)}
        kill = {"kill_at": kill_at, "below": str(below)} if kill_at else {}
        return Run(self, self.ask({**asked, **kill}), out, err)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    main()

"""Save checkpoints and die: at each operation on the file system, one death per fork.

Arguments: a folder with the run's checkpoints, a folder for the results. Each child saves the
checkpoint of step 3 over a copy and is killed at its k-th operation; the first that lives ends the
script.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "shutil.rmtree"}


def main(source: Path, results: Path) -> None:
    import toy

    from vidinit.engine import resume
    from vidinit.engine.resume import Progress

    accelerator, step = toy.make()  # what is imported late is imported once, before the forks
    step()
    resume.save(accelerator, results / "warm", Progress())
    resume.restore(accelerator, results / "warm")
    shutil.rmtree(results / "warm")
    k = 0
    while True:
        place = results / f"killed-at-{k:03d}"
        shutil.copytree(source, place, symlinks=True)
        pid = os.fork()
        if pid == 0:
            accelerator, step = toy.make()
            progress = resume.restore(accelerator, place)
            assert progress is not None
            step()
            progress.step = progress.step_in_epoch = 3
            die_at(k)
            resume.save(accelerator, place, progress)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return
        assert os.WIFSIGNALED(status), f"{k}: the child failed by itself"
        k += 1


def die_at(k: int) -> None:
    seen = 0

    def hook(event: str, arguments: object) -> None:
        nonlocal seen
        if event in EVENTS:
            seen += 1
            if seen > k:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

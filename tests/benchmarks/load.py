"""What long and large use costs: memory, open files and time, counted from outside.

    python -m tests.benchmarks.load [steps] [predict] [files] [video] [boxes] [--quick]

``steps``: 10,000 steps of a fine-tuning with two decoding workers; resident memory and open files
of all its processes, the largest in each tenth of the way. ``predict``: `VideoModel.predict` 2,000
times, then from 8 threads, in a forked and in a spawned child. ``files``: the check of 100,000
files in 2,000 classes, and a second one, of which all is known. ``video``: the timeline of a video
of three hours. ``boxes``: `finetune --task detect` up to its first step, on as many key frames as
UCF101-24 has, 479 thousand in 3,194 videos, and on few.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import psutil

MODEL = "s3d-mobilenetv2_050"
SMALL = ("data.frames=4", "data.stride=1", "data.size=32", "data.batch_size=2")


def clip(path: Path, frames: int, *, side: int = 48, fps: int = 12) -> Path:
    """A video of grain and a moving bar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(frames)
    ground = rng.integers(0, 90, (side, side, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height = stream.width = side
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(frames):
            picture = ground.copy()
            picture[:, number % side] = 220
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def sizes(process: psutil.Process) -> tuple[float, int, int]:
    """Resident MiB, open files and processes of a process and its children."""
    memory, files, count = 0.0, 0, 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            memory += one.memory_info().rss / 2**20
            files += one.num_fds()
            count += 1
    return memory, files, count


class Watched:
    """A command of vidinit while it runs: the largest memory of its processes, and its seconds."""

    def __init__(self, *words: str | Path) -> None:
        self.began, self.peak = time.perf_counter(), 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vidinit", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def look(self) -> tuple[float, int, int]:
        found = sizes(psutil.Process(self.process.pid))
        self.peak = max(self.peak, found[0])
        return found

    def finish(self) -> float:
        """Seconds until its end."""
        while self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self.look()
            time.sleep(0.2)
        seconds = time.perf_counter() - self.began
        if self.process.returncode:
            raise SystemExit("".join(self.errors[-5:]))
        return seconds


def steps(folder: Path, *, quick: bool) -> None:
    data = folder / "clips"
    for number in range(20):
        clip(data / "ab"[number % 2] / f"{number}.mp4", 12 + number)
    total = 200 if quick else 10_000  # 16 of the clips are trained on: 8 steps an epoch
    out, a_tenth = folder / "run", total // 10
    run = Watched(
        *("finetune", MODEL, "--data", data, "--out", out, *SMALL, "data.workers=2"),
        *(f"train.epochs={total // 8}", f"eval.every={total}", "train.save_steps=1000"),
        *("train.ema=0.99", "train.log_every=10"),
    )
    print("| steps | resident MiB | of the trainer | open files | processes |")
    print("|---|---|---|---|---|", flush=True)
    said, trainer = 0, psutil.Process(run.process.pid)
    most = (0.0, 0.0, 0, 0)
    while run.process.poll() is None:
        # The largest of many looks: workers come and go with each epoch.
        with contextlib.suppress(OSError, IndexError, ValueError, psutil.Error):
            memory, files, count = run.look()
            own = trainer.memory_info().rss / 2**20
            most = tuple(map(max, most, (memory, own, files, count)))  # type: ignore[assignment]
            done = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"]
            if done >= said + a_tenth:
                said = done // a_tenth * a_tenth
                print("| {} | {:.0f} | {:.0f} | {} | {} |".format(done, *most), flush=True)
                most = (0.0, 0.0, 0, 0)
        time.sleep(0.05)
    run.finish()


def _served(model_folder: str, files: list[str]) -> None:
    import vidinit

    model = vidinit.load(model_folder)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(model.predict, files))
    if len(results) != len(files):
        os._exit(1)


def predict(folder: Path, *, quick: bool) -> None:
    import torch

    import vidinit

    torch.set_num_threads(1)
    place = folder / "model"
    vidinit.convert(
        "mobilenetv2_050", "s3d", pretrained=False, frames=4, size=32, num_classes=5, out=place
    )
    files = [str(clip(folder / f"{n}.mp4", 10 + n)) for n in range(5)]
    began = time.perf_counter()
    model = vidinit.load(place)
    model.predict(files[0])
    print(f"load and first video: {time.perf_counter() - began:.2f} s")
    count = 100 if quick else 2000
    process, seen = psutil.Process(), []
    began = time.perf_counter()
    for number in range(count):
        model.predict(files[number % 5])
        if number in (count // 10, count - 1):
            seen.append(sizes(process))
    seconds = (time.perf_counter() - began) / count
    (before, files_before, _), (after, files_after, _) = seen
    print(
        f"{count} videos: {1000 * seconds:.1f} ms each; resident {before:.0f} MiB after a tenth, "
        f"{after:.0f} at the end; open files {files_before} and {files_after}"
    )
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(model.predict, files * (count // 40)))
    memory, handles, _ = sizes(process)
    print(
        f"8 threads, {5 * (count // 40)} videos: {time.perf_counter() - began:.1f} s; resident "
        f"{memory:.0f} MiB, {handles} open files"
    )
    for how in ("fork", "spawn"):
        began = time.perf_counter()
        child = multiprocessing.get_context(how).Process(
            target=_served, args=(str(place), files * 4)
        )
        child.start()
        child.join(300)
        print(f"a {how}ed server: exit code {child.exitcode}, {time.perf_counter() - began:.1f} s")


def files(folder: Path, *, quick: bool) -> None:
    count, classes = (2000, 40) if quick else (100_000, 2000)
    first = clip(folder / "first.mp4", 8)
    data = folder / "many"
    for number in range(count):
        place = data / f"class {number % classes:04d}" / f"{number:06d}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(first, place)
    for what in ("first", "second"):
        run = Watched("data", "check", data, "--json")
        print(f"{what} check of {count} files: {run.finish():.1f} s, peak {run.peak:.0f} MiB")


def video(folder: Path, *, quick: bool) -> None:
    hours = 0.1 if quick else 3.0
    file = clip(folder / "long.mp4", int(hours * 3600 * 10), fps=10)
    model = folder / "model"
    Watched(
        *("convert", "mobilenetv2_050", "--to", "s3d", "--no-pretrained", "--frames", "4"),
        *("--size", "32", "--num-classes", "5", "--out", model),
    ).finish()
    run = Watched("predict", model, file, "--timeline", "--every", "2", "--out", folder / "lines")
    print(f"timeline of {hours:g} h: {run.finish():.1f} s, peak {run.peak:.0f} MiB")


def boxes(folder: Path, *, quick: bool) -> None:
    first, length = clip(folder / "first.mp4", 160), 150
    print("| key frames | boxes | videos are | seconds | of processor time | peak MiB |")
    print("|---:|---:|---|---:|---:|---:|", flush=True)
    for videos in (20, 200 if quick else 3194):
        data = folder / f"of-{videos}"
        data.mkdir()
        frames, tubes = np.arange(1, length + 1, dtype=np.float32), {}
        for number in range(videos):
            name = f"v{number:04d}"
            (data / f"{name}.mp4").symlink_to(first)
            sides = [(4 + person, 5, 30, 40) for person in range(1 + (number % 5 == 0))]
            people = [np.stack([frames, *(np.full(length, x) for x in box)], 1) for box in sides]
            tubes[name] = {number % 24: people}
        names, test = list(tubes), int(videos * 0.285)
        whole = {"labels": [f"class {n}" for n in range(24)], "gttubes": tubes}
        parts = {"train_videos": [names[test:]], "test_videos": [names[:test]]}
        (data / "boxes.pkl").write_bytes(pickle.dumps({**whole, **parts}, protocol=2))
        count = sum(len(people) for own in tubes.values() for people in own.values())
        for known in ("new", "known"):
            before = os.times()
            run = Watched(
                *("finetune", MODEL, "--task", "detect", "--data", data / "boxes.pkl", *SMALL),
                *("data.workers=2", "--dry-run", "--out", folder / "run"),
            )
            seconds, after = run.finish(), os.times()
            spent = after.children_user - before.children_user
            spent += after.children_system - before.children_system
            figures = f"{seconds:.1f} | {spent:.1f} | {run.peak:.0f}"
            counts = f"{videos * length:,} | {count * length:,}"
            print(f"| {counts} | {known} | {figures} |", flush=True)


def main() -> None:
    parts = {"steps": steps, "predict": predict, "files": files, "video": video, "boxes": boxes}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    for name in args.parts or parts:
        print(f"\n### {name}\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
            parts[name](Path(folder), quick=args.quick)


if __name__ == "__main__":
    main()

"""What several tests use: small videos, a small model, the command line, unforgiving norms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

MODEL = "s3d-mobilenetv2_050"  # the smallest network that goes through every plan
SMALL = ["data.frames=4", "data.stride=1", "data.size=32", "data.batch_size=4", "data.workers=0"]


def write_video(path: Path, frames: np.ndarray, fps: int = 12) -> Path:
    """frames: uint8 (T, H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def moving_bar(step: int, seed: int, *, frames: int = 10, side: int = 48) -> np.ndarray:
    """A bright bar on grain, moving ``step`` pixels a frame; uint8 (frames, side, side, 3)."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 90, (side, side, 3))
    start = int(rng.integers(side))
    clip = np.stack([ground] * frames)
    for t in range(frames):
        columns = (start + step * t + np.arange(8)) % side
        clip[t][:, columns] = (230, 200, 120)
    return clip.astype(np.uint8)


def run_cli(*args: str | Path, cwd: Path | None = None, **env: str) -> Any:
    """`vidinit ARGS` in a process of its own; stdout is parsed where it is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "vidinit", *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done


def json_of(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def logged(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def shake_norms(model: torch.nn.Module, seed: int = 0) -> None:
    """Batch norms with statistics and gains that a wrong conversion would not survive."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(uniform(module.running_mean, -0.3, 0.3))
            module.running_var.copy_(uniform(module.running_var, 0.6, 1.6))
            module.weight.data.copy_(uniform(module.weight, 0.5, 1.3))
            module.bias.data.copy_(uniform(module.bias, -0.2, 0.2))


def imported_by(code: str, *packages: str) -> list[str]:
    """Which of some packages a fresh interpreter has imported after ``code``."""
    line = f"{code}\nimport sys\nprint(*(p for p in {packages!r} if p in sys.modules))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()

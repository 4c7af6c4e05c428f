"""Speed and peak memory of a model's forward passes, measured by running it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UsageError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of the precisions and the type that autocast computes in."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_WARM_UP = 3


@dataclass(frozen=True)
class Speed:
    """Outcome of `measure_speed`.

    Attributes:
        latency_ms: median time of one batch, in milliseconds.
        clips_per_second: clips of a batch over that time.
        batches: how many were timed.
    """

    latency_ms: float
    clips_per_second: float
    batches: int


def pick_device(name: str) -> torch.device:
    """The device of a name: ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: for an unknown name, or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda", "mps"):
        raise UsageError(f"unknown device '{name}'", "devices are auto, cpu, cuda, mps")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is available", "use --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: no Apple GPU is available", "use --device cpu")
    return torch.device(name)


def wait_for(device: torch.device) -> Callable[[], None]:
    """A function that returns once everything queued on the device is done."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def measure_speed(
    model: nn.Module, clip: Tensor, *, precision: str = "fp32", seconds: float = 2.0
) -> Speed:
    """Time forward passes in eval mode, without gradients.

    Three passes warm up. Then each pass is timed from its start until the device is done with it,
    until ``seconds`` have gone by, at least once. Making the input and copying it to the device
    are not timed.

    Args:
        model: on the clip's device; left in eval mode.
        clip: the batch, (B, 3, T, H, W).
        precision: a key of `PRECISIONS`; other than fp32 runs under autocast.
        seconds: above 0.
    """
    times = time_passes(model, clip, precision, seconds)
    median = statistics.median(times)
    return Speed(1000 * median, len(clip) / median, len(times))


def inference(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context without gradients, with autocast in that precision, a key of `PRECISIONS`."""
    contexts = contextlib.ExitStack()
    contexts.enter_context(torch.inference_mode())
    if (dtype := PRECISIONS[precision]) is not None:
        contexts.enter_context(torch.autocast(device.type, dtype=dtype))
    return contexts


def time_passes(
    model: nn.Module,
    clip: Tensor,
    precision: str,
    seconds: float,
    *,
    after: Callable[[], None] = lambda: None,
) -> list[float]:
    """Seconds of each forward pass, taken as `measure_speed` says.

    Args:
        model, clip, precision, seconds: as for `measure_speed`.
        after: called behind each pass that is timed.
    """
    model.eval()
    wait = wait_for(clip.device)
    times: list[float] = []
    with inference(clip.device, precision):
        for _ in range(_WARM_UP):
            model(clip)
        wait()
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            model(clip)
            wait()
            times.append(time.perf_counter() - start)
            after()
    return times


class PeakMemory:
    """Peak memory between `start` and `peak_mb`, above what was in use when this was made.

    On CUDA it is what PyTorch's allocator handed out. On a Linux CPU it is the resident memory of
    the process, as the kernel counts it. Elsewhere it is not known.

    Make it before the model is built, call `start` before the first forward pass.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known = device.type == "cuda" or (device.type == "cpu" and _CLEAR.exists())
        if self.known and device.type == "cpu":
            self._load_kernels()
        self._give_back()
        self.base = self._now() if self.known else 0

    def _load_kernels(self) -> None:
        """Libraries that the first passes load belong to the process, not to the model."""
        with torch.inference_mode():
            for memory in (torch.contiguous_format, torch.channels_last):
                x = torch.zeros(1, 8, 8, 8).contiguous(memory_format=memory)
                torch.conv2d(x, torch.zeros(8, 8, 3, 3)).flatten(1) @ torch.zeros(288, 8)

    def _give_back(self) -> None:
        """Hand freed memory back to the system: reused silently, it would hide from the peak."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.known:
            with contextlib.suppress(OSError, AttributeError):  # only glibc has malloc_trim
                ctypes.CDLL(None).malloc_trim(0)

    def _now(self, field: str = "VmRSS") -> int:
        """Bytes in use, or of a field of /proc/self/status."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise OSError(f"{_STATUS} has no {field}")

    def start(self) -> None:
        """Forget earlier peaks."""
        self._give_back()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.known:
            try:
                _CLEAR.write_text("5")  # resets VmHWM, the peak of the resident memory
            except OSError:  # not allowed in every container
                self.known = False

    def peak_mb(self) -> float | None:
        """Peak since `start` in MiB, or None where it cannot be known."""
        if not self.known:
            return None
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = self._now("VmHWM")
        return max(0, peak - self.base) / 2**20

"""Steps that are tried in processes of their own: imports, devices, a video, the hub.

A step returns what it found, or raises. A trial ends with its first step that fails: what comes
behind needs it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import VidinitError
from .finding import Finding
from .packages import installed, unmatched_pair

# Levels of gray of the frames of a video, and how far a decoder may be off.
_LEVELS, _OFF = (40, 80, 120, 160, 200), 8
_SIDE = 64  # decord fails on some sizes that are no multiples of 32
_PATIENCE = 4.0  # seconds for one answer of the hub
_PAIR = "install both anew from one place: pip install --force-reinstall torch torchvision"


@dataclass(frozen=True)
class Step:
    """One thing to try.

    Attributes:
        check: its name.
        run: tries it.
        advice: what to do where it fails.
    """

    check: str
    run: Callable[[], Finding]
    advice: str


def main(trial: str) -> None:
    """Work through a trial and write each finding as a line of JSON where stdout was."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # packages may print what they like
        for step in TRIALS[trial]:
            finding = _run_step(step)
            out.write(json.dumps(finding.as_dict()) + "\n")
            out.flush()
            if finding.status == "fail":
                return


def _run_step(step: Step) -> Finding:
    """The finding of a step; what it raises is one, too."""
    try:
        return step.run()
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        advice = step.advice
        if isinstance(error, ModuleNotFoundError) and error.name:
            advice = f"pip install {error.name.partition('.')[0]}"
        return Finding(step.check, "fail", f"{type(error).__name__}: {first}"[:300], advice)


def torch_works() -> Finding:
    """Import torch and compute something."""
    import torch

    total = float((torch.ones(3, 3) @ torch.ones(3, 3)).sum())
    if total != 27:
        raise RuntimeError(f"a product of ones is {total}, not 27")
    kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return Finding("torch", "ok", f"{torch.__version__} ({kind})")


def torchvision_fits() -> Finding:
    """Import torchvision and run a compiled operator, which must be built for this torch."""
    complaint = unmatched_pair()
    try:
        import torch
        import torchvision
        from torchvision.ops import nms

        boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]])
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except Exception as error:
        if complaint:
            raise type(error)(f"{error} ({complaint})") from error
        raise
    if kept != [0, 2]:
        raise RuntimeError(f"its operator nms keeps boxes {kept}, not [0, 2]")
    if complaint:
        return Finding("torchvision", "warn", f"it works here, but {complaint}", _PAIR)
    return Finding("torchvision", "ok", f"{torchvision.__version__}, its operators run")


def devices() -> Finding:
    """The devices that a run would compute on; each GPU takes a small product."""
    import torch

    if torch.cuda.is_available():
        gpus = [_gpu(index) for index in range(torch.cuda.device_count())]
        fast = torch.cuda.get_device_capability()[0] >= 8
        return Finding(
            "devices", "ok", f"{', '.join(gpus)}; auto is cuda, {'bf16' if fast else 'fp32'}"
        )
    cpu = f"CPU ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"
    found = f"{cpu}; auto is cpu, fp32"
    if torch.backends.mps.is_available():
        return Finding("devices", "ok", f"{found}; an Apple GPU is there for --device mps")
    if os.path.exists("/proc/driver/nvidia/version"):
        why = "CUDA finds no GPU" if torch.version.cuda else "this torch is built without CUDA"
        return Finding(
            "devices",
            "warn",
            f"{found}; there is a driver for NVIDIA GPUs, but {why}",
            "see `nvidia-smi`, CUDA_VISIBLE_DEVICES, and install a torch that fits the driver",
        )
    return Finding("devices", "ok", found)


def _gpu(index: int) -> str:
    import torch

    ones = torch.ones(8, 8, device=f"cuda:{index}")
    total = float((ones @ ones).sum())  # raises where the GPU is too old or new for this torch
    if total != 512:
        raise RuntimeError(f"on cuda:{index} a product of ones is {total}, not 512")
    properties = torch.cuda.get_device_properties(index)
    return f"cuda:{index} {properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def imports(name: str) -> Callable[[], Finding]:
    """A step that imports a package."""

    def step() -> Finding:
        import_module(name)
        return Finding(name, "ok", f"{installed(name)} imports")

    return step


def pyav_reads() -> Finding:
    """Write a video with PyAV and read it."""
    from ..data.readers import PyAVReader

    with _video() as (path, codec):
        _compare(PyAVReader(path).get(range(len(_LEVELS))))
    found = f"{installed('av')} reads a video that it wrote with {codec}"
    if codec == "libx264":
        return Finding("PyAV", "ok", found)
    return Finding(
        "PyAV",
        "warn",
        f"{found}; it cannot write h264, as `data prepare` and `demo` do",
        "pip install --force-reinstall av: its wheel has libx264",
    )


def decord_reads() -> Finding:
    """Read a video with decord, if it is installed; PyAV reads what it does not."""
    from ..data.readers import DecordReader, VideoReadError
    from ..data.readers.decord import load

    known = installed("decord")
    if load() is None:
        if known is None:
            return Finding("decord", "none", "not installed; PyAV reads in its place")
        return _not_needed("decord", f"{known} is installed, but does not import")
    try:
        with _video() as (path, _):
            _compare(DecordReader(path).decode(list(range(len(_LEVELS)))))
    except (VideoReadError, RuntimeError) as error:
        return _not_needed("decord", str(error))
    return Finding("decord", "ok", f"{known} reads it too")


def torchcodec_reads() -> Finding:
    """Read a video with torchcodec."""
    from ..data.readers import TorchCodecReader, VideoReadError

    try:
        with _video() as (path, _):
            _compare(TorchCodecReader(path).get(range(len(_LEVELS))))
    except (VideoReadError, VidinitError, RuntimeError) as error:
        return _not_needed("torchcodec", str(error))
    return Finding("torchcodec", "ok", f"{installed('torchcodec')} reads it")


def _not_needed(reader: str, problem: str) -> Finding:
    advice = next(
        step.advice for steps in TRIALS.values() for step in steps if step.check == reader
    )
    return Finding(reader, "warn", f"{problem}; PyAV reads in its place", advice)


@contextmanager
def _video() -> Iterator[tuple[Path, str]]:
    """A little video, and the codec that it was written with."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.mp4"
        yield path, _write(av, path)


def _write(av: ModuleType, path: Path) -> str:
    """A video of gray frames by the first codec that this FFmpeg has; its name."""
    import numpy as np

    for codec in ("libx264", "mpeg4"):
        with suppress(av.codec.codec.UnknownCodecError):
            av.Codec(codec, "w")
            break
    else:
        raise RuntimeError("FFmpeg has neither libx264 nor mpeg4 to write with")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height = stream.width = _SIDE
        stream.pix_fmt = "yuv420p"
        for level in _LEVELS:
            picture = np.full((_SIDE, _SIDE, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return codec


def _compare(frames: Any) -> None:
    """See that decoded frames (T, H, W, 3) are those that were written, in their order."""
    seen = [float(frame.mean()) for frame in frames]
    off = [abs(a - b) for a, b in zip(seen, _LEVELS, strict=True)]
    if max(off) > _OFF:
        raise RuntimeError(
            f"frames of gray {list(_LEVELS)} come back as {[round(level) for level in seen]}"
        )


def hub_answers() -> Finding:
    """Ask the Hugging Face hub for an answer, and count the models that are here without it."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    count = sum(1 for _ in cache.glob("models--*"))
    kept = f"{count} model{'' if count == 1 else 's'} in {cache}"
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "ok", f"not asked: HF_HUB_OFFLINE is set; {kept}")
    problem = _unanswered(constants.ENDPOINT)
    if not problem:
        return Finding("hub", "ok", f"{constants.ENDPOINT} answers; {kept}")
    return Finding(
        "hub",
        "warn",
        f"{constants.ENDPOINT} does not answer ({problem}); {kept}",
        "weights come from this cache, from files (--weights) and from packages (the extra demo); "
        "HF_ENDPOINT names a mirror, HF_HUB_OFFLINE=1 stops the asking",
    )


def _unanswered(url: str) -> str:
    """Why a server did not answer a request; empty where it did, whatever it said."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=_PATIENCE):
            return ""
    except HTTPError:
        return ""
    except (OSError, ValueError) as error:
        reason: Any = getattr(error, "reason", error)
        return " ".join(str(reason).split())[:120] or type(error).__name__


TRIALS: dict[str, tuple[Step, ...]] = {
    "torch": (
        Step("torch", torch_works, _PAIR),
        Step("torchvision", torchvision_fits, _PAIR),
        Step("devices", devices, "see `nvidia-smi`; --device cpu does without"),
        Step("accelerate", imports("accelerate"), "pip install --upgrade accelerate"),
        Step("timm", imports("timm"), "pip install --upgrade timm"),
    ),
    "readers": (
        Step("PyAV", pyav_reads, "pip install --force-reinstall av"),
        Step("decord", decord_reads, "pip install --force-reinstall decord, or uninstall it"),
    ),
    "torchcodec": (
        Step(
            "torchcodec",
            torchcodec_reads,
            "it needs FFmpeg's libraries and the torch it was built for",
        ),
    ),
    "hub": (Step("hub", hub_answers, "pip install --upgrade huggingface_hub"),),
}
"""The steps of each trial, in their order."""

"""`vidinit data prepare`: settings, copies that decode fast and exactly, and progress."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from ...console import ProgressBar, with_messages
from ...data.copies.encode import Encoding
from ...data.copies.make import prepare
from ...data.flow.methods import require_method
from ...data.flow.settings import METHODS, Flow
from ...errors import Interrupted, UsageError, suggest

# Bounds of each number, both included.
_BOUNDS = {
    "short_side": (16, 8192),
    "gop": (1, 10_000),
    "crf": (1, 51),
    "fps": (0.01, 1000),
    "flow_bound": (0.1, 1000),
    "workers": (1, 10_000),
    "deadline": (0.1, 1e7),
}


def prepare_data(
    source: str | Path,
    out: str | Path,
    *,
    short_side: int = 256,
    gop: int = 12,
    crf: int = 20,
    fps: float | str = "keep",
    root: str | Path | None = None,
    shard: str | None = None,
    flow: Literal["dis", "raft"] | None = None,
    flow_bound: float = 20.0,
    workers: int | None = None,
    deadline: float = 600.0,
    partial: Literal["keep", "drop"] = "keep",
) -> dict[str, Any]:
    """Copy a data set as videos that decode fast and exactly, whatever they were.

    They become mp4 files with h264 of 8 bits and square pixels, upright, at a constant rate, with a
    key frame every ``gop`` frames, no sound, no edit list and no B-frames. Frames of a steady rate
    are kept, each and in order. ``a/b.avi`` becomes ``a/b.mp4``; where two videos of a folder
    differ in their suffix alone, ``a/b.avi.mp4``. What is done is skipped, so that a call that was
    interrupted is simply repeated; the source is never written to.

    Args:
        source: folder with videos at any depth, list, json, csv, official splits or tar shards; of
            lists and shards, ``NAME.csv`` lists the copies with their labels.
        out: folder for the copies, apart from the source: absent, empty, or from an earlier call
            with the same settings.
        short_side: of the pictures in pixels; smaller ones are not enlarged.
        gop: frames from one key frame to the next.
        crf: x264's quality, from 1 (best) to 51.
        fps: frames per second, or ``keep``; frames are then the nearest in time.
        root: folder that the paths of a list are relative to; default: the list's own.
        shard: ``i/n``: make the i-th of n parts, one for each machine; i from 1 to n.
        workers: files at a time; default: one per core.
        deadline: seconds for a file of up to 64 MiB, in proportion for larger ones, after which
            its process is killed and the file left out.
        flow: estimate the optical flow of the copies, by ``dis`` or ``raft``, and write it beside
            them, in hidden folders: training on flow then reads it there.
        flow_bound: largest motion that is kept, in pixels of a copy.
        partial: of files that are cut off or damaged ``keep`` the frames before that, which is
            said, or ``drop`` them.

    Returns:
        ``{files, done, skipped, failed: [{path, reason}], partial: [{path, kept, of, reason}], out,
        list, bytes_in, bytes_out}``, with ``flow`` that too, see `data.copies.make.prepare`.

    Raises:
        UsageError: a wrong path or value, or ``out`` is not fit.
        DataError: there is no video, or none of them can be read.
        VidinitError: the disk is full.
        Interrupted: by Ctrl-C; what was done until then is kept.
    """
    arguments = {"short_side": short_side, "gop": gop, "crf": crf, "deadline": deadline}
    arguments |= {"flow_bound": flow_bound}
    arguments |= {} if workers is None else {"workers": workers}
    rate = None if fps == "keep" else _number(fps)
    arguments |= {} if rate is None else {"fps": rate}
    for name, value in arguments.items():
        low, high = _BOUNDS[name]
        if not low <= value <= high:
            raise UsageError(f"{name} is {value:g}", f"it must be from {low:g} to {high:g}")
    if partial not in ("keep", "drop"):
        raise UsageError(f"partial is '{partial}'", "it must be keep or drop")
    estimated = _flow(flow, flow_bound)

    def run() -> dict[str, Any]:
        with ProgressBar("preparing") as bar:
            return prepare(
                source,
                out,
                Encoding(short_side, gop, crf, rate),
                root=root,
                shard=_shard(shard),
                workers=workers or os.cpu_count() or 1,
                deadline=deadline,
                progress=bar.update,
                flow=estimated,
                partial=partial,
            )

    try:
        return with_messages(run)
    except KeyboardInterrupt:
        hint = "what is done is kept, and another call goes on from there"
        raise Interrupted("interrupted", hint) from None


def _flow(method: Literal["dis", "raft"] | None, bound: float) -> Flow | None:
    if method is None:
        return None
    if method not in METHODS:
        known = f"it must be one of {', '.join(METHODS)}"
        raise UsageError(f"flow is '{method}'", suggest(method, METHODS) or known)
    flow = Flow(method, bound)
    require_method(flow)
    return flow


def _number(fps: float | str) -> float:
    try:
        return float(fps)
    except ValueError:
        raise UsageError(f"fps is '{fps}'", "it must be a number, or keep") from None


def _shard(text: str | None) -> tuple[int, int]:
    """``i/n`` as two numbers."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"shard is '{text}'", "it must be i/n, as 1/8 to 8/8")
    return int(match[1]), int(match[2])

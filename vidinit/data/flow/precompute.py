"""The flow of videos estimated once, each in a process that may hang or die."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

from ...errors import VidinitError
from ..index.pool import Outcome, by_deadline, run_in_pool
from ..killable import whole_file
from ..readers import VideoReadError, open_video
from ..readers.packets import av_reason
from .methods import require_method
from .reader import FlowReader
from .settings import Flow
from .stored import file_of, usable_file, write_flow

_SMALL = 1 << 24  # bytes of a copy up to which the deadline is as it is; above, it grows
_CHUNK = 16  # frames in memory at a time, beside the one behind them


def prepare_flow(
    videos: Sequence[Path],
    flow: Flow,
    place: Path,
    *,
    workers: int,
    deadline: float,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the flow of videos beside them; what is there and not older than its video stays.

    Args:
        videos: files that can be read.
        flow: how it is estimated.
        place: an own folder for unfinished files, on the disk of the videos.
        workers: videos at a time.
        deadline: seconds for a video of up to 16 MiB, in proportion for larger ones, after which
            its process is killed.
        progress: called in this thread with (videos done, videos in all).

    Returns:
        ``{done, skipped, failed: [{path, reason}], bytes}``.

    Raises:
        UsageError: the method cannot be used here.
        VidinitError: the disk takes no more files.
    """
    require_method(flow)
    targets = {str(video): file_of(str(video), flow) for video in videos}
    items = [
        {"video": video, "target": target, "partial": str(place / f"{number}.avi")}
        | {"flow": asdict(flow)}
        for number, (video, target) in enumerate(targets.items())
        if usable_file(video, flow) is None
    ]
    failed: dict[str, str] = {}
    for number, outcome in enumerate(_outcomes(items, workers, deadline), 1):
        if outcome.reason is not None:
            failed[outcome.item["video"]] = outcome.reason
            Path(outcome.item["partial"]).unlink(missing_ok=True)  # of a killed process
        elif outcome.value is not None:
            raise VidinitError(
                f"{outcome.item['target']} cannot be written: {outcome.value}",
                "what is done stays, and another call goes on from there",
            )
        if progress is not None:
            progress(len(videos) - len(items) + number, len(videos))
    written = [target for video, target in targets.items() if target and video not in failed]
    return {
        "done": len(items) - len(failed),
        "skipped": len(videos) - len(items),
        "failed": [{"path": path, "reason": failed[path]} for path in targets if path in failed],
        "bytes": sum(os.path.getsize(target) for target in written),
    }


def _outcomes(items: list[dict[str, Any]], workers: int, deadline: float) -> Iterator[Outcome]:
    """The results for videos."""
    sized = [(os.path.getsize(item["video"]), item) for item in items]
    for seconds, group in by_deadline(sized, _SMALL, deadline):
        name = f"{flow_item.__module__}:{flow_item.__name__}"
        with closing(run_in_pool(name, group, workers=workers, deadline=seconds)) as outcomes:
            yield from outcomes


def flow_item(item: dict[str, Any]) -> str | None:
    """Write the flow of one video, as an item of `pool.run_in_pool`; None, or why the disk is full.

    Args:
        item: ``video``, ``target``, ``partial`` (where the file grows) and ``flow``.

    Raises:
        VideoReadError: the video cannot be read, or it has no flow.
    """
    video, partial, target = item["video"], Path(item["partial"]), Path(item["target"])
    flow = Flow(**item["flow"])
    frames = FlowReader(video, open_video(video), flow)
    try:
        with whole_file(partial, target):
            write_flow(partial, _all_frames(frames))
    except (OSError, av.FFmpegError) as error:
        return av_reason(error)
    except MemoryError as error:
        raise VideoReadError(video, "its frames do not fit into memory") from error
    return None


def _all_frames(frames: FlowReader) -> Iterator[np.ndarray]:
    """All frames of flow but the last, which is the one before it again; one at least."""
    count = max(frames.num_frames - 1, 1)
    for start in range(0, count, _CHUNK):
        yield from frames.get(range(start, min(start + _CHUNK, count)))

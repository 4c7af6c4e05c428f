"""Figures of a data set beside its health: lengths, parts, and clips that stand in two of them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ...checkpoint import model_folder, read_card
from ...console import ProgressBar
from ...data.index.duplicates import HASH_FRAMES, alike, hash_file, identical_files
from ...data.index.pool import run_in_pool
from ...data.rows import Rows, clip_keys
from ...data.views import Sampling, clip_span
from ...errors import UsageError
from ..shared.spans import lengths_of, short_videos

USUAL = ((8, 8), (16, 4), (32, 2), (64, 1))
"""Frames and strides of clips that models are usually trained on."""


def clip_of(text: str) -> Sampling:
    """The clip that is meant by FRAMESxSTRIDE, or by a model.

    Raises:
        UsageError: it is neither.
    """
    frames, cross, stride = text.partition("x")
    if cross and frames.isdigit() and stride.isdigit() and int(frames) and int(stride):
        return Sampling(int(frames), int(stride))
    try:
        folder = model_folder(text)
        if folder is not None:
            return read_card(folder).clip.seen
        from ...zoo.build import create_model

        return create_model(text, num_classes=1).spec.seen
    except UsageError as error:
        hint = f"write FRAMESxSTRIDE, as 8x8, or a model ({error.message})"
        raise UsageError(f"'{text}' is no clip", hint) from error


def durations(rows: Rows) -> dict[str, Any]:
    """Least, quartiles and most of the lengths of videos or their segments.

    Returns:
        ``{frames: [5 numbers], seconds: [5 numbers] or None where no video has a time}``; both
        None where no length is known.
    """
    found = list(lengths_of(rows.rows))
    timed = [frames / fps for frames, fps in found if fps > 0]

    def five(values: Sequence[float]) -> list[float] | None:
        if not values:
            return None
        return [round(float(one), 3) for one in np.percentile(values, (0, 25, 50, 75, 100))]

    return {"frames": five([frames for frames, _ in found]), "seconds": five(timed)}


def clip_lengths(rows: Rows, clips: Sequence[Sampling]) -> list[dict[str, Any]]:
    """How many videos are shorter than a clip, for each of some.

    Returns:
        ``{frames, stride, sampling, span: frames of a video that it takes, shorter: videos, of,
        fits: the largest stride with which it has room in most of them, or None}`` of each.
    """
    count = sum(1 for _ in lengths_of(rows.rows))
    told = []
    for clip in clips if count else ():
        short = short_videos(rows, clip)
        told.append(
            {
                "frames": clip.frames,
                "stride": clip.stride,
                "sampling": clip.kind,
                "span": clip_span(clip),
                "shorter": 0 if short is None else short.count,
                "of": count,
                "fits": clip.stride if short is None else short.stride,
            }
        )
    return told


def parts_of(parts: Mapping[str, Rows]) -> dict[str, Any]:
    """The clips of each part, and clips and groups that stand in several.

    Args:
        parts: rows by the name of their part; nothing is told of a single one.

    Returns:
        ``{parts: {name: clips}, both: [{path, parts}], groups: {count, both: [names]} or None}``.
    """
    named = {name: len(rows) for name, rows in parts.items()}
    of_clip: dict[Any, dict[str, str]] = defaultdict(dict)
    of_group: dict[str, set[str]] = defaultdict(set)
    for name, rows in parts.items():
        for row, key in zip(rows.rows, clip_keys(rows.rows), strict=True):
            of_clip[key].setdefault(name, row.path)
            if row.group is not None:
                of_group[row.group].add(name)
    both = [
        {"path": next(iter(where.values())), "parts": list(where)}
        for where in of_clip.values()
        if len(where) > 1
    ]
    groups = None
    if of_group:
        shared = sorted(group for group, where in of_group.items() if len(where) > 1)
        groups = {"count": len(of_group), "both": shared}
    return {"parts": named if len(named) > 1 else {}, "both": both, "groups": groups}


def copies_of(rows: Rows, parts: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Files that are byte for byte the same: ``{paths, parts}`` of each group of them."""
    where = _parts_by_path(parts)
    return [
        {"paths": same, "parts": sorted({name for path in same for name in where.get(path, ())})}
        for same in identical_files(row.path for row in rows.rows)
    ]


def look_alikes(
    rows: Rows, parts: Mapping[str, Rows], *, workers: int | None, deadline: float
) -> list[dict[str, Any]]:
    """Pairs of videos that look alike at three places, the most alike first.

    Clips of one static camera are such pairs, too: they share their ground, if not what happens.

    Returns:
        ``{paths: [two], bits: that differ, of 192, parts}`` of each, identical files included.
    """
    where = _parts_by_path(parts)
    readable = [row.path for row in rows.rows if row.probe is not None]
    paths = list(dict.fromkeys(readable))
    found: dict[str, list[int]] = {}
    name = f"{hash_file.__module__}:{hash_file.__name__}"
    with ProgressBar("comparing pictures") as bar:
        outcomes = run_in_pool(
            name, paths, workers=workers or os.cpu_count() or 1, deadline=deadline
        )
        with closing(outcomes):
            for number, outcome in enumerate(outcomes, 1):
                bar.update(number, len(paths))
                if outcome.value is not None:
                    found[outcome.item] = outcome.value
    kept = [path for path in paths if path in found]
    hashes = np.array([found[path] for path in kept], dtype=np.uint64).reshape(-1, HASH_FRAMES)
    pairs = [
        {
            "paths": [kept[one], kept[other]],
            "bits": bits,
            "parts": sorted({*where.get(kept[one], ()), *where.get(kept[other], ())}),
        }
        for one, other, bits in alike(hashes)
    ]
    return sorted(pairs, key=lambda pair: (len(pair["parts"]) < 2, pair["bits"]))


def _parts_by_path(parts: Mapping[str, Rows]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, rows in parts.items():
        for path in dict.fromkeys(row.path for row in rows.rows):
            found[path].append(name)
    return found


def lines_of(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures as rows of a table: what, and its value in words."""
    lines = []
    if (found := report["durations"]["frames"]) is not None:
        least, low, middle, high, most = found
        lines.append(
            (
                "frames of a video",
                f"{least:,g} to {most:,g}, quartiles {low:,g}, {middle:,g}, {high:,g}",
            )
        )
    if (found := report["durations"]["seconds"]) is not None:
        least, low, middle, high, most = found
        quartiles = f"quartiles {low:.3g}, {middle:.3g}, {high:.3g}"
        lines.append(("seconds", f"{least:.3g} to {most:.3g}, {quartiles}"))
    for clip in report["clips"]:
        lines.append((f"a clip of {clip['frames']}x{clip['stride']}", _room(clip)))
    if report["parts"]:
        counted = (f"{name} {count:,}" for name, count in report["parts"].items())
        lines.append(("split", ", ".join(counted)))
    if (groups := report["groups"]) is not None:
        both = groups["both"]
        more = f", {len(both):,} of them in several parts, as '{both[0]}'" if both else ""
        lines.append(("groups", f"{groups['count']:,}{more}"))
    return lines


def _room(clip: Mapping[str, Any]) -> str:
    """A sentence on the videos in which a clip has no room."""
    if clip["sampling"] != "dense":
        return f"{clip['sampling']}: covers each video"
    if not clip["shorter"]:
        return f"{clip['span']} frames: has room in each video"
    share = clip["shorter"] / clip["of"]
    way = "data.sampling=uniform"
    if clip["fits"] is not None:
        way = f"data.stride={clip['fits']} or {way}"
    return f"{clip['span']} frames: {share:.0%} of the videos are shorter and loop; {way} covers"


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """Leaks from one part into another, a line for each kind."""
    lines = []
    if both := report["both"]:
        parts = " and ".join(both[0]["parts"])
        lines.append(f"in several parts: {len(both):,} clips, as {both[0]['path']} in {parts}")
    copies = report["duplicates"]
    if copies:
        across = [one for one in copies if len(one["parts"]) > 1]
        files = sum(len(one["paths"]) for one in copies)
        first = (across or copies)[0]["paths"]
        more = f", {len(across):,} groups of them in several parts" if across else ""
        lines.append(
            f"the same bytes: {files:,} files in {len(copies):,} groups{more}, as {first[0]} and "
            f"{first[1]}"
        )
    if (groups := report["groups"]) is not None and groups["both"]:
        lines.append(
            f"groups in several parts: {len(groups['both']):,} of {groups['count']:,}, as "
            f"'{groups['both'][0]}'"
        )
    if pairs := report.get("alike", []):
        across = [one for one in pairs if len(one["parts"]) > 1]
        counted = Counter(path for one in across for path in one["paths"])
        lines.append(
            f"look alike: {len(pairs):,} pairs of videos"
            + (
                f", {len(across):,} of them across parts ({len(counted):,} videos)"
                if across
                else ""
            )
        )
        for one in pairs[:_SHOWN]:
            first, second = one["paths"]
            parts = f" ({' and '.join(one['parts'])})" if len(one["parts"]) > 1 else ""
            lines.append(f"  {first} and {second}: {one['bits']} of 192 bits differ{parts}")
    return lines


_SHOWN = 10  # pairs that a terminal names

"""`vidinit data check` and `vidinit data prepare`."""

from __future__ import annotations

from typing import Any

import typer

from . import options as opt
from .derived import command
from .options import INPUT

_FIRST = 20  # files and classes that the table names


@command(
    "vidinit.pipelines.data.check:check_data",
    panels={INPUT: "class_names split"},
    arguments={"source": "SOURCE"},
)
def check(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Check, and say which files are bad; exit code 1 if any is.

    Examples:
        vidinit data check videos/
        vidinit data check train.csv --root videos/ --json
        vidinit data check videos/ --max-bad 5% --workers 16
        vidinit data check videos/ --full
        vidinit data check labels.csv --clip 16x4 --duplicates
        vidinit data check boxes.csv --root videos/
    """
    import vidinit
    from vidinit.data.index import UnreadableError

    try:
        report = vidinit.check_data(**keywords)
    except UnreadableError as error:
        _print(error.report, as_json=json)
        raise
    _print(report, as_json=json)
    if report["bad"] or report["outside"] or report.get("boxes", {}).get("behind"):
        raise typer.Exit(1)


@command("vidinit.pipelines.data.prepare:prepare_data", arguments={"source": "SRC", "out": "DST"})
def prepare(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Copy, and say what became of the files; exit code 1 if any could not be read.

    Examples:
        vidinit data prepare videos/ videos-256/
        vidinit data prepare videos/ videos-256/ --shard 3/16 --workers 32
        vidinit data prepare train.csv small/ --root videos/ --short-side 128 --fps 15
        vidinit data prepare videos/ videos-256/ --flow dis
    """
    import vidinit
    from vidinit.data.copies.make import UnpreparedError

    try:
        result = vidinit.prepare_data(**keywords)
    except UnpreparedError as error:
        _print_prepared(error.report, as_json=json)
        raise
    _print_prepared(result, as_json=json)
    if result["failed"] or result.get("flow", {}).get("failed"):
        raise typer.Exit(1)


def _print_prepared(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        opt.print_json(result)
        return
    _print_failed("left out", result["failed"])
    _print_kept(result["partial"])
    before, after = (result[key] / 1e6 for key in ("bytes_in", "bytes_out"))
    opt.put(
        f"{result['files']:,} files: {result['done']:,} done, {result['skipped']:,} done before, "
        f"{len(result['failed']):,} failed; {before:,.1f} MB became {after:,.1f} MB"
    )
    if "flow" in result:
        flow = result["flow"]
        _print_failed("without flow", flow["failed"])
        opt.put(
            f"optical flow: {flow['done']:,} done, {flow['skipped']:,} done before, "
            f"{len(flow['failed']):,} failed; {flow['bytes'] / 1e6:,.1f} MB"
        )
    opt.put(f"copies: {result['out']}")
    if result["list"] is not None:
        opt.put(f"list: {result['list']}")


def _print_failed(title: str, items: list[dict[str, str]]) -> None:
    for item in items[:_FIRST]:
        opt.put(f"{title}: {item['path']}: {item['reason']}")
    if len(items) > _FIRST:
        opt.put(f"and {len(items) - _FIRST} more; --json names all")


def _print_kept(items: list[dict[str, Any]]) -> None:
    """Files of which the beginning is kept."""
    kept = []
    for item in items:
        of = f" of {item['of']:,}" if item["of"] else ""
        reason = f"kept {item['kept']:,}{of} frames ({item['reason']})"
        kept.append({"path": item["path"], "reason": reason})
    _print_failed("damaged", kept)


def _print(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        opt.print_json(report)
        return
    from rich.table import Table

    from vidinit.console import result_console
    from vidinit.pipelines.data.figures import warnings_of

    table = Table(show_header=False)
    for name, value in _lines(report):
        table.add_row(name, value)
    result_console().print(table)
    for line in warnings_of(report):
        opt.put(line)
    _print_failed("cannot be read", report["bad"])
    _print_kept(report["partial"])
    _print_failed("ends early", report["outside"])
    behind = report["boxes"]["behind"] if "boxes" in report else []
    reason = "{key_frames:,} key frames behind its end"
    _print_failed("ends early", [{**one, "reason": reason.format(**one)} for one in behind])
    if report["bad"]:
        opt.put("This holds until a file changes; --again probes all of them anew.")


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table."""
    from vidinit.pipelines.data.figures import lines_of

    lines = [("files", f"{report['files']:,}"), ("readable", f"{report['good']:,}")]
    if report["partial"]:
        lines.append(("  damaged", f"{len(report['partial']):,}, of which the beginning is kept"))
    lines += [(f"  {reason}", f"{count:,}") for reason, count in report["reasons"].items()]
    lines += [("frames", f"{report['frames']:,}"), ("hours", f"{report['hours']:,.2f}")]
    lines += lines_of(report)
    for name, key in (("width x height", "sizes"), ("frames per second", "fps")):
        lines.append((name, _counts(report[key])))
    lines += [("rotated", f"{report['rotated']:,}"), ("read with", _counts(report["readers"]))]
    if report["outside"]:
        lines.append(("segments behind the end", f"{len(report['outside']):,}"))
    for name, key in (("classes", "classes"), ("nouns", "nouns")):
        if report.get(key) is not None:
            lines += _class_lines(name, report[key])
    if "boxes" in report:
        lines += _box_lines(report["boxes"])
    if report["classes"] is not None and report["unlabelled"]:
        lines.append(("without a class", f"{report['unlabelled']:,}"))
    return lines


def _box_lines(boxes: dict[str, Any]) -> list[tuple[str, str]]:
    """Key frames, boxes and classes of a file of boxes."""
    lines = [("key frames", f"{boxes['key_frames']:,}"), ("boxes", f"{boxes['boxes']:,}")]
    if len(boxes["parts"]) > 1:
        for name, part in boxes["parts"].items():
            counts = f"{part['videos']:,} videos, {part['key_frames']:,} key frames"
            lines.append((f"  {name}", f"{counts}, {part['boxes']:,} boxes"))
    if boxes["origin"]:
        lines.append(("videos begin at", f"{boxes['origin']:g} s of the film"))
    lost = sum(one["key_frames"] for one in boxes["behind"])
    for name, count in (
        ("key frames of unreadable videos", boxes["unread"]),
        ("key frames behind the end", lost),
        ("boxes outside the picture", boxes["outside"]),
    ):
        if count:
            lines.append((name, f"{count:,}"))
    classes = boxes["classes"]
    lines.append(("classes", f"{len(classes):,}"))
    empty = {name: count for name, count in classes.items() if not count}
    shown = classes if len(classes) <= _FIRST else empty
    lines += [(f"  {name}", f"{count:,} boxes") for name, count in list(shown.items())[:_FIRST]]
    return lines


def _class_lines(name: str, classes: dict[str, dict[str, int]]) -> list[tuple[str, str]]:
    """Clips per class: each class where there are few, else their range."""
    from statistics import median

    good = [counts["good"] for counts in classes.values()]
    spread = f"{min(good):,} to {max(good):,} readable clips each, median {median(good):,g}"
    lines = [(name, f"{len(classes):,}: {spread}")]
    shown = (
        classes if len(classes) <= _FIRST else {k: v for k, v in classes.items() if not v["good"]}
    )
    for title, counts in list(shown.items())[:_FIRST]:
        left_out = counts["rows"] - counts["good"]
        more = f", {left_out:,} left out" if left_out else ""
        lines.append((f"  {title}", f"{counts['good']:,}{more}"))
    return lines


def _counts(counts: dict[str, int]) -> str:
    """The five most common values."""
    first = [f"{value}: {count:,}" for value, count in list(counts.items())[:5]]
    return ", ".join([*first, "..."] if len(counts) > 5 else first)

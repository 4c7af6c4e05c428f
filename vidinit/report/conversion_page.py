"""``report.html`` of a conversion: what became of the weights, and the proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..written import written
from .html import Section, details, page, table
from .lineage import conversion_section
from .model_parts import kernel_sections

if TYPE_CHECKING:
    from ..conversion.report import ConversionReport

_NAMES = 500  # tensors that are named


def write_conversion_page(report: ConversionReport, folder: Path) -> None:
    """Write ``report.html`` into the model folder of a conversion."""
    with written(folder / "report.html") as part:
        part.write_text(conversion_page(report), encoding="utf-8")


def conversion_page(report: ConversionReport) -> str:
    """The page: verdict, costs, the table by stage, notes, and what the kernels look at."""
    sections = [
        _verdict(report),
        _costs(report),
        conversion_section([asdict(row) for row in report.rows]),
        *_left(report),
        *kernel_sections({"as converted": report.model}),
    ]
    subtitle = f"weights: {report.weights}"
    return page(f"{report.source} to {report.target}", sections, subtitle=subtitle)


def _verdict(report: ConversionReport) -> Section:
    proof = report.proof
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    if proof is None:
        text = f"Read from the layout {report.layout}. A video model has no image to equal."
        return Section("Proof", f"<p>{escape(text)}</p>{notes}")
    what = "logit" if proof.isolated is None else "block's output"
    rows: list[tuple[str, Any]] = [
        ("verdict", "exact" if proof.exact else "not exact"),
        (f"largest difference of a {what}", f"{proof.max_difference:.1e}"),
        ("largest value, for comparison", proof.scale),
        ("clip", f"{proof.frames} frames of {proof.size} x {proof.size}"),
    ]
    if proof.isolated is not None:
        rows.append(("a gradient reaches the frozen tower", "no" if proof.isolated else "yes"))
    note = "A clip of one repeated frame through the video model, against the image model."
    return Section("Proof", table(("", ""), rows) + notes, note)


def _costs(report: ConversionReport) -> Section:
    spec = report.model.spec
    rows: list[Sequence[Any]] = []
    if report.image_params is not None:
        image = f"{report.source}, one image of {spec.size} x {spec.size}"
        rows.append([image, report.image_params / 1e6, report.image_gmacs])
    video = f"{report.target}, {spec.frames} frames of {spec.size} x {spec.size}"
    rows.append([video, report.params / 1e6, report.gmacs])
    headers = ["model", "parameters (M)", "multiply-adds (G)"]
    return Section("Costs", table(headers, rows))


def _left(report: ConversionReport) -> Iterator[Section]:
    for title, names in (
        ("Tensors of the file without a place", report.leftovers),
        ("Tensors that the file lacked", report.missing),
    ):
        if names:
            body = details(f"{len(names)} names", table(["tensor"], [[n] for n in names[:_NAMES]]))
            yield Section(title, body)

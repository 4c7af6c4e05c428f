"""`vidinit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as opt

if TYPE_CHECKING:
    from vidinit.conversion.convert import ConversionReport


def convert(
    source: Annotated[str, typer.Argument(help="timm name of the image model.")],
    to: Annotated[
        str, typer.Option("--to", help="A plan (c2d, i3d, s3d, sts) or a zoo name (sts-r3d50).")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Local .pth or .safetensors of SOURCE.", rich_help_panel=opt.INPUT),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained/--no-pretrained",
            help="Start from trained or from random image weights.",
            rich_help_panel=opt.INPUT,
        ),
    ] = True,
    inflate: Annotated[
        str, typer.Option(help="center (exact) or mean (I3D's).", rich_help_panel=opt.INPUT)
    ] = "center",
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip.", rich_help_panel=opt.INPUT)
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Crop side in pixels.", rich_help_panel=opt.INPUT)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random weights.", rich_help_panel=opt.INPUT)] = 0,
    device: opt.Device = None,
    out: opt.Out = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Turn an image model into a video model and prove what carried over.

    Examples:
        vidinit convert tf_efficientnet_lite0 --to s3d
        vidinit convert resnet50 --to sts-r3d50
        vidinit convert resnet50 --weights resnet50.pth --to i3d --json
    """
    given = opt.passed_on(locals(), "out", "device")
    import vidinit
    from vidinit.engine.run_folder import default_out

    folder = out if out is not None else default_out("convert", to)
    report = vidinit.convert(out=folder, device=device or "auto", **given)
    if json:
        opt.print_json(report.as_dict())
    else:
        show(report)


def show(report: ConversionReport) -> None:
    """The table, the counts and the proof, for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=f"{report.source} to {report.target} (weights: {report.weights})")
    for column in ("stage", "tensors", "rule", "kind"):
        table.add_column(column, justify="right" if column == "tensors" else "left")
    for row in report.rows:
        rule = f"{row.rule}; {row.note}" if row.note else row.rule
        table.add_row(row.stage, str(row.tensors), rule, row.kind)
    console.print(table)
    console.print(
        f"{report.total('copied')} copied, {report.total('inflated')} inflated, "
        f"{report.total('initialized')} initialized"
    )
    proof = report.proof
    before, after = report.image_params / 1e6, report.params / 1e6
    console.print(
        f"parameters {before:.2f} M to {after:.2f} M; multiply-adds {report.image_gmacs:.3f} G "
        f"(one {proof.size}x{proof.size} image) to {report.gmacs:.3f} G "
        f"({proof.frames} frames)"
    )
    verdict = "exact" if report.exact else "[bold]not exact[/]"
    console.print(
        f"still clip: {verdict}, largest logit difference {report.max_difference:.1e} "
        f"(largest logit {proof.scale:.2f})"
    )
    console.print(f"model: {report.out}", soft_wrap=True)

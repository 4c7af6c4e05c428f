"""`vidinit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import completion
from . import options as opt

RULES = "Rules"

if TYPE_CHECKING:
    from rich.console import Console

    from vidinit.conversion.report import ConversionReport


def convert(
    source: Annotated[
        str,
        typer.Argument(help="timm name, torchvision:NAME, hf-hub:USER/NAME, or a file of weights."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="A plan (`vidinit list plans`; s3d@top:2) or a zoo name (sts-r3d50).",
            autocompletion=completion.targets,
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Local .pth or .safetensors of SOURCE.", rich_help_panel=opt.INPUT),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="Of a file whose keys cannot tell.", rich_help_panel=opt.INPUT),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained/--no-pretrained",
            help="Start from trained or from random image weights.",
            rich_help_panel=opt.INPUT,
        ),
    ] = True,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial",
            help="Load what fits of a video checkpoint; list the rest.",
            rich_help_panel=opt.INPUT,
        ),
    ] = False,
    inflate: Annotated[
        str, typer.Option(help="center (exact) or mean (I3D's).", rich_help_panel=RULES)
    ] = "center",
    stem: Annotated[
        str,
        typer.Option(help="wide: R3D and R(2+1)D take it exactly.", rich_help_panel=RULES),
    ] = "narrow",
    time_padding: Annotated[
        str,
        typer.Option(
            help="replicate: end frames repeated; mean is exact then.", rich_help_panel=RULES
        ),
    ] = "zeros",
    attention: Annotated[
        str | None,
        typer.Option(help="timesformer: divided, joint or space.", rich_help_panel=RULES),
    ] = None,
    resizing: Annotated[
        str | None,
        typer.Option(help="timesformer: smooth or nearest, of embeddings.", rich_help_panel=RULES),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Of the plan or family, e.g. pools=4 for dist; repeatable.",
            rich_help_panel=RULES,
        ),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(help="A new head, at random.", rich_help_panel=RULES)
    ] = None,
    in_channels: Annotated[
        int, typer.Option(help="Of the input; 2 for optical flow.", rich_help_panel=RULES)
    ] = 3,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip.", rich_help_panel=opt.INPUT)
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Crop side in pixels.", rich_help_panel=opt.INPUT)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random weights.", rich_help_panel=opt.INPUT)] = 0,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--no-whole",
            help="Put the frozen tower of dist into the folder; default: if it is not the hub's.",
            rich_help_panel=RULES,
        ),
    ] = None,
    device: opt.Device = None,
    out: opt.Out = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Turn a checkpoint into a video model and prove what carried over.

    Examples:
        vidinit convert tf_efficientnet_lite0 --to s3d
        vidinit convert resnet50 --to sts-r3d50
        vidinit convert resnet50 --weights resnet50.pth --to i3d@top:4 --json
        vidinit convert vit_base_patch16_clip_quickgelu_224.openai --to dist --option pools=4
        vidinit convert r2plus1d_34_kinetics.pth --to r2plus1d-34
    """
    given = opt.passed_on(locals(), "out", "device", "option")
    import vidinit
    from vidinit.conversion.plan_options import parse_options
    from vidinit.engine.run_folder import default_out

    given |= parse_options(option or [], vidinit.convert)

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
    print_cost(console, report)
    print_verdict(console, report)
    for note in report.notes:
        console.print(f"note: {note}")
    for what, names in (("left over", report.leftovers), ("missing", report.missing)):
        if names:
            console.print(f"{len(names)} tensors {what}: {', '.join(names[:6])}", soft_wrap=True)
    console.print(f"model: {report.out}", soft_wrap=True)


def print_cost(console: Console, report: ConversionReport) -> None:
    """Parameters and multiply-adds, against the image model's where there is one."""
    spec, after = report.model.spec, report.params / 1e6
    video = f"{report.gmacs:.3f} G ({spec.frames} frames)"
    if report.image_params is None:
        console.print(f"parameters {after:.2f} M; multiply-adds {video}")
        return
    console.print(
        f"parameters {report.image_params / 1e6:.2f} M to {after:.2f} M; multiply-adds "
        f"{report.image_gmacs:.3f} G (one {spec.size}x{spec.size} image) to {video}"
    )


def print_verdict(console: Console, report: ConversionReport) -> None:
    """What the proof found."""
    proof = report.proof
    if proof is None:
        console.print(f"read from the layout {report.layout}; a video model has no image to equal")
        return
    verdict = "exact" if proof.exact else "[bold]not exact[/]"
    if proof.isolated is not None:
        reached = "no gradient reaches it" if proof.isolated else "[bold]gradients reach it[/]"
        console.print(
            f"frozen tower: {verdict}, largest difference of a block's output "
            f"{proof.max_difference:.1e} (largest value {proof.scale:.2f}); {reached}"
        )
        return
    console.print(
        f"still clip: {verdict}, largest logit difference {proof.max_difference:.1e} "
        f"(largest logit {proof.scale:.2f})"
    )

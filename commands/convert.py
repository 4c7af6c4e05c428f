"""`vidinit convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options as opt
from .derived import command
from .options import COMPUTING, INPUT

RULES = "Rules"

if TYPE_CHECKING:
    from vidinit.console import PlainConsole
    from vidinit.conversion.report import ConversionReport


@command(
    "convert",
    panels={
        COMPUTING: "device",
        "Options": "to task",
        INPUT: "weights_key ema layout tower pretrained allow_partial frames size seed",
        RULES: "inflate stem time_padding attention resizing num_classes in_channels whole merge "
        "aligned class_names",
    },
    arguments={"source": "SOURCE"},
    texts={"out": "Model folder to write; default runs/convert-<to>-<n>."},
)
def convert(
    keywords: dict[str, Any],
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Of the plan or family, e.g. pools=4 for dist; repeatable.",
            rich_help_panel=RULES,
        ),
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Convert, and print the table, the cost and the proof.

    Examples:
        vidinit convert tf_efficientnet_lite0 --to s3d
        vidinit convert resnet50 --to sts-r3d50
        vidinit convert resnet50 --weights resnet50.pth --to i3d@top:4 --json
        vidinit convert vit_base_patch16_clip_quickgelu_224.openai --to dist --option pools=4
        vidinit convert r2plus1d_34_kinetics.pth --to r2plus1d-34
        vidinit convert st-adapter.pth --to st-adapter-b16 --tower clip-visual.pth
        vidinit convert runs/finetune-zero-cost-1 --merge
        vidinit convert SLOWFAST_8x8_R50_DETECTION.pyth --to slowfast-r50-8x8 --task detect
    """
    import vidinit
    from vidinit.conversion.plan_options import parse_options
    from vidinit.engine.run_folder import default_out

    keywords |= parse_options(option or [], vidinit.convert)
    if keywords["out"] is None:
        keywords["out"] = default_out("convert", keywords["to"] or "merged")
    report = vidinit.convert(**keywords)
    if json:
        opt.print_json(report.as_dict())
    else:
        show(report)


def show(report: ConversionReport) -> None:
    """The table, the counts and the proof, for people."""
    from rich.table import Table

    from vidinit.console import result_console

    console = result_console()
    table = Table(title=f"{report.source} to {report.target} (weights: {report.weights})")
    for column in ("stage", "tensors", "rule", "kind"):
        # A narrow terminal breaks sentences between words, and no names and numbers.
        justify: Literal["right", "left"] = "right" if column == "tensors" else "left"
        table.add_column(column, justify=justify, no_wrap=column != "rule")
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
            tensors = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
            console.print(f"{tensors} {what}: {', '.join(names[:6])}", soft_wrap=True)
    console.print(f"model: {report.out}", soft_wrap=True)


def print_cost(console: PlainConsole, report: ConversionReport) -> None:
    """Parameters and multiply-adds, against the image model's where there is one."""
    spec, after = report.trunk.spec, report.params / 1e6
    video = f"{report.gmacs:.3f} G ({spec.frames} frames)"
    if report.image_params is None:
        console.print(f"parameters {after:.2f} M; multiply-adds {video}")
        return
    console.print(
        f"parameters {report.image_params / 1e6:.2f} M to {after:.2f} M; multiply-adds "
        f"{report.image_gmacs:.3f} G (one {spec.size}x{spec.size} image) to {video}"
    )


def print_verdict(console: PlainConsole, report: ConversionReport) -> None:
    """The outcome of the proof."""
    from rich.text import Text

    from vidinit.conversion.report import order_words
    from vidinit.errors import escaped

    proof = report.proof
    if proof is None:
        console.print(f"read from the layout {report.layout}; a video model has no image to equal")
        return
    verdict = Text(escaped(proof.verdict), "" if proof.exact else "bold")
    if proof.reason:
        verdict.append(escaped(f" ({proof.reason})"), "not bold")
    if proof.isolated is not None:
        reached = Text("no gradient reaches it")
        if not proof.isolated:
            reached = Text("gradients reach it", "bold")
        figures = (
            f", largest difference of a block's output {proof.max_difference:.1e} "
            f"(largest value {proof.scale:.2f}); "
        )
        console.print(Text.assemble("frozen tower: ", verdict, figures, reached))
    else:
        double = "" if proof.double is None else f"; {proof.double[0]:.1e} in double precision"
        scale = f"{proof.scale:.2f}" if proof.scale >= 0.01 else f"{proof.scale:.1e}"
        figures = (
            f", largest logit difference {proof.max_difference:.1e} (largest logit {scale}{double})"
        )
        console.print(Text.assemble(f"{report.compared}: ", verdict, figures))
    if proof.order is not None:
        console.print(f"frames reversed: {order_words(proof)}")

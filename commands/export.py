"""`vidinit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import completion
from . import options as opt
from .profile import numbers

HUB = "The hub"
GRAPH = "Graphs"


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model or run folder, zoo name, hf-hub:USER/NAME.",
            autocompletion=completion.models,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .onnx, .pt2, .safetensors; of a layout .pth, too."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="onnx, torch or safetensors; default: by the suffix of --out."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="Weights under whose keys: torchvision, ...; see `list layouts`."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Which head of a co-trained model, or verb or noun.")
    ] = None,
    fuse: Annotated[
        bool,
        typer.Option("--fuse", help="Fold batch norms into the kernels.", rich_help_panel=GRAPH),
    ] = False,
    batch_check: Annotated[
        str | None,
        typer.Option(help="Batch sizes to run the file with; default 1,3.", rich_help_panel=GRAPH),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Largest difference from the model; of outputs above 1 their share.",
            rich_help_panel=GRAPH,
        ),
    ] = 1e-4,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME",
            help="Put the model folder there, with a card; private if it is new.",
            rich_help_panel=HUB,
        ),
    ] = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="A new repository is for all.", rich_help_panel=HUB),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file.", rich_help_panel=opt.OUTPUT)
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Write a model as a graph, as weights, or to the hub.

    A graph is run from its file and compared with the model. Preprocessing and class names are in
    the file; `vidinit.export_metadata` reads them.

    Examples:
        vidinit export runs/finetune-mine-1 --out mine.onnx
        vidinit export runs/finetune-mine-1 --out mine.pt2 --fuse --batch-check 1,8
        vidinit export runs/finetune-mine-1 --layout torchvision --out mine.pth
        vidinit export runs/finetune-mine-1 --push-to-hub me/mine
    """
    given = opt.passed_on(locals(), "batch_check")
    import vidinit

    if batch_check is not None:
        given["batch_check"] = numbers(batch_check, "--batch-check")
    report = vidinit.export(**given)
    if json:
        opt.print_json(report)
    else:
        for line in lines(report):
            typer.echo(line)


def lines(report: dict[str, Any]) -> list[str]:
    """What was done, for people."""
    out = []
    if "max_difference" in report:
        sizes = " and ".join(map(str, report["batches"]))
        out.append(
            f"largest difference from the model {report['max_difference']:.1e} (largest output "
            f"{report['scale']:.3g}), run with batches of {sizes}"
        )
    if "tensors" in report:
        keys = "its own keys" if report["layout"] is None else f"the layout {report['layout']}"
        out.append(f"{report['tensors']} tensors under {keys}")
    if "out" in report:
        out.append(f"{report['format']}: {report['out']}")
    if "hub" in report:
        kind = "private" if report["private"] else "public"
        out.append(f"{kind} repository: {report['url']}")
        out.append(f"next: vidinit predict {report['hub']} VIDEO")
    return out

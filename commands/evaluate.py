"""`vidinit eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidinit.processes import is_main_process

from . import completion
from . import options as opt

TEXT, MORE = "Zero-shot", "More than one figure"

# What is printed beside top-1, where the kind of the labels has it.
SHOWN = (
    ("top5", "top-5"),
    ("mean_class_accuracy", "mean class"),
    ("map", "mAP"),
    ("top1_verb", "verb"),
    ("top1_noun", "noun"),
)


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model folder, run folder or zoo name; none with --predictions.",
            autocompletion=completion.models,
        ),
    ] = None,
    overrides: opt.Overrides = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder per class (its val/ if it has one), or a list.", rich_help_panel=opt.INPUT
        ),
    ] = None,
    val: Annotated[
        list[Path] | None, typer.Option(help="The data, as it is.", rich_help_panel=opt.INPUT)
    ] = None,
    root: opt.Root = None,
    views: Annotated[
        str | None,
        typer.Option(
            help="10x3 (clips x crops), dense (all clips; memory stays, time grows with the "
            "length), or whole (the video as one clip, which has to fit into memory).",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    multi_view: Annotated[
        bool,
        typer.Option("--multi-view", help="10 clips x 3 crops a video.", rich_help_panel=opt.INPUT),
    ] = False,
    clips: Annotated[
        int | None, typer.Option(help="Clips a video; default 1.", rich_help_panel=opt.INPUT)
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="Crops a clip, 1 or 3.", rich_help_panel=opt.INPUT)
    ] = None,
    average: Annotated[
        str | None,
        typer.Option(
            help="Over the views: softmax (probabilities, default) or logits.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Score by fewer views, too.", rich_help_panel=MORE),
    ] = False,
    temporal_test: Annotated[
        str | None,
        typer.Option(
            help="Score changed clips, too: reverse, shuffle, freeze, apart by commas.",
            rich_help_panel=MORE,
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="An evaluation's folder or predictions.npz: score it again without the model.",
            rich_help_panel=MORE,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="An evaluation's folder or predictions.npz to compare with, video by video.",
            rich_help_panel=MORE,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Which source's head of a co-trained model.", rich_help_panel=opt.INPUT),
    ] = None,
    all_sources: Annotated[
        bool,
        typer.Option(
            "--all-sources",
            help="Each source of a co-trained model, on its own data.",
            rich_help_panel=opt.INPUT,
        ),
    ] = False,
    zero_shot: Annotated[
        bool,
        typer.Option(
            "--zero-shot", help="Compare videos with texts of the classes.", rich_help_panel=TEXT
        ),
    ] = False,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Class names, one a line, or json or csv; default: the data's.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            help="What names are put into: raw (default), video, action, or a file.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    text_model: Annotated[
        str | None,
        typer.Option(
            help="Text tower, as ViT-B-16-quickgelu/openai; default: the image tower's own.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Text embeddings in a file instead.", rich_help_panel=TEXT),
    ] = None,
    ensemble: Annotated[
        float | None,
        typer.Option(
            help="Share of DiST's image tower in the logits; 0.5 in its code.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    config: opt.Config = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = None,
    device: opt.Device = None,
    precision: opt.MeasurePrecision = None,
    processes: opt.Processes = 1,
    out: opt.Out = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Score a model on labelled videos: top-1, top-5, mean class accuracy.

    Examples:
        vidinit eval runs/finetune-mine-1 --data videos/
        vidinit eval runs/finetune-mine-1 --data videos/ --multi-view --curve --json
        vidinit eval runs/finetune-mine-1 --data videos/ --temporal-test reverse,shuffle,freeze
        vidinit eval runs/finetune-mine-2 --data videos/ --against runs/eval-finetune-mine-1-1
        vidinit eval --predictions runs/eval-finetune-mine-1-1 --average logits
        vidinit eval runs/cotrain-r3d50-1 --val ssv2.txt --head ssv2
        vidinit eval runs/cotrain-r3d50-1 --all-sources
        vidinit eval runs/dist --val ucf101/ --zero-shot --classes ucf101.txt --ensemble 0.5
    """
    given = opt.passed_on(locals(), "model", "overrides")
    import vidinit

    name, words = opt.split_model(model, overrides)
    result = vidinit.evaluate(name, overrides=words, **given)
    if json:
        opt.print_json(result)
    elif is_main_process():
        for name, own in result.get("sources", {"": result}).items():
            if name:
                typer.echo(f"{name}:")
            _tell(own)


def _tell(result: dict[str, Any]) -> None:
    low, high = result["top1_interval"]
    typer.echo(
        f"top-1 {result['top1']:.3f} (95 %: {low:.3f} to {high:.3f})   "
        + "   ".join(f"{name} {result[key]:.3f}" for key, name in SHOWN if key in result)
    )
    missing = f", {len(result['missing'])} missing" if result["missing"] else ""
    what = "logits" if result["average"] == "logits" else "probabilities"
    typer.echo(
        f"{result['videos']} videos of {result['expected']}, {_views(result)}, {what} averaged"
        f"{missing}"
    )
    if result["empty_classes"]:
        typer.echo(f"{result['empty_classes']} of the model's classes have no video here")
    for point in result.get("curve", ()):
        typer.echo(f"  {point['clips']} x {point['crops']}: top-1 {point['top1']:.3f}")
    for test, values in result.get("temporal", {}).items():
        typer.echo(
            f"  {test}: top-1 {values['top1']:.3f} ({values['change']['top1']:+.3f}, "
            f"p = {values['p_value']:.2g})"
        )
    if "against" in result:
        _compare(result["against"])
    typer.echo(f"report: {result['out']}/report.html")


def _views(result: dict[str, Any]) -> str:
    words = {"dense": "all clips", "whole": "the whole video as a clip"}
    count = words.get(str(result["clips"])) or f"{result['clips']} clips"
    return f"{count} x {result['crops']} crops each"


def _compare(other: dict[str, Any]) -> None:
    counts = other["mcnemar"]
    for name, metric in other["metrics"].items():
        if name not in ("map", "top1", "mean_class_accuracy"):
            continue
        ends = metric["interval"]
        spread = f" (95 %: {ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
        typer.echo(f"  {name} {metric['gain']:+.3f}{spread} against {metric['there']:.3f}")
    typer.echo(
        f"against {other['model']} on {other['videos']} videos of both: {counts['here']} right "
        f"only here, {counts['there']} only there, p = {counts['p_value']:.2g} (McNemar); not in "
        f"both: {other['only_here']} here, {other['only_there']} there"
    )

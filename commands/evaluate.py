"""`vidinit eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidinit.processes import is_main_process

from . import options as opt
from .derived import command
from .options import COMPUTING, INPUT

TEXT, MORE, BOXES = "Zero-shot", "More than one figure", "Boxes"

# What is printed beside top-1, where the kind of the labels has it.
SHOWN = (
    ("top5", "top-5"),
    ("mean_class_accuracy", "mean class"),
    ("map", "mAP"),
    ("top1_verb", "verb"),
    ("top1_noun", "noun"),
)


@command(
    "eval",
    panels={
        COMPUTING: "config batch_size seed device precision processes",
        INPUT: "views multi_view average head all_sources",
        MORE: "positive curve temporal_test predictions fuse weight against",
        BOXES: "boxes protocol",
        TEXT: "zero_shot classes templates text_model text ensemble",
    },
    kinds={"temporal_test": str, "templates": str, "classes": Path, "batch_size": str},
)
def evaluate(keywords: dict[str, Any], json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Score, and print the figures.

    Examples:
        vidinit eval runs/finetune-mine-1 --data videos/
        vidinit eval runs/finetune-mine-1 --data videos/ --multi-view --curve --json
        vidinit eval runs/finetune-mine-1 --data videos/ --temporal-test reverse,shuffle,freeze
        vidinit eval runs/finetune-mine-2 --data videos/ --against runs/eval-finetune-mine-1-1
        vidinit eval --predictions runs/eval-finetune-mine-1-1 --average logits
        vidinit eval runs/falls --data videos/ --positive fall eval.wanted_precision=0.9
        vidinit eval --predictions runs/eval-rgb-1 --fuse runs/eval-flow-1 --weight 0.4
        vidinit eval runs/hmdb51 --data testTrainMulti_7030_splits/ data.split=all
        vidinit eval runs/cotrain-r3d50-1 --val ssv2.txt --head ssv2
        vidinit eval runs/cotrain-r3d50-1 --all-sources
        vidinit eval runs/boxes --data boxes.csv --root videos/ --protocol act
        vidinit eval runs/dist --val ucf101/ --zero-shot --classes ucf101.txt --ensemble 0.5
    """
    import vidinit

    result = vidinit.evaluate(**keywords)
    if json:
        opt.print_json(result)
    elif "runs" in result:
        opt.print_runs(result)
    elif is_main_process():
        for name, own in result.get("sources", {"": result}).items():
            if name:
                opt.put(f"{name}:")
            _print_scores(own)


def _print_scores(result: dict[str, Any]) -> None:
    if "frame_ap" in result:
        _print_boxes(result)
        return
    low, high = result["top1_interval"]
    opt.put(
        f"top-1 {result['top1']:.3f} (95 %: {low:.3f} to {high:.3f})   "
        + "   ".join(f"{name} {result[key]:.3f}" for key, name in _shown(result))
    )
    missing = f", {len(result['missing'])} missing" if result["missing"] else ""
    what = "logits" if result["average"] == "logits" else "probabilities"
    opt.put(
        f"{result['videos']} videos of {result['expected']}, {_views(result)}, {what} averaged"
        f"{missing}"
    )
    if result["empty_classes"]:
        opt.put(f"{result['empty_classes']} of the model's classes have no video here")
    if "two_class" in result:
        _print_found(result["two_class"])
    for point in result.get("curve", ()):
        opt.put(f"  {point['clips']} x {point['crops']}: top-1 {point['top1']:.3f}")
    for test, values in result.get("temporal", {}).items():
        opt.put(
            f"  {test}: top-1 {values['top1']:.3f} ({values['change']['top1']:+.3f}, "
            f"p = {values['p_value']:.2g})"
        )
    if "time" in result:
        from vidinit.scoring.time_test import lines_of

        for line in ("does it need time?", *lines_of(result["time"])):
            opt.put(line)
    if "against" in result:
        _print_comparison(result["against"])
    opt.put(f"report: {result['out']}/report.html")


def _shown(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Further metrics of a result; the top five of five classes are all of them."""
    few = "top1_verb" not in result and result.get("classes", 6) <= 5
    return [(key, name) for key, name in SHOWN if key in result and not (few and key == "top5")]


def _print_found(two: dict[str, Any]) -> None:
    """One class against the rest, at its threshold."""
    keys = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"}
    figures = "   ".join(
        f"{name} {two[key]:.3f}" for key, name in keys.items() if two[key] is not None
    )
    opt.put(f"{two['positive']} ({two['because']}) from {two['threshold']:.4g} on: {figures}")
    if not two["reached"]:
        opt.put("  no threshold has what was wished for: this is the nearest")


def _print_boxes(result: dict[str, Any]) -> None:
    """Average precision, with the protocol beside each figure."""
    protocol = f"protocol {result['protocol']}"
    for name, word in (("frame_ap", "frame-AP"), ("video_ap", "video-AP")):
        if name not in result:
            continue
        others = "   ".join(f"@{at} {value:.3f}" for at, value in result[f"{name}_at"].items())
        opt.put(f"{word}@{result['iou']:g} {result[name]:.3f} ({protocol})   {others}")
    if "no_video_ap" in result:
        opt.put(f"no video-AP: {result['no_video_ap']}")
    missing = f", {result['unread']} key frames could not be read" if result["unread"] else ""
    opt.put(
        f"{result['boxes']} boxes in {result['key_frames']} key frames of {result['videos']} "
        f"videos; {result['given']}{missing}"
    )
    opt.put(f"report: {result['out']}/report.html")


def _views(result: dict[str, Any]) -> str:
    if "fused" in result:
        return " and ".join(
            f"{one['weight']:g} of {one['model']} ({one['views']} views)" for one in result["fused"]
        )
    words = {"dense": "all clips", "whole": "the whole video as a clip"}
    count = words.get(str(result["clips"])) or f"{result['clips']} clips"
    return f"{count} x {result['crops']} crops each"


def _print_comparison(other: dict[str, Any]) -> None:
    counts = other["mcnemar"]
    for name, metric in other["metrics"].items():
        if name not in ("map", "top1", "mean_class_accuracy"):
            continue
        ends = metric["interval"]
        spread = f" (95 %: {ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
        opt.put(f"  {name} {metric['gain']:+.3f}{spread} against {metric['there']:.3f}")
    opt.put(
        f"against {other['model']} on {other['videos']} videos of both: {counts['here']} right "
        f"only here, {counts['there']} only there, p = {counts['p_value']:.2g} (McNemar); not in "
        f"both: {other['only_here']} here, {other['only_there']} there"
    )

"""`vidinit.evaluate`: the keywords are the command's flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..shared.arguments import Overrides, Places, as_places, as_text, text_or_list

if TYPE_CHECKING:
    from .settings import EvaluateConfig


def evaluate(
    model: str | Path | None = None,
    *,
    data: Places | None = None,
    val: Places | None = None,
    root: str | Path | None = None,
    views: str | None = None,
    multi_view: bool = False,
    clips: int | None = None,
    crops: int | None = None,
    average: str | None = None,
    curve: bool = False,
    temporal_test: str | Sequence[str] | None = None,
    predictions: str | Path | None = None,
    fuse: str | Path | None = None,
    weight: float | None = None,
    against: str | Path | None = None,
    positive: str | None = None,
    head: str | None = None,
    all_sources: bool = False,
    zero_shot: bool = False,
    classes: str | Path | Sequence[str] | None = None,
    templates: str | Sequence[str] | None = None,
    text_model: str | None = None,
    text: str | Path | None = None,
    ensemble: float | None = None,
    boxes: str | Path | None = None,
    protocol: str | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    overrides: Overrides = (),
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score a model on labeled videos: top-1, top-5, mean class accuracy.

    Each video counts once, whatever the number of processes.

    Args:
        model: model folder, run folder, or zoo name (random weights), or a video encoder of
            transformers with a classifier, ``hf:USER/NAME`` or its folder; with ``zero_shot`` also
            timm's name of an image-text model's image tower, whose frames are averaged. not with
            ``predictions``.
        data: folder per class (or its val/), or a list. Where a run split the data itself, only
            the videos it held out are scored.
        val: the data to score, as it is.
        root: as for `finetune`.
        views: ``10x3``: clips and crops; ``dense``: all clips of a video, one behind the other, of
            which ``batch_size`` are decoded at a time; ``whole``: the video
            as one clip, where the model takes clips of any length and memory holds it.
        multi_view: 10 clips x 3 crops a video, unless ``clips`` or ``crops`` say otherwise.
        clips: clips of a video; default 1.
        crops: crops of a clip, 1 or 3; default 1. May be combined with ``views`` dense or whole.
        average: over the views: ``softmax`` (default) or ``logits``.
        curve: score by fewer views, too, from the same pass (`scoring.predictions.curve_of`).
        temporal_test: score the same clips with their frames in another order, too: one or
            several of ``reverse``, ``shuffle``, ``freeze``, separated by commas.
        predictions: an evaluation's folder, or its predictions.npz: score its logits again, with
            another ``average``, a ``curve``, or ``against`` another one. No model runs.
        fuse: with ``predictions``: a second evaluation of the same videos, as that of optical flow;
            the two are averaged, by ``average`` (`scoring.fusion.fuse`).
        weight: of ``predictions`` in that average, 0 to 1; ``fuse`` has the rest; default 0.5.
        against: another evaluation's folder, or its predictions.npz: compare with it, video by
            video (`scoring.comparison.compare`).
        positive: the class that is looked for: its precision, recall, F1 and threshold, the areas
            under its curves; default, where there are two: the rarer one. eval.threshold,
            eval.wanted_precision or eval.wanted_recall say where the threshold is.
        head: which head of a co-trained model.
        all_sources: score a co-training on all its sources, each with its own head and data.
        zero_shot: compare videos with text embeddings of the classes in place of a head.
        classes: file with the class names, or the names; default: the data's. Labels are matched
            with them by name (`text.templates.match`).
        templates: what the names are put into: ``raw`` (default), ``video``, ``action``, a file,
            or texts with ``{}``.
        text_model: text tower (`text.towers.find_tower`); default: the one of the image tower.
        text: file of text embeddings in place of a text tower.
        ensemble: share of DiST's image tower in the logits, 0.5 in the paper's code; default 0.
        boxes: of a model of ``finetune --task detect``, whose ``data`` is a file of boxes: another
            file, with the people to score in, as a detector found them; default: the true boxes.
        protocol: of boxes: ``voc`` (default), or ``act``, JHMDB's and UCF101-24's.
        batch_size: clips of a forward pass and process, about.
        seed: of the random weights of a zoo name, shuffled frames, and the bootstrap.
        precision: ``fp32`` (default, so that scores are the same on all devices), ``bf16`` or
            ``fp16``.
        resume: with data.split=all, or a set of runs for ``model``: go on in the folder ``out``
            with what is not scored yet.
        out, config, overrides, device, processes, overwrite: as for `finetune`.

    Returns:
        ``{top1, top5, mean_class_accuracy, top1_interval, top1_per_view, views, clips, crops,
        average, expected, decoded, videos, missing, out}`` and what was asked for beside:
        ``curve``; of two classes, or one that is named, ``two_class`` (`scoring.two_class`); of a
        model on a frozen trunk ``time`` (`scoring.time_test.time_test`). Of all
        sources ``{sources: {name: that}, mean_top1, out}``. Of all splits
        ``runs``, too, with the result of each, and ``mean`` and ``deviation`` over them
        (`pipelines.run_set`). Of boxes ``{protocol, iou, frame_ap, frame_ap_at, video_ap,
        video_ap_at, by_class, given, key_frames, boxes, unread, missing, out}``
        (`scoring.detection_scores`).
    """
    from ...config import DEFAULT
    from ...config.build import build
    from ...scoring.detections import has_detections
    from ...scoring.detections import load as load_detections
    from ...scoring.predictions import load
    from ..detect.rescore import rescore_boxes
    from ..expand import expand, of_one_split
    from ..run import run
    from ..run_set import run_set
    from .settings import EvaluateConfig, parse_tests
    from .several import check_runs, figures_of, summary_of_runs

    alone = UsageError(
        "--fuse averages two finished evaluations, and --weight is of the first",
        "name the first by --predictions, the second by --fuse",
    )
    if predictions is None and config is None and fuse is not None:
        raise alone
    if predictions is not None and model is None:
        of_boxes = has_detections(predictions)
        model = load_detections(predictions).model if of_boxes else load(predictions).model
    elif predictions is not None:
        raise UsageError(
            "--predictions are scored without a model, and there is one, too",
            "leave out one of them",
        )
    flags = {
        "model": as_text(model),
        "out": as_text(out),
        "device": device,
        "precision": precision,
        "data.train": as_places(data),
        "data.val": as_places(val),
        "data.root": as_text(root),
        "data.batch_size": batch_size,
        **_views(views, multi_view, clips, crops),
        "eval.average": average,
        "eval.curve": curve or None,
        "eval.tests": None if temporal_test is None else parse_tests(temporal_test),
        "predictions": as_text(predictions),
        "fuse": as_text(fuse),
        "weight": weight,
        "against": as_text(against),
        "eval.positive": positive,
        "head": head,
        "zero_shot": zero_shot or None,
        "classes": text_or_list(classes),
        "text.templates": text_or_list(templates),
        "text.model": text_model,
        "text.file": as_text(text),
        "ensemble": ensemble,
        "detect.boxes": as_text(boxes),
        "detect.protocol": protocol,
        "seed": seed,
    }
    built = build(EvaluateConfig, file=config, overrides=overrides, flags=flags)
    if built.predictions is not None:
        keys = {key for key, origin in built.origins.items() if origin != DEFAULT}
        from .results import rescore

        if resume:
            raise UsageError("--predictions are scored in one go", "leave out --resume")
        again = rescore_boxes if has_detections(built.predictions) else rescore
        return again(built, keys, processes=processes, overwrite=overwrite)
    if built.fuse is not None or weight is not None:
        raise alone
    runs = expand(built, figures=figures_of, summary=summary_of_runs)
    if runs is not None:
        if all_sources:
            raise UsageError(
                f"--all-sources scores one co-training, and these are {len(runs.configs)} runs",
                "name one of them",
            )
        check_runs(built, runs)
        return run_set("eval", built, runs, processes=processes, resume=resume, overwrite=overwrite)
    if resume:
        raise UsageError(
            "--resume is for an evaluation of several runs, and this is one",
            "pass --overwrite to score anew",
        )
    built = of_one_split(built)
    if built.against is not None:
        if all_sources:
            raise UsageError(
                "--against compares one evaluation with another, and --all-sources makes several",
                "compare the folders below sources/, each by eval --predictions A --against B",
            )
        load(built.against)  # an error now, not when all is scored
    if all_sources:
        return _evaluate_sources(built, processes=processes, overwrite=overwrite)
    return run("eval", built, processes=processes, overwrite=overwrite)


def _views(
    views: str | None, multi_view: bool, clips: int | None, crops: int | None
) -> dict[str, Any]:
    """The views of a video as settings.

    Raises:
        UsageError: they are said twice, or not in one of the forms.
    """
    if views is None:
        whole = (10, 3) if multi_view else (None, None)
        return {
            "eval.clips": whole[0] if clips is None else clips,
            "eval.crops": whole[1] if crops is None else crops,
        }
    if multi_view or clips is not None:
        raise UsageError(
            "--views says how many clips there are, and so does another option",
            "leave out --multi-view and --clips",
        )
    if views == "dense":
        return {"eval.dense": True, "eval.crops": crops}
    if views == "whole":
        return {"data.sampling": "all", "eval.crops": crops}
    first, cross, second = views.partition("x")
    if not (first.isdigit() and cross and second.isdigit()) or crops is not None:
        raise UsageError(
            f"'{views}' is not how many views there are", "write 10x3, 1x1, dense or whole"
        )
    return {"eval.clips": int(first), "eval.crops": int(second)}


def _evaluate_sources(config: EvaluateConfig, *, processes: int, overwrite: bool) -> dict[str, Any]:
    """Score a co-trained model on all its sources, each with its own head, clips and views.

    Args:
        config: of the evaluation of any of them; names no data and no head.
        processes: of each evaluation.
        overwrite: replace what an earlier evaluation wrote.

    Returns:
        ``{sources: {name: as vidinit.evaluate}, mean_top1, out}``.

    Raises:
        UsageError: the model is no co-training, or data or a head is named.
    """
    from ...engine.run_folder import RunFolder, default_out
    from ...files import check_out, folder_locks
    from ..cotrain.finished import sources_of
    from ..run import run
    from ..shared.names import folder_names
    from ..shared.run_records import replaced_folder

    if config.data.train or config.data.val or config.head:
        raise UsageError(
            "--all-sources scores each source on its own data, by its own head",
            "leave out --data, --val and --head",
        )
    sources = sources_of(config.model)
    out = Path(config.out or default_out("eval", config.model))
    check_out(out, overwrite=overwrite)
    results = {}
    with (
        folder_locks(),
        replaced_folder(out, lambda: RunFolder.open(out), moves=overwrite) as folder,
    ):
        parts, folders = folder.claim("sources"), folder_names(one.name for one in sources)
        for source in sources:
            own = config.model_copy(deep=True)
            own.out, own.head = str(parts / folders[source.name]), source.name
            own.data.train, own.data.val = source.data, source.val
            own.data.root, own.data.class_names = source.root or own.data.root, source.class_names
            if source.kind == "image":
                own.eval.clips = 1
            results[source.name] = run("eval", own, processes=processes)
        mean = sum(result["top1"] for result in results.values()) / len(results)
        told = {"sources": results, "mean_top1": round(mean, 6), "out": str(out)}
        folder.write_json("result.json", told)
    return told

"""Fine-tune a video model to say what people in boxes do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...checkpoint import is_detector, load_detector
from ...config import DataConfig, DetectConfig
from ...console import say, with_messages
from ...data.boxes import BoxPart
from ...data.loading.keyframes import KeyframeDataset
from ...data.loading.quarantine import Quarantine
from ...data.pixels.transforms import Augment
from ...data.rows import Rows
from ...engine.collectives import from_main
from ...engine.job import Batch, Job
from ...errors import UsageError
from ...scoring.detection_scores import WATCH
from ...zoo.adapters.tower_model import hold_tower
from ...zoo.base import VideoModel
from ...zoo.detector import (
    FINE_LAYER,
    Detector,
    DetectSettings,
    as_detector,
    default_stride,
)
from ...zoo.images.networks import ImageSource, load_image_model
from ...zoo.spec import ClipSpec
from ..finetune.settings import FinetuneConfig
from ..shared.clips import (
    CheckedSplit,
    clip_batches,
    data_name,
    flips,
    fold_numbers,
    quarantine_of,
    scoring_options,
    split_of,
)
from ..shared.modality import check_flow, set_spec
from ..shared.on_device import OnDevice
from ..shared.overlap import say_overlap
from ..shared.random_clips import NoiseKeyframes, random_keyframes
from ..shared.training import Training, finished_result, open_model, saver, set_training
from .data import (
    Keyframes,
    Kind,
    keyframes,
    kind_of,
    people_of,
    probes_of,
    rows_of,
    trained_boxes,
    training_parts,
)
from .results import scores_of
from .score import OWN, bars_of, detect_key_frames, detections_of, proposes
from .tables import class_section
from .task import DetectTask, set_divisors

_SCORES = "frame_ap.json"


def execute(
    config: FinetuneConfig, *, resume: bool, overwrite: bool, dry_run: bool = False
) -> dict[str, Any]:
    """`vidinit.finetune` with ``task="detect"``; the course is that of `shared.training`."""
    data, train, detect = config.data, config.train, config.detect
    if data.train is None and not dry_run:
        raise UsageError("no training data", "pass --data BOXES.csv, and --root with the videos")
    if (done := finished_result(config, resume)) is not None:
        return done
    parts = None
    if data.train is not None:
        fold = None if config.fold is None else fold_numbers(config.fold)
        parts = with_messages(lambda: training_parts(data, train.seed, fold))
    training = Training(config, resume=resume, overwrite=overwrite, dry_run=dry_run)
    accelerator = training.accelerator
    rows = None if parts is None else (rows_of(parts[0]), rows_of(parts[1]))
    split = training.check_split(rows)
    whole, val = _key_frames(config, parts, split)
    overlap, of_overlap = from_main(
        accelerator,
        lambda: say_overlap(
            whole.rows,
            None if val is None else val.rows,
            data_name(data.train),
            named=data.val is not None,
        ),
    )
    shown = trained_boxes(whole, detect)
    say(f"training: {shown.described()}")
    detector = open_detector(config, list(whole.classes), kind_of(shown.boxes, detect.kind))
    task = DetectTask(detector, frozen_trunk=train.freeze == "trunk")
    spec = detector.spec
    clips = training_clips(shown, spec, data, detect, seed=train.seed, real=parts is not None)
    on_device = OnDevice(spec.mean, spec.std, spec.channels == "bgr")
    quarantine = quarantine_of(shown.rows, split.check.known)
    scored = Quarantine() if val is None else quarantine_of(val.rows, split.check.known)
    training.choose_batch_size(task, clips, on_device, quarantine)
    run = training.open_run([split.check.health], [quarantine, scored])
    if data.train is not None and data.val is None and val is not None:
        run.write_json("split.json", split_of(data.train, val.rows))
    step = {"step": "finetune", "task": "detect", "data": data.train, "epochs": train.epochs}
    batches = clip_batches(clips, config, accelerator, quarantine)
    batches["steps"] = _divided(batches["steps"], accelerator)
    latest: dict[str, Any] = {}
    evaluate = None
    if val is not None:
        evaluate = _evaluation(detector, val, config, accelerator, scored, latest)
    write = saver(detector, run, step)

    def save(metrics: dict[str, float]) -> None:
        write(metrics)
        if latest:  # of the epoch that is kept
            run.write_json(_SCORES, latest)

    job = Job(
        title="finetune",
        task=task,
        **batches,
        on_device=on_device,
        save_model=save,
        evaluate=evaluate,
        evaluate_every=config.eval.every,
        watch=WATCH,
    )
    if dry_run:
        return training.rehearse(job, clips=None if parts is None else len(shown.boxes))
    result = training.fit(job)
    told: dict[str, Any] = {
        "task": "detect",
        "key_frames": len(shown.boxes),
        "boxes": len(shown.boxes.box),
        "overlap": overlap,
        "notes": of_overlap,
        **from_main(accelerator, lambda: _kept(run.root / _SCORES)),
    }
    sections = [class_section(told)] if "by_class" in told else []
    videos = len(np.unique(shown.boxes.row))
    return training.finish(job, result, videos=videos, sections=sections, **told)


def open_detector(config: FinetuneConfig, classes: list[str], kind: Kind) -> Detector:
    """The configured model as a detector of these classes, as it is to be trained.

    A model that is a detector of the same classes goes on with its head, and its proposals.

    Raises:
        UsageError: its clips are not dense, or what is configured does not suit it.
    """
    trained = is_detector(config.model) and config.init_from is None
    if trained:
        detector = load_detector(config.model)
        trunk = detector.trunk
    else:
        trunk = open_model(config.model, options=config.options, init_from=config.init_from)
    if config.whole:
        hold_tower(trunk)
    set_training(trunk, config.train)
    spec = set_spec(trunk, config.data)
    if spec.sampling != "dense":
        raise UsageError(
            f"{config.model} sees '{spec.sampling}' frames of whole videos, and a clip with boxes "
            "lies around its key frame",
            "set data.sampling=dense, and data.frames and data.stride as it suits",
        )
    if trained and detector.classes == classes and detector.kind == kind:
        own = detector.proposals is not None
        if own or config.detect.proposals == "given":
            kept = "its head, its proposals" if own else "its head"
            say(f"{config.model}: a detector of these classes: {kept} and its settings are kept")
            return detector
    if trained:
        say(f"{config.model}: new head for {len(classes)} classes of boxes")
    made = as_detector(trunk, classes, settings_of(config, trunk, kind))
    if made.proposals is not None:
        made.proposals.load(_image_source(config.detect))
    return made


def _image_source(detect: DetectConfig) -> ImageSource:
    """The image network that proposes boxes, with its weights, which are said."""
    weights = detect.image_weights
    source = load_image_model(
        detect.image_model,
        weights=None if weights == "random" else weights,
        pretrained=weights != "random",
        ways=("name a file as detect.image_weights", "detect.image_weights=random for none"),
    )
    say(f"boxes are proposed by {detect.image_model}, {source.weights}, trained along")
    return source


def settings_of(config: FinetuneConfig, trunk: VideoModel, kind: Kind) -> DetectSettings:
    """The configured head, with what was left to the trunk."""
    detect = config.detect
    layer = detect.layer
    stride: Literal[16] | None = 16 if detect.stride == 16 else None
    if detect.stride == "auto" and layer is None:
        stride = None if default_stride(trunk) is None else 16
        fine = stride is None and FINE_LAYER in trunk.map_layers()
        layer = FINE_LAYER if fine else None
    return DetectSettings(
        resolution=detect.resolution,
        aligned=detect.aligned,
        time=detect.time,
        context=detect.context,
        hidden=detect.hidden,
        dropout=config.train.dropout,
        kind=kind,
        regress=detect.regress or detect.proposals == "rpn",
        stride=stride,
        layer=layer,
        fit=config.data.fit or "letterbox",
        proposals=detect.image_model if detect.proposals == "rpn" else None,
    )


def training_clips(
    shown: Keyframes,
    spec: ClipSpec,
    data: DataConfig,
    detect: DetectConfig,
    *,
    seed: int,
    real: bool = True,
) -> KeyframeDataset:
    """Training clips around these key frames, cut as the configuration says."""
    check_flow(shown.rows, spec, data)
    named = Rows(shown.rows.rows, shown.classes)
    kind = KeyframeDataset if real else NoiseKeyframes
    return kind(
        shown.rows,
        shown.boxes,
        sampling=spec.seen,
        fill=bars_of(spec),
        augment=Augment(
            size=spec.size,
            interpolation="bicubic" if spec.interpolation == "bicubic" else "bilinear",
            scale=(data.min_area, 1.0),
            jitter=data.jitter,
            flip=flips(data.flip, named, shown.where) is not False,
            color_jitter=data.color_jitter,
            grayscale=data.grayscale,
            erasing=data.erasing,
        ),
        seed=seed,
        visible=data.visible,
        whole=data.min_area == 1.0 and data.jitter is None,
        shake=detect.shaken,
        flow=spec.flow,
        reader=data.reader,
        decode_side=data.decode_side,
    )


def _key_frames(
    config: FinetuneConfig,
    parts: tuple[list[BoxPart], list[BoxPart]] | None,
    split: CheckedSplit,
) -> tuple[Keyframes, Keyframes | None]:
    """The key frames of training and validation, with labels in the order of training."""
    if parts is None:
        rows, boxes = random_keyframes(split.train)
        return Keyframes(rows, boxes, "random clips"), None
    probes = probes_of(split.train, *([] if split.val is None else [split.val]))
    origin = config.data.time_origin
    whole = keyframes(parts[0], probes, origin=origin)
    if not parts[1] or split.val is None:
        return whole, None
    held = keyframes(parts[1], probes, origin=origin, classes=whole.classes)
    say(f"validation: {held.described()}")
    return whole, held


def _divided(
    steps: Callable[[int, int], Iterable[list[Batch]]], accelerator: Any
) -> Callable[[int, int], Iterator[list[Batch]]]:
    """The same steps, whose batches know how many boxes there are in a step."""

    def divided(epoch: int, start: int) -> Iterator[list[Batch]]:
        for group in steps(epoch, start):
            set_divisors(group, accelerator)
            yield group

    return divided


def _evaluation(
    detector: Detector,
    val: Keyframes,
    config: FinetuneConfig,
    accelerator: Any,
    quarantine: Quarantine,
    latest: dict[str, Any],
) -> Callable[[], dict[str, float]]:
    """Frame-AP on the validation key frames; ``latest`` gets all that is known of it."""
    own = proposes(detector, config.detect)
    people, given = (val, OWN) if own else people_of(val, config.detect, config.data)
    moved = detector.settings.regress

    def evaluate() -> dict[str, float]:
        found = detect_key_frames(
            detector,
            people,
            accelerator,
            own=config.detect.min_score if own else None,
            fit=config.data.fit,
            **scoring_options(config.data, accelerator, quarantine),
        )

        def scored() -> dict[str, Any]:
            detections = detections_of(
                found,
                people,
                val,
                classes=val.classes,
                model=config.model,
                given=given,
                moved=moved,
            )
            return {"given": given, **scores_of(detections, config.detect, tubes=False)}

        latest.clear()
        latest.update(from_main(accelerator, scored))
        return {WATCH: latest[WATCH]}

    return evaluate


def _kept(file: Path) -> dict[str, Any]:
    """The record of the epoch that is kept; nothing where none was scored."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

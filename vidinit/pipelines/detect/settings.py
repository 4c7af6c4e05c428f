"""Settings of trainings on whole clips that boxes have no use for."""

from __future__ import annotations

from collections.abc import Iterator

from ...config import DataConfig, DetectConfig, EvalConfig, TrainConfig
from ...config.contradictions import Contradiction

_DATA = {
    "randaug": ("", "turns and shifts pictures, and boxes do not follow"),
    "mixup": (0, "mixes two clips, and a box is in one"),
    "cutmix": (0, "mixes two clips, and a box is in one"),
    "repeats": (1, "is for whole clips"),
    "shots": (None, "counts clips of a class, and boxes are in many"),
    "balance": ("none", "goes by the classes of clips"),
    "start": ("random", "is for whole videos: a clip lies around its key frame"),
}
_TRAIN = {
    "probes": ([], "read whole clips"),
    "loss": ("ce", "is for whole clips: detect.kind=multi has a binary loss"),
    "label_smoothing": (0, "is for whole clips"),
    "class_weights": ("none", "is for whole clips"),
    "compile": (False, "does not reach the maps that boxes are read in"),
    "tap_cache": (None, "keeps what whole clips give"),
}
_EVAL = {"clips": (1, "is for whole videos"), "crops": (1, "is for whole videos")}


def contradictions(
    data: DataConfig, train: TrainConfig, scored: EvalConfig, detect: DetectConfig
) -> Iterator[Contradiction]:
    """Settings that ``--task detect`` cannot use, and those of the head that contradict."""
    sections = (("data", data, _DATA), ("train", train, _TRAIN), ("eval", scored, _EVAL))
    for name, section, known in sections:
        for key, (usual, why) in known.items():
            if (value := getattr(section, key)) != usual:
                text = f"{name}.{key}={value} {why}: leave it out with --task detect"
                yield ("task", f"{name}.{key}"), text
    if data.flip == "swap":
        text = "data.flip=swap exchanges the labels of clips, and not those of boxes"
        yield ("task", "data.flip"), f"{text}: set data.flip=false for classes of left and right"
    if data.sampling not in (None, "dense"):
        text = f"data.sampling={data.sampling} is for whole videos: a clip lies around a key frame"
        yield ("task", "data.sampling"), text
    if detect.proposals == "rpn" and detect.shake:
        text = "detect.shake moves given boxes, and with detect.proposals=rpn none are"
        yield ("detect.shake", "detect.proposals"), f"{text}: leave it out"
    if detect.proposals == "given":
        for key in ("image_model", "image_weights"):
            if getattr(detect, key) != getattr(DetectConfig(), key):
                text = f"detect.{key} is of the network that proposes boxes"
                yield (f"detect.{key}", "detect.proposals"), f"{text}: set detect.proposals=rpn"
    if detect.regress and detect.proposals == "given" and detect.shaken == 0:
        text = "detect.regress learns nothing from boxes that are where they should be"
        yield ("detect.regress", "detect.shake"), f"{text}: set detect.shake=0.15"


def without_task(detect: DetectConfig) -> Iterator[Contradiction]:
    """Settings of detection in a training on whole clips."""
    for key, value in detect.model_dump(exclude_defaults=True).items():
        yield ("task", f"detect.{key}"), f"detect.{key}={value} is for boxes: add --task detect"

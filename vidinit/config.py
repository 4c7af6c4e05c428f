"""Typed run configuration, and where each value came from.

A configuration is built from layers: defaults, a preset, a file, ``section.key=value`` overrides,
and command-line flags; a later layer wins. Unknown keys are refused with a suggestion, and an error
names the layer (file and line) that caused it. The text under each field is its help.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UsageError, suggest


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataConfig(Section):
    """What is read, and how a clip is cut from it."""

    train: str | None = None
    """Folder per class, folder with train/ and val/, or a list file of `path label` lines."""
    val: str | None = None
    """Validation data in the same forms; default: val/ beside train/, else a split of train."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class held out when there is no validation data."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's."""
    stride: int | None = Field(None, ge=1)
    """Video frames from one clip frame to the next; default: the model's."""
    size: int | None = Field(None, ge=16)
    """Side of the square crop in pixels; default: the model's."""
    batch_size: int = Field(8, ge=1)
    """Clips per process and step."""
    workers: int | None = Field(None, ge=0)
    """Decoding processes per training process; default: one less than the cores, at most 8."""
    start: Literal["random", "center"] = "random"
    """Where a training clip begins in its video."""
    min_area: float = Field(0.25, gt=0, le=1)
    """Smallest share of the frame that a random crop covers; 1 takes the whole frame."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Crop side over short side at test time; default: the model's."""
    flip: bool = True
    """Mirror half of the training clips; switch off where left and right are classes."""
    max_bad: float = Field(0.05, ge=0, le=1)
    """Share of unreadable files above which a run refuses to start."""


class TrainConfig(Section):
    """How the weights are changed."""

    epochs: int = Field(10, ge=1)
    """Passes over the training data."""
    lr: float = Field(0.01, gt=0)
    """Peak learning rate."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum 0.9, or AdamW."""
    weight_decay: float = Field(1e-4, ge=0)
    """On weights of kernels and matrices; never on biases and norms."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Linear warm-up from zero."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Cosine to zero, divided by ten every `step_epochs`, or constant."""
    step_epochs: int = Field(10, ge=1)
    """Epochs between two divisions of schedule `step`."""
    head_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of the head over that of the trunk."""
    temporal_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of temporal kernels over that of the rest of the trunk."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Before the head."""
    clip_grad: float | None = Field(None, gt=0)
    """Largest norm of the gradient; default: not clipped."""
    freeze: Literal["none", "trunk"] = "none"
    """Train everything, or only the head on a frozen trunk (in eval mode)."""
    seed: int = Field(0, ge=0)
    """Of weights, order, clips and crops."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    select: Literal["best", "last"] = "best"
    """Whose weights the model folder gets: the best epoch on validation, or the last."""


class EvalConfig(Section):
    """How a video is scored."""

    every: int = Field(1, ge=0)
    """Epochs between two evaluations while training; 0 for none."""
    clips: int = Field(1, ge=1)
    """Clips spread over a video; their softmax outputs are averaged."""
    crops: Literal[1, 3] = 1
    """Crops of each clip: the center, or left, center and right."""


class DistillSection(Section):
    """Teachers and targets (DistInit, ICCV 2019)."""

    teachers: list[str] = Field(default_factory=lambda: ["imagenet"], min_length=1)
    """Short names, timm names, or NAME=FILE with local weights."""
    picks: int = Field(1, ge=1)
    """Random frames of the clip whose teacher logits are averaged."""
    temperature: float = Field(1.0, gt=0)
    """Of teacher and student softmax."""


class SourceConfig(Section):
    """One data set of a co-training."""

    name: str
    """Of its head and its metrics."""
    data: str
    """Folder or list, as `data.train`."""
    val: str | None = None
    """Validation data; default: as for `data.val`."""
    kind: Literal["video", "image"] = "video"
    """Images are clips of one frame."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's, 1 for images."""
    batch_size: int | None = Field(None, ge=1)
    """Default: `data.batch_size`, times the clip's frames for images (equal cost)."""
    share: float | None = Field(None, gt=0)
    """Share of the steps; default: in proportion to the steps it would take alone."""
    flip: bool = True
    """Mirror half of its clips."""


class RunConfig(Section):
    """What all configured commands share."""

    model: str
    """Zoo name, model folder or run folder."""
    out: str | None = None
    """Folder to write; default: runs/<command>-<model>-<n>."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights stay float32."""
    data: DataConfig = Field(default_factory=DataConfig)


class TrainRunConfig(RunConfig):
    """What all training commands share."""

    train: TrainConfig = Field(default_factory=TrainConfig)


class EvaluateConfig(RunConfig):
    """Configuration of `vidinit eval`; `data.val`, else `data.train`, is what is scored."""

    eval: EvalConfig = Field(default_factory=EvalConfig)
    head: str | None = None
    """Which head of a co-trained model; default: the primary source's."""


class FinetuneConfig(TrainRunConfig):
    """Configuration of `vidinit finetune`."""

    eval: EvalConfig = Field(default_factory=EvalConfig)


class DistillConfig(TrainRunConfig):
    """Configuration of `vidinit distill`; `model` is the student, `data.train` the videos."""

    model: str = "r2plus1d-18"
    distill: DistillSection = Field(default_factory=DistillSection)


class CotrainConfig(TrainRunConfig):
    """Configuration of `vidinit cotrain`; the first source is the primary one."""

    eval: EvalConfig = Field(default_factory=EvalConfig)
    sources: list[SourceConfig] = Field(default_factory=list)


COMMANDS: dict[str, type[RunConfig]] = {
    "cotrain": CotrainConfig,
    "distill": DistillConfig,
    "eval": EvaluateConfig,
    "finetune": FinetuneConfig,
}

C = TypeVar("C", bound=RunConfig)

# ------------------------------------------------------------------ layers


@dataclass
class Layer:
    """Nested values from one place.

    Attributes:
        values: nested dict.
        origin: the place, for people: ``preset finetune/x``, ``my.yaml``, ``the command line``.
        lines: dotted key to line number, for files.
    """

    values: dict[str, Any]
    origin: str
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """The place of one key, with its line in a file."""
        return f"{self.origin}:{self.lines[key]}" if key in self.lines else self.origin


def build(
    cls: type[C],
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    flags: Mapping[str, Any] | None = None,
) -> C:
    """A checked configuration: defaults < preset < file < overrides < flags.

    Args:
        cls: one of `COMMANDS`' values.
        preset: name below ``presets/``, with or without the command.
        file: YAML in the form of a run's config.yaml.
        overrides: ``section.key=value`` texts, or a dict from dotted keys to values.
        flags: dotted keys to values; None values are left out.

    Raises:
        UsageError: naming every unknown key or wrong value, and where it stands.
    """
    layers = []
    if preset is not None:
        layers.append(preset_layer(cls, preset))
    if file is not None:
        layers.append(file_layer(Path(file)))
    layers.append(override_layer(overrides))
    given = {k: v for k, v in (flags or {}).items() if v is not None}
    layers.append(Layer(_nested(given), "the command line"))
    merged: dict[str, Any] = {}
    origin: dict[str, Layer] = {}
    for layer in layers:
        _check_keys(cls, layer)
        for key, value in _flat(layer.values):
            _put(merged, key, value)
            origin[key] = layer
    try:
        return cls.model_validate(merged)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            source = origin.get(key) or origin.get(key.split(".")[0])
            where = f" in {source.where(key)}" if source is not None else ""
            got = f", not {item['input']!r}"
            message = item["msg"][0].lower() + item["msg"][1:]
            problems.append(
                f"no {key} is given"
                if item["type"] == "missing"
                else f"{key}{where}: {message}{got}"
            )
        raise UsageError("; ".join(problems)) from error


def _check_keys(cls: type[RunConfig], layer: Layer) -> None:
    known = set(known_keys(cls))
    sections = {key.rpartition(".")[0] for key in known} - {""}
    problems = []
    for key, value in _flat(layer.values):
        if key in sections and not isinstance(value, Mapping):
            problems.append(f"'{key}' in {layer.where(key)} is a section and takes no value")
        elif key not in known:
            hint = suggest(key, known)
            problems.append(f"unknown key '{key}' in {layer.where(key)}" + (hint and f"; {hint}"))
    if problems:
        raise UsageError("; ".join(problems))


def known_keys(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a configuration class."""
    for name, info in cls.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(nested: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        nested = nested.setdefault(section, {})
    nested[leaf] = value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in flat.items():
        _put(out, key, value)
    return out


def override_layer(overrides: Sequence[str] | Mapping[str, Any]) -> Layer:
    """``section.key=value`` texts as a layer; values are read as YAML.

    Raises:
        UsageError: for a text without ``=``.
    """
    if isinstance(overrides, Mapping):
        return Layer(_nested(overrides), "the overrides")
    values: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"'{text}' is no override", "write section.key=value")
        try:
            _put(values, key.strip(), yaml.safe_load(value))
        except (yaml.YAMLError, AttributeError, TypeError) as error:
            raise UsageError(f"cannot read the value of '{text}'", "quote it for YAML") from error
    return Layer(values, "the command line")


def file_layer(path: Path, origin: str | None = None) -> Layer:
    """A YAML file as a layer.

    Raises:
        UsageError: when it is missing or no YAML mapping.
    """
    if not path.is_file():
        raise UsageError(f"no such configuration file: {path}", "check the path given to --config")
    text = path.read_text()
    try:
        values = yaml.safe_load(text) or {}
        tree = yaml.compose(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must map sections to values", "see a run's config.yaml")
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                key = f"{prefix}{key_node.value}"
                lines[key] = key_node.start_mark.line + 1
                walk(value_node, f"{key}.")

    walk(tree, "")
    values.pop("command", None)  # a run's config.yaml names its command
    return Layer(values, origin or str(path), lines)


# ------------------------------------------------------------------ presets


def preset_folder() -> Path:
    """The folder of the shipped recipes."""
    spec = importlib.util.find_spec("vidinit.presets")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if not places:
        raise UsageError("the presets are not installed", "reinstall vidinit")
    return Path(places[0])


def list_presets(command: str = "*") -> list[str]:
    """Names of the shipped recipes: ``<command>/<target>_<data>``."""
    root = preset_folder()
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.glob(f"{command}/*.yaml"))


def preset_layer(cls: type[RunConfig], name: str) -> Layer:
    """A shipped recipe as a layer.

    Raises:
        UsageError: for an unknown name, with a suggestion.
    """
    command = next(key for key, value in COMMANDS.items() if value is cls)
    full = name if name.startswith(f"{command}/") else f"{command}/{name}"
    known = list_presets(command)
    if full not in known:
        hint = suggest(full, known) or f"presets of {command}: {', '.join(known)}"
        raise UsageError(f"unknown preset '{name}'", hint)
    return file_layer(preset_folder() / f"{full}.yaml", f"preset {full}")

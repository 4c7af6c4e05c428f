"""Image teachers as they are named on a command line: parsed, checked, loaded.

``NAME[=FILE][,key=value...]``: a short name or a timm name, local weights, settings of its own.
Parsing imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from ...config import Section
from ...errors import UsageError, suggest
from ...zoo.images.teachers import TEACHERS, NamedTeacher
from .settings import DistillSection

if TYPE_CHECKING:
    import torch

    from ...zoo.images.networks import ImageSource
    from ...zoo.spec import ClipSpec
    from .targets import Objective
    from .teacher import Teacher

# As timm's constants of these names; `load` is the only place that imports timm.
_PIXELS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


class TeacherSettings(Section):
    """One teacher; what is None is as for all teachers, or as the teacher was published."""

    model: str
    """Short name, timm name, ``hf-hub:`` or ``local-dir:`` reference."""
    file: str | None = None
    """Local weights."""
    name: str
    """Of its head and its loss; default: that of the model."""
    output: Literal["logits", "features"] | None = None
    """What it teaches: its class logits, or its pooled embedding."""
    loss: Literal["ce", "mse", "cosine", "smooth-l1"] | None = None
    """ce or mse on logits, cosine or smooth-l1 on features."""
    standardize: Literal["layernorm", "whiten", "none"] | None = None
    """What features go through before they are targets; default: layernorm."""
    weight: float = Field(1.0, gt=0)
    """What its loss is multiplied by."""
    temperature: float | None = Field(None, gt=0)
    """As `run.temperature`."""
    view: Literal["clip", "frame"] | None = None
    """As `run.view`."""
    size: int | Literal["own", "crop"] | None = None
    """As `run.size`."""
    max_entropy: float | None = Field(None, ge=0)
    """As `run.max_entropy`."""
    keep: float | None = Field(None, gt=0, le=1)
    """As `run.keep`."""
    pixels: Literal["imagenet", "half", "clip"] | None = None
    """Its pixel statistics, of weights that do not tell them."""

    @property
    def named(self) -> NamedTeacher | None:
        """The short name's entry."""
        return TEACHERS.get(self.model)


def parse_teacher(text: str) -> TeacherSettings:
    """``NAME[=FILE][,key=value...]`` as settings.

    Raises:
        UsageError: for another form, an unknown key or a wrong value.
    """
    first, *rest = text.split(",")
    model, equals, file = first.partition("=")
    if not model or (equals and not file):
        raise UsageError(f"'{text}' is no teacher", "write NAME, NAME=FILE, or NAME,view=frame")
    values: dict[str, Any] = {"model": model, "name": model, "file": file or None}
    known = [key for key in TeacherSettings.model_fields if key not in ("model", "file")]
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise UsageError(
                f"unknown setting '{part}' of teacher '{model}'",
                suggest(key, known) or f"settings are {', '.join(known)}",
            )
        values[key] = value
    try:
        return TeacherSettings.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        key, message = str(wrong["loc"][0]), wrong["msg"][0].lower() + wrong["msg"][1:]
        raise UsageError(f"{key} of teacher '{model}': {message}, not '{values[key]}'") from error


def parse_teachers(section: DistillSection) -> list[TeacherSettings]:
    """All teachers, in the one order that does not depend on how they were given: by name.

    Raises:
        UsageError: what is asked of them does not go together, or a file is not there.
    """
    teachers = sorted(map(parse_teacher, section.teachers), key=lambda one: one.name)
    names = [teacher.name for teacher in teachers]
    for teacher in teachers:
        if names.count(teacher.name) > 1:
            raise UsageError(
                f"two teachers are called '{teacher.name}'",
                "name each once, or add name=OTHER to one of them",
            )
        _check(teacher, section)
    if section.keep is not None and section.max_entropy is not None:
        raise UsageError("distill.keep and distill.max_entropy are both given", "pass one of them")
    return teachers


def _check(teacher: TeacherSettings, section: DistillSection) -> None:
    name, named = f"teacher '{teacher.name}'", teacher.named
    if teacher.file is not None and not Path(teacher.file).is_file():
        raise UsageError(f"no such weights file: {teacher.file}", "check the path in --teacher")
    if named is not None and named.needs_file and teacher.file is None:
        raise UsageError(
            f"{name} has no weights to load by name", f"pass --teacher {teacher.model}=FILE"
        )
    output = teacher.output or (named.output if named else None)
    if named is not None and (named.output, teacher.output) == ("features", "logits"):
        raise UsageError(f"{name} gives features and has no class logits", "leave output out")
    for key in ("max_entropy", "keep", "temperature"):
        if output == "features" and getattr(teacher, key) is not None:
            raise UsageError(f"{name} gives features: {key} is for class logits", f"drop {key}")
    if output == "logits" and teacher.standardize is not None:
        raise UsageError(f"{name} gives logits: standardize is for features", "drop standardize")
    if teacher.keep is not None and teacher.max_entropy is not None:
        raise UsageError(f"{name} has both keep and max_entropy", "give one of them")
    if output is not None:
        _check_loss(teacher, output)
    if section.cache is not None and (teacher.view or section.view) == "clip":
        raise UsageError(
            f"{name} sees the student's crops, which do not come again: nothing can be cached",
            "add distill.view=frame, or leave --cache out",
        )


def _check_loss(teacher: TeacherSettings, output: str) -> None:
    fitting = {"logits": ("ce", "mse"), "features": ("cosine", "smooth-l1")}[output]
    if teacher.loss is not None and teacher.loss not in fitting:
        other = "features" if output == "logits" else "logits"
        raise UsageError(
            f"teacher '{teacher.name}' gives {output}: loss={teacher.loss} is for {other}",
            f"use loss={fitting[0]} or loss={fitting[1]}, or output={other}",
        )


def load_source(teacher: TeacherSettings, *, pretrained: bool = True) -> ImageSource:
    """The image network of a teacher.

    Args:
        teacher: what is asked of it.
        pretrained: False keeps random weights where no file was given.

    Raises:
        UsageError: unknown name, or weights that do not fit.
        VidinitError: weights that cannot be fetched.
    """
    from ...zoo.images.networks import load_image_model

    return load_image_model(
        teacher.named.timm if teacher.named else teacher.model,
        weights=teacher.file,
        pretrained=pretrained,
        headless=True,
        ways=(
            f"pass a local file with --teacher {teacher.model}=FILE",
            "--teacher imagenet-lite, which needs no hub",
        ),
        also=TEACHERS,
    )


def make_teacher(
    teacher: TeacherSettings,
    source: ImageSource,
    section: DistillSection,
    spec: ClipSpec,
    device: torch.device,
) -> Teacher:
    """A loaded teacher, ready for the crops of a student.

    Args:
        teacher: what is asked of it.
        source: from `load_source`; its network is changed.
        section: what holds for all teachers.
        spec: the student's clips.
        device: what it will run on, for its precision.

    Raises:
        UsageError: it has no class logits, or takes no images of the size.
    """
    from ...console import say
    from ...data.loading.teacher_frames import FrameView
    from ...zoo.images.networks import class_names, clip_spec_of
    from .teacher import Teacher

    output = _output(teacher, source)
    _check_loss(teacher, output)
    named, own = teacher.named, clip_spec_of(source.model, frames=1, stride=1, size=None)
    asked = teacher.size or section.size
    native = (named.size if named else None) or own.size
    size = {"own": native, "crop": spec.size}.get(asked, asked)  # type: ignore[arg-type]
    assert isinstance(size, int)
    if output == "features" and not named:
        source.model.reset_classifier(0)  # type: ignore[operator]
    width = _width(source, size, own.size, teacher.name)
    interpolation = (named.interpolation if named else None) or own.interpolation
    shrinking: Literal["bicubic", "bilinear"] = (
        "bilinear" if interpolation == "bilinear" else "bicubic"
    )
    frame = (teacher.view or section.view) == "frame"
    crop_pct = (named.crop_pct if named else None) or own.crop_pct
    mean, std = _PIXELS[teacher.pixels] if teacher.pixels else (own.mean, own.std)
    seen = f"its own crop of {size}" if frame else f"the student's crop at {size}"
    say(
        f"teacher {teacher.name}: {source.arch}, weights from {source.weights}; {width} {output} "
        f"of {seen} pixels"
    )
    return Teacher(
        teacher.name,
        source.model,
        mean,
        std,
        width,
        classes=class_names(source) if output == "logits" else None,
        size=size,
        interpolation=shrinking,
        view=FrameView(size, crop_pct, shrinking) if frame else None,
        objective=_objective(teacher, section, output),
        dtype=_dtype(section.precision, device),
    )


def _output(teacher: TeacherSettings, source: ImageSource) -> str:
    if teacher.named is not None:
        return teacher.output or teacher.named.output
    if source.num_classes < 2 and teacher.output == "logits":
        raise UsageError(
            f"teacher '{teacher.name}' has no classifier",
            "use one with class logits, or output=features",
        )
    return teacher.output or ("logits" if source.num_classes > 1 else "features")


def _width(source: ImageSource, size: int, native: int, name: str) -> int:
    """Values of an output, asked of the network itself, at the size it will get."""
    import torch

    try:
        if size != native and hasattr(source.model, "set_input_size"):
            source.model.set_input_size(img_size=(size, size))  # type: ignore[operator]
        with torch.no_grad():
            found = source.model(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"teacher '{name}' takes no images of {size} pixels ({reason})",
            f"use size=own, which is {native}, or another size",
        ) from error
    return int(found.shape[1])


def _objective(teacher: TeacherSettings, section: DistillSection, output: str) -> Objective:
    from .targets import LOSSES, Objective

    loss = teacher.loss or LOSSES[output][0]
    if output == "features":
        standardize = teacher.standardize or "layernorm"
        return Objective(loss, weight=teacher.weight, standardize=standardize)
    own = teacher.keep is not None or teacher.max_entropy is not None
    return Objective(
        loss,
        temperature=teacher.temperature or section.temperature,
        weight=teacher.weight,
        max_entropy=teacher.max_entropy if own else section.max_entropy,
        keep=teacher.keep if own else section.keep,
        normalize=section.normalize,
    )


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a teacher computes in; auto is half precision where a GPU makes it worth its while."""
    import torch

    if precision == "auto":
        precision = "fp16" if device.type == "cuda" else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

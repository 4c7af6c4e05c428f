"""Frozen image models that teach by single frames: loaded, and asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...console import say
from ...data.loading.teacher_frames import CROPS, FrameView
from ...data.pixels.batch import normalize
from ...errors import UsageError
from ...zoo.families.vit import is_vit
from ...zoo.images.networks import ImageSource, class_names, clip_spec_of, load_image_model
from ...zoo.images.teacher_names import TEACHERS
from ...zoo.spec import IMAGENET, ClipSpec
from .settings import LOSSES, DistillSection, TeacherSettings, check_loss
from .targets import Objective

_PIXELS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


@dataclass
class Teacher:
    """A frozen image model and its objective.

    Attributes:
        name: of its head and its loss.
        model: takes normalized images (N, 3, H, W), returns logits or embeddings (N, width).
        mean, std: its pixel statistics.
        width: values of an output.
        classes: names of its logits, or None.
        size: side in pixels to which it gets the student's crops resized; None leaves them.
        interpolation: how.
        view: its own crop of whole frames, in place of the student's crop.
        whole: whole frames as its maps are made of, in place of the student's crop.
        student: clips of the student, whose crops it sees.
        objective: its loss.
        dtype: of its computations.
        rounding: type that its outputs are rounded to, as a cache keeps them; None for no rounding.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    classes: list[str] | None = None
    size: int | None = None
    interpolation: str = "bicubic"
    view: FrameView | None = None
    whole: FrameView | None = None
    student: ClipSpec = field(default_factory=ClipSpec)
    objective: Objective = field(default_factory=Objective)
    dtype: torch.dtype = torch.float32
    rounding: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    def to(self, device: torch.device) -> None:
        """Bring the model to a device, in the precision that it computes in."""
        self.model.to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Outputs (N, width), float32, of images (N, 3, H, W) with its own pixel statistics."""
        return self._computed(self.model, images)

    @torch.no_grad()
    def maps(self, images: Tensor) -> Tensor:
        """Last maps (N, h, w, C), float32, of such images; of transformers the patch tokens."""
        return self._computed(self._last_maps, images)

    @cached_property
    def maps_shape(self) -> tuple[int, int, int]:
        """(h, w, C) of the maps of images of `size`, asked of the network itself.

        Raises:
            UsageError: what it has before its head are no maps.
        """
        parameter = next(self.model.parameters())
        side = self.size or self.student.size
        try:
            with torch.no_grad():
                found = self._last_maps(torch.zeros(1, 3, side, side).to(parameter))
        except (AttributeError, RuntimeError) as error:
            raise UsageError(
                f"teacher '{self.name}' has no maps of its images", "use distill.target=logits"
            ) from error
        h, w, c = found.shape[1:]
        return h, w, c

    def _last_maps(self, images: Tensor) -> Tensor:
        model: Any = self.model
        found = model.forward_features(images)
        if found.dim() == 3:  # (N, L, C)
            found = found[:, getattr(model, "num_prefix_tokens", 0) :]
            side = round(found.shape[1] ** 0.5)
            return found.unflatten(1, (side, -1))
        last = found.shape[-1] == model.num_features != found.shape[1]
        # Channels last, as Swin and its kin have it, or (N, C, h, w).
        return found if last else found.permute(0, 2, 3, 1)

    def _computed(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        images = images.to(self.dtype, memory_format=torch.channels_last)
        # Its precision is its own: the student's autocast does not reach it.
        with torch.autocast(images.device.type, enabled=False):
            found = network(images)
        if found.dtype != torch.float64:
            found = found.float()
        return found if self.rounding is None else found.to(self.rounding).to(found.dtype)

    def of_crops(self, crops: Tensor, spec: ClipSpec) -> Tensor:
        """Outputs (N, width) of the student's own crops.

        Args:
            crops: (N, 3, H, W), normalized for the student.
            spec: with the student's pixel statistics.
        """
        return self.outputs(self.sized(crops, spec))

    def sized(self, crops: Tensor, spec: ClipSpec) -> Tensor:
        """The student's crops at its own size, with its own pixel statistics; see `of_crops`."""
        same = tuple(spec.mean) == tuple(self.mean) and tuple(spec.std) == tuple(self.std)
        if self.size in (None, crops.shape[-1]):
            return crops if same else self._own(_rgb(crops, spec))
        rgb = F.interpolate(
            _rgb(crops, spec),
            size=(self.size, self.size),
            mode=self.interpolation,
            align_corners=False,
            antialias=True,
        )
        return self._own(rgb.clamp_(0, 1))  # bicubic kernels overshoot at edges

    def of_bytes(self, images: Tensor) -> Tensor:
        """Outputs (N, width) of images as a data set cuts them, uint8 (N, H, W, 3)."""
        if not len(images):
            return torch.empty(0, self.width, device=images.device)
        return self.outputs(normalize(images[:, None], self.mean, self.std)[:, :, 0])

    def maps_of_bytes(self, images: Tensor) -> Tensor:
        """Maps (N, h, w, C) of such images, N at least 1."""
        return self.maps(normalize(images[:, None], self.mean, self.std)[:, :, 0])

    def _own(self, rgb: Tensor) -> Tensor:
        return (rgb - _column(self.mean, rgb)) / _column(self.std, rgb)


def crops_of(batch: dict[str, Any], spec: ClipSpec, numbers: Tensor) -> tuple[Tensor, ClipSpec]:
    """Some frames of clips as a student sees them, and their pixel statistics.

    Args:
        batch: with ``clip`` (B, C, T, H, W), normalized for the student; of a student that does not
            see RGB the picked frames are in it as `CROPS`.
        spec: of the student.
        numbers: which frames of each clip, int64 (B, K); with `CROPS` these are the picked ones.

    Returns:
        (B * K, 3, H, W), RGB.
    """
    if CROPS in batch:
        images = batch[CROPS].flatten(0, 1)
        return normalize(images[:, None], IMAGENET.mean, IMAGENET.std)[:, :, 0], IMAGENET
    frames = batch["clip"].permute(0, 2, 1, 3, 4)  # (B, T, 3, H, W)
    if spec.channels == "bgr":  # teachers see RGB in any case
        frames = frames.flip(2)
    rows = torch.arange(len(numbers), device=frames.device)[:, None]
    return frames[rows, numbers].flatten(0, 1), spec


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).view(1, 3, 1, 1)


def _rgb(images: Tensor, spec: ClipSpec) -> Tensor:
    """Pixels in [0, 1] from normalized ones."""
    return images * _column(spec.std, images) + _column(spec.mean, images)


def load_source(teacher: TeacherSettings, *, pretrained: bool = True) -> ImageSource:
    """The image network of a teacher.

    Args:
        teacher: its settings.
        pretrained: False keeps random weights where no file was given.

    Raises:
        UsageError: unknown name, or weights that do not fit.
        VidinitError: weights that cannot be fetched.
    """
    found = load_image_model(
        teacher.named.timm if teacher.named else teacher.model,
        weights=teacher.file,
        pretrained=pretrained,
        ways=(
            f"pass a local file with --teacher {teacher.model}=FILE",
            "--teacher imagenet-lite, which needs no hub",
        ),
        also=TEACHERS,
    )
    for note in found.notes:
        say(f"teacher {teacher.name}: {note}")
    return found


def make_teacher(
    teacher: TeacherSettings,
    source: ImageSource,
    section: DistillSection,
    spec: ClipSpec,
    device: torch.device,
    patches: int | None = None,
) -> Teacher:
    """A loaded teacher, ready for the crops of a student.

    Args:
        teacher: its settings.
        source: from `load_source`; its network is changed.
        section: settings of all teachers.
        spec: the student's clips.
        device: that it will run on, for its precision.
        patches: of a row of the student's tokens, where a teacher with size=own is to have as many.

    Raises:
        UsageError: it has no class logits, or takes no images of the size.
    """
    output = _output(teacher, source)
    check_loss(teacher, output)
    named, own = teacher.named, clip_spec_of(source.model, frames=1, stride=1, size=None)
    asked = teacher.size or section.size
    native = (named.size if named else None) or own.size
    if patches is not None and is_vit(source.model):
        native = patches * int(source.model.patch_embed.patch_size[0])  # type: ignore[union-attr, index]
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
    whole = None
    if frame and "tokens" in section.targets:
        whole = FrameView(size, 1.0, shrinking, whole=True)
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
        whole=whole,
        student=spec,
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
        keep=teacher.keep if own else section.one_keep,
        normalize=section.normalize,
    )


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type a teacher computes in; auto is half precision where a GPU gains by it."""
    if precision == "auto":
        precision = "fp16" if device.type == "cuda" else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


class SideStream:
    """Work that a GPU does in parallel with the work that follows; elsewhere it is done first.

    ``with side(device): ...`` queues work on a stream of its own; after `join` its results may
    be used.
    """

    def __init__(self) -> None:
        self._stream: Any = None

    @contextmanager
    def __call__(self, device: torch.device) -> Iterator[None]:
        """Queue what is inside beside the device's current work, once that is where it is now."""
        if device.type != "cuda":
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self, results: list[Tensor]) -> None:
        """Let the current stream wait for the queued work, and keep its results for it."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for result in results:
            result.record_stream(current)

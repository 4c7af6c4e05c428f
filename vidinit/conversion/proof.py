"""The proof of a conversion: on a still clip the video model equals the image model.

A difference of logits means nothing by itself. It is judged against how far apart the logits of two
images are: a network whose logits are the same for all images, or whose residual branches return
zero, would agree with anything. Where float32's rounding could be all there is of a difference, it
is measured again in double precision. Where weights are random, and where parts of them are silent,
copies of both networks get random gains first (`shaken`).
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..zoo.base import VideoModel
from ..zoo.modify.eval_mode import in_eval_mode

CarryOver = Callable[[nn.Module, VideoModel], object]
"""Fills a video model with the weights of an image network; both are of one precision."""

TOLERANCE = 1e-4
"""Largest difference of an exact conversion, as a share of the spread of the logits."""

CONSTANT = 1e-7
"""Logits whose spread is below this share of the largest, in double precision, are constant."""

ORDER = 1e-5
"""Smallest `order_sensitivity` of a model that sees the order of frames; less is rounding."""

SILENT = 1e-3
"""A gain or kernel with no larger entry lets nothing through: layer scales begin at 1e-6."""


@dataclass(frozen=True)
class Proof:
    """Measurements of the still-clip check.

    Attributes:
        max_difference: largest difference of two logits, video against image.
        scale: largest logit of the image model, for comparison.
        spread: largest difference between two images' logits, which ``max_difference`` is judged
            by.
        frames: length of the clip.
        size: side of the frame in pixels.
        isolated: of a frozen tower, whose blocks' outputs are compared in place of logits: True
            where no gradient reached it, and all of the side network that is read got one.
        double: the difference, scale and spread in double precision, where float32 could not tell;
            None where it could.
        order: see `order_sensitivity`; None where it was not measured.
        shaken: True where copies of both networks with random gains were compared.
    """

    max_difference: float
    scale: float
    spread: float
    frames: int
    size: int
    isolated: bool | None = None
    double: tuple[float, float, float] | None = None
    order: float | None = None
    shaken: bool = False

    @property
    def judged(self) -> tuple[float, float, float]:
        """Difference, scale and spread by which the verdict is given."""
        return self.double or (self.max_difference, self.scale, self.spread)

    @property
    def reason(self) -> str:
        """Why the weights tell nothing, as a sentence; empty where they do."""
        _, scale, spread = self.judged
        what = "logits" if self.isolated is None else "outputs of the blocks"
        if not all(map(math.isfinite, self.judged)):
            return f"the {what} of these weights are not finite numbers"
        if spread <= CONSTANT * scale:
            return f"the {what} of these weights are the same for different images"
        return ""

    @property
    def exact(self) -> bool | None:
        """True where the difference is rounding: below 1e-4 of the spread of the logits.

        None where the weights tell nothing, see `reason`. Of a frozen tower: True where there is no
        difference, and the tower is isolated.
        """
        if self.reason:
            return None
        if self.isolated is not None:
            return self.max_difference == 0.0 and self.isolated
        difference, _, spread = self.judged
        return difference < TOLERANCE * spread

    @property
    def verdict(self) -> str:
        """``exact``, ``not exact`` or ``not told by these weights``."""
        words = {True: "exact", False: "not exact", None: "not told by these weights"}
        return words[self.exact]

    @property
    def sees_order(self) -> bool | None:
        """True where the model tells a clip from its reverse; None where it was not measured."""
        return None if self.order is None else self.order > ORDER


def still_frames(count: int, size: int, channels: int = 3) -> Tensor:
    """Normalized test frames (count, channels, size, size), always the same: blobs and grain."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, channels, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return smooth + 0.2 * torch.randn(count, channels, size, size, generator=generator)


def moving_clip(frames: int, size: int, channels: int = 3) -> Tensor:
    """A normalized test clip (1, channels, frames, size, size): a window over a larger picture."""
    step = max(size // 16, 1)
    picture = still_frames(1, size + step * (frames - 1), channels)[0]
    corners = [i * step for i in range(frames)]
    windows = [picture[:, at : at + size, at : at + size] for at in corners]
    return torch.stack(windows, dim=1)[None]


def prove(
    image_model: nn.Module,
    video_model: VideoModel,
    device: torch.device | str = "cpu",
    count: int = 2,
    carry_over: CarryOver | None = None,
) -> Proof:
    """Compare logits on clips made of one repeated frame, in eval mode and float32, as converted.

    Where that leaves it open whether a difference is rounding, both are compared in double
    precision, too, and the weights carried over in it. Of an image network without a classifier
    (``num_classes`` of 0) the features are compared. Both models end up on the CPU, in float32.

    Args:
        image_model: takes (N, C, S, S), returns logits (N, classes).
        video_model: the converted model; its `spec` gives frames and size.
        device: where to compute.
        count: number of different frames.
        carry_over: fills a video model with the weights of an image network, as the conversion
            did; without it the weights in double precision are those that were rounded to float32.
    """
    measured = _measure(image_model, video_model, device, count)
    difference, scale, spread = measured
    double = None
    clear = difference < TOLERANCE * spread and spread > 1e-2 * scale
    # Even a large difference may be rounding: networks with random gains can multiply it by 1e6.
    if not clear and all(map(math.isfinite, measured)):
        # On a GPU without double precision (Apple's) the CPU has to do.
        place = "cpu" if torch.device(device).type == "mps" else device
        with contextlib.suppress(RuntimeError):  # networks that make float32 tensors as they run
            video, image = copy.deepcopy(video_model).double(), copy.deepcopy(image_model).double()
            if carry_over is not None:
                carry_over(image, video)
            double = _measure(image, video, place, count)
    spec = video_model.spec
    return Proof(difference, scale, spread, spec.frames, spec.size, double=double)


@torch.no_grad()
def _measure(
    image_model: nn.Module,
    video_model: VideoModel,
    device: torch.device | str,
    count: int,
) -> tuple[float, float, float]:
    """Largest difference, scale and spread of the logits on still clips."""
    image_model.to(device).eval()
    video_model.to(device)
    spec, dtype = video_model.spec, next(image_model.parameters()).dtype
    images = still_frames(count, spec.size, len(spec.mean)).to(device, dtype)
    want = image_model(images)
    clips = images.unsqueeze(2).expand(-1, -1, spec.frames, -1, -1)
    has_logits = getattr(image_model, "num_classes", 1) != 0
    with in_eval_mode(video_model):
        got = video_model(clips) if has_logits else video_model.embed(clips)
    image_model.cpu()
    video_model.cpu()
    difference = float((got - want).abs().max())
    return difference, float(want.abs().max()), float((want[0] - want[-1]).abs().max())


@torch.no_grad()
def order_sensitivity(
    video_model: VideoModel,
    device: torch.device | str = "cpu",
    *,
    features: bool = False,
    spread: float | None = None,
) -> float | None:
    """By how much the output moves when the frames of a moving clip are reversed.

    Args:
        video_model: with a `spec` of frames and size.
        device: where to compute.
        features: compare the features, not the logits.
        spread: difference of two images' outputs, where it is known; else that of the moving clip
            and a still clip of another picture is taken.

    Returns:
        The largest movement, as a share of the spread; None where that is 0 or not finite.
    """
    spec = video_model.spec
    channels = len(spec.mean)
    clip = moving_clip(spec.frames, spec.size, channels)
    clips = [clip, clip.flip(2)]
    if spread is None:
        clips.append(still_frames(2, spec.size, channels)[1:, :, None].expand_as(clip))
    video_model.to(device)
    with in_eval_mode(video_model):
        batch = torch.cat(clips).to(device)
        found = video_model.embed(batch) if features else video_model(batch)
    video_model.cpu()
    moved = float((found[0] - found[1]).abs().max())
    if spread is None:
        spread = float((found[0] - found[2]).abs().max())
    return moved / spread if spread > 0 and math.isfinite(moved) and math.isfinite(spread) else None


def silent_parts(model: nn.Module) -> list[str]:
    """Parameters through which an image network passes nothing, or next to nothing, by name.

    They are the gains of norms, layer scales and kernels of which no entry is above 1e-3: fresh
    networks begin their residual branches so. A change behind one of them cannot show in the
    logits.
    """
    return [
        name
        for name, parameter in model.named_parameters()
        if _is_gain_or_kernel(name) and float(parameter.detach().abs().max()) < SILENT
    ]


@torch.no_grad()
def shaken(image_model: nn.Module, images: Tensor, seed: int = 0) -> nn.Module:
    """A copy of an image network with random gains, shifts, layer scales and statistics.

    Every part of it then reaches the logits. Kernels that are there stay as they are, those that
    are zero become random. Batch norms get the statistics of ``images``, as training would give
    them, and somewhat changed, so that neither activations nor gates saturate.

    Args:
        image_model: any image network; it is not changed.
        images: (N, C, S, S), N of 2 or more.
        seed: of the random numbers; those of torch's global generator are not used.
    """
    model = copy.deepcopy(image_model).train()  # networks that keep what they computed drop it
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator).add_(0.5).to(like)

    def normal(like: Tensor, std: float) -> Tensor:
        return (std * torch.randn(like.shape, generator=generator)).to(like)

    for name, parameter in model.named_parameters():
        is_vector = parameter.numel() == max(parameter.shape, default=1)
        if is_vector and _is_gain_or_kernel(name):
            parameter.copy_(uniform(parameter))
        elif is_vector:
            parameter.add_(normal(parameter, 0.1))
        elif _is_gain_or_kernel(name):
            usual = (parameter.shape[0] / parameter.numel()) ** 0.5  # 1 / sqrt(fan in)
            if float(parameter.std()) < 0.1 * usual:
                parameter.copy_(normal(parameter, usual))
        elif float(parameter.abs().max()) < SILENT:
            parameter.copy_(normal(parameter, 0.02))
    model.eval()
    norms = [m for m in model.modules() if isinstance(getattr(m, "running_var", None), Tensor)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # type: ignore[assignment]
        norm.train()
    model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        mean, var = norm.running_mean, norm.running_var
        assert isinstance(mean, Tensor) and isinstance(var, Tensor)
        # Responses of dead channels have no variance: a norm would blow up what other images give.
        var.clamp_(min=float(var.mean()) * 1e-2 + 1e-12)
        mean.add_(normal(mean, 0.1) * var.sqrt())
        var.mul_(uniform(var))
    return model


def prove_shaken(
    image_model: nn.Module,
    video_model: VideoModel,
    carry_over: CarryOver,
    device: torch.device | str = "cpu",
) -> Proof:
    """`prove` on copies of both networks with random gains, for weights that cannot tell.

    Args:
        image_model: takes (N, C, S, S), returns logits (N, classes).
        video_model: the converted model.
        carry_over: fills a video model with the weights of an image network, as the conversion
            does.
        device: where to compute.
    """
    spec = video_model.spec
    source = shaken(image_model, still_frames(4, spec.size, len(spec.mean)))
    target = copy.deepcopy(video_model)
    carry_over(source, target)
    proof = prove(source, target, device, carry_over=carry_over)
    has_logits = getattr(source, "num_classes", 1) != 0
    order = order_sensitivity(target, device, features=not has_logits, spread=proof.spread)
    if proof.double is not None:  # rounding in weights that nobody has is no concern of anybody's
        difference, scale, spread = proof.double
        proof = replace(proof, max_difference=difference, scale=scale, spread=spread)
    return replace(proof, order=order, shaken=True)


_PARTS_WITHOUT_GAIN = re.compile(
    r"bias|beta|pos_embed|token|position|\babs_pos|rel_pos|relative|logit_scale|temperature|\btau\b"
)


def _is_gain_or_kernel(name: str) -> bool:
    """True for parameters that multiply what passes; not for what is added, and for attention's."""
    return _PARTS_WITHOUT_GAIN.search(name) is None

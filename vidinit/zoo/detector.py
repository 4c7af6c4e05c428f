"""A detector of actions: of boxes, given or its own, it says what the people in them do.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019, section 5, after Gu et
al., "AVA", CVPR 2018: the maps of a video model are pooled over time, RoIAlign reads a grid of a
box, and the maximum over the grid is classified. Any model of the zoo is a trunk.

Shapes in comments: B clips, N boxes of all of them, C classes, D channels of the maps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from .base import VideoModel
from .detect_settings import Detect, DetectSettings
from .modify.output_stride import STRIDE, set_output_stride, why_no_output_stride
from .names import check_option
from .proposals import KeyFrameProposals
from .spec import ClipSpec

__all__ = ["DetectOutputs", "DetectSettings", "Detector", "as_detector", "default_stride"]

FINE_LAYER = "mixed4f"
"""Of the Inception family the last layer whose maps have a position for every 16 pixels."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the differences of centers and of logarithmic sides (Fast R-CNN's)."""


class DetectOutputs(NamedTuple):
    """The outputs of a detector for N boxes: logits (N, outputs), and deltas (N, 4) or None."""

    logits: Tensor
    deltas: Tensor | None


class BoxHead(nn.Module):
    """Dropout, a hidden layer with a ReLU where there is one, logits, and deltas where asked for.

    Args:
        features: of a box.
        outputs: of the last layer.
        settings: see `DetectSettings`.
    """

    def __init__(self, features: int, outputs: int, settings: DetectSettings) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.hidden: nn.Linear | None = None
        if settings.hidden is not None:
            self.hidden = nn.Linear(features, settings.hidden)
            features = settings.hidden
        self.regress: nn.Linear | None = None
        if settings.regress:
            self.regress = nn.Linear(features, 4)
            nn.init.normal_(self.regress.weight, std=0.001)  # Fast R-CNN's; boxes stay at first
            nn.init.zeros_(self.regress.bias)
        self.classify = nn.Linear(features, outputs)
        self.reset(outputs)

    def reset(self, outputs: int) -> None:
        """A new last layer, N(0, 0.01) and zero bias."""
        old = self.classify.weight
        self.classify = nn.Linear(old.shape[1], outputs).to(old.device, old.dtype)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def forward(self, features: Tensor) -> DetectOutputs:
        """Features of boxes (N, D) to logits and deltas."""
        features = self.dropout(features)
        if self.hidden is not None:
            features = F.relu(self.hidden(features))
        deltas = None if self.regress is None else self.regress(features)
        return DetectOutputs(self.classify(features), deltas)


class Detector(nn.Module):
    """A trunk and what reads boxes in its maps.

    Maps (B, T', H', W', D) are averaged over time (or their maximum is taken), RoIAlign reads a
    grid of resolution x resolution samples of each box, with as many points a sample as its size
    asks for (sampling ratio 0), and the maximum over the grid, of each channel, is the feature of
    the box. With ``context`` the frame's own feature stands behind it: the maps averaged to a grid
    of that resolution, and the maximum over it. Then dropout, a hidden layer with a ReLU where
    asked for, and a linear layer.

    The trunk keeps the classifier it came with, which no detector uses or trains:
    ``detector.trunk`` is a classifier still, in as far as its features have not changed.

    Args:
        trunk: the video model; ``settings.stride`` must be set already (`as_detector` does it).
        classes: names of the classes, or how many there are.
        settings: see `DetectSettings`.

    Attributes:
        trunk, settings: as given.
        head: what makes logits of the boxes' features.
        classes: names of the classes, or None.
        num_classes: C.
        proposals: what proposes boxes in key frames, see `own_boxes`; None where they are given.

    Raises:
        UsageError: no classes, names that are there twice, a layer that the trunk has not, and as
            `KeyFrameProposals`.
    """

    def __init__(
        self, trunk: VideoModel, classes: Sequence[str] | int, settings: DetectSettings
    ) -> None:
        super().__init__()
        if settings.layer is not None:
            _check_layer(trunk, settings.layer)
        self.trunk = trunk
        self.settings = settings
        width = trunk.num_features
        if settings.layer is not None:
            width = trunk.map_layers()[settings.layer]
        self.classes, self.num_classes = _counted(classes)
        like = next(trunk.parameters())
        features = width * (2 if settings.context else 1)
        self.head = BoxHead(features, self.num_outputs, settings).to(like.device)
        self.proposals: KeyFrameProposals | None = None
        if settings.proposals is not None:
            self.proposals = KeyFrameProposals(settings.proposals, trunk.spec).to(like.device)

    def reset_head(self, classes: Sequence[str] | int) -> None:
        """A new last layer for these classes, N(0, 0.01) and zero bias; all else stays.

        Raises:
            UsageError: no classes, and names that are there twice.
        """
        self.classes, self.num_classes = _counted(classes)
        self.head.reset(self.num_outputs)

    # ------------------------------------------------------------------------------ forward pass

    def forward(self, clip: Tensor, boxes: Tensor) -> Tensor:
        """Logits of boxes.

        Args:
            clip: normalized, (B, 3, T, H, W).
            boxes: float (N, 5): the number of the clip in the batch, then x1, y1, x2, y2 in pixels
                of the clip, where the first pixel reaches from 0 to 1. They may reach beyond the
                clip, and N may be 0.

        Returns:
            (N, C) before the sigmoid; of kind ``single`` (N, C + 1) before the softmax, the
            background last. See `scores`.

        Raises:
            ValueError: for boxes of another form, values that are not finite, and numbers of clips
                that are not in the batch.
        """
        return self.outputs(clip, boxes).logits

    def outputs(self, clip: Tensor, boxes: Tensor) -> DetectOutputs:
        """`forward`, and what moves the boxes, (N, 4), of a detector that regresses."""
        check_boxes(boxes, clip)
        return self.read(self.pooled_maps(clip), boxes, (clip.shape[3], clip.shape[4]))

    def pooled_maps(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalized clips to the maps that boxes are read in, (B, D, H', W')."""
        maps = self.trunk.maps(clip, self.settings.layer)
        pooled = maps.mean(1) if self.settings.time == "mean" else maps.amax(1)
        return pooled.permute(0, 3, 1, 2)

    def read(self, maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> DetectOutputs:
        """The outputs for boxes in maps that are there already.

        Args:
            maps: of `pooled_maps`, (B, D, H', W').
            boxes: as `forward` takes them; they are not checked again.
            size: height and width of the clip in pixels.
        """
        outputs: DetectOutputs = self.head(self._features(maps, boxes, size))
        return outputs

    def _features(self, maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, D, H', W') and boxes to the boxes' features, (N, D), or (N, 2 D) with the frame's."""
        from torchvision.ops import roi_align

        own = maps.dtype
        # The operator has no half precision on all devices, and positions need their digits.
        maps = maps.to(torch.promote_types(own, torch.float32))
        down, across = (
            pixels_of_position(side, cells, in_patches=self.trunk.in_patches)
            for side, cells in zip(size, maps.shape[2:], strict=True)
        )
        grid, aligned = self.settings.resolution, self.settings.aligned
        scale = boxes.new_tensor([1.0, 1 / across, 1 / down, 1 / across, 1 / down])
        rois = (boxes * scale).to(maps.dtype)
        features = roi_align(maps, rois, grid, 1.0, 0, aligned).amax(dim=(2, 3))
        if self.settings.context:
            frame = F.adaptive_avg_pool2d(maps, grid).amax(dim=(2, 3))
            features = torch.cat([features, frame[boxes[:, 0].long()]], dim=1)
        return features.to(own)

    def own_boxes(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes that the detector itself proposes, (N, 5), and how sure they are, (N,), 0 to 1.

        Args:
            clip: as `forward` takes it.

        Raises:
            ValueError: boxes are given to this detector.
        """
        if self.proposals is None:
            raise ValueError("this detector proposes no boxes: give them")
        return self.proposals(clip, self.spec)  # type: ignore[no-any-return]

    # ------------------------------------------------------------------- what the outputs mean

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (N, outputs) to probabilities (N, C), without the background's."""
        if self.settings.kind == "multi":
            return logits.sigmoid()
        return logits.softmax(dim=1)[:, :-1]

    def moved(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """Boxes (N, 5) where deltas (N, 4) move them: Fast R-CNN's, by torchvision's coder."""
        found = _box_coder().decode_single(deltas.float(), boxes[:, 1:].float())
        return torch.cat([boxes[:, :1], found.to(boxes.dtype)], dim=1)

    def deltas_to(self, boxes: Tensor, truth: Tensor) -> Tensor:
        """Deltas (N, 4) that move boxes (N, 5) to true ones, (N, 4) or (N, 5).

        Both must have an area: the inverse of `moved`.
        """
        return _box_coder().encode_single(truth[:, -4:].float(), boxes[:, 1:].float())

    # -------------------------------------------------------------------------------- the model

    @property
    def kind(self) -> str:
        """``multi`` or ``single``, see `DetectSettings`."""
        return self.settings.kind

    @property
    def num_outputs(self) -> int:
        """Columns of the logits: C, and one more of kind ``single``."""
        return self.num_classes + (self.settings.kind == "single")

    @property
    def name(self) -> str:
        """The trunk's."""
        return self.trunk.name

    @property
    def options(self) -> dict[str, Any]:
        """The trunk's."""
        return self.trunk.options

    @property
    def in_channels(self) -> int:
        """The trunk's."""
        return self.trunk.in_channels

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """The steps that made the weights, oldest first: the trunk's."""
        return self.trunk.lineage

    @lineage.setter
    def lineage(self, steps: list[dict[str, Any]]) -> None:
        self.trunk.lineage = steps

    @property
    def spec(self) -> ClipSpec:
        """How clips are cut and normalized: the trunk's. Setting it makes the trunk take such."""
        return self.trunk.spec

    @spec.setter
    def spec(self, spec: ClipSpec) -> None:
        self.trunk.spec = spec

    def card(self) -> Detect:
        """The section ``detect`` of model.yaml."""
        return Detect(**self.settings.as_dict(), num_classes=self.num_classes, classes=self.classes)

    def temporal_parameters(self) -> set[str]:
        """Names of the parameters of kernels that look across time, and of their norms."""
        return {f"trunk.{name}" for name in self.trunk.temporal_parameters()}

    def head_parameters(self) -> set[str]:
        """Names of the parameters that are not the trunk's."""
        return {
            name for name, _ in self.named_parameters() if name.startswith(("head.", "proposals."))
        }

    def layer_ids(self) -> dict[str, int]:
        """The trunk's, see `VideoModel.layer_ids`; what reads its maps is the last layer."""
        ids = {f"trunk.{name}": number for name, number in self.trunk.layer_ids().items()}
        last = max(ids.values())
        return ids | dict.fromkeys(self.head_parameters(), last)

    def unused_parameters(self) -> set[str]:
        """Names of parameters that no output depends on.

        They are the trunk's classifier, layers behind the one that is read, and what pools a
        transformer's tokens; read off a backward pass of a copy without values.
        """
        shadow = copy.deepcopy(self.trunk).to("meta").requires_grad_(True)
        spec = self.spec
        clip = torch.empty(1, self.in_channels, spec.frames, spec.size, spec.size, device="meta")
        named = dict(shadow.named_parameters())
        out = shadow.maps(clip, self.settings.layer)
        if not out.requires_grad:  # a frozen encoder
            return {f"trunk.{name}" for name in named}
        found = torch.autograd.grad(out.sum(), list(named.values()), allow_unused=True)
        pairs = zip(named, found, strict=True)
        return {f"trunk.{name}" for name, gradient in pairs if gradient is None}

    def freeze_unused(self) -> None:
        """Take `unused_parameters` out of training: processes that train together need it."""
        unused = self.unused_parameters()
        for name, parameter in self.named_parameters():
            if name in unused:
                parameter.requires_grad_(False)

    def set_grad_checkpointing(self, on: bool = True) -> None:
        """As `VideoModel.set_grad_checkpointing`."""
        self.trunk.set_grad_checkpointing(on)


def as_detector(
    model: VideoModel, classes: Sequence[str] | int, settings: DetectSettings
) -> Detector:
    """A detector with this model as its trunk and a new head.

    Args:
        model: it is not copied, and with ``settings.stride`` changed in place.
        classes: names of the classes, or how many there are.
        settings: see `DetectSettings`.

    Raises:
        UsageError: no classes; a stride or a layer that the model has not, with the reason.
    """
    if settings.layer is not None:
        _check_layer(model, settings.layer)
    if settings.stride is not None and model.options.get("output_stride") != settings.stride:
        set_output_stride(model, settings.stride)
    return Detector(model, classes, settings)


def default_stride(trunk: VideoModel) -> Literal[16] | None:
    """16 where a model's last stage can be dilated; None where it cannot, or has pools."""
    return None if why_no_output_stride(trunk) else STRIDE


def _counted(classes: Sequence[str] | int) -> tuple[list[str] | None, int]:
    """Names of classes, if there are any, and how many there are."""
    names = None if isinstance(classes, int) else list(classes)
    count = classes if isinstance(classes, int) else len(classes)
    if count < 1:
        raise UsageError("a detector needs at least one class")
    if names is not None and len(set(names)) != count:
        raise UsageError("names of classes are there twice")
    return names, count


def _check_layer(model: VideoModel, layer: str) -> None:
    known = model.map_layers()
    if not known:
        raise UsageError(
            f"{model.name or type(model).__name__} has no maps of a layer '{layer}'",
            "leave detect.layer out",
        )
    check_option("detect.layer", layer, known)


def check_boxes(boxes: Tensor, clip: Tensor) -> None:
    """Raise ValueError unless boxes have the form of `Detector.forward`, and clips are there."""
    if boxes.dim() != 2 or boxes.shape[1] != 5 or not boxes.is_floating_point():
        kind = str(boxes.dtype).removeprefix("torch.")
        raise ValueError(
            "expected boxes (N, 5), floating point: number of the clip, x1, y1, x2, y2 in pixels; "
            f"got {tuple(boxes.shape)}, {kind}"
        )
    if boxes.device != clip.device:
        raise ValueError(f"boxes are on {boxes.device}, clips on {clip.device}")
    if torch.compiler.is_compiling() or boxes.is_meta:  # values are not there yet
        return
    number = boxes[:, 0]
    wrong = ~boxes.isfinite().all(1) | (number < 0) | (number >= len(clip))
    wrong |= number != number.floor()
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        values = ", ".join(f"{value:g}" for value in boxes[row].tolist())
        raise ValueError(
            f"box {row} is ({values}): expected the number of a clip, 0 to {len(clip) - 1}, and "
            "four finite values"
        )


def pixels_of_position(side: int, cells: int, *, in_patches: bool) -> float:
    """How many pixels lie from one position of a map to the next.

    Convolutions step by a power of 2 from the first pixel on, and what does not fill a whole step
    has a position, too (or, without padding, none): 298 pixels are 19 positions of 16.

    Args:
        side: of the frame in pixels.
        cells: positions of the map along it.
        in_patches: True where frames are cut into whole patches of any size.
    """
    if not in_patches:
        step = 1
        while step * cells < side:
            step *= 2
        for one in (step, step // 2):
            if one and cells in (side // one, -(-side // one)):
                return float(one)
    return side / cells


def _box_coder() -> Any:
    from torchvision.models.detection._utils import BoxCoder

    return BoxCoder(BOX_WEIGHTS)

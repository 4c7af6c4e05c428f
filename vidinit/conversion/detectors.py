"""Public checkpoints of detectors: the trunk under a code base's names, and what reads boxes in it.

PySlowFast's and pytorchvideo's networks for AVA (SLOW_8x8_R50_SHORT, SLOWFAST_32x2_R50_SHORT;
slow_r50_detection, slowfast_r50_detection): a trunk with a dilated last stage, the mean over time,
RoIAlign of 7 x 7, the maximum, and one linear layer, whose sigmoid they return.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import UsageError
from ..zoo.base import VideoModel
from ..zoo.detector import Detector, DetectSettings
from .layouts.read_write import Found, write_layout

PUBLIC = DetectSettings(stride=16, fit="whole")
"""Settings of both code bases; they see whole frames, not squares, when they are tested."""


@dataclass(frozen=True)
class BoxLayout:
    """How a code base's detectors differ from its classifiers.

    Attributes:
        head: name of the layer that makes the logits of a box.
        prefix: of the trunk's names.
        aligned: how its published weights read boxes, see `DetectSettings`.
        told: the same in a sentence.
        either: True where its code reads them either way.
        own: True where no classifier of the code base has a layer of that name.
    """

    head: str
    prefix: str
    aligned: bool
    told: str
    either: bool
    own: bool

    def names(self) -> tuple[str, str]:
        """Names of the weight and the bias of the head."""
        return f"{self.head}.weight", f"{self.head}.bias"


BOX_LAYOUTS = {
    "pyslowfast": BoxLayout(
        "head.projection",
        "",
        True,
        "boxes are read with aligned=True, as DETECTION.ALIGNED has it in PySlowFast's "
        "configurations; weights that came from Caffe2 want --no-aligned",
        True,
        False,
    ),
    "pytorchvideo": BoxLayout(
        "detection_head.proj",
        "model.",
        False,
        "boxes are read with aligned=False, as pytorchvideo's networks do",
        False,
        True,
    ),
}
"""The layouts that have detectors."""


@dataclass(frozen=True)
class FoundHead:
    """The layer of a file that makes logits of boxes.

    Attributes:
        layout: of the file.
        weight, bias: (classes, features) and (classes,).
        notes: what the file does not tell, one sentence each.
    """

    layout: str
    weight: Tensor
    bias: Tensor
    notes: tuple[str, ...]


def find_head(
    found: Found, state: Mapping[str, Tensor], outside: Mapping[str, Tensor]
) -> FoundHead | None:
    """The head of boxes in a file; None where there is none.

    PySlowFast gives that layer the name that a classifier's has: it is taken for what it is asked
    to be, and that is said.

    Args:
        found: the trunk in the file.
        state: the trunk's tensors.
        outside: the file's other tensors.
    """
    layout = BOX_LAYOUTS.get(found.layout)
    if layout is None:
        return None
    tensors = [_ending(name, outside if layout.own else state) for name in layout.names()]
    weight, bias = tensors
    if weight is None or bias is None or weight.dim() != 2 or bias.shape != weight.shape[:1]:
        return None
    notes = []
    if not layout.own:
        notes.append(
            f"{layout.head} is taken for what reads boxes, of {len(weight)} classes: the keys of "
            f"{found.layout} do not tell a detector from a classifier; --num-classes N makes a new "
            "one"
        )
    return FoundHead(found.layout, weight, bias, tuple(notes))


def reads_boxes(found: Found, outside: Mapping[str, Tensor]) -> bool:
    """True for a trunk beside which the file has a head that is told by its name."""
    layout = BOX_LAYOUTS.get(found.layout)
    return layout is not None and layout.own and find_head(found, {}, outside) is not None


def _ending(name: str, state: Mapping[str, Tensor]) -> Tensor | None:
    """The tensor of this name, behind whatever prefix."""
    return next((v for k, v in state.items() if k == name or k.endswith(f".{name}")), None)


def without_head(found: Found, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's tensors of a file, less the head of boxes."""
    head = BOX_LAYOUTS[found.layout].head
    return {key: value for key, value in state.items() if not key.startswith(f"{head}.")}


def read_head(trunk: VideoModel, head: FoundHead, *, aligned: bool | None) -> tuple[Detector, str]:
    """The detector of a public file, and a sentence on how it reads boxes.

    Args:
        trunk: with the file's weights and a dilated last stage.
        head: of the file.
        aligned: what was asked for; None for what the code base has.

    Raises:
        UsageError: a head for another trunk.
    """
    layout = BOX_LAYOUTS[head.layout]
    if head.weight.shape[1] != trunk.num_features:
        raise UsageError(
            f"{layout.head} of the file reads {head.weight.shape[1]} channels, {trunk.name} has "
            f"{trunk.num_features}",
            "--num-classes N makes a new head",
        )
    settings = replace(PUBLIC, aligned=layout.aligned if aligned is None else aligned)
    detector = Detector(trunk, len(head.weight), settings)
    detector.head.classify.load_state_dict({"weight": head.weight, "bias": head.bias})
    return detector, layout.told if aligned is None else f"boxes are read with aligned={aligned}"


def write_detector(detector: Detector, layout: str) -> dict[str, Tensor]:
    """A detector's weights as a state dict of a public code base.

    Raises:
        UsageError: a layout without detectors, and a detector or a trunk that its code cannot be.
    """
    known = BOX_LAYOUTS.get(layout)
    if known is None:
        raise UsageError(f"the layout {layout} has no detectors", f"use {' or '.join(BOX_LAYOUTS)}")
    own, want = detector.settings.as_dict(), PUBLIC.as_dict()
    free = {"dropout", "fit", "aligned"} - (set() if known.either else {"aligned"})
    want["aligned"] = known.aligned
    for key, value in want.items():
        if key not in free and own[key] != value:
            raise UsageError(
                f"the layout {layout} cannot hold this detector: there {key} is {value}, here "
                f"{own[key]}",
                "use pyslowfast, whose DETECTION.ALIGNED may be either"
                if key == "aligned"
                else "no public layout can",
            )
    trunk = write_layout(detector.trunk, layout, of_detector=True)
    layer = detector.head.classify
    written = {f"{known.prefix}{key}": value for key, value in trunk.items()}
    head = (layer.weight.detach().contiguous(), layer.bias.detach().contiguous())
    return written | dict(zip(known.names(), head, strict=True))

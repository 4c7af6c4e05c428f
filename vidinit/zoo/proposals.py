"""Where somebody may be: an image network on the key frame that proposes boxes, as S3D's detector.

Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018, section on action detection,
after Gu et al., "AVA", CVPR 2018: an image network sees the key frame alone, a region proposal
network (Ren et al., "Faster R-CNN", NeurIPS 2015) reads its maps of stride 16, and what it proposes
holds for all frames of the clip. The region proposal network is torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .images.networks import ImageSource, build_image_model
from .spec import ClipSpec

STRIDE = 16
"""Pixels from one place of the maps to the next."""

SIDES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Sides of anchors, as shares of the clip's."""

RATIOS = (0.5, 1.0, 2.0)
"""Height by width of anchors."""

SAMPLED, PEOPLE = 32, 0.25
"""Boxes of a clip that the second stage learns from, and the largest share of people in them."""

RIGHT = 0.5
"""IoU with a true box from which a box is that person."""

_BEFORE, _AFTER = 1000, 100  # proposals of a clip, before and after suppression
_OVERLAP = 0.7  # IoU above which the less sure of two proposals is dropped
_CERTAIN, _NOBODY = 0.7, 0.3  # IoU of an anchor from which it is a person, below which it is none
_ANCHORS, _SHARE = 256, 0.5  # anchors of a clip that are learned from, largest share of people


class Proposed(NamedTuple):
    """Proposals of a batch: boxes (N, 5), as a detector takes them, and scores (N,), 0 to 1.

    Those of a clip stand together, the surest first.
    """

    boxes: Tensor
    scores: Tensor


class Sampled(NamedTuple):
    """Boxes of a batch to learn from.

    Attributes:
        boxes: (N, 5).
        goals: where the person of each truly is, (N, 4); the box itself where it shows nobody.
        targets: what the person does, 1 or 0, (N, C); all 0 where it shows nobody.
        losses: of the proposals: ``objectness``, ``proposals``.
    """

    boxes: Tensor
    goals: Tensor
    targets: Tensor
    losses: dict[str, Tensor]


class KeyFrameProposals(nn.Module):
    """An image network and a region proposal network on its maps of stride 16.

    It shares nothing with a detector's trunk. Its batch norms keep the statistics they came with,
    as usual in detectors, whose batches are small. There are 12 anchors a place: of an eighth of
    the clip's side to all of it, and three shapes.

    Args:
        name: of a timm network.
        spec: of the clips: their side, which anchors go by.

    Attributes:
        name: as given.
        network: the image network, up to its last maps of stride 16.
        proposer: torchvision's `RegionProposalNetwork`.

    Raises:
        UsageError: an unknown network, one without maps of stride 16, or clips of optical flow.
    """

    mean: Tensor
    std: Tensor
    sides: Tensor

    def __init__(self, name: str, spec: ClipSpec) -> None:
        super().__init__()
        if spec.flow is not None:
            raise UsageError(
                "an image network proposes boxes in frames, and the model sees optical flow",
                "leave detect.proposals=rpn out, and give boxes",
            )
        self.name = name
        network: Any = build_image_model(name)
        self.index, channels = _maps_of_stride(network, name)
        config = network.pretrained_cfg
        network.prune_intermediate_layers([self.index], prune_norm=True, prune_head=True)
        self.network = network
        self.proposer = _proposer(channels)
        # In the state: another size of clips later on does not move the anchors.
        self.register_buffer("sides", torch.tensor([spec.size * share for share in SIDES]))
        self.register_buffer("mean", torch.tensor(config["mean"]))
        self.register_buffer("std", torch.tensor(config["std"]))

    def load(self, source: ImageSource) -> None:
        """Take the weights and the pixel statistics of an image network of the same name."""
        weights = source.model.state_dict()
        self.network.load_state_dict({name: weights[name] for name in self.network.state_dict()})
        config: Any = source.model.pretrained_cfg
        self.mean.copy_(torch.tensor(config["mean"]))
        self.std.copy_(torch.tensor(config["std"]))

    def train(self, mode: bool = True) -> KeyFrameProposals:
        """Train mode, but for batch norms."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, clip: Tensor, spec: ClipSpec) -> Proposed:
        """Proposals of clips: at most 100 of each, none of which overlaps a surer one by over 0.7.

        Args:
            clip: normalized, (B, 3, T, H, W); the key frame is T // 2.
            spec: by which they are.
        """
        found, scores, _ = self._proposed(clip, spec, None)
        numbered = [_numbered(own, place) for place, own in enumerate(found)]
        return Proposed(torch.cat(numbered), torch.cat(scores))

    def sample(
        self, clip: Tensor, spec: ClipSpec, goals: Tensor, number: Tensor, targets: Tensor
    ) -> Sampled:
        """Boxes for the second stage to learn from, and the losses of the proposals.

        They are the true boxes and the proposals, of which 32 of each clip are drawn, at most a
        quarter of them people (Fast R-CNN, https://arxiv.org/abs/1504.08083, section 2.3): a box
        that overlaps a true one by an IoU of 0.5 or more is that person, another one nobody. True
        boxes without a whole pixel are nobody's.

        Args:
            clip, spec: as `forward` takes them.
            goals: true boxes of the batch, (M, 4) in pixels of the clip.
            number: of the clip that each is in, (M,).
            targets: what they do, (M, C).
        """
        own = (goals[:, 2:] - goals[:, :2] >= 1).all(dim=1)
        goals, number, targets = goals[own], number[own], targets[own]
        truth = [goals[number == place] for place in range(len(clip))]
        found, _, losses = self._proposed(clip, spec, [{"boxes": boxes} for boxes in truth])
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for place, (boxes, true) in enumerate(zip(found, truth, strict=True)):
            drawn, goal, does = _drawn(torch.cat([boxes, true]), true, targets[number == place])
            parts.append((_numbered(drawn, place), goal, does))
        boxes, goals, targets = (torch.cat(column) for column in zip(*parts, strict=True))
        return Sampled(boxes, goals, targets, losses)

    def _proposed(
        self, clip: Tensor, spec: ClipSpec, truth: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Boxes and scores of each clip, and the losses where there is a truth."""
        from torchvision.models.detection.image_list import ImageList

        frame = clip[:, :, clip.shape[2] // 2]
        pixels = frame * _column(frame, spec.std) + _column(frame, spec.mean)
        pixels = pixels.flip(1) if spec.channels == "bgr" else pixels
        pixels = (pixels - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)
        (maps,) = self.network.forward_intermediates(
            pixels, indices=[self.index], intermediates_only=True
        )
        sizes = [(frame.shape[2], frame.shape[3])] * len(frame)
        anchors = self.proposer.anchor_generator
        anchors.cell_anchors = [anchors.generate_anchors(self.sides.tolist(), RATIOS)]
        self.proposer.train(truth is not None)
        with torch.autocast(clip.device.type, enabled=False):  # places need their digits
            boxes, losses = self.proposer(
                ImageList(pixels.float(), sizes), {"0": maps.float()}, truth
            )
        names = {"loss_objectness": "objectness", "loss_rpn_box_reg": "proposals"}
        return boxes, self.proposer.scores, {names[key]: loss for key, loss in losses.items()}


def _column(frame: Tensor, values: Sequence[float]) -> Tensor:
    """A value for each channel of (B, 3, H, W)."""
    return frame.new_tensor(values).view(1, 3, 1, 1)


def _maps_of_stride(network: Any, name: str) -> tuple[int, int]:
    """Number and channels of the last maps of stride 16.

    Raises:
        UsageError: there are none.
    """
    known = [(one["reduction"], one["num_chs"]) for one in getattr(network, "feature_info", [])]
    last = max((i for i, (step, _) in enumerate(known) if step == STRIDE), default=None)
    needed = ("prune_intermediate_layers", "forward_intermediates")
    if network.pretrained_cfg.get("fixed_input_size"):
        raise UsageError(f"{name} takes images of one size alone", "take a CNN, as resnet50")
    if last is None or not all(hasattr(network, one) for one in needed):
        raise UsageError(f"{name} has no maps of stride {STRIDE}", "take a CNN, as resnet50")
    return last, int(known[last][1])


def _proposer(channels: int) -> Any:
    from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

    class Proposer(RegionProposalNetwork):
        """Torchvision's, which keeps the scores of what it proposed last."""

        scores: list[Tensor]

        def filter_proposals(self, *args: Any) -> tuple[list[Tensor], list[Tensor]]:
            boxes, self.scores = super().filter_proposals(*args)
            return boxes, self.scores

    return Proposer(
        AnchorGenerator((SIDES,), (RATIOS,)),
        RPNHead(channels, len(SIDES) * len(RATIOS)),
        *(_CERTAIN, _NOBODY, _ANCHORS, _SHARE),
        {"training": _BEFORE, "testing": _BEFORE},
        {"training": _AFTER, "testing": _AFTER},
        _OVERLAP,
    )


def _drawn(boxes: Tensor, true: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Some boxes of a clip, where their people truly are, and what these do."""
    from torchvision.ops import box_iou

    if not len(true):
        order = torch.randperm(len(boxes))[:SAMPLED].to(boxes.device)
        return boxes[order], boxes[order], targets.new_zeros(len(order), targets.shape[1])
    overlap, person = box_iou(boxes, true).max(dim=1)
    is_person = overlap >= RIGHT
    drawn: list[Tensor] = []
    room = SAMPLED
    for group, most in ((is_person, int(SAMPLED * PEOPLE)), (~is_person, SAMPLED)):
        places = group.nonzero()[:, 0]
        order = torch.randperm(len(places))[: min(most, room)].to(places.device)
        drawn.append(places[order])
        room -= len(order)
    chosen = torch.cat(drawn)
    boxes, is_person, person = boxes[chosen], is_person[chosen], person[chosen]
    goals = torch.where(is_person[:, None], true[person], boxes)
    return boxes, goals, targets[person] * is_person[:, None]


def _numbered(boxes: Tensor, place: int) -> Tensor:
    """Boxes (N, 4) of a clip with its number before them."""
    return torch.cat([boxes.new_full((len(boxes), 1), place), boxes], dim=1)

"""A detector's own proposals: torchvision's pieces by hand, pixels, sampling, the folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torchvision.ops import box_iou

import vidinit
from vidinit.checkpoint import load_detector, save_model
from vidinit.data.pixels.batch import normalize
from vidinit.errors import UsageError
from vidinit.pipelines.detect.task import DetectTask
from vidinit.zoo.detector import Detector, DetectSettings, as_detector
from vidinit.zoo.images.networks import load_image_model
from vidinit.zoo.proposals import RATIOS, SIDES, KeyFrameProposals, _drawn
from vidinit.zoo.spec import ClipSpec

NETWORK = "test_resnet"
SPEC = ClipSpec(frames=2, stride=1, size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def proposals() -> KeyFrameProposals:
    torch.manual_seed(0)
    return KeyFrameProposals(NETWORK, SPEC)


def small(size: int = 32, kind: str = "single") -> Detector:
    torch.manual_seed(0)
    trunk = vidinit.create_model("c2d-test_resnet")
    trunk.spec = replace(trunk.spec, frames=2, size=size)
    settings = DetectSettings(kind=kind, regress=True, dropout=0.0, proposals=NETWORK, stride=16)  # type: ignore[arg-type]
    return as_detector(trunk, ["red", "blue"], settings)


def anchors_by_hand(rows: int, columns: int, sides: list[float]) -> Tensor:
    """12 anchors around the upper left corner of each place, rounded as torchvision's are."""
    shapes = torch.tensor([[s / r**0.5, s * r**0.5] for r in RATIOS for s in sides])
    half = torch.cat([-shapes, shapes], dim=1) / 2
    y, x = torch.meshgrid(torch.arange(rows) * 16.0, torch.arange(columns) * 16.0, indexing="ij")
    places = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (places + half.round()).reshape(-1, 4)


def test_losses_are_those_of_faster_rcnn_by_hand() -> None:
    """A frame of 32 x 48 has 72 anchors, so that all of them are sampled and nothing is random."""
    module = proposals().train()
    frames = torch.rand(1, 3, 2, 32, 48, generator=torch.Generator().manual_seed(1))
    clip = (frames - torch.tensor(SPEC.mean).view(3, 1, 1)[:, None]) / torch.tensor(SPEC.std).view(
        3, 1, 1
    )[:, None]
    true = torch.tensor([[4.0, 3.0, 21.0, 19.0]])
    nobody = torch.zeros(1)
    losses = module.sample(clip, SPEC, true, nobody, torch.eye(2)[:1]).losses

    plain = timm.create_model(NETWORK, features_only=True, out_indices=(3,)).eval()
    state = module.network.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    pixels = (frames[:, :, 1] - module.mean.view(3, 1, 1)) / module.std.view(3, 1, 1)
    head = module.proposer.head
    maps = F.relu(head.conv(plain(pixels)[0]))
    logits = head.cls_logits(maps)[0].permute(1, 2, 0).reshape(-1)
    moves = head.bbox_pred(maps)[0].view(12, 4, 2, 3).permute(2, 3, 0, 1).reshape(-1, 4)
    anchors = anchors_by_hand(2, 3, [32 * share for share in SIDES])
    overlap = box_iou(anchors, true)[:, 0]
    person = (overlap >= 0.7) | (overlap == overlap.max())
    counted = person | (overlap < 0.3)
    wanted = F.binary_cross_entropy_with_logits(logits[counted], person[counted].float())
    assert losses["objectness"].item() == pytest.approx(wanted.item(), rel=1e-5)
    own = anchors[person]
    side, goal = own[:, 2:] - own[:, :2], true[:, 2:] - true[:, :2]
    center = (true[:, :2] + goal / 2 - own[:, :2] - side / 2) / side
    far = moves[person] - torch.cat([center, (goal / side).log()], dim=1)
    smooth = torch.where(far.abs() < 1 / 9, 4.5 * far**2, far.abs() - 1 / 18).sum()
    wanted = smooth / counted.sum()
    assert losses["proposals"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_same_bytes_give_the_same_boxes_whatever_the_trunk_takes() -> None:
    module = proposals().eval()
    clip = torch.randint(0, 256, (2, 2, 32, 48, 3), dtype=torch.uint8)
    found = []
    for spec in (SPEC, replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3, channels="bgr")):
        shown = normalize(clip, spec.mean, spec.std, bgr=spec.channels == "bgr")
        with torch.no_grad():
            found.append(module(shown, spec))
    (boxes, scores), other = found
    assert torch.allclose(boxes, other.boxes, atol=1e-3)
    assert torch.allclose(scores, other.scores, atol=1e-5)
    inside = (boxes[:, 1:] >= 0) & (boxes[:, 1:] <= torch.tensor([48.0, 32.0, 48.0, 32.0]))
    assert inside.all() and (boxes[:, 3:] > boxes[:, 1:3]).all()
    assert boxes[:, 0].unique().tolist() == [0, 1] and (boxes[:, 0].diff() >= 0).all()
    for number in (0, 1):
        own, sure = boxes[boxes[:, 0] == number, 1:], scores[boxes[:, 0] == number]
        assert len(own) <= 100 and (sure.diff() <= 0).all()
        assert (box_iou(own, own) - 2 * torch.eye(len(own))).max() <= 0.7


def test_boxes_are_drawn_as_in_fast_rcnn() -> None:
    torch.manual_seed(0)
    true = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    does = torch.tensor([[0.0, 1, 0], [0, 0, 0]])
    near = torch.tensor([[0.0, 0, 10, 6], [0, 0, 10, 4], [20, 20, 30, 29]])  # IoU 0.6, 0.4, 0.9
    boxes, goals, targets = _drawn(torch.cat([near, true]), true, does)
    found = {
        tuple(b): (tuple(g), tuple(t))
        for b, g, t in zip(boxes.tolist(), goals.tolist(), targets.tolist(), strict=True)
    }
    assert len(found) == 5
    assert found[0, 0, 10, 6] == ((0, 0, 10, 10), (0, 1, 0))
    assert found[0, 0, 10, 4] == ((0, 0, 10, 4), (0, 0, 0))  # nobody
    assert found[20, 20, 30, 29] == ((20, 20, 30, 30), (0, 0, 0))
    many = torch.cat([true[:1].repeat(50, 1), near[1:2].repeat(50, 1)])
    boxes, _, targets = _drawn(many, true, does)
    assert (len(boxes), int(targets.sum())) == (32, 8)  # a quarter are people
    boxes, goals, targets = _drawn(near, true[:0], does[:0])
    assert len(boxes) == 3 and torch.equal(boxes, goals) and not targets.any()


def test_a_folder_keeps_the_proposals_and_their_anchors(tmp_path: Path) -> None:
    model = small().eval()
    assert model.proposals is not None
    model.proposals.load(load_image_model(NETWORK, pretrained=False))
    model.spec = replace(model.spec, size=48)  # after the anchors were made
    save_model(model, tmp_path / "own")
    again = load_detector(tmp_path / "own")
    assert again.settings == model.settings and again.spec.size == 48
    assert again.proposals is not None
    assert again.proposals.sides.tolist() == [4, 8, 16, 32]
    clip = torch.randn(2, 3, 2, 48, 48)
    with torch.no_grad():
        (boxes, scores), other = model.own_boxes(clip), again.own_boxes(clip)
        assert torch.equal(boxes, other[0]) and torch.equal(scores, other[1])
        assert torch.equal(model(clip, boxes), again(clip, boxes))
    card = yaml.safe_load((tmp_path / "own/model.yaml").read_text())
    card["detect"]["proposals"] = None
    (tmp_path / "own/model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(UsageError, match="names no network of them"):
        load_detector(tmp_path / "own")


def test_what_cannot_propose_is_refused() -> None:
    with pytest.raises(UsageError, match="images of one size"):
        KeyFrameProposals("test_vit", SPEC)
    with pytest.raises(UsageError, match="regress is false"):
        DetectSettings(proposals=NETWORK)
    with pytest.raises(ValueError, match="proposes no boxes"):
        trunk = vidinit.create_model("c2d-test_resnet")
        as_detector(trunk, 2, DetectSettings()).own_boxes(torch.zeros(1, 3, 2, 32, 32))


def test_a_square_that_is_learned_by_heart_is_found_and_named() -> None:
    """Both stages together, from random weights: proposals, moves and classes of two clips."""
    model = small(64)
    task = DetectTask(model).train()
    noise = torch.rand(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(2)) * 0.2
    true = torch.tensor([[[10.0, 6.0, 34.0, 32.0]], [[28.0, 30.0, 60.0, 56.0]]])
    clip = noise.repeat(1, 1, 2, 1, 1)
    for number, channel in ((0, 0), (1, 2)):
        x1, y1, x2, y2 = true[number, 0].int().tolist()
        clip[number, channel, :, y1:y2, x1:x2] = 3.0
    batch = {
        "clip": clip,
        "boxes": true,
        "goals": true,
        "targets": torch.eye(2)[:, None],
        "valid": torch.ones(2, 1, dtype=torch.bool),
    }
    optimizer = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        losses = task(batch)
        assert set(losses) == {"classes", "boxes", "objectness", "proposals"}
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    task.eval()
    with torch.no_grad():
        boxes, _ = model.own_boxes(clip)
        logits, moves = model.outputs(clip, boxes)
        assert moves is not None
        scores, moved = model.scores(logits), model.moved(boxes, moves)
    for number in (0, 1):
        best = int((boxes[:, 0] == number).nonzero()[0])  # the surest
        for found in (boxes, moved):
            assert box_iou(found[best : best + 1, 1:], true[number]).item() >= 0.5
        assert int(scores[best].argmax()) == number

"""The losses of boxes, by their formulas, however a step is cut into batches."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from support import MODEL

from vidinit.pipelines.detect.task import DIVISOR, DetectTask, numbered, set_divisors
from vidinit.zoo.build import create_model
from vidinit.zoo.detector import DetectSettings, as_detector

CLASSES = ["run", "walk", "sit"]


@cache
def task_of(**settings: object) -> DetectTask:
    """A task that tests share, and leave as it was."""
    torch.manual_seed(0)
    trunk = create_model(MODEL, num_classes=5)
    detector = as_detector(trunk, CLASSES, DetectSettings(dropout=0.0, **settings))
    return DetectTask(detector).eval()  # norms by their statistics: no batch knows of another


def batch_of(clips: int = 3, people: tuple[int, ...] = (2, 0, 1)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    most = max(people)
    low = torch.rand(clips, most, 2, generator=generator) * 14
    boxes = torch.cat([low, low + 6 + torch.rand(clips, most, 2, generator=generator) * 8], dim=2)
    valid = torch.arange(most) < torch.tensor(people)[:, None]
    return {
        "clip": torch.randn(clips, 3, 2, 32, 32, generator=generator),
        "boxes": boxes * valid[..., None],
        "goals": (boxes + torch.tensor([0.5, -0.4, 1.0, 0.7])) * valid[..., None],
        "targets": torch.eye(4, 3)[torch.tensor([[0, 3], [1, 1], [2, 0]])] * valid[..., None],
        "valid": valid,
    }


def part(batch: dict[str, torch.Tensor], *rows: int) -> dict[str, torch.Tensor]:
    return {key: value[list(rows)] for key, value in batch.items()}


def test_boxes_get_the_number_of_their_clip() -> None:
    batch = batch_of()
    boxes = numbered(batch["boxes"], batch["valid"])
    assert boxes[:, 0].tolist() == [0, 0, 2]
    assert torch.equal(boxes[2, 1:], batch["boxes"][2, 0])


SINGLE = {"kind": "single", "regress": True}


@pytest.mark.parametrize("settings", [{}, SINGLE])
def test_the_loss_is_a_mean_over_boxes(settings: dict[str, object]) -> None:
    """Of multi a binary cross-entropy over N x C; of single the background is the last class."""
    task, batch = task_of(**settings), batch_of()
    boxes = numbered(batch["boxes"], batch["valid"])
    logits = task.detector(batch["clip"], boxes)
    loss = task(batch)["classes" if settings else "loss"]
    if not settings:
        targets = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]])
        wanted = F.binary_cross_entropy(logits.sigmoid(), targets)
    else:
        wanted = F.cross_entropy(logits, torch.tensor([0, 3, 2]))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, SINGLE])
def test_how_a_step_is_cut_does_not_change_its_loss(settings: dict[str, object]) -> None:
    """The mean over two batches, one of which has twice the boxes of the other, is the whole."""
    task, batch = task_of(**settings), batch_of()
    whole = task(batch)
    parts = [part(batch, 0, 1), part(batch, 2)]
    set_divisors(parts, SimpleNamespace(num_processes=1, device=torch.device("cpu")))
    assert [float(one[DIVISOR]) for one in parts] == [1.5, 1.5]
    losses = [task(one) for one in parts]
    for name, value in whole.items():
        mean = sum(one[name] for one in losses) / 2
        assert mean.item() == pytest.approx(value.item(), rel=1e-5), name


def test_a_step_without_boxes_costs_nothing_and_has_gradients() -> None:
    task, batch = task_of(**SINGLE).train(), batch_of()
    nobody = {name: batch[name][:, :0] for name in ("boxes", "goals", "targets", "valid")}
    losses = task({**batch, **nobody})
    total = sum(losses.values())
    assert total.item() == 0
    total.backward()
    trained = [p for p in task.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and not p.grad.any() for p in trained)
    task.eval()


def test_moves_are_learned_from_people_with_an_action() -> None:
    """Smooth L1 of Fast R-CNN's four numbers, of the two boxes of three that do something."""
    task, batch = task_of(**SINGLE), batch_of()
    head = task.detector.head.regress
    torch.nn.init.normal_(head.weight, std=0.05)
    boxes, goals = (batch[key][batch["valid"]] for key in ("boxes", "goals"))
    moves = task.detector.outputs(batch["clip"], numbered(batch["boxes"], batch["valid"])).deltas

    def center(b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]

    (c0, s0), (c1, s1) = center(boxes), center(goals)
    wanted = torch.cat([10 * (c1 - c0) / s0, 5 * (s1 / s0).log()], dim=1)
    does = torch.tensor([True, False, True])
    costs = F.smooth_l1_loss(moves[does], wanted[does], reduction="sum") / 3
    assert task(batch)["boxes"].item() == pytest.approx(costs.item(), rel=1e-4)


def test_what_no_box_depends_on_is_not_trained() -> None:
    task = task_of()
    frozen = {name for name, p in task.named_parameters() if not p.requires_grad}
    assert frozen == {"model.head.weight", "model.head.bias"}
    assert task.head_parameters() == {"heads.classify.weight", "heads.classify.bias"}
    alone = DetectTask(copy.deepcopy(task.detector), frozen_trunk=True).train()
    assert {n for n, p in alone.named_parameters() if p.requires_grad} == {
        "heads.classify.weight",
        "heads.classify.bias",
    }
    assert not alone.model.training and alone.heads.training

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import MODEL

import vidinit
from vidinit.tasks.cotrain import CotrainTask, frozen_statistics, schedule, step_counts


@pytest.mark.parametrize(
    ("sizes", "alpha", "want"),
    [
        ([240, 169, 791, 1281], 1.0, [97, 68, 319, 516]),
        ([240, 169, 791, 1281], 0.5, [168, 141, 304, 387]),
        ([240, 169, 791, 1281], 0.0, [250, 250, 250, 250]),
    ],
)
def test_step_counts_of_known_mixtures(sizes, alpha, want):
    assert step_counts([size**alpha for size in sizes], 1000) == want


def test_step_counts_are_exact_for_any_shares():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = rng.random(int(rng.integers(1, 7))) + 0.01
        counts = step_counts(list(shares), 1000)
        assert sum(counts) == 1000
        assert np.abs(np.array(counts) - shares / shares.sum() * 1000).max() < 1


def test_schedule_is_a_function_of_seed_and_epoch():
    a = schedule([5, 3, 2], seed=1, epoch=4)
    assert np.bincount(a).tolist() == [5, 3, 2]
    assert (a == schedule([5, 3, 2], seed=1, epoch=4)).all()
    assert any((a != schedule([5, 3, 2], seed=1, epoch=e)).any() for e in (5, 6))


@pytest.fixture
def task() -> CotrainTask:
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=9)
    classes = {"videos": ["a", "b"], "photos": ["x", "y", "z"]}
    return CotrainTask(model, classes, image_sources={"photos"}).train()


def batch(source: str, frames: int, classes: int) -> dict:
    return {
        "clip": torch.randn(4, 3, frames, 32, 32) * (3 if frames == 1 else 1),
        "label": torch.arange(4) % classes,
        "source": source,
    }


def test_only_the_sources_own_head_learns(task):
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.1, weight_decay=0.1)
    other = task.heads.by_name(["videos", "photos"])["photos"]
    before = other.weight.detach().clone()
    own = task.model.head.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        losses = task(batch("videos", 4, 2))
        assert list(losses) == ["videos"]
        losses["videos"].backward()
        assert other.weight.grad is None
        optimizer.step()
    assert torch.equal(other.weight, before), "an idle head does not drift"
    assert not torch.equal(task.model.head.weight, own)


def test_image_batches_leave_the_running_statistics_alone(task):
    norm = next(m for m in task.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    task(batch("photos", 1, 3))
    assert torch.equal(norm.running_mean, before)
    assert norm.momentum == 0.1
    task(batch("videos", 4, 2))
    assert not torch.equal(norm.running_mean, before)


def test_frozen_statistics_still_normalizes_with_the_batch():
    norm = torch.nn.BatchNorm2d(3).train()
    x = 5 + 2 * torch.randn(64, 3, 4, 4)
    with frozen_statistics(norm):
        out = norm(x)
    assert out.mean().abs() < 1e-4 and norm.running_mean.abs().max() == 0


def test_an_image_is_a_clip_of_one_frame(task):
    task.eval()
    clip = torch.randn(2, 3, 1, 32, 32)
    logits = task.classifier("photos")(clip)
    assert logits.shape == (2, 3)
    head = task.heads.by_name(["videos", "photos"])["photos"]
    assert torch.equal(logits, head(task.model.embed(clip)))
    assert torch.equal(task.classifier("videos")(clip), task.model(clip))

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss

from vidinit.data.pixels.batch import mix
from vidinit.data.views import rng
from vidinit.pipelines.shared.on_device import soft_targets
from vidinit.pipelines.shared.weighted_loss import (
    DIVISOR,
    classification_loss,
    cross_entropy,
    set_divisors,
)

WEIGHT = torch.tensor([0.3, 1.0, 4.0, 0.05])


@pytest.fixture
def made() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (50, 4), and labels of which some are rare."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 4, generator=generator)
    return logits, torch.randint(4, (50,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_labels_have_the_loss_of_torch_to_the_bit(made, smoothing):
    logits, label = made
    for weight in (None, WEIGHT):
        want = CrossEntropyLoss(weight=weight, label_smoothing=smoothing)(logits, label)
        found = cross_entropy(logits, label, weight=weight, label_smoothing=smoothing)
        assert torch.equal(found, want)
    mean = (WEIGHT[label] * F.cross_entropy(logits, label, reduction="none")).sum()
    assert cross_entropy(logits, label, weight=WEIGHT) == pytest.approx(
        float(mean / WEIGHT[label].sum()), rel=1e-6
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_that_are_not_mixed_have_the_loss_of_hard_labels(made, smoothing):
    logits, label = made
    target = soft_targets(label, 4, smoothing)
    found = cross_entropy(logits, label, target=target, weight=WEIGHT)
    want = CrossEntropyLoss(weight=WEIGHT, label_smoothing=smoothing)(logits, label)
    assert torch.allclose(found, want, rtol=1e-6)


def test_mixed_clips_have_the_mean_of_both_losses(made):
    """The criterion of mixup's authors, lam l(a) + (1 - lam) l(b), over one sum of weights."""
    logits, label = made
    clip = torch.zeros(50, 3, 1, 2, 2)
    generator, again = rng(0, 0, 0), rng(0, 0, 0)
    _, target = mix(clip, soft_targets(label, 4), mixup=0.8, cutmix=0, generator=generator)
    lam = float(again.beta(0.8, 0.8))
    other = label.flip(0)
    summed = CrossEntropyLoss(weight=WEIGHT, reduction="sum")
    want = (lam * summed(logits, label) + (1 - lam) * summed(logits, other)) / WEIGHT[label].sum()
    assert WEIGHT[other].sum() == pytest.approx(float(WEIGHT[label].sum()), rel=1e-6)
    assert torch.allclose(cross_entropy(logits, label, target=target, weight=WEIGHT), want)


def cut(logits: torch.Tensor, label: torch.Tensor, *places: int) -> list[dict[str, Any]]:
    edges = [0, *places, len(label)]
    return [{"logits": logits[a:b], "label": label[a:b]} for a, b in pairwise(edges)]


def step_loss(
    batches: list[dict[str, Any]], weight: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """As the loop takes it: the mean over the batches of a step."""
    set_divisors(batches, [weight], Accelerator(cpu=True))
    losses = [
        classification_loss(
            batch["logits"], batch, binary=False, weight=weight, label_smoothing=smoothing
        )
        for batch in batches
    ]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("places", [(25,), (10, 20, 30, 40), (1, 49)])
def test_a_step_has_one_loss_however_it_is_cut(made, places, smoothing):
    want = CrossEntropyLoss(weight=WEIGHT, label_smoothing=smoothing)(*made)
    found = step_loss(cut(*made, *places), WEIGHT, smoothing)
    assert torch.allclose(found, want, rtol=1e-6)
    if smoothing:
        return
    # The mean of the parts' own means is another: their sums of weights differ.
    parts = [CrossEntropyLoss(weight=WEIGHT)(b["logits"], b["label"]) for b in cut(*made, *places)]
    assert not torch.allclose(torch.stack(parts).mean(), want, rtol=1e-3)


def test_a_whole_step_needs_no_divisor(made):
    batches = cut(*made)
    assert torch.equal(step_loss(batches, WEIGHT), CrossEntropyLoss(weight=WEIGHT)(*made))
    assert DIVISOR not in batches[0]


def test_clips_without_weight_cost_nothing(made):
    logits, label = made[0].clone().requires_grad_(), torch.full((50,), 2)
    weight = torch.tensor([1.0, 1, 0, 1])
    loss = step_loss(cut(logits, label), weight)
    loss.backward()
    assert loss == 0 and logits.grad is not None and not logits.grad.any()
    some = made[1].clone()
    want = CrossEntropyLoss(weight=weight)(made[0], some)
    assert torch.allclose(step_loss(cut(made[0], some, 20), weight), want, rtol=1e-6)


def test_pairs_have_a_divisor_for_verbs_and_one_for_nouns():
    label = torch.tensor([[0, 1], [1, 1], [1, 0]])
    batches = [{"label": label[:2]}, {"label": label[2:]}]
    set_divisors(batches, [torch.tensor([1.0, 3]), torch.tensor([5.0, 0.5])], Accelerator(cpu=True))
    for batch in batches:  # halves of 1 + 3 + 3 and 0.5 + 0.5 + 5
        assert batch[DIVISOR].tolist() == [3.5, 3.0]


def test_a_binary_loss_weighs_what_is_there():
    logits = torch.tensor([[0.5, -1.0], [2.0, 0.3]])
    hot = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    weight = torch.tensor([0.5, 4.0])
    found = classification_loss(
        logits, {"label": hot}, binary=True, label_smoothing=0, weight=weight
    )
    p = logits.sigmoid()
    want = -(weight * hot * p.log() + (1 - hot) * (1 - p).log()).mean()
    assert torch.allclose(found, want)
    assert torch.equal(found, BCEWithLogitsLoss(pos_weight=weight)(logits, hot))
    single = classification_loss(
        logits, {"label": torch.tensor([0, 1])}, binary=True, label_smoothing=0, weight=weight
    )
    assert torch.equal(single, BCEWithLogitsLoss(pos_weight=weight)(logits, torch.eye(2)))

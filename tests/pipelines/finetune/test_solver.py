"""Ridge and logistic regression: their equations, their folds, and what cross-validation sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidinit.pipelines.finetune.solver import PENALTIES, grouped_folds, solve


def blobs(clips: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of three classes far apart in some directions, and their targets."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(clips) % 3
    centers = torch.randn(3, width, generator=draw, dtype=torch.float64)
    x = centers[labels] + torch.randn(clips, width, generator=draw, dtype=torch.float64)
    return 3 * x + 5, F.one_hot(labels, 3).double()


@pytest.mark.parametrize(("clips", "width"), [(40, 7), (24, 60)])
@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_the_gradient_of_the_objective_is_zero(kind: str, clips: int, width: int) -> None:
    x, y = blobs(clips, width)
    weights = torch.linspace(0.5, 2, clips, dtype=torch.float64)
    folds = torch.arange(clips) // 3 % 4
    found = solve(kind, x, y, folds, weights)
    w = weights / weights.sum()
    center = w @ x
    spread = (w @ (x - center) ** 2).sqrt() * width**0.5
    # In the features that are penalized: weight * spread, of (x - center) / spread.
    scores = ((x - center) / spread) @ (found.weight * spread).T
    matrix = (found.weight * spread).requires_grad_()
    bias = (found.bias + found.weight @ center).requires_grad_()
    scores = ((x - center) / spread) @ matrix.T + bias
    if kind == "logistic":
        loss = w @ -(scores.log_softmax(1) * y).sum(1) + found.penalty * matrix.square().sum()
        loss.backward()
        assert matrix.grad is not None and bias.grad is not None
        assert max(matrix.grad.abs().max(), bias.grad.abs().max()) < 1e-5
        return
    # A ridge's scores are those of the closed form, times one factor.
    z, root = (x - center) / spread, w.sqrt()[:, None]
    gram = (z * root).T @ (z * root) + found.penalty * torch.eye(width, dtype=torch.float64)
    closed = torch.linalg.solve(gram, (z * root).T @ ((2 * y - 1) - w @ (2 * y - 1)).mul(root)).T
    factor = (matrix.detach() / closed).median()
    assert torch.allclose(matrix.detach(), closed * factor, rtol=1e-6, atol=1e-9)


def test_many_clips_are_solved_in_their_leading_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random directions that are left out of low-rank features hold nothing."""
    draw = torch.Generator().manual_seed(2)
    few, y = blobs(90, 6)
    x = few @ torch.randn(6, 80, generator=draw, dtype=torch.float64)
    folds, ones = torch.arange(90) // 3 % 5, torch.ones(90)
    whole = solve("ridge", x, y, folds, ones)
    monkeypatch.setattr("vidinit.pipelines.finetune.solver.EXACT", 50)
    monkeypatch.setattr("vidinit.pipelines.finetune.solver.RANK", 12)
    part = solve("ridge", x, y, folds, ones)
    assert part.loss == pytest.approx(whole.loss, rel=1e-4)
    scores = [x @ one.weight.T + one.bias for one in (whole, part)]
    assert torch.allclose(*scores, atol=1e-3)


def test_noise_is_regularized_and_signal_is_not() -> None:
    x, y = blobs(60, 8)
    folds, ones = torch.arange(60) // 3 % 5, torch.ones(60)
    clean = solve("ridge", x, y, folds, ones)
    assert (clean.logits.argmax(1) == y.argmax(1)).float().mean() > 0.8
    noise = torch.randn(60, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    random = solve("ridge", noise, y, folds, ones)
    # Nothing can be told: the loss is that of a guess, not that of a fit of the noise.
    assert random.loss == pytest.approx(np.log(3), abs=0.05)
    assert clean.loss < 0.6 and random.penalty > clean.penalty
    assert clean.penalty in PENALTIES


def test_a_group_that_leaks_is_left_out_whole() -> None:
    """Features that tell the group and nothing else are worth nothing across groups."""
    draw = np.random.default_rng(0)
    groups = [clip // 4 for clip in range(48)]
    labels = [group % 2 for group in groups]
    tells = torch.from_numpy(draw.normal(size=(12, 30))[groups])
    y, ones = F.one_hot(torch.tensor(labels)).double(), torch.ones(48)
    apart = torch.from_numpy(grouped_folds(labels, list(range(48)), 0))
    together = torch.from_numpy(grouped_folds(labels, groups, 0))
    leaked = solve("ridge", tells, y, apart, ones)
    honest = solve("ridge", tells, y, together, ones)
    assert leaked.loss < 0.2 and honest.loss > 0.6


def test_folds() -> None:
    labels = [0] * 30 + [1] * 10
    groups = [f"camera {n % 8}" for n in range(40)]
    folds = grouped_folds(labels, groups, 0)
    assert {len(set(folds[[g == one for g in groups]])) for one in set(groups)} == {1}
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    for label in (0, 1):
        shares = np.bincount(folds[np.array(labels) == label], minlength=5)
        assert shares.min() >= 1
    assert (grouped_folds(labels, groups, 0) == folds).all()
    assert not grouped_folds(labels, ["one"] * 40, 0).any()
    assert len(set(grouped_folds([0, 1, 0, 1], list("aabb"), 0))) == 2

"""Losses on features, whitening, and which clips count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidinit.pipelines.distill.targets import (
    Objective,
    Whitening,
    entropy,
    probabilities,
    threshold,
)


def features(count: int, size: int = 5, seed: int = 0) -> np.ndarray:
    """Correlated, off-center, of very different spreads."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(size, size)) * np.geomspace(1, 5, size)
    return (rng.normal(size=(count, size)) @ mix + 7).astype(np.float32)


def test_entropy_is_in_nats():
    assert entropy(torch.zeros(1, 1000)).item() == pytest.approx(np.log(1000), abs=1e-5)
    assert entropy(torch.tensor([[1000.0, 0, 0]])).item() == 0
    z = torch.randn(3, 9)
    q = probabilities(z, 2.0).double()
    assert torch.allclose(entropy(z, 2.0).double(), -(q * q.log()).sum(1), atol=1e-6)


def test_features_are_compared_with_a_layer_normalized_target():
    z, s = (torch.from_numpy(features(4, seed=n)) for n in (0, 1))
    mean, std = z.numpy().mean(1, keepdims=True), z.numpy().std(1, keepdims=True)
    t = (z.numpy() - mean) / np.sqrt(std**2 + 1e-5)
    cosine = 1 - (s.numpy() * t).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(t, axis=1)
    assert Objective("cosine")(s, z).item() == pytest.approx(cosine.mean(), abs=1e-6)
    d = np.abs(s.numpy() - t)
    huber = np.where(d < 1, d**2 / 2, d - 0.5).mean(axis=1)
    assert Objective("smooth-l1")(s, z).item() == pytest.approx(huber.mean(), rel=1e-6)
    plain = Objective("cosine", standardize="none")
    assert plain(3 * z, z).item() == pytest.approx(0, abs=1e-6)


def test_whitened_features_are_uncorrelated_with_unit_variance():
    values = features(100_000)
    whitening = Whitening.of(values)
    white = whitening(torch.from_numpy(values)).double().numpy()
    assert np.abs(white.mean(axis=0)).max() < 1e-3
    assert np.abs(np.cov(white, rowvar=False) - np.eye(5)).max() < 0.02
    assert torch.allclose(whitening.matrix, whitening.matrix.T)
    objective = Objective("smooth-l1", standardize="whiten")
    with pytest.raises(ValueError, match="estimated first"):
        objective.target(torch.from_numpy(values))
    objective.whitening = whitening
    assert torch.equal(
        objective.target(torch.from_numpy(values[:3])), torch.tensor(white[:3]).float()
    )


def test_few_embeddings_give_a_bounded_whitening():
    values = features(6, size=40)  # of rank five
    white = Whitening.of(values)(torch.from_numpy(features(200, size=40))).numpy()
    assert np.isfinite(white).all() and np.abs(white).max() < 100
    assert np.isfinite(Whitening.of(np.ones((3, 4), np.float32)).matrix.numpy()).all()


@pytest.mark.parametrize("keep", [0.01, 0.25, 0.5, 1.0])
def test_the_threshold_keeps_the_share(keep):
    nats = np.random.default_rng(0).gamma(2.0, size=1000).astype(np.float32)
    assert np.mean(nats <= threshold(nats, keep)) == keep
    assert threshold(np.array([2.0]), keep) == pytest.approx(2.0, abs=1e-5)


def test_clips_above_the_threshold_give_no_loss_and_no_gradient():
    z = torch.stack([torch.linspace(0, 9, 6), torch.zeros(6)])  # sure, and not at all
    student = torch.randn(2, 6, requires_grad=True)
    everything = Objective()(student, z)
    one = Objective(max_entropy=1.0)(student, z)
    one.backward()
    assert student.grad[0].abs().sum() > 0 and student.grad[1].abs().sum() == 0
    kept = Objective(max_entropy=1.0, normalize="kept")(student, z)
    assert kept.item() == pytest.approx(2 * one.item(), rel=1e-6)
    assert Objective(max_entropy=np.log(6) + 1e-3)(student, z).item() == everything.item()
    none = Objective(max_entropy=1e-9, normalize="kept")(student, z)
    assert none.item() == 0

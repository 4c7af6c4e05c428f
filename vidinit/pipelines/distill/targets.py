"""Losses between a student's outputs and a teacher's: their targets, and the clips that count.

All functions work on one teacher's outputs for a batch of B clips, already averaged over the
picked frames F of each clip: z, (B, C).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .settings import LossName


def probabilities(outputs: Tensor, temperature: float = 1.0) -> Tensor:
    """The target q = softmax(z / tau), (B, C)."""
    return F.softmax(outputs / temperature, dim=1)


def entropy(outputs: Tensor, temperature: float = 1.0) -> Tensor:
    """H(q) = -sum_c q_c log q_c in nats, (B,), from 0 to log C, of q = softmax(z / tau)."""
    log_q = F.log_softmax(outputs / temperature, dim=1)
    return -(log_q.exp() * log_q).sum(dim=1)


@dataclass(frozen=True)
class Whitening:
    """An affine map to zero mean and unit covariance (ZCA), estimated on many embeddings.

    Attributes:
        mean: (C,).
        matrix: (C, C), symmetric.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Whitening:
        """From embeddings (N, C), N at least 2.

        The covariance is shrunk towards a multiple of the identity by the weight of the oracle
        approximating estimator (Chen et al., https://arxiv.org/abs/0907.4698), so that N may be
        smaller than C.
        """
        values = embeddings.astype(np.float64)
        count, size = values.shape
        mean = values.mean(axis=0)
        covariance = np.cov(values, rowvar=False, bias=True).reshape(size, size)
        level = np.trace(covariance) / size
        alpha, square = np.mean(covariance**2), level**2
        spread = (count + 1) * (alpha - square / size)
        shrink = 1.0 if spread <= 0 else min(1.0, (alpha + square) / spread)
        covariance = (1 - shrink) * covariance + shrink * level * np.eye(size)
        roots, vectors = np.linalg.eigh(covariance)
        floor = max(float(roots.max()) * 1e-9, 1e-12)  # embeddings may all be the same
        matrix = (vectors / np.sqrt(np.maximum(roots, floor))) @ vectors.T
        return cls(torch.from_numpy(mean).float(), torch.from_numpy(matrix).float())

    def __call__(self, outputs: Tensor) -> Tensor:
        """(B, C) embeddings to whitened ones."""
        mean, matrix = (part.to(outputs.device, outputs.dtype) for part in (self.mean, self.matrix))
        return (outputs - mean) @ matrix


@dataclass
class Objective:
    """The loss of one teacher.

    Attributes:
        loss: ``ce``: soft cross-entropy -sum_c q_c log p_c with p = softmax(student / tau), the
            paper's. ``mse``: mean over c of (student_c - z_c)^2; the paper divides the learning
            rate by 10 for it. ``cosine``: 1 - cos(student, target). ``smooth-l1``: mean over c of
            Huber's loss with delta 1.
        temperature: tau, of teacher and student.
        weight: factor of the loss.
        standardize: applied to features before they are targets: ``layernorm`` (zero mean and
            unit variance over the C values of each clip), ``whiten`` (of each value over clips,
            uncorrelated; see `Whitening`) or ``none``.
        whitening: for ``whiten``; has to be estimated first.
        max_entropy: eta: clips with H(q) above it, in nats, do not count; None: all do.
        keep: the share of the clips that shall count; ``max_entropy`` is estimated from it.
        normalize: the sum over clips is divided by the ``batch``, as in the paper, or by the number
            that is ``kept``.
    """

    loss: LossName = "ce"
    temperature: float = 1.0
    weight: float = 1.0
    standardize: Literal["layernorm", "whiten", "none"] = "layernorm"
    whitening: Whitening | None = None
    max_entropy: float | None = None
    keep: float | None = None
    normalize: Literal["batch", "kept"] = "batch"

    def __call__(self, student: Tensor, outputs: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            student: outputs of the student's head for this teacher, (B, C).
            outputs: the teacher's, averaged over the picked frames, (B, C).
        """
        student, outputs = _precise(student), _precise(outputs)
        losses = self.per_clip(student, outputs)
        if self.max_entropy is None:
            return self.weight * losses.mean()
        kept = (entropy(outputs, self.temperature) <= self.max_entropy).to(losses.dtype)
        count = kept.sum().clamp(min=1) if self.normalize == "kept" else len(losses)
        return self.weight * ((losses * kept).sum() / count)

    def per_clip(self, student: Tensor, outputs: Tensor) -> Tensor:
        """The losses of the clips, (B,), without weight and threshold."""
        if self.loss == "ce":
            q = probabilities(outputs, self.temperature)
            return -(q * F.log_softmax(student / self.temperature, dim=1)).sum(dim=1)
        if self.loss == "mse":
            return (student - outputs).square().mean(dim=1)
        target = self.target(outputs)
        if self.loss == "cosine":
            return 1 - F.cosine_similarity(student, target, dim=1)
        return F.smooth_l1_loss(student, target, reduction="none").mean(dim=1)

    def target(self, outputs: Tensor) -> Tensor:
        """Features (B, C) as the student has to give them."""
        if self.standardize == "none":
            return outputs
        if self.standardize == "layernorm":
            return F.layer_norm(outputs, outputs.shape[1:])
        if self.whitening is None:
            raise ValueError("the whitening has to be estimated first")
        return self.whitening(outputs)


def threshold(entropies: np.ndarray, keep: float) -> float:
    """The eta that lets a share of the clips count.

    Args:
        entropies: of a sample of the clips, (N,).
        keep: the share, in (0, 1].

    Returns:
        The smallest entropy that at least ``keep`` of the sample do not exceed, a little raised:
        the same clip is not to fall out by rounding.
    """
    place = max(math.ceil(keep * len(entropies)), 1) - 1
    return float(np.sort(entropies)[place]) + 1e-6


def _precise(values: Tensor) -> Tensor:
    """Half precision to single."""
    return values if values.dtype == torch.float64 else values.float()

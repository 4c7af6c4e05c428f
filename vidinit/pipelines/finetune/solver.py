"""Linear classifiers that are solved, not trained: ridge and logistic regression by L-BFGS.

How strongly they are regularized is chosen by cross-validation on the same clips, of which those
of one group (a scene, a film) stay together. All is in double precision.

Shapes in comments: N clips, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.probe_text import LOGISTIC, RIDGE
from ...data.views import rng

PENALTIES = tuple(10.0**power for power in range(-6, 2))
"""Of the squared weights, beside the mean loss of a clip; features have a variance of 1 in all."""
SCALES = tuple(2.0 ** (power / 2) for power in range(-4, 15))
"""Factors of which one makes scores logits."""
EXACT, RANK = 1536, 1024
"""Clips, and features, up to which a solution is exact, and the directions that are left beyond."""
FOLDS = 5
_STEPS = 40  # of L-BFGS, at most
_STREAM = 77  # of `data.views.rng`, for folds


@dataclass(frozen=True)
class Solution:
    """A classifier of features, and how good it was on the clips that it had not seen.

    Attributes:
        weight, bias: (K, D) and (K,), float64, of the features as they came.
        penalty: the chosen one of `PENALTIES`.
        loss: mean cross-entropy of the clips in the folds that they were left out of.
        logits: (N, K) of the clips there.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    loss: float
    logits: Tensor


def solve(
    kind: str,
    features: Tensor,
    targets: Tensor,
    folds: Tensor,
    weights: Tensor,
    *,
    blocks: Sequence[int] | None = None,
    labels: Literal["single", "multi"] = "single",
) -> Solution:
    """The classifier of one kind, with the penalty whose cross-validated loss is least.

    ``ridge`` minimizes ``sum_i w_i ||W x_i + b - y_i||^2 / sum w + penalty ||W||^2``, y in {-1, 1},
    in closed form; ``logistic`` the weighted mean cross-entropy with the same penalty, by L-BFGS.
    Features are centered and scaled first, so that a penalty means the same whatever they are. The
    scores of a ridge are multiplied by one of `SCALES`, the one that makes them logits: by the same
    cross-validation.

    Args:
        kind: ``ridge`` or ``logistic``.
        features: (N, D).
        targets: (N, K), 0 or 1.
        folds: (N,) the number of each clip's fold.
        weights: (N,) of the clips in all means.
        blocks: sizes of blocks of features, one behind the other, that get the same variance in
            all; default: one block.
        labels: ``single``: classes exclude one another (softmax), ``multi``: they do not.
    """
    x, y, w = features.double(), targets.double(), weights.double() / weights.double().sum()
    center = w @ x
    spread = (w @ (x - center) ** 2).sqrt()
    sizes = torch.tensor(blocks or [x.shape[1]], device=x.device)
    shares = (len(sizes) * sizes).repeat_interleave(sizes)
    scale = torch.where(spread > 1e-8, spread, torch.inf) * shares.sqrt()
    z, basis = _compact((x - center) / scale)
    solver = {RIDGE: _ridge, LOGISTIC: _logistic}[kind]
    factors = SCALES if kind == RIDGE else (1.0,)
    left_out = torch.zeros(len(PENALTIES), *y.shape, dtype=y.dtype, device=y.device)
    for fold in folds.unique():
        out = folds == fold
        found = solver(z[~out], y[~out], w[~out] / w[~out].sum(), PENALTIES, labels)
        for number, (matrix, bias) in enumerate(found):
            left_out[number, out] = z[out] @ matrix.T + bias
    losses = torch.stack(
        [torch.stack([_loss(scores * f, y, w, labels) for f in factors]) for scores in left_out]
    )
    best = int(losses.argmin())
    number, factor = best // len(factors), factors[best % len(factors)]
    ((matrix, bias),) = solver(z, y, w, PENALTIES[number : number + 1], labels)
    weight = (matrix @ basis) / scale
    return Solution(
        weight * factor,
        (bias - weight @ center) * factor,
        PENALTIES[number],
        float(losses.min()),
        left_out[number] * factor,
    )


def _compact(x: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, R) and a basis (R, D) with ``x = features @ basis``, R no more than N.

    The basis has orthonormal rows, so that a penalized solution is the same in it. Of more than
    `EXACT` clips and features it has the `RANK` leading directions alone.
    """
    if min(x.shape) > EXACT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, lengths, right = torch.svd_lowrank(x, q=RANK)
        return left * lengths, right.T
    if x.shape[0] >= x.shape[1]:
        return x, torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    values, vectors = torch.linalg.eigh(x @ x.T)
    kept = values > values.max().clamp(min=1e-12) * 1e-10
    lengths = values[kept].sqrt()
    return vectors[:, kept] * lengths, (vectors[:, kept] / lengths).T @ x


Classifiers = list[tuple[Tensor, Tensor]]
Solver = Callable[[Tensor, Tensor, Tensor, Sequence[float], str], Classifiers]


def _ridge(x: Tensor, y: Tensor, w: Tensor, penalties: Sequence[float], _: str) -> Classifiers:
    """(weight, bias) for each penalty, from one eigendecomposition of the covariance."""
    y = 2 * y - 1
    center, mean = w @ x, w @ y
    centered = (x - center) * w.sqrt()[:, None]
    values, vectors = torch.linalg.eigh(centered.T @ centered)
    toward = vectors.T @ (centered.T @ ((y - mean) * w.sqrt()[:, None]))
    found = []
    for penalty in penalties:
        matrix = (vectors @ (toward / (values.clamp(min=0) + penalty)[:, None])).T
        found.append((matrix, mean - matrix @ center))
    return found


def _logistic(
    x: Tensor, y: Tensor, w: Tensor, penalties: Sequence[float], labels: str
) -> Classifiers:
    """(weight, bias) for each penalty; each starts from that of the next stronger one."""
    matrix = torch.zeros(y.shape[1], x.shape[1], dtype=x.dtype, device=x.device)
    bias = torch.zeros(y.shape[1], dtype=x.dtype, device=x.device)
    found: dict[float, tuple[Tensor, Tensor]] = {}
    for penalty in sorted(penalties, reverse=True):
        own = [matrix.clone().requires_grad_(), bias.clone().requires_grad_()]
        search = torch.optim.LBFGS(
            own, max_iter=_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def closure(own: list[Tensor] = own, penalty: float = penalty) -> Tensor:
            for one in own:
                one.grad = None
            loss = _loss(x @ own[0].T + own[1], y, w, labels)
            loss = loss + penalty * own[0].square().sum()
            loss.backward()
            return loss.detach()

        with torch.enable_grad():
            search.step(closure)  # type: ignore[arg-type]
        matrix, bias = own[0].detach(), own[1].detach()
        found[penalty] = matrix, bias
    return [found[penalty] for penalty in penalties]


def _loss(logits: Tensor, y: Tensor, w: Tensor, labels: str) -> Tensor:
    """Weighted mean over the clips of the cross-entropy, of several labels the mean over these."""
    if labels == "multi":
        each = F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)
    else:
        each = -(logits.log_softmax(1) * y).sum(1)
    return each @ w / w.sum()


def grouped_folds(
    labels: Sequence[int], groups: Sequence[Hashable], seed: int, count: int = FOLDS
) -> np.ndarray:
    """The fold of each clip: groups stay whole, and folds get like shares of each class.

    Groups are dealt out one by one, large ones first, to the fold that has fewest clips of the
    group's classes so far.

    Args:
        labels: a class number of each clip.
        groups: a key of each clip.
        seed: decides among groups of the same size.
        count: the most folds; fewer where there are fewer groups.

    Returns:
        int64 (N,), 0 for all clips where there is one group only.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    of = np.array([names[group] for group in groups])
    label = np.asarray(labels)
    table = np.zeros((len(names), int(label.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(table, (of, label), 1)
    share = table / np.maximum(table.sum(axis=0), 1)  # so that a rare class counts as much
    count = min(count, len(names))
    order = rng(seed, 0, 0, stream=_STREAM).permutation(len(names))
    order = order[np.argsort(-share[order].sum(axis=1), kind="stable")]
    filled = np.zeros((count, table.shape[1]))
    place = np.zeros(len(names), dtype=np.int64)
    for group in order:
        load = (filled * (share[group] > 0)).sum(axis=1)
        place[group] = min(range(count), key=lambda fold: (load[fold], filled[fold].sum()))
        filled[place[group]] += share[group]
    return place[of]

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidinit.text.compare import ZeroShot, has_text_head

TABLE = torch.nn.functional.normalize(
    torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), dim=1
)
VIDEO = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
FRAMES = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(2))


class Bare(nn.Module):
    """Returns embeddings, as an image-text model does."""

    def forward(self, clip: Tensor) -> Tensor:
        return VIDEO.to(clip.dtype)


class Headed(nn.Module):
    """A model with a text head: its output is not its embedding."""

    set_text = None

    def forward(self, clip: Tensor) -> Tensor:
        raise AssertionError("the head is asked")

    def embed(self, clip: Tensor) -> Tensor:
        return VIDEO

    def embed_both(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        return VIDEO, torch.nn.functional.normalize(FRAMES, dim=-1).mean(dim=1)


def cosines(vectors: Tensor) -> np.ndarray:
    v, t = vectors.double().numpy(), TABLE.double().numpy()
    lengths = np.linalg.norm(v, axis=-1, keepdims=True) * np.linalg.norm(t, axis=-1)
    return v @ t.T / lengths


def test_logits_are_a_hundred_cosines():
    clip = torch.zeros(2, 3, 1, 1, 1)
    for model in (Bare(), Headed()):
        got = ZeroShot(model, TABLE)(clip)
        np.testing.assert_allclose(got.numpy(), 100 * cosines(VIDEO), atol=1e-4)
    assert has_text_head(Headed()) and not has_text_head(Bare())


@pytest.mark.parametrize("share", [0.5, 0.2, 1.0])
def test_the_ensemble_adds_the_mean_of_the_frames_logits(share):
    got = ZeroShot(Headed(), TABLE, share)(torch.zeros(2, 3, 1, 1, 1))
    tower = np.stack([cosines(FRAMES[:, t]) for t in range(3)]).mean(axis=0)
    want = (1 - share) * 100 * cosines(VIDEO) + share * 100 * tower
    np.testing.assert_allclose(got.numpy(), want, atol=1e-4)


def test_half_precision_around_it_does_not_round_the_logits():
    clip = torch.zeros(2, 3, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        got = ZeroShot(Headed(), TABLE, 0.5)(clip)
    assert torch.equal(got, ZeroShot(Headed(), TABLE, 0.5)(clip))

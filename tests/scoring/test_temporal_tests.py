from __future__ import annotations

from typing import get_args

import pytest
import torch

from vidinit.errors import UsageError
from vidinit.pipelines.evaluate.settings import TemporalTest, parse_tests
from vidinit.scoring.score import reorder_frames


def views(videos: int = 3) -> torch.Tensor:
    """(B, V, T, H, W, C) bytes that say where they come from."""
    made = torch.zeros(videos, 2, 6, 1, 1, 3, dtype=torch.uint8)
    for place in range(made.numel() // 3):
        made.view(-1, 3)[place] = place
    return made


def order(given: torch.Tensor) -> torch.Tensor:
    """Which frame stands at each place, (B, V, T)."""
    start = given.amin(dim=2, keepdim=True)
    return (given - start)[..., 0, 0, 0]


def test_frames_are_reversed_and_frozen():
    given = views()
    assert (order(reorder_frames(given, "reverse", [0, 1, 2], 0)) == torch.arange(5, -1, -1)).all()
    frozen = reorder_frames(given, "freeze", [0, 1, 2], 0)
    assert frozen.shape == given.shape and (frozen == given[:, :, 3:4]).all()
    assert order(given)[0, 0].tolist() == list(range(6)), "what was given stays"


def test_shuffled_frames_are_all_there_in_an_order_of_the_row_and_the_seed():
    given = views()
    shuffled = order(reorder_frames(given, "shuffle", [4, 8, 9], 0))
    assert (shuffled.sort(dim=2).values == torch.arange(6)).all()
    orders = {tuple(one.tolist()) for video in shuffled for one in video}
    assert len(orders) == 6, "another one for each view"
    alone = order(reorder_frames(given[:1], "shuffle", [8], 0))
    assert torch.equal(alone[0], shuffled[1]), "whatever the batch"
    assert not torch.equal(order(reorder_frames(given[:1], "shuffle", [8], 1))[0], shuffled[1])
    one = torch.zeros(1, 1, 1, 2, 2, 3, dtype=torch.uint8)
    assert all(
        torch.equal(reorder_frames(one, test, [0], 0), one) for test in get_args(TemporalTest)
    ), "an image"


def test_names():
    assert parse_tests("freeze,reverse,freeze") == ["freeze", "reverse"]
    assert parse_tests(["shuffle"]) == ["shuffle"]
    with pytest.raises(UsageError, match="no temporal test 'revers'; did you mean 'reverse'"):
        parse_tests("revers")

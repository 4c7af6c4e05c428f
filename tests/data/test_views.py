from __future__ import annotations

import numpy as np
import pytest

from vidinit.data.views import CLIP, ORDER, eval_indices, rng, train_indices


def test_rng_is_a_function_of_its_arguments() -> None:
    def draw(*key: int, stream: int = CLIP) -> tuple[float, ...]:
        return tuple(rng(*key, stream=stream).random(4))

    assert draw(1, 2, 3) == draw(1, 2, 3)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 2**32, 0)]
    assert len({draw(*key) for key in keys} | {draw(0, 0, 0, stream=ORDER)}) == len(keys) + 1


def test_train_indices_are_dense_and_reach_both_ends() -> None:
    starts = set()
    for index in range(200):
        indices = train_indices(20, 4, 3, rng(0, 0, index))
        assert indices.dtype == np.int64
        assert np.diff(indices).tolist() == [3, 3, 3]
        starts.add(int(indices[0]))
    assert starts == set(range(11))


def test_train_indices_without_a_generator_are_centered() -> None:
    assert train_indices(20, 4, 3, None).tolist() == [5, 8, 11, 14]
    assert train_indices(21, 5, 1, None).tolist() == [8, 9, 10, 11, 12]


def test_short_videos_are_repeated() -> None:
    assert train_indices(3, 8, 1, rng(0, 0, 0)).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert train_indices(1, 4, 2, None).tolist() == [0, 0, 0, 0]
    assert eval_indices(5, 4, 2, 2).tolist() == [[0, 2, 4, 1]] * 2


def test_eval_indices_spread_evenly() -> None:
    assert eval_indices(20, 4, 3, 1).tolist() == [train_indices(20, 4, 3, None).tolist()]
    starts = eval_indices(103, 4, 1, 10)[:, 0]
    assert starts.tolist() == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]


@pytest.mark.parametrize("num_frames", [1, 2, 7, 16, 31, 300])
@pytest.mark.parametrize("clips", [1, 3, 10])
def test_indices_are_never_out_of_range(num_frames: int, clips: int) -> None:
    for frames, stride in [(1, 1), (8, 2), (16, 4)]:
        indices = eval_indices(num_frames, frames, stride, clips)
        assert indices.shape == (clips, frames)
        drawn = train_indices(num_frames, frames, stride, rng(0, clips, num_frames))
        for values in (indices, drawn):
            assert values.min() >= 0
            assert values.max() < num_frames


def test_an_empty_video_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        eval_indices(0, 4, 1, 1)

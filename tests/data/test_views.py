from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vidinit.data.views import (
    CLIP,
    ORDER,
    Sampling,
    dense_indices,
    eval_indices,
    rng,
    train_indices,
)
from vidinit.errors import UsageError

DENSE = Sampling(8, 2)
UNIFORM = Sampling(8, kind="uniform")


def test_rng_is_a_function_of_its_arguments() -> None:
    def draw(*key: int, stream: int = CLIP) -> tuple[float, ...]:
        return tuple(rng(*key, stream=stream).random(4))

    assert draw(1, 2, 3) == draw(1, 2, 3)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 2**32, 0)]
    assert len({draw(*key) for key in keys} | {draw(0, 0, 0, stream=ORDER)}) == len(keys) + 1


def test_dense_indices_are_neighbors_and_reach_both_ends() -> None:
    starts = set()
    for index in range(200):
        indices = train_indices(20, Sampling(4, 3), rng(0, 0, index))
        assert indices.dtype == np.int64
        assert np.diff(indices).tolist() == [3, 3, 3]
        starts.add(int(indices[0]))
    assert starts == set(range(11))


def test_the_draws_of_a_seed_never_change() -> None:
    # What earlier versions drew: a run must be repeatable with a later one.
    starts = [int(train_indices(100, DENSE, rng(7, 1, index))[0]) for index in range(8)]
    assert starts == [12, 5, 42, 28, 76, 35, 38, 30]


def test_without_a_generator_indices_are_centered() -> None:
    assert train_indices(20, Sampling(4, 3), None).tolist() == [5, 8, 11, 14]
    assert train_indices(21, Sampling(5), None).tolist() == [8, 9, 10, 11, 12]
    assert train_indices(80, UNIFORM, None).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]


def test_short_videos_start_again_or_hold_their_last_frame() -> None:
    assert train_indices(3, Sampling(8), rng(0, 0, 0)).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert train_indices(1, Sampling(4, 2), None).tolist() == [0, 0, 0, 0]
    assert eval_indices(5, Sampling(4, 2), 2).tolist() == [[0, 2, 4, 1]] * 2
    hold = Sampling(4, 2, short="hold")
    assert train_indices(5, hold, rng(0, 0, 0)).tolist() == [0, 2, 4, 4]
    assert eval_indices(5, hold, 2).tolist() == [[0, 2, 4, 4]] * 2
    assert eval_indices(60, hold, 3).tolist() == eval_indices(60, Sampling(4, 2), 3).tolist()


def test_dense_eval_clips_spread_evenly() -> None:
    clip = train_indices(20, Sampling(4, 3), None)
    assert eval_indices(20, Sampling(4, 3), 1).tolist() == [clip.tolist()]
    starts = eval_indices(103, Sampling(4), 10)[:, 0]
    assert starts.tolist() == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]


def test_uniform_training_draws_one_frame_of_each_segment() -> None:
    seen = np.zeros((4, 22), int)
    for index in range(400):
        indices = train_indices(22, Sampling(4, kind="uniform"), rng(0, 0, index))
        assert indices.dtype == np.int64
        seen[np.arange(4), indices] += 1
    # Segments of 5.5 frames: the sixth frame belongs to the first two by halves.
    for segment in range(4):
        first, last = 22 * segment // 4, -(-22 * (segment + 1) // 4)
        assert seen[segment, :first].sum() == seen[segment, last:].sum() == 0
        assert seen[segment, first:last].min() > 0
    assert seen.sum(0).min() > 0.6 * 1600 / 22
    assert seen.sum(0).max() < 1.4 * 1600 / 22
    assert abs(int(seen[0, 5]) - int(seen[1, 5])) < 40


def test_uniform_test_clips_follow_tsn_and_dist() -> None:
    for num_frames in range(1, 120):
        for frames in (1, 3, 8, 16):
            sampling = Sampling(frames, kind="uniform")
            segment = Fraction(num_frames, frames)
            centers = [int((k + Fraction(1, 2)) * segment) for k in range(frames)]
            assert eval_indices(num_frames, sampling, 1).tolist() == [centers]
            # round() is to even at halves, as torch's is.
            expected = [
                [
                    round(min((k + Fraction(v + 1, 3)) * segment, Fraction(num_frames - 1)))
                    for k in range(frames)
                ]
                for v in range(3)
            ]
            assert eval_indices(num_frames, sampling, 3).tolist() == expected


def test_with_fewer_frames_than_segments_frames_repeat_in_order_and_none_is_lost() -> None:
    assert train_indices(3, UNIFORM, rng(0, 0, 0)).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert train_indices(8, UNIFORM, rng(0, 0, 1)).tolist() == list(range(8))
    for num_frames in range(1, 9):
        indices = train_indices(num_frames, UNIFORM, rng(0, 0, num_frames))
        assert sorted(set(indices.tolist())) == list(range(num_frames))
        assert indices.tolist() == sorted(indices.tolist())


@pytest.mark.parametrize("sampling", [DENSE, UNIFORM], ids=["dense", "uniform"])
def test_what_is_drawn_after_the_frames_does_not_depend_on_the_length(sampling: Sampling) -> None:
    def next_draw(num_frames: int) -> float:
        generator = rng(0, 0, 0)
        train_indices(num_frames, sampling, generator)
        return float(generator.random())

    if sampling.kind == "uniform":
        assert next_draw(2) == next_draw(300)
    assert next_draw(100) == next_draw(300)


def test_all_frames() -> None:
    every_third = Sampling(4, 3, kind="all")
    assert eval_indices(10, every_third, 1).tolist() == [[0, 3, 6, 9]]
    assert train_indices(8, every_third, rng(0, 0, 0)).tolist() == [0, 3, 6]
    assert eval_indices(1, every_third, 1).tolist() == [[0]]
    assert eval_indices(500, Sampling(1, kind="all"), 1)[0].tolist() == list(range(500))
    with pytest.raises(UsageError, match="has one clip, not 10"):
        eval_indices(10, every_third, 10)


@pytest.mark.parametrize("kind", ["dense", "uniform"])
@pytest.mark.parametrize("short", ["loop", "hold"])
def test_indices_are_never_out_of_range(kind: str, short: str) -> None:
    for num_frames in [*range(1, 70), 100, 299, 300, 301, 100_003]:
        for frames, stride in [(1, 1), (3, 5), (8, 2), (16, 4), (64, 1)]:
            sampling = Sampling(frames, stride, kind, short)  # type: ignore[arg-type]
            drawn = train_indices(num_frames, sampling, rng(0, frames, num_frames))
            assert drawn.shape == (frames,)
            for clips in (1, 2, 3, 10):
                indices = eval_indices(num_frames, sampling, clips)
                assert indices.shape == (clips, frames)
                for values in (indices, drawn):
                    assert values.dtype == np.int64
                    assert values.min() >= 0 and values.max() < num_frames
                    if kind == "uniform" or short == "hold":
                        assert (np.diff(values) >= 0).all()


def test_an_offset_that_rounds_up_stays_in_the_video() -> None:
    class Highest(np.random.Generator):
        def random(self, size: int) -> np.ndarray:  # type: ignore[override]
            return np.full(size, np.nextafter(1.0, 0.0))

    highest = Highest(np.random.Philox(0))
    assert train_indices(100, UNIFORM, highest)[-1] == 99


@pytest.mark.parametrize("sampling", [DENSE, UNIFORM, Sampling(1, kind="all")])
def test_an_empty_video_is_an_error(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        eval_indices(0, sampling, 1)
    with pytest.raises(ValueError, match="at least one frame"):
        train_indices(0, sampling, rng(0, 0, 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "at least 1"),
        ({"stride": 0}, "at least 1"),
        ({"kind": "sparse"}, "kind is dense, uniform or all, not sparse"),
        ({"short": "mirror"}, "short is loop or hold, not mirror"),
    ],
)
def test_wrong_samplings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**{"frames": 8, **wrong})


def test_dense_clips_stand_one_behind_the_other():
    starts = dense_indices(11, Sampling(2, 2))[:, 0]
    assert starts.tolist() == [0, 3, 6, 8], "the last one ends with the video"
    assert dense_indices(12, Sampling(2, 2))[:, 0].tolist() == [0, 3, 6, 9]
    assert dense_indices(12, Sampling(2, 2), 5)[:, 0].tolist() == [0, 5, 9]
    assert dense_indices(2, Sampling(4)).tolist() == [[0, 1, 0, 1]]
    shown = {int(frame) for clip in dense_indices(50, Sampling(8)) for frame in clip}
    assert shown == set(range(50))
    with pytest.raises(ValueError, match="only dense"):
        dense_indices(9, Sampling(4, kind="uniform"))

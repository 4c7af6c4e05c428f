from __future__ import annotations

import pickle

import numpy as np
import pytest

from vidinit.data.readers import VideoReadError
from vidinit.data.readers.base import check_indices, gather, scaled_size


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((240, 320), 128, (128, 170)),  # 170.67: the nearest even number
        ((320, 240), 128, (170, 128)),
        ((272, 640), 256, (256, 602)),
        ((239, 319), 64, (64, 86)),
        ((256, 256), 127, (126, 126)),
        ((240, 320), None, (240, 320)),
        ((239, 319), 239, (239, 319)),  # small enough: not even made even
        ((48, 96), 128, (48, 96)),
    ],
)
def test_scaled_sizes_are_even_and_never_larger(
    size: tuple[int, int], short_side: int | None, expected: tuple[int, int]
) -> None:
    assert scaled_size(*size, short_side) == expected
    assert scaled_size(*size[::-1], short_side) == expected[::-1]


def test_scaling_to_a_scaled_size_changes_nothing() -> None:
    for width in range(50, 400, 7):
        once = scaled_size(48 + width // 3, width, 32)
        assert scaled_size(48 + width // 3, width, min(once)) == once


def test_gather_reads_each_frame_once_and_in_order() -> None:
    asked = []

    def read(order: list[int]):  # type: ignore[no-untyped-def]
        asked.append(order)
        return (np.full((2, 3, 3), index, np.uint8) for index in order)

    frames = gather("a.mp4", [5, 2, 5, 9], read)
    assert asked == [[2, 5, 9]]
    assert frames[:, 0, 0, 0].tolist() == [5, 2, 5, 9]


def test_gather_refuses_a_frame_size_that_changes() -> None:
    sizes = iter([(2, 3, 3), (2, 2, 3)])
    with pytest.raises(VideoReadError, match=r"a\.mp4: its frame size changes"):
        gather("a.mp4", [0, 1], lambda order: (np.zeros(next(sizes)) for _ in order))


def test_checked_names_the_first_index_that_is_not_there() -> None:
    assert check_indices("a.mp4", np.array([1, 0]), 2) == [1, 0]
    for indices, outside in (([0, 2, 3], "2"), ([1, -1], "-1")):
        with pytest.raises(VideoReadError, match=f"it has 2 frames, no frame {outside}"):
            check_indices("a.mp4", indices, 2)
    with pytest.raises(ValueError, match="no frame asked for"):
        check_indices("a.mp4", [], 2)


def test_the_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(VideoReadError("a.mp4", "it is a folder")))
    assert (error.path, error.reason, str(error)) == (
        "a.mp4",
        "it is a folder",
        "a.mp4: it is a folder",
    )

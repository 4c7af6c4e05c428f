"""Boxes in frames are at the right pixels."""

from __future__ import annotations

import numpy as np
import pytest
from support import write_video

from vidinit.data.readers import open_video
from vidinit.pipelines.detect.draw import Drawn, draw_boxes, frames_with
from vidinit.pipelines.detect.draw import write_video as write_mp4

RED = (250, 10, 20)


def test_lines_are_the_outermost_pixels_that_a_box_touches():
    frame = np.full((20, 30, 3), 7, np.uint8)
    drawn = draw_boxes(frame, [Drawn((4.2, 3.0, 14.0, 12.5), color=RED, thick=2)])
    red = (drawn == RED).all(axis=2)
    expected = np.zeros((20, 30), dtype=bool)
    expected[3:13, 4:14] = True
    expected[5:11, 6:12] = False
    assert np.array_equal(red, expected)
    assert (drawn[~red] == 7).all() and (frame == 7).all()


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((-5, -5, 4, 6), [5], [3]),
        ((25, 15, 40, 40), [15], [25]),
        ((0, 0, 30, 20), [0, 19], [0, 29]),
    ],
)
def test_what_lies_beyond_the_frame_is_cut_off(box, rows, columns):
    drawn = draw_boxes(np.zeros((20, 30, 3), np.uint8), [Drawn(box, color=RED)])
    red = (drawn == RED).all(axis=2)
    assert [y for y in range(20) if red[y].sum() > 2] == rows
    assert [x for x in range(30) if red[:, x].sum() > 2] == columns


def test_later_boxes_are_on_top_and_empty_ones_nowhere():
    frame = np.zeros((40, 40, 3), np.uint8)
    over = draw_boxes(frame, [Drawn((5, 5, 30, 30)), Drawn((5, 5, 30, 30), color=RED)])
    assert (over[5, 5:30] == RED).all()
    assert not draw_boxes(frame, [Drawn((5, 5, 5, 30), "x"), Drawn((9, 9, 3, 3))]).any()


@pytest.mark.parametrize(("top", "place"), [(40, "above"), (2, "inside")])
def test_the_text_is_above_the_box_or_inside(top, place):
    drawn = draw_boxes(
        np.zeros((100, 100, 3), np.uint8), [Drawn((10, top, 90, 95), "walk 0.83", RED, 2)]
    )
    area = drawn[:top] if place == "above" else drawn[top + 2 : top + 20, 12:88]
    red = (area == RED).all(axis=2)
    assert red.sum() > 200  # the ground of the text
    if place == "inside":
        assert not drawn[:top].any()


def test_a_video_has_the_boxes_of_each_frame(tmp_path):
    clip = np.full((20, 33, 49, 3), 60, np.uint8)  # odd sides lose a pixel
    path = write_video(tmp_path / "a.mp4", clip[:, :32, :48], fps=10)

    def boxes(frame: int) -> list[Drawn]:
        return [Drawn((2 * frame, 4, 2 * frame + 10, 24), color=(255, 255, 255), thick=2)]

    write_mp4(tmp_path / "b.mp4", frames_with(open_video(path), boxes), 10.0)
    video = open_video(tmp_path / "b.mp4")
    assert (video.num_frames, video.size, video.fps) == (20, (32, 48), 10.0)
    frames = video.get(range(20)).astype(int).mean(axis=3)
    for number in (0, 7, 17):
        left = 2 * number
        assert frames[number, 6:22, left].min() > 180
        assert frames[number, 8:20, left + 4 : left + 6].max() < 110
    write_mp4(tmp_path / "odd.mp4", iter(clip), 0.0)
    odd = open_video(tmp_path / "odd.mp4")
    assert (odd.size, odd.fps, odd.num_frames) == ((32, 48), 25.0, 20)

"""Video-AP and linking: cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vidinit.detection import link, video_ap
from vidinit.errors import DataError, UsageError

BOX = [0, 0, 9, 9]


def tube(first, last, box=BOX, score=None, label="run", video="a"):
    """A tube that stands still, in frames ``first`` to ``last``."""
    frames = list(range(first, last + 1))
    record = {"video": video, "label": label, "frames": frames, "boxes": [box] * len(frames)}
    return record if score is None else {**record, "score": score}


def found(box, score, frame, label="run", video="a", **more):
    return {"video": video, "frame": frame, "label": label, "box": box, "score": score, **more}


def mean(truth, detections, **options):
    return video_ap(truth, detections, **options)["mean"]


def test_time_counts_whole_frames():
    """10 of 20 frames are 1/2; MultiSports' code makes them 9/19, the end being outside."""
    assert mean([tube(0, 19)], [tube(0, 9, score=0.9)]) == 1.0
    assert mean([tube(0, 19)], [tube(0, 8, score=0.9)]) == 0.0
    # Singh's Matlab gives 0 to one shared frame.
    assert mean([tube(5, 5)], [tube(5, 5, score=0.9)], iou=1.0) == 1.0


def test_space_times_time():
    """Half the box in all frames, 0.5; half the box in half the frames, 0.25."""
    half = [0, 0, 9, 4.5]
    for last, expected in ((19, 0.5), (9, 0.25)):
        one = [tube(0, last, half, 0.9)]
        assert mean([tube(0, 19)], one, iou=expected) == 1.0
        assert mean([tube(0, 19)], one, iou=expected + 0.01) == 0.0


def test_boxes_move():
    """The mean over the frames of both, not the IoU of the sums."""
    truth = tube(0, 1)
    moved = {**tube(0, 1, score=0.9), "boxes": [BOX, [0, 0, 9, 3]]}  # IoU 1 and 1/3
    assert mean([truth], [moved], iou=2 / 3 - 1e-9) == 1.0
    assert mean([truth], [moved], iou=2 / 3 + 1e-9) == 0.0


def test_act_counts_the_last_pixel():
    half = [0, 0, 9, 4]  # 10 x 5 of 10 x 10 pixels; 9 x 4 of 9 x 9 of edges
    assert mean([tube(0, 9)], [tube(0, 9, half, 0.9)], protocol="act") == 1.0
    assert mean([tube(0, 9)], [tube(0, 9, half, 0.9)], protocol="voc") == 0.0


def test_act_drops_tubes_that_overlap_a_better_one():
    """A double of lower score, then a right tube elsewhere: without the double nothing is false."""
    truth = [tube(0, 9), tube(0, 9, video="b")]
    detections = [
        tube(0, 9, score=0.9),
        tube(1, 9, score=0.8),
        tube(0, 9, score=0.7, video="b"),
    ]
    assert mean(truth, detections, protocol="act") == 1.0
    assert mean(truth, detections, protocol="voc") == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    # A tube of another class or video is no double.
    truth = [tube(0, 9), tube(0, 9, label="jump")]
    detections = [tube(0, 9, score=0.9), tube(0, 9, score=0.8, label="jump")]
    assert mean(truth, detections, protocol="act") == 1.0


def test_free_tubes_and_all_tubes():
    """The second lies best on the tube that is taken, and well enough on the other one.

    It has 12 of 20 frames of the first and 7 of 20 of the other; with the first detection it shares
    3 of 20, which is too little for the suppression of act.
    """
    truth = [tube(0, 19), tube(13, 27)]
    detections = [tube(0, 10, score=0.9), tube(8, 19, score=0.8)]
    assert mean(truth, detections, iou=0.3, protocol="voc") == 0.5
    assert mean(truth, detections, iou=0.3, protocol="act") == 1.0


def test_thresholds_of_the_tables():
    """Ten of the 14 frames: 0.714."""
    truth, detections = [tube(0, 13)], [tube(0, 9, score=0.9)]
    values = [mean(truth, detections, iou=iou) for iou in (0.2, 0.5, 0.75, "0.5:0.95")]
    assert values == [1.0, 1.0, 0.0, 0.5]


def test_classes_without_truth_and_without_tubes():
    truth = [tube(0, 9), tube(0, 9, label="jump", video="b")]
    detections = [tube(0, 9, score=0.9), tube(0, 9, score=0.9, label="swim")]
    assert video_ap(truth, detections) == {"mean": 0.5, "classes": {"jump": 0.0, "run": 1.0}}
    assert video_ap(truth, []) == {"mean": 0.0, "classes": {"jump": 0.0, "run": 0.0}}


def test_truth_is_left_as_it_is():
    """ACT's code takes matched tubes out of the truth that it was given."""
    truth, detections = [tube(0, 9)], [tube(0, 9, score=0.9)]
    assert [mean(truth, detections) for _ in range(2)] == [1.0, 1.0]


def test_frames_may_come_in_any_order():
    back = tube(0, 9, score=0.9)
    boxes = [[i, 0, i + 9, 9] for i in range(10)]
    there = {**tube(0, 9), "boxes": boxes}
    back |= {"frames": back["frames"][::-1], "boxes": boxes[::-1]}
    assert mean([there], [back], iou=1.0) == 1.0


@pytest.mark.parametrize(("record", "message"), [
    ({**tube(0, 9, score=0.9), "boxes": [BOX]}, "found 0: 10 frames and 1 boxes"),
    ({**tube(0, 1, score=0.9), "frames": [3, 3]}, "found 0: frames .* named twice"),
    ({**tube(0, 1, score=0.9), "frames": [0.5, 1]}, "found 0: frames are no whole numbers"),
    ({**tube(0, 1, score=0.9), "frames": [], "boxes": []}, "found 0: 0 frames and 0 boxes"),
    ({**tube(0, 1, score=0.9), "boxes": [BOX, [0, 0, 1, float("nan")]]}, "box is not a number"),
    (tube(0, 1), "found 0: no score"),
])  # fmt: skip
def test_records_that_are_no_tubes(record, message):
    with pytest.raises(DataError, match=message):
        video_ap([tube(0, 9)], [record])


def test_no_true_tube():
    with pytest.raises(DataError, match="no true tube"):
        video_ap([], [tube(0, 9, score=0.9)])


# Boxes of frames in place of tubes.


def boxes(box, frames, score=None, **more):
    records = [found(box, 0.0 if score is None else score, frame, **more) for frame in frames]
    return records if score is not None else [{**r, "score": None} for r in records]


def test_boxes_of_frames_are_joined():
    truth = [*boxes(BOX, range(10), track=1), *boxes([50, 0, 59, 9], range(5, 15), track=2)]
    for record in truth:
        del record["score"]
    detections = [
        *boxes([50, 0, 59, 9], range(5, 15), 0.8),
        *boxes(BOX, range(10), 0.9),
    ]
    assert video_ap(truth, detections, iou=1.0) == {"mean": 1.0, "classes": {"run": 1.0}}
    with pytest.raises(DataError, match=r"truth 0: track is \[1\].*"):
        video_ap([{**truth[0], "track": [1]}, *truth[1:]], detections)
    for record in truth:
        del record["track"]
    with pytest.raises(DataError, match=r"two boxes of class 'run' in frame 5 of 'a'.*track"):
        video_ap(truth, detections)
    with pytest.raises(DataError, match="found has tubes and boxes"):
        video_ap([tube(0, 9)], [tube(0, 9, score=1), *detections])


# Linking.


def test_a_moving_box_is_one_tube_and_its_score_the_mean():
    line = [found([i, 0, i + 10, 10], 0.5 + i / 100, i) for i in range(20)]
    (one,) = link(line[::-1])  # in any order
    assert one["video"] == "a" and one["label"] == "run"
    assert one["frames"] == list(range(20))
    assert one["boxes"] == [r["box"] for r in line]
    assert one["score"] == pytest.approx(np.mean([r["score"] for r in line]))


def test_a_gap_is_filled_on_straight_lines_and_a_longer_one_ends_the_tube():
    ends = [found([0, 0, 10, 10], 0.8, 0), found([6, 0, 16, 10], 0.6, 6)]
    (one,) = link(ends, gap=5, iou=0.2)
    assert one["frames"] == list(range(7))
    assert one["boxes"] == [[i, 0, i + 10, 10] for i in range(7)]
    assert one["score"] == pytest.approx(0.7)  # of what was found, not of what was filled in
    assert [t["frames"] for t in link(ends, gap=4, iou=0.2)] == [[0], [6]]
    assert [t["frames"] for t in link(ends, gap=5, iou=0.3)] == [[0], [6]]  # IoU 4/16


def test_the_best_tube_chooses_first_and_takes_the_highest_score():
    """Not the box that lies best, but the best score of those that lie well enough."""
    records = [
        found([0, 0, 10, 10], 0.9, 0),
        found([4, 0, 14, 10], 0.5, 0),
        found([1, 0, 11, 10], 0.3, 1),
        found([4, 0, 14, 10], 0.8, 1),
    ]
    strong, weak = link(records, nms=1.0, iou=0.3)
    assert strong["boxes"][1] == [4, 0, 14, 10] and weak["boxes"][1] == [1, 0, 11, 10]
    assert (strong["score"], weak["score"]) == (pytest.approx(0.85), pytest.approx(0.4))


def test_boxes_on_a_better_one_are_left_out_and_no_more_than_ten_are_kept():
    double = [found([0, 0, 10, 10], 0.9, 0), found([1, 0, 11, 10], 0.8, 0)]
    assert [t["score"] for t in link(double)] == [0.9]
    many = [found([20 * i, 0, 20 * i + 10, 10], 1 - i / 100, 0) for i in range(12)]
    assert len(link(many)) == 10 and len(link(many, keep=12)) == 12


def test_each_tube_has_the_score_of_its_own_boxes():
    """mmaction2 gives all of them that of the last detection."""
    records = [*boxes(BOX, range(3), 0.9), *boxes([50, 0, 59, 9], range(3), 0.2)]
    assert [t["score"] for t in link(records)] == [pytest.approx(0.9), pytest.approx(0.2)]


def test_boxes_that_lie_apart_never_join():
    """3D-RetinaNet multiplies two negative sides, so that these overlap."""
    assert len(link([found([0, 0, 10, 10], 0.9, 0), found([30, 30, 40, 40], 0.9, 1)])) == 2


def test_classes_and_videos_are_linked_apart():
    records = [
        *boxes(BOX, range(3), 0.9),
        *boxes(BOX, range(3), 0.5, label="jump"),
        *boxes(BOX, range(3), 0.4, video="b"),
    ]
    found_tubes = link(records)
    assert [(t["video"], t["label"]) for t in found_tubes] == [
        ("a", "jump"),
        ("a", "run"),
        ("b", "run"),
    ]


def test_short_and_weak_tubes_go_on_request_alone():
    records = [*boxes(BOX, range(3), 0.001), *boxes([50, 0, 59, 9], range(20), 0.5)]
    assert len(link(records)) == 2
    assert [len(t["frames"]) for t in link(records, min_frames=15)] == [20]
    assert [len(t["frames"]) for t in link(records, min_score=0.01)] == [20]


def test_trimming_cuts_where_the_smoothed_score_is_low():
    scores = [0.1] * 10 + [0.9] * 10 + [0.1] * 10 + [0.9] * 3
    records = [found(BOX, score, i) for i, score in enumerate(scores)]
    first, last = link(records, trim=0.5, smooth=1)
    assert first["frames"] == list(range(10, 20)) and last["frames"] == list(range(30, 33))
    assert first["score"] == pytest.approx(0.9)
    # A mean over three frames: at an edge two of three decide, at the end two of two.
    first, last = link(records, trim=0.5, smooth=3)
    assert first["frames"] == list(range(10, 20)) and last["frames"] == list(range(30, 33))
    assert link(records, trim=0.95) == []
    (whole,) = link(records, trim=0.05)
    assert whole["frames"] == list(range(33))


@pytest.mark.parametrize("options", [{"iou": 1.5}, {"gap": -1}, {"keep": 0}, {"nms": -1}])
def test_settings_out_of_range(options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} is"):
        link(boxes(BOX, range(3), 0.9), **options)


def test_nothing_found_is_no_tube():
    assert link([]) == []

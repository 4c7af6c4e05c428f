"""Frame-AP: small cases that are worked out by hand, one for each thing evaluators differ in."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import vidinit
from vidinit.detection import frame_ap, link, video_ap
from vidinit.detection.protocols import PROTOCOLS, thresholds_of
from vidinit.errors import DataError, UsageError

BOX = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]


def true(box, frame=0, label="run", video="a"):
    return {"video": video, "frame": frame, "label": label, "box": box}


def found(box, score, frame=0, label="run", video="a"):
    return {**true(box, frame, label, video), "score": score}


def mean(truth, detections, **options):
    return frame_ap(truth, detections, **options)["mean"]


def test_the_result_is_a_mean_and_a_figure_a_class():
    truth = [true(BOX), true(BOX, label="jump", frame=1)]
    result = frame_ap(truth, [found(BOX, 0.9), found(FAR, 0.9, 1, "jump")])
    assert result == {"mean": 0.5, "classes": {"jump": 0.0, "run": 1.0}}
    assert list(result["classes"]) == ["jump", "run"]


def test_it_needs_no_torch():
    code = "import vidinit, sys; vidinit.detection.frame_ap; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert vidinit.detection.frame_ap is frame_ap


# Score order, envelope and trapezoid.
#
# Three true boxes; by score: right, false, right, false. Precision 1, 1/2, 2/3, 1/2 at recall 1/3,
# 1/3, 2/3, 2/3. Envelope: 1/3 x 1 + 1/3 x 2/3 = 5/9. Straight lines: from (0, 1) to (1/3, 1) is
# 1/3; from (1/3, 1/2) to (2/3, 2/3) is 1/3 x (1/2 + 2/3) / 2 = 7/36; 19/36 in all.
CURVE_TRUTH = [true(BOX, frame) for frame in range(3)]
CURVE = [found(BOX, 0.9, 0), found(FAR, 0.8, 0), found(BOX, 0.7, 1), found(FAR, 0.6, 1)]


@pytest.mark.parametrize(("protocol", "expected"), [("voc", 5 / 9), ("act", 19 / 36)])
def test_area_under_the_curve(protocol, expected):
    assert mean(CURVE_TRUTH, CURVE, protocol=protocol) == pytest.approx(expected, abs=1e-15)


def test_the_order_of_the_records_means_nothing():
    """PySlowFast's copy of AVA's code matches in the order of the file."""
    weak_first = [found([0, 0, 10, 9], 0.2), found(BOX, 0.9)]
    assert mean([true(BOX)], weak_first) == mean([true(BOX)], weak_first[::-1]) == 1.0
    # The area from a raw curve would be the same; with the weaker one matched first it is 1/2.
    assert mean([true(BOX), true(FAR)], weak_first) == 0.5


# Doubles: a second box on a person that is taken.


def test_voc_compares_with_all_true_boxes_and_act_with_those_that_are_free():
    """The second box lies best on the taken person, and well enough on the other one."""
    near, other = [0, 0, 100, 100], [30, 0, 130, 100]
    second = [5, 0, 105, 100]  # IoU 95/105 with the first, 75/125 with the other
    truth = [true(near), true(other)]
    detections = [found(near, 0.9), found(second, 0.8)]
    assert mean(truth, detections, protocol="voc") == 0.5
    # Of act both are right: (1, 1) throughout.
    assert mean(truth, detections, protocol="act") == 1.0


def test_a_double_is_false_in_both():
    detections = [found(BOX, 0.9), found(BOX, 0.8), found(BOX, 0.7, 1)]
    truth = [true(BOX), true(BOX, 1)]
    assert mean(truth, detections) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert mean(truth, detections, protocol="act") == pytest.approx(
        1 / 2 + 1 / 2 * (1 / 2 + 2 / 3) / 2
    )


def test_true_doubles_are_two():
    assert mean([true(BOX), true(BOX)], [found(BOX, 0.9)]) == 0.5
    both = [found(BOX, 0.9), found(BOX, 0.8)]
    # Of equal IoU the first true one counts, and it is taken: false by voc, right by act.
    assert mean([true(BOX), true(BOX)], both) == 0.5
    assert mean([true(BOX), true(BOX)], both, protocol="act") == 1.0


# IoU: continuous or inclusive pixels, the threshold itself, empty boxes.


def test_a_threshold_is_reached_by_an_equal_iou():
    half = [0, 0, 10, 5]  # exactly half of the area
    assert mean([true(BOX)], [found(half, 0.9)]) == 1.0
    assert mean([true(BOX)], [found([0, 0, 10, 4.99], 0.9)]) == 0.0
    # With whole last pixels it is 11 x 6 of 11 x 11.
    assert mean([true(BOX)], [found(half, 0.9)], iou=0.54, protocol="act") == 1.0
    assert mean([true(BOX)], [found(half, 0.9)], iou=0.55, protocol="act") == 0.0


def test_inclusive_pixels_give_small_boxes_a_larger_iou():
    """One pixel beside another: nothing is shared; 2 x 1 pixels share one with 1 x 1."""
    truth, detection = [true([4, 4, 5, 4])], [found([4, 4, 4, 4], 0.9)]
    assert mean(truth, detection, protocol="act") == 1.0
    assert mean(truth, detection, protocol="voc") == 0.0  # both are empty


def test_empty_boxes_are_false_and_never_divide_by_zero():
    detections = [found([5, 5, 5, 5], 0.9), found(BOX, 0.8)]
    assert mean([true(BOX)], detections) == 0.5
    assert mean([true(BOX), true([5, 5, 5, 5])], detections) == 0.25


def test_boxes_that_end_before_they_begin_are_said():
    with pytest.warns(UserWarning, match=r"1 of 1 boxes of found .* not x, y, width, height"):
        assert mean([true([50, 50, 60, 60])], [found([50, 50, 10, 10], 0.9)]) == 0.0


# Classes without truth, without detections; frames without either.


def test_a_class_without_truth_is_left_out_and_one_without_detections_is_zero():
    truth = [true(BOX), true(BOX, label="jump")]
    detections = [found(BOX, 0.9), found(BOX, 0.9, label="swim")]
    for protocol in PROTOCOLS:
        result = frame_ap(truth, detections, protocol=protocol)
        assert result == {"mean": 0.5, "classes": {"jump": 0.0, "run": 1.0}}


def test_detections_in_frames_without_truth_are_false():
    """The official evaluator of AVA leaves such frames out."""
    detections = [found(BOX, 0.9, 7), found(BOX, 0.8, 0), found(BOX, 0.7, video="b")]
    assert mean([true(BOX)], detections) == 0.5


def test_excluded_frames_count_on_neither_side():
    """mmaction2 keeps their truth in the number that recall is a share of."""
    truth = [true(BOX), true(BOX, 1), true(BOX, 1, video="b")]
    detections = [found(FAR, 0.95, 1), found(BOX, 0.9), found(BOX, 0.8, 1, video="b")]
    assert mean(truth, detections) == pytest.approx(1 / 3 * 2 / 3 + 1 / 3 * 2 / 3)
    assert mean(truth, detections, excluded=[("a", 1)]) == 1.0
    assert mean(truth, detections, excluded=[{"video": "a", "frame": 1}]) == 1.0
    with pytest.raises(UsageError, match="no frame"):
        mean(truth, detections, excluded=["a"])


def test_a_class_all_of_whose_truth_is_excluded_has_no_truth():
    truth = [true(BOX), true(BOX, 1, "jump")]
    result = frame_ap(truth, [found(BOX, 0.9)], excluded=[("a", 1)])
    assert result == {"mean": 1.0, "classes": {"run": 1.0}}


def test_classes_choose_and_order():
    """As AVA's 60 of 80, whose ids are not successive."""
    truth = [true(BOX, label=label) for label in (1, 2, 4)]
    detections = [found(BOX, 0.9, label=4), found(BOX, 0.9, label=2)]
    result = frame_ap(truth, detections, classes=(4, 1, 99))
    assert result == {"mean": 0.5, "classes": {4: 1.0, 1: 0.0}}
    assert list(result["classes"]) == [4, 1]


def test_many_boxes_in_a_frame_all_count():
    """The official evaluator of AVA takes the first 50 labeled boxes of a frame, COCO's 100."""
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(120)]
    assert mean([true(b) for b in boxes], [found(b, 0.5) for b in boxes]) == 1.0


def test_the_best_class_of_a_box_is_not_all_that_counts():
    """A person has several actions: each label is its own detection."""
    truth = [true(BOX, label="stand"), true(BOX, label="talk")]
    detections = [found(BOX, 0.9, label="stand"), found(BOX, 0.1, label="talk")]
    assert mean(truth, detections) == 1.0


# Ties.


def test_ties_go_by_video_and_frame_whatever_the_order_of_the_records():
    truth = [true(BOX, 0), true(BOX, 2)]
    detections = [found(FAR, 0.5, 1), found(BOX, 0.5, 0), found(BOX, 0.5, 2)]
    # In the order of the frames: right, false, right.
    expected = 1 / 2 + 1 / 2 * 2 / 3
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        assert mean(truth, [detections[i] for i in order]) == pytest.approx(expected)


def test_videos_are_ordered_by_name_not_by_arrival():
    truth = [true(BOX, video="b"), true(BOX, video="c")]
    first = [found(FAR, 0.5, video="a"), found(BOX, 0.5, video="b"), found(BOX, 0.5, video="c")]
    expected = 1 / 2 * 2 / 3 + 1 / 2 * 2 / 3
    assert mean(truth, first) == mean(truth, first[::-1]) == pytest.approx(expected)


# Thresholds.


def test_several_thresholds_give_the_mean():
    shifted = [0, 0, 10, 7]  # IoU 0.7
    assert mean([true(BOX)], [found(shifted, 0.9)], iou=0.7) == 1.0
    assert mean([true(BOX)], [found(shifted, 0.9)], iou=[0.5, 0.75]) == 0.5
    # 0.50, 0.55, 0.60, 0.65, 0.70 of ten.
    assert mean([true(BOX)], [found(shifted, 0.9)], iou="0.5:0.95") == 0.5
    assert thresholds_of("0.5:0.95").tolist() == [
        *(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    ]
    assert thresholds_of("0.2").tolist() == thresholds_of(0.2).tolist() == [0.2]


@pytest.mark.parametrize("iou", [0, -0.5, 1.5, [], "half", "0.9:0.5", None, [0.5, "x"]])
def test_thresholds_that_are_none(iou):
    with pytest.raises(UsageError, match="iou is"):
        mean([true(BOX)], [found(BOX, 0.9)], iou=iou)


def test_an_unknown_protocol():
    with pytest.raises(UsageError, match=r"unknown protocol 'vok'; did you mean 'voc'\?"):
        mean([true(BOX)], [found(BOX, 0.9)], protocol="vok")


# Records that are none.


@pytest.mark.parametrize(("records", "message"), [
    ([{"video": "a", "frame": 0, "label": "run", "box": BOX}], r"found 0: no score in"),
    ([found(BOX, 0.9), {"video": "a"}], r"found 1: no frame in"),
    ([found(BOX, float("nan"))], r"found 0: score is not a number"),
    ([found(BOX, "0.9x")], r"found 0: score is '0.9x'"),
    ([found([0, 0, 10], 0.9)], r"found 0: box is \[0, 0, 10\]; box is 4 numbers"),
    ([found(BOX, 0.9), found([0, 0, float("inf"), 10], 0.9)], r"found 1: box is not a number"),
    ([found(BOX, 0.9, frame="first")], r"found 0: frame 'first' is no number"),
])  # fmt: skip
def test_records_that_are_none(records, message):
    with pytest.raises(DataError, match=message):
        frame_ap([true(BOX)], records)


def test_records_and_classes_may_come_from_generators():
    truth = [true(BOX, 0), true(BOX, 1)]
    detections = [found(BOX, 0.9, 0), found(FAR, 0.8, 1)]
    names = (name for name in ["run"])
    result = frame_ap(iter(truth), iter(detections), classes=names)
    assert result == {"mean": 0.5, "classes": {"run": 0.5}}
    # The tube that is found has one frame of the two: IoU 1/2.
    tracks = ({**one, "track": 1} for one in truth)
    assert video_ap(tracks, iter(detections[:1]))["classes"] == {"run": 1.0}
    assert [tube["frames"] for tube in link(iter(detections[:1]))] == [[0]]


@pytest.mark.parametrize(("records", "message"), [
    (None, "truth is a NoneType, not a list of records"),
    ("truth.csv", "truth is a str, not a list of records"),
    (true(BOX), "truth is a dict, not a list of records"),
    ([true(BOX), 5], "truth 1: '5' is no record"),
    ([true(BOX), true(BOX, label=["run"])], r"truth 1: label is \['run'\]; it is one name"),
    ([true(BOX, [0, 1]), true(BOX, [2])], r"truth 0: frame \[0, 1\] is no number"),
    ([true(BOX, [0])], r"truth 0: frame \[0\] is no number"),
    ([true(BOX, 10**20)], "truth 0: frame 1000.* is no number"),
])  # fmt: skip
def test_what_is_no_list_of_boxes_is_said(records, message):
    for metric in (frame_ap, video_ap):
        with pytest.raises(DataError, match=message):
            metric(records, [found(BOX, 0.9)])


def test_a_text_is_neither_a_list_of_classes_nor_a_frame():
    with pytest.raises(UsageError, match="classes is 'run'"):
        frame_ap([true(BOX)], [found(BOX, 0.9)], classes="run")
    with pytest.raises(UsageError, match="'a1' is no frame"):
        frame_ap([true(BOX)], [found(BOX, 0.9)], excluded=["a1"])


def test_no_truth_at_all():
    with pytest.raises(DataError, match="no true box counts"):
        frame_ap([], [found(BOX, 0.9)])
    with pytest.raises(DataError, match="no true box counts"):
        frame_ap([true(BOX)], [found(BOX, 0.9)], excluded=[("a", 0)])
    assert frame_ap([true(BOX)], []) == {"mean": 0.0, "classes": {"run": 0.0}}


def test_names_that_have_nothing_in_common_are_said():
    with pytest.warns(UserWarning, match=r"no class of found is in truth.*'run'.*'Run'"):
        mean([true(BOX)], [found(BOX, 0.9, label="Run")])
    with pytest.warns(UserWarning, match=r"no video of found is in truth.*'a'.*'a.avi'"):
        mean([true(BOX)], [found(BOX, 0.9, video="a.avi")])


# Against a plain loop, and against pycocotools.


def plain_ap(truth, detections, iou, protocol):
    """The definition, box by box."""
    extra = 1 if protocol == "act" else 0

    def overlap(a, b):
        wide = min(a[2], b[2]) - max(a[0], b[0]) + extra
        high = min(a[3], b[3]) - max(a[1], b[1]) + extra
        both = max(wide, 0) * max(high, 0)
        area = [(c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b)]
        return both / (sum(area) - both)

    results = {}
    for label in {r["label"] for r in truth}:
        own = [r for r in truth if r["label"] == label]
        taken, curve, hits = set(), [(0.0, 1.0)], 0
        ordered = sorted(
            (r for r in detections if r["label"] == label),
            key=lambda r: (-r["score"], r["video"], r["frame"]),
        )
        for number, one in enumerate(ordered, 1):
            same = [
                (overlap(r["box"], one["box"]), -i)
                for i, r in enumerate(own)
                if (r["video"], r["frame"]) == (one["video"], one["frame"])
                and (protocol == "voc" or i not in taken)
            ]
            best, place = max(same, default=(0, 0))
            if best >= iou and -place not in taken:
                taken.add(-place)
                hits += 1
            curve.append((hits / len(own), hits / number))
        area = 0.0
        for i in range(1, len(curve)):
            step = curve[i][0] - curve[i - 1][0]
            height = (
                max(p for _, p in curve[i:])
                if protocol == "voc"
                else (curve[i][1] + curve[i - 1][1]) / 2
            )
            area += step * height
        results[label] = area
    return results


def crowd(seed, frames=12, ties=False):
    """Overlapping people, doubles, misses, and boxes out of nowhere."""
    rng = np.random.default_rng(seed)
    truth, detections = [], []
    for place in range(frames):
        where = {"video": f"v{place % 3}", "frame": int(place)}
        for _ in range(rng.integers(0, 4)):
            corner = rng.integers(0, 40, 2)
            box = [*corner.tolist(), *(corner + rng.integers(10, 40, 2)).tolist()]
            label = int(rng.integers(3))
            truth.append({**where, "label": label, "box": box})
            for _ in range(rng.integers(0, 4)):
                moved = (np.array(box) + rng.integers(-5, 6, 4)).tolist()
                guess = label if rng.random() < 0.8 else int(rng.integers(4))
                detections.append({**where, "label": guess, "box": moved, "score": rng.random()})
    if ties:
        detections = [{**one, "score": round(one["score"], 1)} for one in detections]
    return truth, detections


@pytest.mark.parametrize("protocol", ["voc", "act"])
@pytest.mark.parametrize("ties", [False, True])
def test_it_is_what_a_plain_loop_gives(protocol, ties):
    differ = 0
    for seed in range(15):
        truth, detections = crowd(seed, ties=ties)
        for iou in (0.3, 0.5, 0.75):
            result = frame_ap(truth, detections, iou=iou, protocol=protocol)
            expected = plain_ap(truth, detections, iou, protocol)
            assert result["classes"] == pytest.approx(expected, abs=1e-12)
            differ += len(set(expected.values())) > 1
    assert differ > 20  # the cases say something


def test_pycocotools_where_the_definitions_agree():
    """100 true boxes a class that lie apart, so that its 101 points are the steps of recall.

    Its 101 points are recall 0, 0.01, ..., 1; ours are the 100 steps. At recall 0 it has the
    largest precision, hence ours = (101 x its - largest) / 100.
    """
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    truth, detections = [], []
    for label in (1, 2):
        for place in range(100):
            frame, column = divmod(place, 2)
            corner = np.array([300 * column + 40, 40 * label])
            box = [*corner.tolist(), *(corner + rng.integers(30, 60, 2)).tolist()]
            truth.append(true(box, frame, label))
            if rng.random() < 0.85:
                moved = (np.array(box) + rng.integers(-9, 10, 4)).tolist()
                detections.append(found(moved, rng.random(), frame, label))
            if rng.random() < 0.3:
                detections.append(found((np.array(box) + 7).tolist(), rng.random(), frame, label))

    def as_coco(records):
        return [
            {
                "id": i + 1,
                "image_id": r["frame"],
                "category_id": r["label"],
                "bbox": [r["box"][0], r["box"][1], *np.subtract(r["box"][2:], r["box"][:2])],
                "area": float(np.prod(np.subtract(r["box"][2:], r["box"][:2]))),
                "iscrowd": 0,
                "score": r.get("score"),
            }
            for i, r in enumerate(records)
        ]

    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(50)],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": as_coco(truth),
    }
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(as_coco(detections)), "bbox")
    # Its own, linspace(0, 1, 101), miss hundredths by rounding: 29 of 100 is below its 0.29.
    evaluation.params.recThrs = np.arange(101) / 100
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes
    for place, iou in enumerate(thresholds_of("0.5:0.95")):
        points = precision[place]
        expected = (points.sum(axis=0) - points[0]) / 100
        result = frame_ap(truth, detections, iou=iou)["classes"]
        assert [result[1], result[2]] == pytest.approx(expected, abs=1e-9), iou

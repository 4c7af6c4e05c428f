"""Boxes in COCO's form."""

from __future__ import annotations

import json

import pytest
from data.boxes.conftest import plain

from vidinit.data.boxes import read_boxes, try_boxes
from vidinit.errors import DataError

CATEGORIES = [{"id": 7, "name": "walk"}, {"id": 3, "name": "sit"}]


def entry(image=1, category=7, box=(10, 20, 30, 40.5), **more):
    return {"id": 1, "image_id": image, "category_id": category, "bbox": list(box), **more}


def file_of(write, images, annotations, **more):
    value = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    return write("instances.json", json.dumps(value))


def by_video(*frames, key="frame_id"):
    return [{"id": i, "video_id": 4, key: frame} for i, frame in enumerate(frames, 1)]


VIDEOS = [{"id": 4, "name": "yard.mp4"}]


def test_boxes_are_corner_and_size_and_categories_have_gaps(write, one):
    annotations = [entry(track_id=2), entry(1, 3, (0, 0, 5, 5), score=0.5), entry(2, iscrowd=1)]
    file = file_of(write, by_video(0, 8), annotations, videos=VIDEOS)
    part, said = one(file)
    assert plain(part) == [
        ("yard.mp4", 0, [10, 20, 40, 60.5], ("walk",)),
        ("yard.mp4", 0, [0, 0, 5, 5], ("sit",)),
    ]
    assert part.boxes.classes == ("sit", "walk") and part.boxes.track.tolist() == [0, -1]
    assert "frames by video_id and frame_id, from 0" in said and "1 crowds (iscrowd)" in said


@pytest.mark.parametrize("key", ["frame_id", "frame_index"])
def test_frames_from_0_or_1(write, one, key):
    """A file in which no frame is 0 counts from 1, and that is said."""
    for frames, expected in (((1, 2), [0, 1]), ((0, 2), [0, 2]), ((5, 9), [5, 9])):
        images = by_video(*frames, key=key)
        part, said = one(file_of(write, images, [entry(1), entry(2)], videos=VIDEOS))
        assert [when for _, when, *_ in plain(part)] == expected
        assert f"from {int(frames[0] == 1)}" in said


def test_frames_by_the_names_of_their_files(write, one):
    images = [
        {"id": 1, "file_name": "yard/img_00003.jpg"},
        {"id": 2, "file_name": "yard/img_00001.jpg"},
        {"id": 3, "file_name": "walk2/img_00002.jpg"},
    ]
    part, said = one(file_of(write, images, [entry(i) for i in (1, 2, 3)]))
    assert [(v, when) for v, when, *_ in plain(part)] == [("yard", 0), ("yard", 2), ("walk2", 1)]
    assert "by the numbers in file_name, from 1" in said


def test_frames_of_a_folder_that_is_there_are_its_pictures_in_order(write, one, tmp_path):
    """Of a folder that lacks a frame the place counts, as the reader of frames has it."""
    for number in (10, 2, 40):
        write(f"yard/{number}.jpg", "")
    images = [{"id": i, "file_name": f"yard/{n}.jpg"} for i, n in ((1, 10), (2, 40))]
    part, said = one(file_of(write, images, [entry(1), entry(2)]), root=tmp_path)
    assert [when for _, when, *_ in plain(part)] == [1, 2] and "by their order" in said


def test_pictures_in_no_folder_are_clips_of_their_own(write, one):
    images = [{"id": i, "file_name": f"00000{i}.jpg"} for i in (1, 2)]
    part, _ = one(file_of(write, images, [entry(2), entry(1)]))
    assert [(v, when) for v, when, *_ in plain(part)] == [("000002.jpg", 0), ("000001.jpg", 0)]


def test_a_json_of_another_form_is_not_taken(write):
    assert try_boxes(write("a.json", '[{"path": "a.mp4", "label": "run"}]')) is None


@pytest.mark.parametrize(("images", "annotations", "message"), [
    (by_video(0), [entry(9)], r"annotation 1: 9 is not understood; image_id names none"),
    (by_video(0), [entry(1, 9)], r"annotation 1: 9 is not understood; category_id names none"),
    (by_video(0), [entry(), entry(box=(1, 2, 3))], r"annotation 2: \[1, 2, 3\] .* bbox is \[x, y"),
    (by_video(0), [entry(box=(1, 2, -3, 4))], r"annotation 1: .* not negative"),
    (by_video(0), ["x"], r"annotation 1: 'x' is not understood"),
    ([{"id": 1, "video_id": 5, "frame_id": 0}], [entry()], r"image 1: 5 .* none of 'videos'"),
    (by_video("first"), [entry()], r"image 1: 'first' .* frame_id is the number"),
    ([{"id": 1}], [entry()], r"image 1: None .* file_name"),
    ([{"id": 1, "file_name": "a/b.jpg"}], [entry()], r"image 1: .* its name has no number"),
    ([{"id": 1}, {"id": 1}], [entry()], r"images 2: 1 .* an id of its own"),
    ("x", [entry()], r"images: 'x' .* expected a list"),
    (by_video(0), [], r"holds no box"),
])  # fmt: skip
def test_what_is_wrong_is_named(write, images, annotations, message):
    with pytest.raises(DataError, match=message):
        read_boxes(file_of(write, images, annotations, videos=VIDEOS), find=False)

"""Boxes of people that nobody gave: what moves, and a detector of torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import write_video

from vidinit.data.loading.quarantine import Quarantine
from vidinit.data.readers import probe
from vidinit.data.rows import Probe, Row, Rows
from vidinit.demo.clips import choose_footage
from vidinit.demo.footage import clip_rng, load_footage
from vidinit.demo.patches import KEY, classes_of, render_patches
from vidinit.detection.overlap import box_iou
from vidinit.errors import UsageError, VidinitError
from vidinit.pipelines.detect.people import (
    Moving,
    PersonDetector,
    all_key_frames,
    check_people,
    connected,
    find_people,
    key_frames,
    open_detector,
)


def square(*places: tuple[int, int], frames: int = 5, side: int = 12) -> np.ndarray:
    """Bright squares that move 3 pixels to the right in each frame; their places in the middle."""
    clip = np.full((frames, 64, 96, 3), 90, np.uint8)
    for top, left in places:
        for t in range(frames):
            start = left + 3 * (t - frames // 2)
            clip[t, top : top + side, start : start + side] = 220
    return clip


def test_what_moves_is_found_where_it_is_at_the_key_frame():
    boxes, scores = Moving()(square((8, 20), (40, 60)))
    order = boxes[:, 0].argsort()
    # The blur adds up to two pixels to each side.
    assert np.abs(boxes[order] - [[20, 8, 32, 20], [60, 40, 72, 52]]).max() <= 2
    assert ((scores > 0) & (scores < 1)).all()
    assert np.array_equal(scores, np.sort(scores)[::-1])


def test_nothing_moves_in_noise_or_where_all_does():
    rng = np.random.default_rng(0)
    noise = rng.integers(88, 93, (5, 64, 96, 3)).astype(np.uint8)
    assert len(Moving()(noise)[0]) == 0
    pan = np.stack([np.roll(rng.integers(0, 255, (64, 96, 3)), 4 * t, axis=1) for t in [0]] * 1)
    panned = np.stack([np.roll(pan[0], 4 * t, axis=1) for t in range(5)]).astype(np.uint8)
    assert len(Moving()(panned)[0]) == 0


def test_patches_of_the_demo_are_found_without_labels():
    (test,) = choose_footage(None)[1]
    footage = [load_footage(test)]
    hits = []
    for index in range(24):
        clip = render_patches(footage, classes_of(index), clip_rng(1, index))
        boxes, _ = Moving()(clip.frames[KEY - 2 : KEY + 3])
        overlap = box_iou(clip.boxes[KEY][:, None], boxes.astype(float)[None])
        hits += (overlap.max(axis=1, initial=0) >= 0.5).tolist()
    assert np.mean(hits) >= 0.9


def test_parts_hang_together_at_corners():
    mask = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]).bool()
    parts = connected(mask)
    assert (parts > 0).equal(mask)
    assert parts[0, 0] == parts[1, 1] and parts[0, 3] == parts[1, 3]
    assert len(parts.unique()) == 4


class Network(torch.nn.Module):
    """Says of any image that there are three things in it, two of them people."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        assert images[0].shape == (3, 64, 96) and 0 <= images[0].min() <= images[0].max() <= 1
        boxes = torch.tensor([[0.0, 1, 20, 30], [5, 5, 50, 60], [1, 1, 9, 9], [2, 2, 8, 8]])
        scores = torch.tensor([0.81, 0.99, 0.95, 0.5])
        return [{"boxes": boxes, "scores": scores, "labels": torch.tensor([1, 1, 18, 1])}]


def test_a_detector_gives_the_people_that_it_is_sure_of():
    boxes, scores = PersonDetector(Network(), least=0.8)(square((8, 20), frames=1))
    assert boxes.tolist() == [[5, 5, 50, 60], [0, 1, 20, 30]]
    assert scores.tolist() == pytest.approx([0.99, 0.81])


@pytest.mark.parametrize(
    ("num_frames", "fps", "every", "expected"),
    [
        (10, 10.0, 1.0, [5]),
        (10, 10.0, 0.1, list(range(10))),
        (100, 25.0, 1.0, [12, 37, 62, 87]),
        (5, 25.0, 1.0, [2]),
        (8, 0.0, 2.0, [1, 3, 5, 7]),
        (1, 0.0, 1.0, [0]),
    ],
)
def test_key_frames_are_the_middles_of_parts(num_frames, fps, every, expected):
    row = Row("a.mp4", probe=Probe(num_frames, fps, 8, 8))
    assert key_frames(row, every) == expected


def test_boxes_of_files_are_fractions_and_a_broken_file_costs_itself(tmp_path):
    path = write_video(tmp_path / "a.mp4", square((8, 44), frames=9), fps=9)
    broken = tmp_path / "b.mp4"
    rows = Rows((Row(str(path), probe=probe(path)), Row(str(broken), probe=probe(path))))
    broken.write_bytes(b"nothing")
    keys = list(all_key_frames(rows, 1.0))
    assert keys == [(0, 4), (1, 4)]
    seen = []
    boxes, errors = find_people(
        rows,
        keys,
        Moving(),
        workers=0,
        deadline=60.0,
        reader="auto",
        quarantine=Quarantine(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)] and list(errors) == [1]
    assert boxes.row.tolist() == [0] and boxes.frame.tolist() == [4] and boxes.fractions
    assert boxes.starts.tolist() == [0, 1]
    assert np.abs(boxes.box[0] * [96, 64, 96, 64] - [44, 8, 56, 20]).max() <= 2.5


def test_a_wrong_name_is_refused_with_the_nearest():
    check_people("motion")
    check_people("fasterrcnn_mobilenet_v3_large_320_fpn")
    with pytest.raises(UsageError) as error:
        check_people("fasterrcnn_resnet50_fpn_v3")
    assert "fasterrcnn_resnet50_fpn" in str(error.value.hint)


def test_weights_of_a_file_and_none_without_network(tmp_path, monkeypatch):
    name = "ssdlite320_mobilenet_v3_large"
    from torchvision.models import get_model

    made = get_model(name, weights=None, weights_backbone=None)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    read = open_detector(name, tmp_path / "w.pth", "cpu")
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), read.parameters(), strict=True))
    torch.save({"head.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="does not hold the weights of ssdlite320"):
        open_detector(name, tmp_path / "other.pth", "cpu")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for word in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(word, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(VidinitError, match="cannot be had") as error:
        open_detector(name, None, "cpu")
    assert "--people-weights FILE" in str(error.value.hint)

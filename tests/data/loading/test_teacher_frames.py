"""What teachers get of a clip, from the decode of the clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from data.ten_clips import clips, same

from vidinit.data.loading.teacher_frames import FrameView, TeacherFrames
from vidinit.data.pixels.transforms import eval_crops
from vidinit.data.readers import open_video
from vidinit.data.rows import Rows
from vidinit.data.views import Picks, Sampling

VIEWS = (
    *(FrameView(size, 0.875, "bicubic") for size in (16, 24, 32, 40)),
    FrameView(32, 1.0, "bilinear"),
)


class Seen:
    """A teacher that knows even frames of every row."""

    def has(self, row: int, numbers: np.ndarray) -> np.ndarray:
        return numbers % 2 == 0


def test_five_teachers_share_one_decode(rows: Rows, reads: list[list[int]]) -> None:
    teachers = TeacherFrames(Picks("random", 3), VIEWS)
    options: dict[str, Any] = {"sampling": Sampling(8), "repeats": 2}
    item, plain = clips(rows, teachers=teachers, **options)[1, 8], clips(rows, **options)[1, 8]
    assert len(reads) == 2 and reads[0] == reads[1]
    assert torch.equal(item["clip"], plain["clip"])
    assert same(item, clips(rows, teachers=teachers, **options)[1, 8])
    reader = open_video(rows.rows[8].path)
    for view in VIEWS:
        assert item[view.key].shape == (2, 3, view.size, view.size, 3)
        for clip, numbers in zip(item[view.key], item["frames"], strict=True):
            frames = reader.get(numbers.tolist())
            options = {"crop_pct": view.crop_pct, "interpolation": view.interpolation}
            assert torch.equal(clip, eval_crops(frames, size=view.size, **options)[0])


def test_frames_are_numbered_in_the_video(rows: Rows) -> None:
    dataset = clips(
        rows, sampling=Sampling(4, 2), teachers=TeacherFrames(Picks("all"), VIEWS[:1]), center=True
    )
    item = dataset[0, 9]  # 15 frames
    assert item["frames"].tolist() == [[4, 6, 8, 10]] and item["picks"].tolist() == [[0, 1, 2, 3]]
    short = clips(rows, sampling=Sampling(20), teachers=TeacherFrames(Picks("all"), VIEWS[:1]))
    item = short[0, 0]  # six frames, again and again
    assert item["frames"][0].tolist() == [t % 6 for t in range(20)]
    assert torch.equal(item[VIEWS[0].key][0, :6], item[VIEWS[0].key][0, 6:12])


def test_what_all_teachers_of_a_view_know_is_left_out(rows: Rows) -> None:
    key = VIEWS[0].key

    def items(*known: Any) -> dict[str, Any]:
        teachers = TeacherFrames(Picks("all"), VIEWS[:2], known)
        return clips(rows, sampling=Sampling(4), teachers=teachers, center=True, repeats=2)[0, 9]

    whole, part = items(), items((key, (Seen(),)))
    present = part[f"{key}/present"]
    assert torch.equal(present, part["frames"] % 2 == 1) and present.sum() == 4
    assert torch.equal(part[key], whole[key][present])
    assert torch.equal(part[VIEWS[1].key], whole[VIEWS[1].key])

    class Nothing:
        def has(self, row: int, numbers: np.ndarray) -> np.ndarray:
            return np.zeros_like(numbers, dtype=bool)

    assert torch.equal(items((key, (Seen(), Nothing())))[key], whole[key].flatten(0, 1))
    batch = clips(rows).collate([part, items((key, (Nothing(),)))])
    assert batch[key].shape[0] == 4 + 8 and batch[f"{key}/present"].shape == (4, 4)

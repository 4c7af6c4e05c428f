from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.ten_clips import MUCH, clips, opening, same, unreadable, views
from PIL import Image

from vidinit.data.loading import datasets
from vidinit.data.loading.quarantine import ReadGuard
from vidinit.data.loading.teacher_frames import TeacherFrames
from vidinit.data.pixels.transforms import Augment, eval_crops
from vidinit.data.readers import open_video
from vidinit.data.rows import Probe, Row, Rows
from vidinit.data.views import Picks, Sampling, eval_indices
from vidinit.errors import DataError


def with_bad(rows: Rows, bad: Path, *positions: int) -> Rows:
    changed = [replace(r, path=str(bad)) if i in positions else r for i, r in enumerate(rows.rows)]
    return rows.of(changed)


def test_clip_items_are_functions_of_their_key(rows: Rows) -> None:
    dataset = clips(rows)
    item = dataset[0, 3]
    assert item["clip"].shape == (1, 4, 32, 32, 3)
    assert item["clip"].dtype == torch.uint8
    assert [item[key].tolist() for key in ("label", "index", "skipped")] == [[1], [3], [0]]
    assert item["bad"] == []
    assert "picks" not in item
    assert same(item, dataset[0, 3])
    assert not torch.equal(item["clip"], dataset[1, 3]["clip"])
    assert not torch.equal(item["clip"], clips(rows, seed=1)[0, 3]["clip"])


def test_the_frames_of_a_clip_are_those_of_its_video(
    tmp_path: Path, write_video: Callable[..., Path], codes: Callable[[np.ndarray], list[int]]
) -> None:
    video = Rows((Row(str(write_video(tmp_path / "long.mp4", 60))),))
    dataset = views(video, sampling=Sampling(5, 3), size=48, crop_pct=1.0, clips=2, crops=3)
    item = dataset[0]["views"]
    assert item.shape == (6, 5, 48, 48, 3)
    # The left and the right crop together are the frames: 48 x 96 pixels.
    frames = torch.cat([item[0::3], item[2::3]], dim=3).numpy()
    assert [codes(clip) for clip in frames] == [
        [12 + 3 * k for k in range(5)],
        [36 + 3 * k for k in range(5)],
    ]


def test_only_mirrored_clips_have_the_label_of_their_mirror_image(rows: Rows) -> None:
    other = rows.of([replace(row, label=row.label + 10) for row in rows.rows])
    usual, never = (Augment(32, scale=(0.9, 1.0), flip=flip) for flip in (True, False))
    dataset = clips(rows, mirrored=other, repeats=4, augment=usual)
    still = clips(rows, mirrored=other, repeats=4, augment=never)
    kinds = set()
    for key in [(epoch, index) for epoch in range(2) for index in (2, 3)]:
        item, plain = dataset[key], still[key]
        assert plain["label"].tolist() == [key[1] % 2] * 4
        without = clips(rows, repeats=4, augment=usual)[key]
        assert torch.equal(item["clip"], without["clip"]), "the pixels are those of flip=True"
        for clip, unturned, label in zip(item["clip"], plain["clip"], item["label"], strict=True):
            turned = torch.equal(clip, unturned.flip(2))
            assert turned != torch.equal(clip, unturned)
            assert int(label) == key[1] % 2 + 10 * turned
            kinds.add(turned)
    assert kinds == {True, False}


def test_picks_are_sorted_frames_that_leave_the_clip_alone(rows: Rows) -> None:
    options: dict[str, Any] = {"sampling": Sampling(8), "repeats": 2}
    plain, dataset = (
        clips(rows, **options),
        clips(rows, teachers=TeacherFrames(Picks("random", 3)), **options),
    )
    seen = set()
    for epoch in range(10):
        item = dataset[epoch, 0]
        assert item["picks"].shape == (2, 3) and item["picks"].dtype == torch.int64
        for picks in item["picks"].tolist():
            assert picks == sorted(set(picks)) and set(picks) <= set(range(8))
            seen.add(tuple(picks))
        assert torch.equal(item["clip"], plain[epoch, 0]["clip"])
    assert len(seen) > 6


def test_repeats_are_clips_of_one_decode(rows: Rows, reads: list[list[int]]) -> None:
    options: dict[str, Any] = {"augment": MUCH, "teachers": TeacherFrames(Picks("random", 2))}
    once, often = clips(rows, **options)[3, 9], clips(rows, repeats=4, **options)[3, 9]
    assert len(reads) == 2 and set(reads[0]) < set(reads[1])
    assert reads[1] == sorted(set(reads[1]))
    assert often["clip"].shape == (4, 4, 32, 32, 3)
    assert same({**often, **{k: v[:1] for k, v in often.items() if k != "bad"}}, once)
    assert len({clip.numpy().tobytes() for clip in often["clip"]}) == 4
    # One clip more leaves those before it as they are.
    fewer = clips(rows, repeats=3, **options)[3, 9]
    assert torch.equal(fewer["clip"], often["clip"][:3])
    assert often["label"].tolist() == [1] * 4 and often["index"].tolist() == [9] * 4
    with pytest.raises(ValueError, match="repeats"):
        clips(rows, repeats=0)


def test_a_short_video_is_decoded_once_however_often_it_is_shown(
    rows: Rows, reads: list[list[int]]
) -> None:
    assert clips(rows, sampling=Sampling(20))[0, 0]["clip"].shape[1] == 20
    assert reads == [list(range(6))]


def test_a_bad_row_is_replaced_by_the_same_row_every_time(
    rows: Rows, bad_files: dict[str, Path]
) -> None:
    dataset = clips(with_bad(rows, bad_files["text"], 3, 4), repeats=2)
    item = dataset[0, 3]
    assert same(item, dataset[0, 3])
    shown = item["index"].tolist()
    assert shown[0] == shown[1] and shown[0] not in (3, 4)
    assert item["label"].tolist() == [shown[0] % 2] * 2
    # Files are counted, not clips.
    assert item["skipped"].tolist() == [len(item["bad"]), 0] and item["bad"]
    assert set(item["bad"]) == {str(bad_files["text"])}
    assert len({int(dataset[epoch, 3]["index"][0]) for epoch in range(10)}) > 2
    assert dataset[0, 5]["skipped"].tolist() == [0, 0]


def test_nothing_readable_ends_the_run(rows: Rows, bad_files: dict[str, Path]) -> None:
    dataset = clips(with_bad(rows, bad_files["text"], *range(10)))
    with pytest.raises(DataError, match=r"10 files in a row cannot be read.*text\.mp4"):
        dataset[0, 0]


def test_a_guarded_row_is_not_opened(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows.rows[3].path
    opening(monkeypatch, {path: unreadable(path)})
    expected, missing = clips(rows)[0, 3], views(rows)[3]
    monkeypatch.undo()
    opening(monkeypatch, {path: lambda: pytest.fail("it was opened")})
    guard = ReadGuard({3: "it hung"})
    assert same(clips(rows).load((0, 3), guard), expected)
    assert same(views(rows).load(3, guard), {**missing, "error": "it hung"})


def test_a_video_too_large_for_memory_is_a_bad_one(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst() -> None:
        raise MemoryError

    opening(monkeypatch, {rows.rows[2].path: burst})
    assert views(rows)[2]["error"] == "it does not fit into memory"


def test_a_probed_length_bounds_the_clip(rows: Rows) -> None:
    row = rows.rows[9]
    short = rows.of([replace(row, probe=Probe(1, 25.0, 48, 96))])
    item = clips(short, sampling=Sampling(3))[0, 0]["clip"][0]
    assert torch.equal(item[0], item[1]) and torch.equal(item[0], item[2])
    moving = clips(rows.of([row]), sampling=Sampling(3))[0, 0]["clip"][0]
    assert not torch.equal(moving[0], moving[1])


def test_frames_are_scaled_by_the_decoder_on_request(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def watched(frames: np.ndarray, **options: Any) -> torch.Tensor:
        sizes.append(frames.shape[1:3])
        return eval_crops(frames, **options)

    monkeypatch.setattr(datasets, "eval_crops", watched)
    assert views(rows, decode_side=32)[0]["error"] is None
    assert views(rows, reader="pyav", decode_side=32)[0]["error"] is None
    assert sizes == [(32, 64)] * 2


def test_images_are_clips_of_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    stills = Rows((Row(str(tmp_path / "red.png"), None),))
    item = clips(stills, sampling=Sampling(1))[0, 0]
    assert item["clip"].shape == (1, 1, 32, 32, 3)
    assert item["label"].tolist() == [-1]
    assert torch.equal(item["clip"][0, 0, 5, 5], torch.tensor([255, 0, 0], dtype=torch.uint8))


@pytest.mark.parametrize("crops", [1, 3])
def test_eval_views_are_the_crops_of_each_clip(rows: Rows, crops: Any, reads: list[Any]) -> None:
    options: dict[str, Any] = {"sampling": Sampling(4, 2), "crops": crops}
    item = views(rows, clips=3, **options)[9]
    assert item["views"].shape == (3 * crops, 4, 32, 32, 3)
    assert item["views"].dtype == torch.uint8
    assert (item["label"], item["index"], item["error"]) == (1, 9, None)
    # 15 frames, 7 of them in a clip: starts 1, 4 and 7 of 0 to 8. The second is the single clip.
    assert reads == [[1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]]
    single = views(rows, clips=1, **options)[9]["views"]
    assert torch.equal(item["views"][crops : 2 * crops], single)
    assert not torch.equal(item["views"][:crops], single)


def test_one_decode_gives_what_separate_reads_give(rows: Rows) -> None:
    sampling = Sampling(4, 2)
    found = views(rows, sampling=sampling, clips=3, crops=3)[9]["views"]
    separate = []
    for indices in eval_indices(15, sampling, 3):
        frames = open_video(rows.rows[9].path).get(indices)
        separate.append(
            eval_crops(frames, size=32, crop_pct=0.875, interpolation="bicubic", crops=3)
        )
    assert torch.equal(found, torch.cat(separate))


def test_all_frames_of_a_video_are_one_clip(rows: Rows) -> None:
    dataset = views(rows, sampling=Sampling(4, kind="all"))
    assert [dataset[index]["views"].shape[1] for index in (0, 9)] == [6, 15]


def test_eval_never_substitutes(rows: Rows, bad_files: dict[str, Path]) -> None:
    item = views(with_bad(rows, bad_files["empty"], 1), clips=2)[1]
    assert item["error"] == "the file is empty"
    assert item["views"].shape == (2, 4, 32, 32, 3) and not item["views"].any()
    assert (item["label"], item["index"]) == (1, 1)


def test_labels_of_several_classes_are_a_row_of_bits(rows: Rows) -> None:
    named = [replace(rows.rows[i], label=label) for i, label in enumerate([(0, 2), (), None])]
    multi = Rows(tuple(named), ("a", "b", "c"), "multi")
    batch = views(multi).collate([views(multi)[i] for i in range(3)])
    assert batch["label"].dtype == torch.float32
    assert batch["label"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert clips(multi, repeats=2)[0, 0]["label"].tolist() == [[1, 0, 1]] * 2


def test_labels_of_two_kinds_are_pairs(rows: Rows) -> None:
    named = [replace(rows.rows[i], label=label) for i, label in enumerate([(0, 2), None])]
    pairs = Rows(tuple(named), ("open", "close"), "pair", ("door", "box", "jar"))
    batch = clips(pairs).collate([clips(pairs, repeats=2)[0, i] for i in range(2)])
    assert batch["label"].dtype == torch.int64
    assert batch["label"].tolist() == [[0, 2], [0, 2], [-1, -1], [-1, -1]]

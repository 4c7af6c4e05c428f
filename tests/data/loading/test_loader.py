from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vidinit.data.index import check
from vidinit.data.loader import ClipDataset, EpochSampler, EvalDataset, eval_loader, train_loader
from vidinit.data.sources import Row, Rows
from vidinit.data.transforms import Pixels
from vidinit.errors import DataError

PIXELS = Pixels()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> Rows:
    """Ten clips of 6 to 15 frames in two classes."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [write_video(folder / f"{n}.mp4", n) for n in range(6, 16)]
    return Rows(tuple(Row(path, i % 2) for i, path in enumerate(paths)), ("even", "odd"))


def clips(rows: Rows, **options: Any) -> ClipDataset:
    return ClipDataset(rows, **{"frames": 4, "size": 32, "pixels": PIXELS, **options})


def with_bad(rows: Rows, bad: Path, *positions: int) -> Rows:
    changed = [replace(r, path=bad) if i in positions else r for i, r in enumerate(rows.rows)]
    return replace(rows, rows=tuple(changed))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]
        for key in a
    )


def test_clip_items_are_functions_of_their_key(rows: Rows) -> None:
    dataset = clips(rows)
    item = dataset[0, 3]
    assert item["clip"].shape == (3, 4, 32, 32)
    assert item["clip"].dtype == torch.float32
    assert (item["label"], item["index"], item["skipped"], item["bad"]) == (1, 3, 0, [])
    assert "picks" not in item
    assert same(item, dataset[0, 3])
    assert not torch.equal(item["clip"], dataset[1, 3]["clip"])
    assert not torch.equal(item["clip"], clips(rows, seed=1)[0, 3]["clip"])


def test_picks_are_sorted_frames_that_leave_the_clip_alone(rows: Rows) -> None:
    plain, dataset = clips(rows, frames=8), clips(rows, frames=8, teacher_frames=3)
    seen = set()
    for epoch in range(10):
        item = dataset[epoch, 0]
        picks = item["picks"].tolist()
        assert item["picks"].dtype == torch.int64
        assert picks == sorted(set(picks)) and len(picks) == 3
        assert set(picks) <= set(range(8))
        assert torch.equal(item["clip"], plain[epoch, 0]["clip"])
        seen.add(tuple(picks))
    assert len(seen) > 3
    with pytest.raises(ValueError, match="teacher_frames"):
        clips(rows, teacher_frames=5)


def test_a_bad_row_is_replaced_by_the_same_row_every_time(
    rows: Rows, bad_files: dict[str, Path]
) -> None:
    dataset = clips(with_bad(rows, bad_files["text"], 3, 4))
    item = dataset[0, 3]
    assert same(item, dataset[0, 3])
    assert item["index"] not in (3, 4)
    assert item["label"] == item["index"] % 2
    assert item["skipped"] == len(item["bad"]) >= 1
    assert set(item["bad"]) == {str(bad_files["text"])}
    assert len({dataset[epoch, 3]["index"] for epoch in range(10)}) > 2
    assert dataset[0, 5]["skipped"] == 0


def test_nothing_readable_ends_the_run(rows: Rows, bad_files: dict[str, Path]) -> None:
    dataset = clips(with_bad(rows, bad_files["text"], *range(10)))
    with pytest.raises(DataError, match=r"10 files in a row cannot be read.*text\.mp4"):
        dataset[0, 0]


def test_a_probed_length_bounds_the_clip(rows: Rows) -> None:
    whole = Rows((rows.rows[9],), rows.classes)
    first = replace(whole, rows=(replace(whole.rows[0], num_frames=1),))
    item = clips(first, frames=3)[0, 0]["clip"]
    assert torch.equal(item[:, 0], item[:, 1]) and torch.equal(item[:, 0], item[:, 2])
    moving = clips(check(whole).good, frames=3)[0, 0]["clip"]
    assert not torch.equal(moving[:, 0], moving[:, 1])


def test_images_are_clips_of_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    stills = Rows((Row(tmp_path / "red.png", None),))
    item = clips(stills, frames=1)[0, 0]
    assert item["clip"].shape == (3, 1, 32, 32)
    assert item["label"] == -1
    assert float(item["clip"][0].mean()) == pytest.approx((1 - 0.485) / 0.229, abs=1e-4)


@pytest.mark.parametrize("crops", [1, 3])
def test_eval_views_are_the_crops_of_each_clip(rows: Rows, crops: Any) -> None:
    options: dict[str, Any] = {"frames": 4, "stride": 2, "size": 32, "pixels": PIXELS}
    item = EvalDataset(rows, clips=3, crops=crops, **options)[9]
    assert item["views"].shape == (3 * crops, 3, 4, 32, 32)
    assert (item["label"], item["index"], item["error"]) == (1, 9, None)
    # 15 frames, 7 of them in a clip: starts 1, 4 and 7 of 0 to 8. The second is the single clip.
    single = EvalDataset(rows, clips=1, crops=crops, **options)[9]["views"]
    assert torch.equal(item["views"][crops : 2 * crops], single)
    assert not torch.equal(item["views"][:crops], single)


def test_eval_never_substitutes(rows: Rows, bad_files: dict[str, Path]) -> None:
    broken = with_bad(rows, bad_files["empty"], 1)
    dataset = EvalDataset(broken, frames=4, size=32, pixels=PIXELS)
    batches = list(eval_loader(dataset, batch_size=4, workers=0))
    errors = [error for batch in batches for error in batch["error"]]
    assert errors == [None, "the file is empty"] + [None] * 8
    assert batches[0]["views"].shape == (4, 1, 3, 4, 32, 32)
    assert batches[0]["index"].tolist() == [0, 1, 2, 3]
    assert not batches[0]["views"][1].any()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_eval_shards_hold_every_video_once(rows: Rows, world: int) -> None:
    dataset = EvalDataset(rows, frames=1, size=16, pixels=PIXELS)
    found = [
        index
        for rank in range(world)
        for batch in eval_loader(dataset, batch_size=3, workers=0, rank=rank, world=world)
        for index in batch["index"].tolist()
    ]
    assert sorted(found) == list(range(10))


def sample(length: int, **options: Any) -> list[tuple[int, int]]:
    return list(EpochSampler(length, **{"batch_size": 4, "seed": 0, "epoch": 0, **options}))


def test_sampler_order_depends_on_seed_and_epoch() -> None:
    keys = sample(40, epoch=2)
    assert {epoch for epoch, _ in keys} == {2}
    order = [index for _, index in keys]
    assert sorted(order) == list(range(40)) and order != list(range(40))
    assert keys == sample(40, epoch=2)
    assert order != [index for _, index in sample(40, epoch=3)]
    assert order != [index for _, index in sample(40, epoch=2, seed=1)]


def test_sampler_shards_partition_the_global_batches() -> None:
    whole = sample(100, batch_size=12)
    assert len(whole) == 96
    shards = [sample(100, batch_size=4, rank=rank, world=3) for rank in range(3)]
    for step in range(8):
        batch = [key for shard in shards for key in shard[4 * step : 4 * step + 4]]
        assert batch == whole[12 * step : 12 * step + 12]
    assert [len(shard) for shard in shards] == [32] * 3


@pytest.mark.parametrize("drop_last", [True, False])
def test_sampler_start_skips_batches(drop_last: bool) -> None:
    options: dict[str, Any] = {"rank": 1, "world": 2, "drop_last": drop_last}
    whole = sample(45, **options)
    for start in range(8):
        assert sample(45, start=start, **options) == whole[4 * start :]


def test_sampler_keeps_the_rest_without_drop_last() -> None:
    assert len(sample(10)) == 8
    assert len(sample(10, drop_last=False)) == 10
    # 5 rows are left after 5 batches of 8: 2 for each process, none twice.
    shards = [sample(45, rank=rank, world=2, drop_last=False) for rank in (0, 1)]
    assert [len(shard) for shard in shards] == [22, 22]
    assert len(set(shards[0] + shards[1])) == 44


def test_sampler_shrinks_the_batch_of_a_small_data_set() -> None:
    assert len(sample(3, batch_size=8)) == 3
    shards = [sample(5, batch_size=8, rank=rank, world=2) for rank in (0, 1)]
    assert [len(shard) for shard in shards] == [2, 2]
    assert len(set(shards[0] + shards[1])) == 4
    with pytest.raises(DataError, match="1 clips are too few for 2 processes"):
        sample(1, world=2)


def batches(dataset: ClipDataset, **options: Any) -> list[dict[str, Any]]:
    return list(
        train_loader(dataset, **{"batch_size": 4, "workers": 0, "seed": 0, "epoch": 1, **options})
    )


def test_workers_do_not_change_the_data(rows: Rows, bad_files: dict[str, Path]) -> None:
    dataset = clips(with_bad(rows, bad_files["cut"], 0, 7), teacher_frames=2)
    expected = batches(dataset, drop_last=False)
    assert [len(batch["clip"]) for batch in expected] == [4, 4, 2]
    assert sum(int(batch["skipped"].sum()) for batch in expected) >= 2
    for batch in expected:
        assert batch["bad"] == [str(bad_files["cut"])] * int(batch["skipped"].sum())
        assert batch["picks"].shape == (len(batch["clip"]), 2)
        assert batch["label"].tolist() == [index % 2 for index in batch["index"].tolist()]
    for workers in (1, 2):
        found = batches(dataset, workers=workers, drop_last=False)
        assert all(map(same, expected, found)) and len(expected) == len(found)


def test_a_resumed_epoch_continues_with_the_same_batches(rows: Rows) -> None:
    whole = batches(clips(rows), batch_size=2)
    rest = batches(clips(rows), batch_size=2, start=3)
    assert len(whole) == 5
    assert len(rest) == 2 and all(map(same, whole[3:], rest))


def test_loading_leaves_the_global_generators_alone(rows: Rows) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(clips(rows))
    assert torch.equal(before, torch.get_rng_state())

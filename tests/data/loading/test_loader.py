from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from data.ten_clips import MUCH, all_same, clips, opening, ten_rows, views

from vidinit.data.loading import loader as module
from vidinit.data.loading.datasets import ClipDataset
from vidinit.data.loading.loader import eval_loader, train_loader
from vidinit.data.loading.teacher_frames import TeacherFrames
from vidinit.data.rows import Rows
from vidinit.data.views import Picks, Sampling


@pytest.fixture(scope="module")
def rows(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Callable[..., Path],
    bad_files: dict[str, Path],
) -> Rows:
    """Ten clips, of which the first and the eighth cannot be read."""
    found = ten_rows(tmp_path_factory.mktemp("clips"), write_video)
    cut = str(bad_files["cut"])
    return found.of([replace(r, path=cut) if i in (0, 7) else r for i, r in enumerate(found.rows)])


def training(rows: Rows) -> ClipDataset:
    return clips(rows, augment=MUCH, repeats=2, teachers=TeacherFrames(Picks("random", 2)))


def batches(dataset: ClipDataset, **options: Any) -> list[dict[str, Any]]:
    usual = {"batch_size": 4, "workers": 0, "seed": 0, "epoch": 1, "drop_last": False}
    loader = train_loader(dataset, **{**usual, **options})  # type: ignore[arg-type]
    found = list(loader)
    assert len(loader) == len(found)
    return found


def scored(rows: Rows, workers: int, context: str | None = None) -> list[dict[str, Any]]:
    dataset = views(rows, clips=2, crops=3)
    return list(eval_loader(dataset, batch_size=3, workers=workers, context=context))


def test_a_batch_holds_the_clips_of_its_videos_side_by_side(rows: Rows) -> None:
    found = batches(training(rows), batch_size=8)
    assert [len(batch["clip"]) for batch in found] == [8, 8, 4]
    assert sum(int(batch["skipped"].sum()) for batch in found) >= 2
    for batch in found:
        index = batch["index"].tolist()
        assert index[::2] == index[1::2]
        assert batch["label"].tolist() == [one % 2 for one in index]
        assert batch["picks"].shape == (len(index), 2)
        assert batch["bad"] == [rows.rows[0].path] * int(batch["skipped"].sum())
    with pytest.raises(ValueError, match="multiple"):
        batches(training(rows), batch_size=5)


@pytest.mark.parametrize("workers", [1, 3])
def test_forked_workers_do_not_change_the_data(rows: Rows, workers: int) -> None:
    assert all_same(
        batches(training(rows), workers=workers, context="fork"), batches(training(rows))
    )
    assert all_same(scored(rows, workers, "fork"), scored(rows, 0))


def test_a_spawned_worker_does_not_change_the_data(rows: Rows) -> None:
    assert all_same(batches(training(rows), workers=1, context="spawn"), batches(training(rows)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "workers"), [("spawn", 1), ("spawn", 3), ("forkserver", 1), ("forkserver", 3)]
)
def test_new_processes_do_not_change_the_data(rows: Rows, context: str, workers: int) -> None:
    assert all_same(
        batches(training(rows), workers=workers, context=context), batches(training(rows))
    )
    assert all_same(scored(rows, workers, context), scored(rows, 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_continues_with_the_same_batches(rows: Rows, workers: int) -> None:
    whole = batches(training(rows))
    rest = batches(training(rows), start=3, workers=workers)
    assert len(whole) == 5 and all_same(rest, whole[3:])


def test_batches_come_in_order_and_once_though_one_takes_long(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = clips(rows)
    expected = batches(dataset, batch_size=1, seed=3)
    second = int(expected[1]["index"])
    opening(monkeypatch, {rows.rows[second].path: lambda: time.sleep(0.3)})
    assert all_same(batches(dataset, batch_size=1, seed=3, workers=3), expected)


def test_there_is_an_end_to_how_far_ahead_of_a_slow_batch_others_are(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(row: int) -> None:
        (tmp_path / str(row)).touch()
        while row == 1 and len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        time.sleep(0.2 * (row == 1))

    opening(monkeypatch, {row.path: partial(opened, i) for i, row in enumerate(rows.rows)})
    some = rows.of(rows.rows[1:7] + rows.rows[8:])
    loader = iter(eval_loader(views(some), batch_size=1, workers=2))
    next(loader)
    # Two for each worker, and the next one as soon as one is done.
    assert len(list(tmp_path.iterdir())) <= 5


def test_two_loaders_side_by_side_and_one_left_early(rows: Rows) -> None:
    dataset = clips(rows)
    first = iter(train_loader(dataset, batch_size=2, workers=2, seed=0, epoch=0))
    start = next(first)
    second = batches(dataset, batch_size=2, workers=2, epoch=1)
    assert all_same([start, *first], batches(dataset, batch_size=2, epoch=0))
    assert all_same(second, batches(dataset, batch_size=2, epoch=1))
    left = iter(train_loader(dataset, batch_size=2, workers=2, seed=0, epoch=0))
    next(left)
    del left


def test_loading_leaves_the_global_generators_alone(rows: Rows) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(training(rows), workers=1)
    batches(training(rows))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("world", [1, 2, 3])
def test_eval_shards_hold_every_video_once(rows: Rows, world: int) -> None:
    dataset = views(rows, sampling=Sampling(1))
    found = [
        index
        for rank in range(world)
        for batch in eval_loader(dataset, batch_size=3, workers=0, rank=rank, world=world)
        for index in batch["index"].tolist()
    ]
    assert sorted(found) == list(range(10))


def test_eval_reports_what_it_cannot_read(rows: Rows) -> None:
    found = scored(rows, 1)
    assert [batch["views"].shape for batch in found] == [(3, 6, 4, 32, 32, 3)] * 3 + [
        (1, 6, 4, 32, 32, 3)
    ]
    errors = [error for batch in found for error in batch["error"]]
    assert [i for i, error in enumerate(errors) if error] == [0, 7]
    assert [i for batch in found for i in batch["index"].tolist()] == list(range(10))


def test_all_frames_come_one_video_at_a_time(rows: Rows) -> None:
    dataset = views(rows, sampling=Sampling(4, kind="all"))
    found = list(eval_loader(dataset, batch_size=1, workers=2))
    assert [batch["views"].shape[2] for batch in found[1:7]] == [7, 8, 9, 10, 11, 12]


def test_systems_that_cannot_share_memory_read_in_one_process(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shared_memory, "SUPPORTED", False)
    monkeypatch.setattr(module, "Workers", lambda *_, **__: pytest.fail("it has workers"))
    assert len(batches(clips(rows), workers=2)) == 3

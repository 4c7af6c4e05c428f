from __future__ import annotations

from typing import Any

import pytest

from vidinit.data.loading.loader import EpochSampler
from vidinit.errors import DataError


def sample(length: int, **options: Any) -> list[tuple[int, int]]:
    return list(EpochSampler(length, **{"batch_size": 4, "seed": 0, "epoch": 0, **options}))


def test_order_depends_on_seed_and_epoch() -> None:
    keys = sample(40, epoch=2)
    assert {epoch for epoch, _ in keys} == {2}
    order = [index for _, index in keys]
    assert sorted(order) == list(range(40)) and order != list(range(40))
    assert keys == sample(40, epoch=2)
    assert order != [index for _, index in sample(40, epoch=3)]
    assert order != [index for _, index in sample(40, epoch=2, seed=1)]


def test_a_sampler_is_a_sequence() -> None:
    sampler = EpochSampler(40, batch_size=4, seed=0, epoch=2)
    keys = list(sampler)
    assert len(sampler) == len(keys)
    assert [sampler[place] for place in range(40)] == keys
    assert sampler[4:8] == keys[4:8]


def test_shards_partition_the_global_batches() -> None:
    whole = sample(100, batch_size=12)
    assert len(whole) == 96
    shards = [sample(100, batch_size=4, rank=rank, world=3) for rank in range(3)]
    for step in range(8):
        batch = [key for shard in shards for key in shard[4 * step : 4 * step + 4]]
        assert batch == whole[12 * step : 12 * step + 12]
    assert [len(shard) for shard in shards] == [32] * 3


@pytest.mark.parametrize("drop_last", [True, False])
def test_start_skips_batches(drop_last: bool) -> None:
    options: dict[str, Any] = {"rank": 1, "world": 2, "drop_last": drop_last}
    whole = sample(45, **options)
    for start in range(8):
        assert sample(45, start=start, **options) == whole[4 * start :]


def test_the_rest_is_kept_without_drop_last() -> None:
    assert len(sample(10)) == 8
    assert len(sample(10, drop_last=False)) == 10
    # 5 rows are left after 5 batches of 8: 2 for each process, none twice.
    shards = [sample(45, rank=rank, world=2, drop_last=False) for rank in (0, 1)]
    assert [len(shard) for shard in shards] == [22, 22]
    assert len(set(shards[0] + shards[1])) == 44


def test_the_batch_of_a_small_data_set_shrinks() -> None:
    assert len(sample(3, batch_size=8)) == 3
    shards = [sample(5, batch_size=8, rank=rank, world=2) for rank in (0, 1)]
    assert [len(shard) for shard in shards] == [2, 2]
    assert len(set(shards[0] + shards[1])) == 4
    with pytest.raises(DataError, match="1 clips are too few for 2 processes"):
        sample(1, world=2)

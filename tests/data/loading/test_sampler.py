from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from vidinit.data.loading.loader import EpochSampler, balanced_keys
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


# Three classes, one of them with a single clip; the last number is in no class.
GROUPS = [list(range(30)), [30], list(range(31, 38)), []]


def balanced(epochs: int, **options: Any) -> list[list[tuple[int, int]]]:
    return [sample(38, **{"epoch": epoch, "groups": GROUPS, **options}) for epoch in range(epochs)]


def class_of(index: int) -> int:
    return next(label for label, group in enumerate(GROUPS) if index in group)


def test_classes_are_drawn_equally_often() -> None:
    """In each epoch to within one, and over the epochs, too."""
    found = balanced(7)
    assert [len(epoch) for epoch in found] == [36] * 7, "as many as without"
    for epoch in found:
        assert Counter(class_of(index) for _, index in epoch) == {0: 12, 1: 12, 2: 12}
    odd = balanced(7, batch_size=5)  # 35 draws of 3 classes
    counts = [Counter(class_of(index) for _, index in epoch) for epoch in odd]
    assert all(sorted(count.values()) == [11, 12, 12] for count in counts)
    assert sorted(sum(counts, Counter()).values()) == [81, 82, 82]
    assert balanced(3) == found[:3] and balanced(3, seed=1) != found[:3]


def test_every_clip_of_a_class_is_drawn_before_one_comes_again() -> None:
    """Also where a pass over the class goes on in the next epoch."""
    draws = [key for epoch in balanced(9) for key in epoch]
    assert len(set(draws)) == len(draws), "each draw of a clip is cut in its own way"
    times = Counter(index for _, index in draws)  # 108 of each class
    assert sorted(times[index] for index in GROUPS[0]) == [3] * 12 + [4] * 18
    assert times[30] == 108
    assert sorted(times[index] for index in GROUPS[2]) == [15] * 4 + [16] * 3
    first = [index for epoch in balanced(2) for _, index in epoch if index < 30]
    assert len(set(first)) == 24, "no clip of the large class twice in less than a pass"


def test_passes_over_a_class_have_orders_of_their_own() -> None:
    order: dict[int, list[int]] = {}
    for number, index in balanced_keys([list(range(7))], 70, seed=0, epoch=0):
        order.setdefault(number, []).append(index)
    assert len(order) == 10 and all(sorted(one) == list(range(7)) for one in order.values())
    assert len({tuple(one) for one in order.values()}) == 10


def test_processes_and_resumed_epochs_share_balanced_draws() -> None:
    for epoch, whole in enumerate(balanced(3, batch_size=6)):
        shards = [balanced(3, batch_size=2, rank=rank, world=3)[epoch] for rank in range(3)]
        for step in range(6):
            batch = [key for shard in shards for key in shard[2 * step : 2 * step + 2]]
            assert batch == whole[6 * step : 6 * step + 6]
        for start in range(7):
            rest = sample(38, batch_size=6, epoch=epoch, groups=GROUPS, start=start)
            assert rest == whole[6 * start :]


def test_batches_that_no_step_takes_draw_nothing() -> None:
    """9 batches in steps of 4 make 2 steps: the 9th batch is not drawn, in no epoch."""
    found = balanced(4, multiple=4)
    assert [len(epoch) for epoch in found] == [32] * 4
    counts = Counter(class_of(index) for epoch in found for _, index in epoch)
    assert sorted(counts.values()) == [42, 43, 43]
    assert [len(epoch) for epoch in balanced(2, multiple=10)] == [36] * 2, "one smaller step"
    assert len(sample(38, multiple=4)) == 36, "each clip once, as ever"


def test_a_clip_of_two_classes_is_drawn_for_both() -> None:
    keys = [key for e in range(4) for key in balanced_keys([[0, 1], [1, 2]], 10, seed=0, epoch=e)]
    assert Counter(index for _, index in keys) == {0: 10, 1: 20, 2: 10}
    assert len(set(keys)) == 40

from __future__ import annotations

import json

import pytest
from support import MODEL, SMALL, json_of, run_cli

import vidinit
from vidinit.errors import UsageError
from vidinit.recipes.cotrain import mixture


def test_shares_are_given_or_follow_the_steps_alone():
    assert mixture([None, None], [30, 10]) == [0.75, 0.25]
    assert mixture([None, 0.6, None], [30, 500, 10]) == pytest.approx([0.3, 0.6, 0.1])
    assert mixture([2.0, 1.0], [30, 10]) == [2.0, 1.0]
    with pytest.raises(UsageError, match="leave nothing"):
        mixture([1.0, None], [30, 10])


def test_each_source_gets_its_steps_and_is_scored(motion_set, picture_set, tmp_path):
    run = tmp_path / "run"
    result = vidinit.cotrain(
        MODEL,
        sources=[f"motion={motion_set},share=0.25,flip=false"],
        images=[f"color={picture_set},batch_size=4"],
        out=run,
        overrides=[*SMALL, "train.log_every=1"],
        epochs=3,
    )
    # 3 steps of motion alone and 4 of color make 7 an epoch; a quarter of them, rounded, is 2.
    assert result["sources"] == {"motion": {"steps_per_epoch": 2}, "color": {"steps_per_epoch": 5}}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for epoch in (1, 2, 3):
        steps = [row for row in rows if row.get("epoch") == epoch and "loss" in row]
        assert sum("loss_motion" in row for row in steps) == 2
        assert sum("loss_color" in row for row in steps) == 5
    assert {"top1_motion", "top1_color"} <= set(rows[-1])
    assert result["best"] == max(row["top1_motion"] for row in rows if "top1_motion" in row)


def test_a_stopped_run_takes_the_same_batches(motion_set, picture_set, tmp_path):
    """Batches of the second half of an epoch do not depend on who took the first half."""
    from vidinit.config import CotrainConfig, SourceConfig
    from vidinit.data.sources import train_val
    from vidinit.recipes import cotrain
    from vidinit.recipes.clips import CheckedSplit, checked_split
    from vidinit.zoo.base import ClipSpec

    config = CotrainConfig(model=MODEL)
    config.data.batch_size = 4
    split: CheckedSplit = checked_split(*train_val(motion_set), config.data, "motion")
    source = cotrain._source(
        SourceConfig(name="m", data=str(motion_set)), split, config, ClipSpec(4, 1, 32), 1
    )
    whole = cotrain._stream(source, 0, config, 0, 0, 1)
    taken = [next(whole)["index"].tolist() for _ in range(7)]
    rest = cotrain._stream(source, 4, config, 0, 0, 1)
    assert [next(rest)["index"].tolist() for _ in range(3)] == taken[4:]
    assert {i for part in taken[:3] for i in part} == set(range(12)), "every clip once an epoch"


@pytest.mark.slow
def test_two_processes(motion_set, picture_set, tmp_path):
    line = ["cotrain", MODEL, *SMALL, "--source", f"motion={motion_set}", "--epochs", "2"]
    line += ["--images", f"color={picture_set}", "--processes", "2", "--batch-size", "2", "--json"]
    result = json_of(run_cli(*line, "--out", tmp_path / "run"))
    assert result["steps"] == 8

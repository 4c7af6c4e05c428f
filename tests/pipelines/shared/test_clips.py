from __future__ import annotations

import pytest

from vidinit.config import DataConfig
from vidinit.config.build import build
from vidinit.data.rows import Row, Rows
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.shared.clips import flips, training_clips
from vidinit.zoo.spec import ClipSpec

SIDES = Rows((Row("a.mp4", 0), Row("b.mp4", 1), Row("c.mp4", 2)), ("left", "right", "up"))
OTHERS = Rows((Row("a.mp4", 0),), ("bright", "up"))


def made(rows: Rows, wanted: bool | str):
    flip = flips(wanted, rows, "mine")
    return training_clips(rows, ClipSpec(4, 1, 32), DataConfig(), seed=0, flip=flip)


@pytest.mark.parametrize("wanted", [True, False])
def test_clips_are_mirrored_as_asked_and_labels_stay(wanted):
    dataset = made(SIDES, wanted)
    assert dataset.augment.flip is wanted and dataset.mirrored is None


def test_auto_leaves_sides_alone(capsys):
    assert made(OTHERS, "auto").augment.flip is True
    assert made(SIDES, "auto").augment.flip is False
    assert "classes are named after left and right" in capsys.readouterr().err


def test_swap_mirrors_the_labels_with_the_clips():
    dataset = made(SIDES, build(FinetuneConfig, overrides=["model=x", "data.flip=swap"]).data.flip)
    assert dataset.augment.flip is True and dataset.mirrored is not None
    assert [row.label for row in dataset.mirrored.rows] == [1, 0, 2]
    assert dataset.rows == SIDES
    with pytest.raises(UsageError, match="'left' of mine has no partner 'right'"):
        made(Rows((), ("left", "up")), "swap")

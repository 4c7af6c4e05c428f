"""At the end of a probe run: a trunk that sees motion says that clips of motion need time."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import moving_bar, write_video

import vidinit

CLIPS = ["data.frames=4", "data.stride=1", "data.size=32", "data.flip=false", "data.workers=0"]


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bars")
    for part, first, count in (("train", 0, 40), ("val", 1000, 30)):
        for name, step in (("left", -4), ("right", 4)):
            for i in range(count):
                write_video(root / part / name / f"{i}.mp4", moving_bar(step, first + i))
    return root


@pytest.mark.slow
def test_shuffled_frames_cost_what_motion_was_worth(bars, tmp_path, capsys):
    vidinit.finetune(
        "s3d-test_resnet", data=bars, out=tmp_path / "trunk", epochs=12, lr=0.05, batch_size=16,
        overrides=[*CLIPS, "train.temporal_lr_scale=10", "eval.every=12"],
    )  # fmt: skip
    result = vidinit.finetune(
        tmp_path / "trunk", data=bars, out=tmp_path / "run", probe="attentive:heads=1,lr=0.001",
        epochs=6, batch_size=16, overrides=[*CLIPS, "eval.every=6"],
    )  # fmt: skip
    time = result["time"]
    assert time["videos"] == 60 and time["ordered"]["top1"] > 0.9
    assert time["shuffled"]["top1"] < 0.7, "without order two directions are a guess"
    assert time["verdict"].startswith("order matters: shuffled frames cost ")
    assert time["mean_pool"]["top1"] > 0.9, "features of this trunk know motion by themselves"
    assert time["verdict"] in capsys.readouterr().err

"""Parameters and multiply-adds through the command line, against what is published."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner
from vidinit.commands import app

from vidinit.checkpoint import save_model
from vidinit.zoo.build import create_model

# Model, frames, side, parameters, and what torch.utils.flop_counter counts of the public
# implementation, in which the classifier runs at so many more places than here, where the mean is
# taken first: with 400 classes, on features of that width.
PUBLIC = [
    ("s3d", 16, 224, 8_320_048, 35_957_542_912, 0, 1024),
    ("s3d", 64, 224, 8_320_048, 143_832_629_248, 6, 1024),
    ("i3d", 64, 224, 12_697_264, 222_306_287_616, 6, 1024),
    ("i3d", 16, 224, 12_697_264, 55_575_957_504, 0, 1024),
    ("r3d-18", 16, 112, 33_371_472, 81_393_106_944, 0, 512),
    ("mc3-18", 16, 112, 11_695_440, 86_685_270_016, 0, 512),
    ("r2plus1d-18", 16, 112, 31_505_325, 81_038_161_920, 0, 512),
    ("r2plus1d-34", 32, 112, 63_697_175, 304_711_430_144, 0, 512),
    ("r2plus1d-152", 32, 112, 118_226_785, 503_994_871_808, 0, 2048),
    ("ir-csn-152", 32, 224, 29_703_568, 148_092_489_728, 0, 2048),
    ("ip-csn-152", 32, 224, 33_016_592, 166_589_370_368, 0, 2048),
]
# GMACs to three decimals; pytorchvideo's classifier runs at 2 x 2 places of a 256-pixel clip.
ROUNDED = [
    ("s3d-g", 64, 224, 9_539_376, 71.918, 6, 1024),
    ("r3d50", 8, 256, 32_454_096, 54.521, 3, 2048),
    ("slowfast-r50-8x8", 32, 256, 34_566_488, 65.712, 3, 2304),
    ("c2d-r50", 8, 256, 24_327_632, 25.463, 3, 2048),
    ("i3d-r50", 8, 256, 28_043_472, 37.106, 3, 2048),
    ("ir-csn-101", 32, 256, 22_213_776, 73.757, 3, 2048),
    ("x3d-s", 13, 160, 3_794_274, 1.963, 0, 2048),
]
# The backbones of the STS paper's code, by clip, and what the classifier adds to each in values.
STS = [
    ("sts-slowonly-r50", 32_454_096, {(8, 224): 41.740, (8, 256): 54.518}, 2048 * 400),
    ("sts-slowfast-r50-4x16", 34_479_288, {(32, 224): 27.638, (32, 256): 36.098}, 2304 * 400),
    ("sts-slowfast-r50-8x8", 34_565_560, {(32, 224): 50.308, (32, 256): 65.708}, 2304 * 400),
    ("sts-r2plus1d-34", 63_759_281, {(8, 224): 87.638, (8, 256): 114.466}, 512 * 400),
    ("sts-ir-csn-50", 13_131_152, {(32, 224): 80.343, (8, 256): 26.235}, 2048 * 400),
    ("sts-x3d-s", 3_794_322, {(13, 160): 1.961, (13, 192): 2.824}, (432 + 400) * 2048),
]


def counted(model: str, frames: int, size: int) -> dict[str, Any]:
    line = ["profile", model, "--count-only", "--json"]
    result = CliRunner().invoke(app, [*line, "--frames", str(frames), "--size", str(size)])
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert list(row) == ["model", "params", "gmacs", "gflops", "frames", "size"]
    assert row["gflops"] == pytest.approx(2 * row["gmacs"], abs=2e-6)
    return row


def quickly(cases: list[tuple], *quick: str) -> list:
    """Cases to parametrize with; all but the quick ones are marked as slow."""
    return [
        pytest.param(*case, marks=() if case[0] in quick else pytest.mark.slow, id=f"{case[0]}-{i}")
        for i, case in enumerate(cases)
    ]


@pytest.mark.parametrize(
    ("model", "frames", "size", "params", "flops", "more_places", "width"),
    quickly(PUBLIC, "s3d", "r2plus1d-18"),
)
def test_counts_of_public_models(model, frames, size, params, flops, more_places, width):
    row = counted(model, frames, size)
    assert row["params"] == params
    macs = flops / 2 - more_places * width * 400
    assert row["gmacs"] == round(macs / 1e9, 6)


@pytest.mark.parametrize(
    ("model", "frames", "size", "params", "gmacs", "more_places", "width"),
    quickly(ROUNDED, "x3d-s"),
)
def test_counts_that_are_published_to_three_decimals(
    model, frames, size, params, gmacs, more_places, width
):
    row = counted(model, frames, size)
    assert row["params"] == params
    assert row["gmacs"] + more_places * width * 400 / 1e9 == pytest.approx(gmacs, abs=6e-4)


@pytest.mark.parametrize(
    ("model", "params", "clips", "head"), quickly(STS, "sts-slowfast-r50-4x16")
)
def test_counts_of_sts_backbones(model, params, clips, head):
    for (frames, size), gmacs in clips.items():
        row = counted(model, frames, size)
        assert row["params"] == params
        assert row["gmacs"] - head / 1e9 == pytest.approx(gmacs, abs=5.1e-4)


def test_counts_of_a_folder_go_by_its_options(tmp_path):
    """R(2+1)D-18 with the middle widths of the paper."""
    save_model(create_model("r2plus1d-18", midplanes="per_conv"), tmp_path)
    for frames, flops in ((16, 82_992_617_472), (8, 41_496_513_536)):
        row = counted(str(tmp_path), frames, 112)
        assert (row["params"], row["gmacs"]) == (33_370_839, round(flops / 2e9, 6))

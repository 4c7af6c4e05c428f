"""Parameters and multiply-adds of every net and every cut of the Inception family."""

from __future__ import annotations

import functools

import pytest
import torch
from zoo_support import on_meta

from vidinit.measure.flops import count_macs
from vidinit.zoo.base import count_parameters
from vidinit.zoo.families.inception3d import Inception3D, inception3d, layer_kinds
from vidinit.zoo.names import CUTS

CUT_COUNTS = {  # K: top I3D, bottom I3D, top S3D (parameters, GMACs of 64 frames), top S3D-G
    0: ((6_009_904, 36.891), (6_009_904, 36.891), (6_009_904, 36.891), 6_009_904),
    1: ((7_447_600, 37.455), (6_066_352, 59.550), (6_502_448, 37.084), 6_830_128),
    2: ((8_442_928, 37.845), (6_287_536, 81.746), (6_859_696, 37.223), 7_388_080),
    3: ((9_438_256, 40.966), (6_517_936, 87.526), (7_216_944, 38.341), 7_946_032),
    4: ((10_221_616, 43.423), (7_015_600, 100.012), (7_478_768, 39.160), 8_311_536),
    5: ((10_839_088, 45.359), (7_388_848, 101.182), (7_688_304, 39.815), 8_611_184),
    6: ((11_318_320, 46.862), (7_868_080, 102.685), (7_851_696, 40.326), 8_858_544),
    7: ((11_691_568, 48.033), (8_485_552, 104.621), (7_988_912, 40.754), 9_082_288),
    8: ((12_189_232, 60.518), (9_268_912, 107.078), (8_127_728, 44.222), 9_287_664),
    9: ((12_419_632, 66.298), (10_264_240, 110.199), (8_180_272, 45.533), 9_362_736),
    10: ((12_640_816, 88.494), (11_259_568, 110.590), (8_291_248, 56.631), 9_510_576),
    11: ((12_697_264, 111.153), (12_697_264, 111.153), (8_320_048, 71.916), 9_539_376),
}


@functools.cache
def counts(name: str, frames: int = 64) -> tuple[int, int]:
    """(parameters, multiply-adds at 224x224)."""
    model = on_meta(name)
    return count_parameters(model), published_macs(model, frames)


def published_macs(model: Inception3D, frames: int) -> int:
    """As the papers' graph counts: its head scores each of the T' - 1 windows, ours their mean."""
    windows = max(frames // 8 - 1, 1)
    macs = count_macs(model, (1, 3, frames, 224, 224))
    return macs + (windows - 1) * model.head.weight.numel()


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [
        ("i3d", 12_697_264, {64: 111.153, 32: 55.576, 16: 27.788}),
        ("i2d", 6_009_904, {64: 36.891, 32: 18.445, 16: 9.222}),
        ("s3d", 8_320_048, {64: 71.916, 32: 35.958, 16: 17.979}),
        ("s3d-g", 9_539_376, {64: 71.918, 32: 35.959, 16: 17.980}),
        ("fast-s3d", 6_859_696, {64: 37.223}),
    ],
)
def test_counts_of_the_named_nets(name, params, gmacs):
    for frames, want in gmacs.items():
        got, macs = counts(name, frames)
        assert (got, round(macs / 1e9, 3)) == (params, want), frames


def test_multiply_adds_are_torchvisions_to_the_last():
    assert counts("s3d", 64)[1] * 2 == 143_832_629_248
    assert counts("s3d", 16)[1] * 2 == 35_957_542_912
    assert counts("i3d", 64)[1] * 2 == 222_306_287_616
    assert counts("i3d", 16)[1] * 2 == 55_575_957_504


QUICK = (0, 3, 7, 11)


@pytest.mark.parametrize(
    "k", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in range(12)]
)
def test_counts_of_every_cut(k):
    *rows, gated = CUT_COUNTS[k]
    for name, (params, gmacs) in zip(("i3d@top", "i3d@bottom", "s3d@top"), rows, strict=True):
        got, macs = counts(f"{name}:{k}")
        assert (got, round(macs / 1e9, 3)) == (params, gmacs), name
    assert count_parameters(on_meta(f"s3d-g@top:{k}")) == gated


@pytest.mark.parametrize(
    "k", [k if k in (0, 5, 11) else pytest.param(k, marks=pytest.mark.slow) for k in range(12)]
)
def test_top_and_bottom_add_up(k):
    """The two halves of a cut have the layers of I2D and I3D between them."""
    for kind in ("i3d", "s3d"):
        whole = counts(kind)
        halves = counts(f"{kind}@top:{k}"), counts(f"{kind}@bottom:{11 - k}")
        for i, two_d in enumerate(counts("i2d")):
            assert halves[0][i] + halves[1][i] == two_d + whole[i]


def test_every_cut_of_the_zoo_is_named():
    assert len(CUTS) == 72
    assert layer_kinds("s3d", "top:2") == ["2d"] * 9 + ["s3d"] * 2
    assert layer_kinds("i3d", "bottom:3") == ["i3d"] * 3 + ["2d"] * 8


def test_gates_with_bias_and_another_stem():
    with torch.device("meta"):
        biased = inception3d(400, gating=True, gate_bias=True)
        mixture = Inception3D(
            400,
            ["i3d"] + ["s3d"] * 10,
            gating=False,
            gate_bias=False,
            padding="zeros",
            pools="s3d",
            window=7,
            bn_eps=1e-3,
            momentum=0.001,
            dropout=0.2,
        )
    assert count_parameters(biased) == 9_545_056
    assert round(published_macs(biased, 64) / 1e9, 3) == 71.918
    assert count_parameters(mixture) == 8_347_696
    assert round(published_macs(mixture, 64) / 1e9, 3) == 79.289


@pytest.mark.parametrize(
    ("kind", "classes", "params"),
    [
        ("i3d", 200, 12_492_264),
        ("i3d", 174, 12_465_614),
        ("s3d", 200, 8_115_048),
        ("s3d", 174, 8_088_398),
    ],
)
def test_a_class_has_1025_parameters(kind, classes, params):
    with torch.device("meta"):
        assert count_parameters(inception3d(classes, kind=kind)) == params
    assert counts(kind, 16)[0] - params == 1025 * (400 - classes)


def test_state_dict_sizes():
    assert len(on_meta("s3d").state_dict()) == 464
    assert len(on_meta("i3d").state_dict()) == 344

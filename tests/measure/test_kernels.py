"""How much of temporal kernels is appearance, and the picture of the first one."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vidinit
from vidinit.conversion.rules import INFLATIONS
from vidinit.errors import UsageError
from vidinit.measure.kernels import (
    KernelRow,
    appearance,
    energy_histogram,
    first_filters,
    join,
    kernel_table,
    summarize,
    tap_quantiles,
)
from vidinit.report.pictures import filters_picture
from vidinit.zoo.temporal import TemporalConv, VolumeConv


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


# ------------------------------------------------------------------ the two numbers


def test_numbers_of_kernels_whose_numbers_are_known():
    middle = torch.zeros(4, 2, 3, 3, 3)
    middle[:, :, 1] = torch.randn(4, 2, 3, 3)
    assert appearance(middle) == pytest.approx((1, 2 / 3))
    assert appearance(torch.ones(4, 2, 5, 1, 1)) == pytest.approx((1 / 5, 0), abs=1e-12)
    taps = torch.tensor([1.0, 2.0, -2.0]).view(1, 1, 3, 1, 1)  # energy 9, mean 1/3
    assert appearance(taps) == pytest.approx((4 / 9, (4 / 9 + 25 / 9 + 49 / 9) / 9))
    # Each channel counts the same, whatever its size; channels of zeros count not at all.
    both = torch.cat([1000 * middle[:1], torch.ones(1, 2, 3, 3, 3), torch.zeros(3, 2, 3, 3, 3)])
    assert appearance(both) == pytest.approx(((1 + 1 / 3) / 2, 1 / 3))
    assert appearance(torch.zeros(2, 2, 3, 1, 1)) == (None, None)


def test_random_kernels_are_as_the_documentation_says():
    torch.manual_seed(0)
    energy, variation = appearance(torch.randn(200, 50, 3, 3, 3))
    assert (energy, variation) == pytest.approx((1 / 3, 2 / 3), abs=0.01)


def test_channels_are_counted_by_their_center_energy():
    taps = torch.tensor([[0.0, 1, 0], [1, 1, 1], [2, 1, 2], [1, 0, 0], [0, 0, 0], [1, 1, 0]]).view(
        6, 1, 3, 1, 1
    )  # 1, 1/3, 1/9, 0, none, 1/2
    assert energy_histogram(taps) == [1, 1, 0, 1, 0, 1, 0, 0, 0, 1]
    assert energy_histogram(torch.zeros(2, 2, 3, 1, 1)) == [0] * 10


def test_quantiles_are_those_of_all_weights_of_a_tap():
    weight = torch.arange(101.0).repeat(4, 1).view(101, 4, 1, 1, 1).repeat(1, 1, 3, 1, 1)
    weight[:, :, 2] *= -2
    weight[:, :, 1] = weight[:, :, 1].sort(descending=True, dim=0).values  # their order is nothing
    found = tap_quantiles(weight)
    assert list(found) == [-1, 0, 1]
    for offset, factor in ((-1, 1), (0, 1), (1, -2)):
        values = torch.arange(101.0).repeat(4) * factor
        want = [float(values.quantile(q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
        assert found[offset] == pytest.approx(want)
    assert list(tap_quantiles(torch.ones(2, 1, 4, 1, 1))) == [-2, -1, 0, 1]


def test_a_converted_kernel_shows_its_rule_in_the_taps():
    kernel = torch.randn(8, 4, 3, 3)
    for rule, side in (("center", 0.0), ("mean", 1.0), ("sts", 1 / 3)):
        taps = tap_quantiles(INFLATIONS[rule](kernel, torch.Size((8, 4, 3, 3, 3))))
        assert taps[-1] == taps[1] == pytest.approx([side * x for x in taps[0]], abs=1e-7)


def test_the_table_has_every_temporal_kernel_and_no_other():
    model = vidinit.create_model("r2plus1d-18", num_classes=5)
    rows = kernel_table(model)
    modules = dict(model.named_modules())
    assert len(rows) == 1 + 16 and all(isinstance(modules[r.name], TemporalConv) for r in rows)
    assert {(r.kernel, r.part) for r in rows} == {("3x1x1", "all")}
    assert [r.channels for r in rows[:2]] == [64, 64]
    assert kernel_table(vidinit.create_model("c2d-resnet18")) == []


@pytest.mark.parametrize(
    ("name", "count", "kernel"),
    [
        ("sts-r3d50", 9, "3x1x1"),
        ("sts-x3d-s", 26, "depthwise 3x3x3"),
    ],
)
def test_halves_of_sts(name, count, kernel):
    with torch.no_grad():
        model = vidinit.create_model(name, num_classes=5)
        for module in model.modules():
            if isinstance(module, (TemporalConv, VolumeConv)) and module.sts:
                half = len(module.weight) // 2
                module.weight[:half] = 1  # equal taps
                module.weight[half:] = 0
                module.weight[half:, :, 1] = 1  # a lone middle tap
    rows = [row for row in kernel_table(model) if row.part != "all"]
    assert [row.part for row in rows] == ["static", "dynamic"] * count
    assert {row.kernel for row in rows} == {kernel}
    for row in rows:
        wanted = (1 / 3, 0) if row.part == "static" else (1, 2 / 3)
        assert (row.center_energy, row.variation) == pytest.approx(wanted, abs=1e-6)
    found = summarize(rows)
    assert list(found) == ["static", "dynamic"]
    assert found["dynamic"] == pytest.approx({"center_energy": 1, "variation": 2 / 3}, abs=1e-6)
    twin = vidinit.create_model(name, num_classes=5, sts=False)
    assert {row.part for row in kernel_table(twin)} == {"all"}


def test_kernels_of_a_converted_network_are_appearance():
    report = vidinit.convert("mobilenetv2_050", "s3d", pretrained=False, size=32)
    rows = kernel_table(report.model)
    assert len(rows) == 18
    assert all(row.center_energy == 1 for row in rows)


def test_means_count_channels():
    rows = [
        KernelRow("a", "3x1x1", "all", 30, 1.0, 0.5, [], {}),
        KernelRow("b", "3x1x1", "all", 10, 0.0, 0.1, [], {}),
        KernelRow("c", "3x1x1", "all", 99, None, None, [], {}),
    ]
    assert summarize(rows) == {"all": {"center_energy": 0.75, "variation": 0.4}}
    assert rows[2].as_dict()["center_energy"] is None


# ------------------------------------------------------------------ the picture


@pytest.mark.parametrize("groups", [1, 4])
def test_joined_kernels_do_what_the_pair_does(groups):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 5, bias=False)
    second = nn.Conv3d(8, 12, (3, 1, 1), groups=groups, bias=False)
    clip = torch.randn(2, 3, 6, 9, 9)
    frames = first(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 6)).transpose(1, 2)
    whole = join(first.weight, second.weight, groups).transpose(1, 2)
    assert whole.shape == (12, 3, 3, 5, 5)
    torch.testing.assert_close(nn.functional.conv3d(clip, whole), second(frames))


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("r3d-18", "stem.0", (32, 3, 7, 7, 3)),
        ("r2plus1d-18", "stem.3", (32, 3, 7, 7, 3)),  # joined
        ("x3d-s", "stem.conv_t", (24, 5, 3, 3, 3)),  # joined, depthwise
        ("slowfast-r50-4x16", "fast.conv1", (8, 5, 7, 7, 3)),  # not the slow pathway's, deeper
        ("sts-r3d50", "trunk.layer3.0.conv1", (1, 3, 64, 64, 3)),  # weights
        ("sts-tf_efficientnet_lite0", "trunk.blocks.0.0.conv_dw", (32, 3, 3, 3, 3)),
    ],
)
def test_which_kernel_is_drawn(name, layer, shape):
    found = first_filters(vidinit.create_model(name, num_classes=5))
    assert found is not None
    assert (found.name, found.strips.shape, found.strips.dtype) == (layer, shape, np.uint8)


def test_the_gain_of_the_norm_between_counts():
    model = vidinit.create_model("r2plus1d-18", num_classes=5)
    with torch.no_grad():
        model.stem[1].weight[1:] = 0
        model.stem[1].weight[0] = -2
    found = first_filters(model)
    patch = model.stem[0].weight[0].detach()  # (3, 7, 7), all that is left
    scale = patch.abs().max()
    taps = model.stem[3].weight[0, 0, :, 0].detach()
    for t in range(3):
        wanted = 127.5 - 127.5 * patch / scale * taps[t] / taps.abs().max()
        got = torch.from_numpy(found.strips[0, t]).permute(2, 0, 1).float()
        torch.testing.assert_close(got, wanted, atol=0.51, rtol=0)


def test_the_picture_shows_zero_as_gray_and_time_from_left_to_right():
    model = vidinit.create_model("r3d-18", num_classes=5)
    with torch.no_grad():
        stem = model.stem[0].weight
        stem.zero_()
        stem[0, 0, 2] = 1  # the last tap of the first filter: red
        stem[1, :, 0] = -1  # the first tap of the second: black
    html = filters_picture(
        {"mine <b>": model, "frames alone": vidinit.create_model("c2d-resnet18")}
    )
    assert "mine &lt;b&gt;" in html and "<b>" not in html
    assert "stem.0" in html and "no temporal kernels" in html
    (image,) = pictures(html)
    patch = 28
    row = image[patch // 2]
    at = [patch // 2 + i * (patch + 1) for i in range(3)]
    assert [tuple(row[x, :3]) for x in at] == [(128, 128, 128)] * 2 + [(255, 128, 128)]
    second = image.shape[1] // 4
    assert [tuple(row[second + x, :3]) for x in at] == [(0, 0, 0)] + [(128, 128, 128)] * 2
    assert image[0, 3 * (patch + 1) + 1, 3] == 0, "gaps are transparent"


def test_flow_has_two_channels():
    found = first_filters(vidinit.create_model("r3d-18", num_classes=5, in_channels=2))
    assert found.strips.shape == (32, 3, 7, 7, 3)
    assert (found.strips[..., 2] == 128).all()


def test_nothing_to_draw():
    with pytest.raises(UsageError, match="no temporal kernel in one, two"):
        filters_picture(dict.fromkeys(["one", "two"], vidinit.create_model("tsm-resnet18")))

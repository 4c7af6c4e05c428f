"""The Inception family: what its layers do, where its gates stand, which options it takes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import shake_norms
from torch import nn
from zoo_support import on_meta

from vidinit.errors import UsageError
from vidinit.zoo.families.inception3d import MIXED, Mixed, Settings, Unit, inception3d, window_mean
from vidinit.zoo.folding import FrameCount, fold, unfold


@pytest.mark.parametrize("name", ["i3d", "s3d", "s3d-g", "i2d", "s3d-g@bottom:4"])
def test_every_tensor_has_an_origin(name):
    model = on_meta(name)
    assert set(model.origins) == {k for k in model.state_dict() if not k.startswith("head.")}


def test_identity_in_time_keeps_any_video():
    """A separable unit with identity kernels and unit gain is the image network's, per frame."""
    net = Settings(FrameCount(5), "zeros", 1e-3, 0.001, False)
    unit = Unit(4, 6, net, kernel=3, kind="s3d").double().eval()
    shake_norms(unit)
    nn.init.dirac_(unit.time.weight)
    unit.time_bn.running_mean.zero_()
    unit.time_bn.running_var.fill_(1)
    nn.init.zeros_(unit.time_bn.bias)
    x = fold(torch.randn(2, 4, 5, 7, 6, dtype=torch.float64))
    want = F.relu(unit.bn(unit.conv(x)))
    nn.init.constant_(unit.time_bn.weight, (1 + 1e-3) ** 0.5)
    assert (unit(x) - want).abs().max() < 1e-12
    nn.init.ones_(unit.time_bn.weight)  # what the gain is for: 5e-4 a layer
    assert 4e-4 < (1 - unit(x).sum() / want.sum()) < 6e-4


def test_gates_see_the_whole_clip_and_nothing_of_its_order():
    net = Settings(FrameCount(4), "zeros", 1e-3, 0.001, False)
    gated = Unit(3, 8, net, gated=True).eval()
    shake_norms(gated)
    x = torch.randn(1, 3, 4, 5, 5)
    bare = F.relu(gated.bn(gated.conv(fold(x))))
    nn.init.normal_(gated.gate.fc.weight, std=3.0)
    scale = unfold(gated(fold(x)) / bare.clamp_min(1e-12), 4)[0].flatten(1)
    seen = unfold(bare, 4)[0].flatten(1) > 0
    for channel, here in zip(scale, seen, strict=True):  # one number per channel
        values = channel[here]
        assert ((values > 0) & (values < 1)).all() and values.max() - values.min() < 1e-5
    order = torch.randperm(100)
    mixed = x.flatten(2)[:, :, order].view_as(x)
    want = unfold(gated(fold(x)), 4).flatten(2)[:, :, order].view(1, 8, 4, 5, 5)
    assert (unfold(gated(fold(mixed)), 4) - want).abs().max() < 1e-5
    nn.init.zeros_(gated.gate.fc.weight)
    assert torch.equal(gated(fold(x)), F.relu(gated.bn(gated.conv(fold(x)))) / 2)


def test_gates_stand_where_time_is_seen():
    gates = {
        k.removesuffix(".gate.fc.weight")
        for k in on_meta("s3d-g@top:10").state_dict()
        if ".gate." in k
    }
    want = {f"{block}.{unit}" for block in MIXED for unit in ("b0", "b1b", "b2b", "b3b")}
    assert gates == {"conv2c"} | want
    assert not any(".gate." in k for k in on_meta("s3d-g@top:0").state_dict())


@pytest.mark.parametrize(("kind", "same"), [("i2d", True), ("i3d", False), ("s3d", False)])
def test_only_i2d_does_not_know_the_arrow_of_time(kind, same):
    """Of 13 frames the strides read 7, 4 and 2, the same from either end."""
    options = {"kind": "i3d", "cut": "top:0"} if kind == "i2d" else {"kind": kind}
    model = inception3d(5, **options).eval()
    shake_norms(model)
    x = torch.randn(1, 3, 13, 32, 32)
    with torch.no_grad():
        a, b = model(x), model(x.flip(2))
        assert ((a - b).abs().max() < 1e-5 * a.abs().max()) == same
        # Of an even number the stem reads the first of every two.
        c = model(x[:, :, :12]) - model(x[:, :, :12].flip(2))
        assert c.abs().max() > 1e-4 * a.abs().max()


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 14])
def test_windows_of_the_head(frames):
    for height, width, window in ((7, 7, 7), (9, 8, 7), (3, 8, 7), (2, 1, 7), (9, 8, None)):
        x = torch.randn(2, 4, frames, height, width)
        high, wide = (min(window, n) if window else n for n in (height, width))
        want = F.avg_pool3d(x, (min(frames, 2), high, wide), stride=1).mean(dim=(2, 3, 4))
        assert (window_mean(fold(x), frames, window) - want).abs().max() < 1e-5
    x = torch.arange(4.0).view(1, 1, 4, 1, 1)  # the first and the last count half
    assert window_mean(fold(x), 4, 7).item() == pytest.approx((0 + 2 * 1 + 2 * 2 + 3) / 6)


@pytest.mark.parametrize(
    "padding",
    ["zeros", *(pytest.param(x, marks=pytest.mark.slow) for x in ("same", "replicate"))],
)
def test_any_number_of_frames(padding):
    with torch.device("meta"):
        nets = [
            inception3d(5, kind=kind, gating=True, padding=padding, cut=cut)
            for kind, cut in (("i3d", "top:11"), ("s3d", "bottom:1"))
        ]
        for model in nets:
            for frames in (1, 2, 5, 250):
                assert model(torch.empty(2, 3, frames, 32, 47)).shape == (2, 5)
                if padding == "same":
                    assert model.frames.value == -(-frames // 8)


def test_features_stay_in_channels_last():
    """Through the concatenation too; else every block would copy its input."""
    model = inception3d(5, gating=True).eval()
    model.frames.value = 4
    x = fold(torch.randn(2, 192, 4, 6, 6))
    block = model.get_submodule("mixed3b")
    assert isinstance(block, Mixed) and block.is_block
    with torch.no_grad():
        assert block(x).is_contiguous(memory_format=torch.channels_last)


def test_temporal_parameters_are_the_new_ones():
    names = on_meta("s3d-g@top:1").temporal_parameters()
    units = {"b1b": ("time.weight", "time_bn.weight", "time_bn.bias", "gate.fc.weight")}
    units |= {"b2b": units["b1b"], "b0": ("gate.fc.weight",), "b3b": ("gate.fc.weight",)}
    assert names == {f"mixed5c.{u}.{part}" for u, parts in units.items() for part in parts}


def test_settings_of_the_papers():
    s3d, i3d = on_meta("s3d"), on_meta("i3d")
    assert (s3d.dropout.p, i3d.dropout.p) == (0.2, 0.5)
    for model, momentum in ((s3d, 0.001), (i3d, 0.01), (on_meta("i2d"), 0.01)):
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {(m.eps, m.momentum) for m in norms} == {(1e-3, momentum)}
    assert s3d.spec.mean == (0.43216, 0.394666, 0.37645)
    assert (s3d.spec.frames, s3d.spec.stride, s3d.spec.size) == (64, 1, 224)
    of_images = on_meta("s3d", pools="googlenet")
    for model in (i3d, of_images, on_meta("i3d@bottom:2")):
        assert model.spec.mean == model.spec.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "s3"}, "unknown kind 's3'; did you mean 's3d'"),
        ({"padding": "valid"}, "unknown padding"),
        ({"pools": "caffe"}, "unknown pools"),
        ({"cut": "top:12"}, "cut must be"),
        ({"cut": "middle:2"}, "cut must be"),
        ({"padding": "same", "pools": "googlenet"}, "SAME"),
        ({"gate_bias": True}, "gating=True"),
        ({"window": 0}, "window"),
        ({"bn_eps": 0.0}, "bn_eps"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        inception3d(5, **options)

"""Channel-separated networks: counts of the paper, equality with pytorchvideo, STS."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_support import check_gradients, check_logits, on_meta, shapes, take_weights

import vidinit
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import count_parameters
from vidinit.zoo.families.csn import csn, sts_csn
from vidinit.zoo.temporal import VolumeConv


@pytest.mark.parametrize(
    ("name", "params", "costs"),
    [
        ("ir-csn-50", 13_131_152, {224: 42.309, 256: 55.262}),
        ("ir-csn-101", 22_213_776, {224: 56.468, 256: 73.757}),
        ("ir-csn-152", 29_703_568, {224: 74.046, 256: 96.716}),
        ("ip-csn-50", 14_396_176, {224: 47.652}),
        ("ip-csn-101", 24_601_616, {224: 63.559}),
        ("ip-csn-152", 33_016_592, {224: 83.295}),
    ],
)
def test_counts_are_the_papers(name, params, costs):
    model = on_meta(name)
    assert count_parameters(model) == params
    for size, cost in costs.items():
        # At 256 the zoos slide a 7x7 pool over 8x8 features: their head runs at four places.
        more = 3 * 2048 * 400 / 1e9 if size == 256 else 0.0
        assert round(count_macs(model, (1, 3, 32, size, size)) / 1e9 + more, 3) == cost
    assert model.origins == {}
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_ir_csn_equals_pytorchvideo():
    create_csn = pytest.importorskip("pytorchvideo.models.csn").create_csn
    theirs = create_csn(
        model_depth=101,
        model_num_class=7,
        dropout_rate=0,
        stem_pool=nn.MaxPool3d,
        head_pool=nn.AdaptiveAvgPool3d,
        head_activation=None,
    )
    theirs.double().eval()
    ours = vidinit.create_model("ir-csn-101", num_classes=7, bn_eps=1e-5).double().eval()
    take_weights(ours, theirs)
    assert len(theirs.state_dict()) == 626
    for size in ((4, 48, 40), (5, 32, 32)):
        clip = torch.randn(1, 3, *size, dtype=torch.float64)
        check_logits(ours, theirs, clip, 1e-10)
    check_gradients(ours, theirs, clip, 1e-9)


def test_ip_puts_a_kernel_without_relu_before_the_depthwise_one():
    with torch.device("meta"):
        model = csn(3, kind="ip")
    for block in (model.layer1[0], model.layer4[2]):
        point, norm, depthwise = block.conv2[0]
        assert isinstance(point, nn.Conv2d) and point.kernel_size == (1, 1)
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(depthwise, VolumeConv) and depthwise.depthwise
    assert model.layer2[0].conv2[0][2].stride == (2, 2)


@pytest.mark.parametrize("kind", ["ir", "ip"])
def test_any_number_of_frames(kind):
    model = csn(3, kind=kind).eval()
    with torch.no_grad():
        for frames, left in ((1, 1), (2, 1), (9, 2)):
            assert model(torch.randn(2, 3, frames, 32, 32)).shape == (2, 3)
            assert model.frames.value == left


def test_wrong_options():
    with pytest.raises(UsageError, match="use ir or ip"):
        csn(3, kind="full")
    with pytest.raises(UsageError, match="use 50, 101 or 152"):
        csn(3, depth=18)
    with pytest.raises(UsageError, match="depth"):
        sts_csn(3, depth=34)


def test_sts_counts():
    sts, twin = on_meta("sts-ir-csn-50"), on_meta("sts-ir-csn-50", sts=False)
    assert shapes(sts) == shapes(twin) and len(shapes(sts)) == 320
    head = 2048 * 400 / 1e9
    for model in (sts, twin):
        assert count_parameters(model) == 13_131_152
        costs = [count_macs(model, (1, 3, frames, 224, 224)) / 1e9 for frames in (32, 8)]
        assert [round(cost - head, 3) for cost in costs] == [80.343, 20.086]
    kernels = [m for m in sts.modules() if isinstance(m, VolumeConv) and m.depthwise]
    assert len(kernels) == 16 and all(kernel.sts for kernel in kernels)
    assert [kernel.stride for kernel in kernels].count((1, 2)) == 3
    assert sum(kernel.weight.numel() for kernel in kernels) == 101_952


def test_sts_sizes():
    clip = torch.randn(1, 3, 2, 40, 40)
    with torch.no_grad():
        assert sts_csn(2, aligned=True).eval()(clip).shape == (1, 2)
        assert sts_csn(2, sts=False).eval()(clip).shape == (1, 2)
        with pytest.raises(ValueError, match="divisible by 32"):
            sts_csn(2).eval()(clip)

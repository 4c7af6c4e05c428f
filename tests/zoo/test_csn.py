"""Channel-separated networks: counts of the paper, equality with pytorchvideo, STS."""

from __future__ import annotations

import pytest
import torch
from support import shake_norms
from torch import nn

import vidinit
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import VideoModel, count_parameters
from vidinit.zoo.csn import csn, sts_csn
from vidinit.zoo.temporal import VolumeConv


def on_meta(name: str, **options) -> VideoModel:
    with torch.device("meta"):
        return vidinit.create_model(name, **options)


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


def our_key(key: str) -> str:
    """pytorchvideo's name to ours: block 0 is the stem, 1 to 4 the stages, 5 the head."""
    _, block, part, *rest = key.split(".")
    if part == "proj":
        return f"head.{rest[0]}"
    if block == "0":
        return f"stem.{0 if part == 'conv' else 1}.{rest[0]}"
    layer = f"layer{block}.{rest[0]}"
    if rest[1].startswith("branch1"):
        return f"{layer}.downsample.{0 if rest[1] == 'branch1_conv' else 1}.{rest[2]}"
    kind, letter = rest[2].split("_")
    return f"{layer}.conv{'abc'.index(letter) + 1}.{0 if kind == 'conv' else 1}.{rest[3]}"


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
    shake_norms(theirs)
    want = ours.state_dict()
    state = {our_key(k): v.reshape(want[our_key(k)].shape) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    assert len(state) == 626
    for frames, height, width in ((4, 48, 40), (5, 32, 32)):
        x = torch.randn(1, 3, frames, height, width, dtype=torch.float64)
        a, b = ours(x), theirs(x)
        assert (a - b).abs().max() < 1e-10 * b.abs().max()
    a.square().sum().backward()
    b.square().sum().backward()
    grads = {our_key(k): p.grad for k, p in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        other = grads[key].reshape(parameter.shape)
        assert (parameter.grad - other).abs().max() <= 1e-9 * max(1.0, float(other.abs().max()))


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


@pytest.mark.slow
def test_compiles_in_one_graph():
    model = csn(3).eval()
    x = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        whole = torch.compile(model, backend="eager", fullgraph=True)
        assert (whole(x) - model(x)).abs().max() < 1e-6


def test_wrong_options():
    with pytest.raises(UsageError, match="use ir or ip"):
        csn(3, kind="full")
    with pytest.raises(UsageError, match="use 50, 101 or 152"):
        csn(3, depth=18)
    with pytest.raises(UsageError, match="depth"):
        sts_csn(3, depth=34)


def test_sts_counts():
    sts, twin = on_meta("sts-ir-csn-50"), on_meta("sts-ir-csn-50", sts=False)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (sts, twin)]
    assert shapes[0] == shapes[1] and len(shapes[0]) == 320
    head = 2048 * 400 / 1e9
    for model in (sts, twin):
        assert count_parameters(model) == 13_131_152
        costs = [count_macs(model, (1, 3, frames, 224, 224)) / 1e9 for frames in (32, 8)]
        assert [round(cost - head, 3) for cost in costs] == [80.343, 20.086]
    kernels = [m for m in sts.modules() if isinstance(m, VolumeConv) and m.depthwise]
    assert len(kernels) == 16 and all(kernel.sts for kernel in kernels)
    assert [kernel.stride for kernel in kernels].count((1, 2)) == 3
    assert sum(kernel.weight.numel() for kernel in kernels) == 101_952


def test_sts_without_side_taps_is_the_plain_twin_and_a_per_frame_net():
    model, twin = sts_csn(5).double().eval(), sts_csn(5, sts=False).double().eval()
    shake_norms(model)
    clip = torch.randn(1, 3, 3, 32, 32, dtype=torch.float64)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert (model(clip) - twin(clip)).abs().max() > 1e-3 * model(clip).abs().max()
        for kernel in model.modules():
            if isinstance(kernel, VolumeConv):
                kernel.weight[:, :, [0, 2]] = 0
        twin.load_state_dict(model.state_dict())
        assert (model(clip) - twin(clip)).abs().max() < 1e-12
        frames = torch.stack([model.embed(clip[:, :, [t]]) for t in range(3)]).mean(0)
        assert (model.embed(clip) - frames).abs().max() < 1e-12


def test_sts_sizes():
    clip = torch.randn(1, 3, 2, 40, 40)
    with torch.no_grad():
        assert sts_csn(2, aligned=True).eval()(clip).shape == (1, 2)
        assert sts_csn(2, sts=False).eval()(clip).shape == (1, 2)
        with pytest.raises(ValueError, match="divisible by 32"):
            sts_csn(2).eval()(clip)

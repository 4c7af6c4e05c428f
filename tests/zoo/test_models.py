"""Models of the zoo: counts, equality with public implementations, plans on image networks."""

from __future__ import annotations

import pytest
import timm
import torch
from support import shake_norms
from torch import nn
from zoo_support import on_meta, shapes

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.base import count_parameters
from vidinit.zoo.names import parse_plan
from vidinit.zoo.plans.inflate import InflatedNet
from vidinit.zoo.plans.read_network import read_network
from vidinit.zoo.temporal import TemporalConv, VolumeConv


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sts-r3d50", 32_454_096),
        ("sts-slowonly-r50", 32_454_096),
        ("r3d50", 32_454_096),
        ("slowonly-r50", 32_454_096),
        ("c2d-r50", 24_327_632),
        ("r2plus1d-18", 31_505_325),
        ("i3d-resnet18", 33_371_472),  # a ResNet-18 with 3x3x3 kernels has R3D-18's count
    ],
)
def test_parameter_counts(name, params):
    assert count_parameters(on_meta(name)) == params


def test_sts_and_its_plain_twin_share_keys():
    sts, twin = on_meta("sts-r3d50"), on_meta("sts-r3d50", sts=False)
    assert shapes(sts) == shapes(twin)
    kernels = [m for m in sts.modules() if isinstance(m, TemporalConv)]
    assert len(kernels) == 9
    assert sum(k.weight.numel() for k in kernels) == 12_189_696
    assert all(k.sts for k in kernels)


@pytest.mark.parametrize(
    ("name", "options", "frame_by_frame"),
    [
        ("sts-r2plus1d-34", {"depth": 18}, True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("sts-r3d50", {}, True),
                ("sts-ir-csn-50", {}, True),
                ("sts-r2plus1d-34", {}, True),
                ("sts-slowfast-r50-4x16", {"alpha": 2}, False),  # its slow pathway skips frames
            )
        ),
        ("sts-x3d-s", {}, False),  # its squeeze-and-excitation sees the whole clip
    ],
)
def test_sts_without_side_taps_is_the_plain_twin(name, options, frame_by_frame):
    model, twin = (
        vidinit.create_model(name, num_classes=5, sts=sts, **options).double().eval()
        for sts in (True, False)
    )
    shake_norms(model)
    twin.load_state_dict(model.state_dict())
    clip = torch.randn(1, 3, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        want = model(clip)
        assert (want - twin(clip)).abs().max() > 1e-3 * want.abs().max()
        for kernel in model.modules():
            if getattr(kernel, "sts", False):
                kernel.weight[:, :, [0, 2]] = 0
        twin.load_state_dict(model.state_dict())
        assert (model(clip) - twin(clip)).abs().max() < 1e-12
        # With no side taps in the other kernels either, a still clip is its one frame.
        for kernel in model.modules():
            if isinstance(kernel, (TemporalConv, VolumeConv)):
                middle = kernel.weight.shape[2] // 2
                kernel.weight[:, :, :middle] = kernel.weight[:, :, middle + 1 :] = 0
        still = clip[:, :, :1].expand_as(clip)
        assert (model(still) - model(clip[:, :, :1])).abs().max() < 1e-12
        if frame_by_frame:
            frames = torch.stack([model.embed(clip[:, :, [t]]) for t in range(3)]).mean(0)
            assert (model.embed(clip) - frames).abs().max() < 1e-12


def test_only_center_taps_learn_from_images_in_the_plain_twin():
    twin = vidinit.create_model("sts-r3d50", num_classes=5, sts=False)
    shake_norms(twin)  # timm starts residual branches at zero, which would hide the gradients
    twin(torch.randn(2, 3, 1, 48, 48)).square().sum().backward()
    for kernel in twin.modules():
        if isinstance(kernel, TemporalConv):
            assert (kernel.weight.grad[:, :, [0, 2]] == 0).all()
            assert (kernel.weight.grad[:, :, 1] != 0).any()


IMAGE_NETS = ["resnet18", "resnet26", "resnext26ts", "tf_efficientnet_lite0", "mobilenetv2_050"]
IMAGE_NETS += ["efficientnet_b0", "mobilenetv3_small_050", "seresnet50", "resnet26d"]


@pytest.mark.parametrize("plan", ["c2d", "i3d", "s3d", "sts"])
@pytest.mark.parametrize("name", IMAGE_NETS)
def test_every_plan_on_every_kind_of_image_network(name, plan):
    try:
        model = on_meta(f"{plan}-{name}", num_classes=3)
    except UsageError as error:
        assert plan == "sts" and name in ("resnet18", "resnext26ts")
        assert "no kernel it is defined for" in str(error)
        return
    assert model(torch.empty(2, 3, 3, 64, 64, device="meta")).shape == (2, 3)
    temporal = [m for m in model.modules() if isinstance(m, (TemporalConv, VolumeConv))]
    assert bool(temporal) == (plan != "c2d")
    keys = set(model.state_dict()) - {"head.weight", "head.bias"}
    assert isinstance(model, InflatedNet) and set(model.origins) == keys


def test_layers_tell_residual_sums_from_activations():
    layers = {layer.name: layer for layer in read_network(timm.create_model("resnet18")).layers}
    assert len(layers) == 17
    first, second = layers["layer1.0.conv1"], layers["layer1.0.conv2"]
    assert isinstance(first.act, nn.ReLU) and first.end == "layer1.0.act1"
    # The sum with the shortcut, in place or not, stands between the norm and the activation.
    assert second.act is None and second.end == "layer1.0.bn2"


def test_c2d_r50_pools_time_after_the_first_stage():
    model = vidinit.create_model("c2d-r50", num_classes=2).eval()
    for frames in (1, 2, 5):
        assert model(torch.zeros(1, 3, frames, 32, 32)).shape == (1, 2)
    assert model.frames.value == 2


def test_forward_is_the_same_in_train_and_eval_without_softmax():
    model = vidinit.create_model("c2d-resnet18", num_classes=4).eval()
    logits = model(torch.randn(2, 3, 2, 32, 32))
    assert logits.shape == (2, 4)
    assert (logits.sum(dim=1) - 1).abs().min() > 1e-4


def test_wrong_inputs_and_names():
    model = vidinit.create_model("c2d-resnet18", num_classes=4)
    with pytest.raises(ValueError, match="clips"):
        model(torch.zeros(2, 3, 32, 32))
    with pytest.raises(UsageError, match="did you mean 'sts-r3d50'"):
        vidinit.create_model("sts-r3d5")
    with pytest.raises(UsageError, match="did you mean 's3d-resnet50'"):
        vidinit.create_model("s3d-resnet5O")
    with pytest.raises(UsageError, match=r"no option 'stss'.*did you mean 'sts'"):
        vidinit.create_model("sts-r3d50", stss=False)
    with pytest.raises(UsageError, match="at least 1"):
        vidinit.create_model("c2d-resnet18", frames=0)


def test_list_models_in_natural_order():
    assert vidinit.list_models("*r3d50") == ["r3d50", "sts-r3d50"]
    assert set(vidinit.list_models()) >= {"c2d-r50", "r2plus1d-18", "sts-slowonly-r50"}
    for name in vidinit.list_models():
        assert on_meta(name, num_classes=2).head.out_features == 2


def test_names_of_plans_and_cuts():
    assert vidinit.list_models("s3d*") == ["s3d", "s3d-g"]
    assert len(vidinit.list_models("*@*")) == 72
    with pytest.raises(UsageError, match=r"unknown model 's3d-gg'.*did you mean 's3d-g'"):
        vidinit.create_model("s3d-gg")
    with pytest.raises(UsageError, match=r"unknown model 's3d@top:12'"):
        vidinit.create_model("s3d@top:12")
    for name, plan, options, backbone in (
        ("s3d-ghostnet_100", "s3d", {}, "ghostnet_100"),
        ("s3d-g-resnet18", "s3d", {"gating": True}, "resnet18"),
        ("sts-g@stages:1,2-resnet50", "sts", {"gating": True, "cut": "stages:1,2"}, "resnet50"),
        ("tsm@bottom:3", "tsm", {"cut": "bottom:3"}, ""),
    ):
        entry, rest = parse_plan(name)
        assert (entry.plan, entry.options, rest) == (plan, options, backbone)


def test_temporal_parameters_are_the_new_ones():
    model = vidinit.create_model("s3d-resnet18", num_classes=2)
    names = model.temporal_parameters()
    assert len(names) == 17 * 3
    assert names <= {name for name, _ in model.named_parameters()}
    assert all(".time." in name for name in names)

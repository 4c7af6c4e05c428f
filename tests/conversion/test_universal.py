"""Every plan on every kind of timm CNN: a still clip gets the image network's logits."""

from __future__ import annotations

import pytest
import timm
import torch
from support import shake_norms
from torch import nn
from zoo_support import still_proof

from vidinit.conversion.table import transfer
from vidinit.errors import UsageError
from vidinit.zoo.build import assemble
from vidinit.zoo.images.heads import head_keys, single_layer
from vidinit.zoo.names import Entry
from vidinit.zoo.temporal import TemporalConv, TemporalShift, VolumeConv

# The smallest of each kind, and the plans that are not defined for it.
QUICK = {
    "resnet10t": ("sts",),
    "test_convnext": ("sts",),
    "mobilenetv3_small_050": (),
    "test_nfnet": ("i3d", "sts"),
}
OTHERS = {
    "regnetx_002": ("sts",),
    "test_byobnet": ("sts",),
    "tf_efficientnet_lite0": (),
    "mobilenetv2_035": (),
    "dla46_c": ("sts",),
    "mobilenetv4_conv_small_035": (),
    "ghostnet_050": (),
    "densenet121": ("sts",),
    "resnet18": ("sts",),
    "resnet26": (),
    "resnet18d": ("sts",),
    "seresnet18": ("sts",),
    "legacy_seresnet18": ("sts",),
    "legacy_seresnet50": (),
    "skresnet18": ("i3d", "sts"),
    "resnet50_gn": (),
    "resnext26ts": ("sts",),
    "resnext50_32x4d": (),
    "res2net50_14w_8s": (),
    "resnest14d": (),
    "resnetv2_18": ("sts",),
    "resnetv2_50x1_bit": ("i3d", "sts"),
    "nf_resnet26": ("i3d", "sts"),
    "nf_regnet_b0": ("i3d", "sts"),
    "regnety_002": ("sts",),
    "regnetz_005": ("sts",),
    "tresnet_m": ("sts",),
    "convnext_atto": ("sts",),
    "convnext_atto_ols": ("sts",),
    "convnextv2_atto": ("sts",),
    "efficientnet_b0": (),
    "efficientnet_es": ("sts",),
    "tf_efficientnetv2_b0": (),
    "mixnet_s": (),
    "mobilenetv1_100": (),
    "fbnetc_100": (),
    "lcnet_035": (),
    "tinynet_e": (),
    "mnasnet_small": (),
    "hardcorenas_a": (),
    "ghostnetv2_100": (),
    "repghostnet_050": (),
    "rexnet_100": (),
    "densenetblur121d": ("sts",),
    "inception_v3": ("sts",),
    "inception_v4": ("sts",),
    "inception_resnet_v2": ("sts",),
    "xception": (),
    "xception41": (),
    "vgg11_bn": ("sts",),
    "repvgg_a0": ("sts",),
    "mobileone_s0": (),
    "dla60_res2net": ("sts",),
    "hrnet_w18_small": ("sts",),
    "dpn48b": ("sts",),
    "selecsls42": ("sts",),
    "cspresnet50": ("sts",),
    "darknet17": ("sts",),
    "hgnetv2_b0": (),
    "ese_vovnet19b_dw": (),
    "starnet_s050": ("sts",),
}
SIZES = {
    "inception_v3": 96,
    "inception_v4": 96,
    "inception_resnet_v2": 96,
    "ghostnetv2_100": 64,
}
OPTIONS = {"s3d": {"gating": True}, "sts": {"gating": True, "aligned": True}}


def image_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=11).eval()
    shake_norms(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.GroupNorm, nn.LayerNorm)) and module.weight is not None:
                module.weight.uniform_(0.5, 1.3)
                module.bias.uniform_(-0.2, 0.2)
        for key, parameter in model.named_parameters():  # branches that start at next to nothing
            gain = key.rpartition(".")[2] in ("gamma", "gain", "skipinit_gain")
            if gain and parameter.abs().max() < 1e-3:
                parameter.fill_(0.5)
        nn.init.normal_(model.get_classifier().weight, std=0.1)
    return model


def converted(name: str, image: nn.Module, plan: str, inflation: str = "center", **options):
    blank = timm.create_model(name, num_classes=0)
    classifier = single_layer(image, head_keys(image, blank))
    model = assemble(blank, Entry(name, plan), num_classes=11, name=f"{plan}-{name}", **options)
    transfer(model, image.state_dict(), classifier, inflation)
    return model


def check(name: str, refused: tuple[str, ...]) -> None:
    image, size = image_network(name), SIZES.get(name, 32)
    for plan in ("c2d", "i3d", "s3d", "sts", "tsm"):
        if plan in refused:
            with pytest.raises(UsageError):
                converted(name, image, plan)
            continue
        model = converted(name, image, plan, **OPTIONS.get(plan, {}))
        kinds = TemporalShift if plan == "tsm" else (TemporalConv, VolumeConv)
        assert any(isinstance(m, kinds) for m in model.modules()) == (plan != "c2d")
        for frames in (2, 5):
            found = still_proof(image, model, frames, size, count=1)
            assert found.scale > 0.1, "a dead network proves nothing"
            if plan == "tsm":  # zeros come in at the ends of the clip
                assert 1e-5 * found.scale < found.max_difference < 100 * found.scale
            else:
                assert found.max_difference < 1e-4 * found.scale, (plan, frames, found)


@pytest.mark.parametrize("name", QUICK)
def test_plans_keep_the_image_networks_function(name):
    check(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_plans_keep_the_function_of_any_image_network(name):
    check(name, OTHERS[name])


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_035", "test_convnext"])
def test_mean_inflation_is_exact_where_end_frames_are_repeated(name):
    image = image_network(name)
    zeros = converted(name, image, "i3d", "mean")
    assert not still_proof(image, zeros, 4, 32).exact
    replicate = converted(name, image, "i3d", "mean", time_padding="replicate")
    for frames in (1, 4):
        assert still_proof(image, replicate, frames, 32).exact


def test_the_bottleneck_i3d_is_exact_too():
    image = image_network("resnet26")
    model = converted("resnet26", image, "i3d", bottleneck=True, pool=True, gating=True)
    for frames in (1, 5):
        assert still_proof(image, model, frames, 32).exact
    mean = converted("resnet26", image, "i3d", "mean", bottleneck=True, time_padding="replicate")
    assert still_proof(image, mean, 4, 32).exact


@pytest.mark.parametrize("cut", ["top:2", "bottom:2", "stages:1,2"])
def test_cuts_are_exact(cut):
    image = image_network("mobilenetv3_small_050")
    for plan in ("i3d", "s3d", "sts"):
        model = converted("mobilenetv3_small_050", image, plan, cut=cut, gating=True)
        assert still_proof(image, model, 3, 32).exact

"""Public video checkpoints: equality with the peers that are installed, names for all others."""

from __future__ import annotations

import pytest
import torch
from support import shake_norms
from torch import nn
from zoo_support import feed_pathways

from vidinit.conversion.layouts.read_write import (
    Found,
    fits,
    implied,
    read_layout,
    recognize,
    write_layout,
)
from vidinit.errors import UsageError
from vidinit.zoo.build import create_model

CLASSES = 5


def imported(state, found, **options):
    """The model a state dict becomes."""
    made = create_model(found.target, num_classes=found.num_classes, **found.options, **options)
    result = read_layout(made, state, found)
    assert not result.missing and not result.unexpected
    return made.eval()


def check_round_trip(state, layout, *, dropped=()):
    """File to model to file: the same keys, the same tensors; returns the model."""
    found = recognize(state)
    assert found is not None and found.layout == layout and not found.refusal
    model = imported(state, found)
    back = write_layout(model, layout)
    assert set(back) == set(state) - set(dropped)
    for key, value in back.items():
        assert value.shape == state[key].shape and torch.equal(value, state[key]), key
    return model


def check_peer(peer, layout, target, *, clip):
    """A peer's state dict becomes a model of ours with the same logits, and goes back."""
    with torch.no_grad():
        shake_norms(peer)
    peer.eval()
    state = peer.state_dict()
    model = check_round_trip(state, layout)
    assert model.name == target
    x = torch.randn(2, 3, *clip)
    with torch.no_grad():
        want, got = peer(x), model(x)
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=2e-4, atol=2e-4 * float(want.abs().max()))
    return model


# ------------------------------------------------------------------ torchvision


@pytest.mark.parametrize(
    ("peer", "target", "entries"),
    [("r3d_18", "r3d-18", 122), ("mc3_18", "mc3-18", 122), ("r2plus1d_18", "r2plus1d-18", 224)],
)
def test_torchvision_resnets(peer, target, entries):
    from torchvision.models import video

    torch.manual_seed(0)
    model = getattr(video, peer)(num_classes=CLASSES)
    assert len(model.state_dict()) == entries
    made = check_peer(model, "torchvision", target, clip=(4, 32, 32))
    assert made.spec.mean == (0.43216, 0.394666, 0.37645)
    state = model.state_dict()
    vmz = recognize(state, "vmz")
    assert vmz is not None and vmz.options["bn_eps"] == 1e-3  # a layout is believed


@pytest.fixture(scope="module")
def s3d_peer():
    from torchvision.models.video import s3d

    torch.manual_seed(0)
    return s3d(num_classes=CLASSES)


def test_torchvision_s3d_keys(s3d_peer):
    assert len(s3d_peer.state_dict()) == 464
    check_round_trip(s3d_peer.state_dict(), "torchvision")


@pytest.mark.slow
def test_torchvision_s3d_logits(s3d_peer):
    check_peer(s3d_peer, "torchvision", "s3d", clip=(16, 209, 209))


def test_s3d_and_kylemin_are_convertible_by_order(s3d_peer):
    state = s3d_peer.state_dict()
    ours = imported(state, recognize(state))
    kylemin = write_layout(ours, "kylemin")
    for (theirs, value), (key, other) in zip(kylemin.items(), state.items(), strict=True):
        assert torch.equal(value, other), (theirs, key)
    found = recognize(kylemin)
    assert found == Found("kylemin", "s3d", CLASSES, {"window": None})
    assert imported(kylemin, found).spec.mean == (0.5, 0.5, 0.5)


# ------------------------------------------------------------------ pytorchvideo


def hub_model(name):
    """A pytorchvideo network with pools and head that take any size and give raw logits."""
    hub = pytest.importorskip("pytorchvideo.models.hub")
    torch.manual_seed(0)
    peer = getattr(hub, name)(pretrained=False)
    for module in list(peer.modules()):
        for child, part in list(module.named_children()):
            if isinstance(part, nn.AvgPool3d):
                setattr(module, child, nn.AdaptiveAvgPool3d(1))
    head = peer.blocks[-1]
    head.activation = None
    head.proj = nn.Linear(head.proj.in_features, CLASSES)
    return peer


@pytest.mark.parametrize(
    ("peer", "target", "entries"),
    [
        ("slow_r50", "slowonly-r50", 320),
        ("c2d_r50", "c2d-r50", 320),
        ("i3d_r50", "i3d-r50", 320),
        ("x3d_s", "x3d-s", 563),
        ("csn_r101", "ir-csn-101", 626),
    ],
)
def test_pytorchvideo(peer, target, entries):
    model = hub_model(peer)
    assert len(model.state_dict()) == entries
    made = check_peer(model, "pytorchvideo", target, clip=(4, 32, 32))
    assert made.spec.mean == (0.45,) * 3


def test_pytorchvideo_slowfast():
    peer = hub_model("slowfast_r50")
    feed_pathways(peer, 4)
    assert len(peer.state_dict()) == 662
    made = check_peer(peer, "pytorchvideo", "slowfast-r50-8x8", clip=(8, 32, 32))
    assert made.slow_frames == "linspace"


# ------------------------------------------------------------------ what keys and shapes tell


def test_mixed_kinds_and_depths_are_told_apart():
    for name in ("mc2-18", "mc5-18", "rmc2-18", "rmc4-18", "r3d-34"):
        found = recognize(write_layout(create_model(name, num_classes=CLASSES), "torchvision"))
        assert found == Found("torchvision", name, CLASSES)


def test_per_conv_midplanes_are_vmz_unless_the_layout_is_named():
    state = write_layout(create_model("r2plus1d-34", num_classes=CLASSES), "vmz")
    found = recognize(state)
    assert (found.layout, found.target, found.options) == ("vmz", "r2plus1d-34", {})
    named = recognize(state, "torchvision")
    assert (named.layout, named.options) == ("torchvision", {"bn_eps": 1e-5})
    assert recognize(state, "pytorchvideo") is None


def test_nothing_else_is_recognized():
    from torchvision.models import resnet18

    assert recognize(resnet18().state_dict()) is None
    assert recognize({}) is None
    state = write_layout(create_model("slowonly-r50", num_classes=CLASSES), "mmaction")
    assert recognize({k.removeprefix("backbone."): v for k, v in state.items()}) is None


def test_two_channels_of_flow():
    model = create_model("i3d", num_classes=CLASSES, padding="same", in_channels=2)
    found = recognize(write_layout(model, "piergiaj"))
    assert found.options == {"padding": "same", "in_channels": 2}
    assert imported(write_layout(model, "piergiaj"), found).spec.mean == (0.5, 0.5)


def test_temporal_pool_shifts_pytorchvideo_names_and_is_read_off_them():
    model = create_model("c2d-r50", num_classes=CLASSES, pool=False)
    state = write_layout(model, "pytorchvideo")
    assert "blocks.5.proj.weight" in state
    assert recognize(state).options == {"pool": False}
    planar = write_layout(model, "mmaction")
    assert planar["backbone.conv1.conv.weight"].dim() == 4
    assert recognize(planar).options == {"pool": False}
    check_round_trip(planar, "mmaction")
    pooled = write_layout(create_model("c2d-r50", num_classes=CLASSES), "pytorchvideo")
    assert "blocks.6.proj.weight" in pooled and recognize(pooled).options == {}


# ------------------------------------------------------------------ STS and mmaction2


def test_slowfast_head_columns():
    model = create_model("sts-slowfast-r50-4x16", num_classes=CLASSES, sts=False)
    head = model.state_dict()["head.weight"]
    image = write_layout(model, "sts-image")["classifier.weight"]
    video = write_layout(model, "mmaction")
    assert torch.equal(image, head)
    fast_first = torch.cat([head[:, 2048:], head[:, :2048]], dim=1)
    assert torch.equal(video["cls_head.fc_cls.weight"], fast_first)
    found = recognize(video)
    assert (found.target, found.options) == ("sts-slowfast-r50-4x16", {"sts": False})
    assert torch.equal(imported(video, found).head.weight, head)
    tuned = recognize(video, "sts-image")
    assert (tuned.target, tuned.options) == ("sts-slowfast-r50-4x16", {})
    made = imported(video, tuned)
    assert torch.equal(made.head.weight, head)
    assert any(getattr(module, "sts", False) for module in made.modules())


def test_x3d_image_file_leaves_one_bias():
    state = write_layout(create_model("sts-x3d-s", num_classes=CLASSES), "sts-image")
    state["fc1.bias"] = torch.zeros(2048)
    assert len(state) == 569
    found = recognize(state)
    model = create_model(found.target, num_classes=CLASSES)
    assert read_layout(model, state, found).leftovers == ("fc1.bias",)
    check_round_trip(state, "sts-image", dropped=["fc1.bias"])


@pytest.mark.slow
def test_mmaction_graphs_that_are_not_ours_are_refused():
    image = write_layout(create_model("sts-r2plus1d-34", num_classes=CLASSES), "sts-image")
    state = {
        k.replace("get_feature", "backbone").replace("classifier", "cls_head.fc_cls"): v
        for k, v in image.items()
    }
    found = recognize(state)
    assert found.layout == "mmaction" and "strides in time" in found.refusal
    assert fits(found, "sts-r2plus1d-34") == found.refusal
    tuned = recognize(state, "sts-image")
    assert fits(tuned, "sts-r2plus1d-34") == ""
    assert imported(state, tuned).name == "sts-r2plus1d-34"

    i3d = create_model("i3d-r50", num_classes=CLASSES)
    slow = write_layout(create_model("slowonly-r50", num_classes=CLASSES), "mmaction")
    names = zip(slow, write_layout(i3d, "pyslowfast").values(), strict=True)
    found = recognize(dict(names))
    assert found.target == "i3d-r50" and "strides in time" in found.refusal


def test_sts_models_are_written_for_the_sts_repository_only():
    with pytest.raises(UsageError, match="STS kernels are unknown there; use sts-image"):
        write_layout(create_model("sts-slowonly-r50", num_classes=CLASSES), "pytorchvideo")


# ------------------------------------------------------------------ fits, errors


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("slowonly-r50", "sts-slowonly-r50", ""),
        ("slowonly-r50", "sts-r3d50", ""),
        ("ir-csn-50", "sts-ir-csn-50", ""),
        ("x3d-s", "x3d-m", ""),
        ("s3d", "s3d@top:11", ""),
        ("slowonly-r50", "slowonly-r101", "it is slowonly-r50"),
        ("r2plus1d-18", "r3d-18", "it is r2plus1d-18"),
        ("sts-slowfast-r50-4x16", "slowfast-r50-4x16", "no norms"),
        ("x3d-s", "sts-x3d-s", "no norm"),
        ("r2plus1d-34", "sts-r2plus1d-34", "whole"),
    ],
)
def test_fits(source, target, reason):
    got = fits(Found("torchvision", source, CLASSES), target)
    assert (reason in got) if reason else got == ""


def test_the_norm_in_x3ds_first_shortcut_is_an_option_or_always_there():
    plain = Found("mmaction", "x3d-s", CLASSES, {"norm_shortcut": True})
    assert fits(plain, "sts-x3d-s") == "" and implied(plain, "sts-x3d-s") == {}
    ours = Found("sts-image", "sts-x3d-s", CLASSES)
    assert fits(ours, "x3d-m") == "" and implied(ours, "x3d-m") == {"norm_shortcut": True}


def test_options_the_target_does_not_know_are_a_reason():
    found = Found("pytorchvideo", "ir-csn-50", CLASSES, {"bn_eps": 1e-5})
    assert fits(found, "ir-csn-50") == ""
    assert "bn_eps=1e-05, which sts-ir-csn-50" in fits(found, "sts-ir-csn-50")
    assert fits(Found("pytorchvideo", "c2d-r50", CLASSES, {"pool": False}), "c2d-r50") == ""


def test_missing_extra_and_misshaped_tensors():
    state = write_layout(create_model("s3d", num_classes=CLASSES), "torchvision")
    found = recognize(state)

    def load(given, **options):
        model = create_model("s3d", num_classes=CLASSES)
        return read_layout(model, given, found, **options)

    assert len(load(state).loaded) == 464
    load({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    fewer = {k: v for k, v in state.items() if k != "features.2.1.bias"}
    with pytest.raises(UsageError, match="1 tensor is missing, features") as error:
        load(fewer)
    assert "\n" not in str(error.value)
    assert load(fewer, allow_partial=True).missing == ("conv2b.bn.bias",)
    more = {**state, "extra.weight": torch.zeros(3)}
    with pytest.raises(UsageError, match="1 tensor is unexpected, extra"):
        load(more)
    assert load(more, allow_partial=True).unexpected == ("extra.weight",)
    other = {**state, "classifier.1.weight": torch.zeros(9, 1024, 1, 1, 1)}
    with pytest.raises(UsageError, match=r"classifier.1.weight is \(9, 1024, 1, 1, 1\)"):
        load(other)
    partial = load(other, allow_partial=True)
    assert partial.missing == ("head.weight",)
    assert partial.unexpected == ("classifier.1.weight",)


def test_layouts_that_cannot_hold_a_model():
    with pytest.raises(UsageError, match="did you mean 'torchvision'"):
        write_layout(create_model("s3d", num_classes=CLASSES), "torchvison")
    with pytest.raises(UsageError, match="another family; use torchvision or kylemin"):
        write_layout(create_model("s3d", num_classes=CLASSES), "pytorchvideo")
    with pytest.raises(UsageError, match="no public layout can"):
        write_layout(create_model("s3d-g", num_classes=CLASSES), "torchvision")
    with pytest.raises(UsageError, match="padding='same'"):
        write_layout(create_model("i3d", num_classes=CLASSES, padding="zeros"), "piergiaj")
    with pytest.raises(UsageError, match="use vmz or mmaction"):
        write_layout(create_model("ir-csn-50", num_classes=CLASSES), "pytorchvideo")

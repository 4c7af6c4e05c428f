"""Classifiers as one linear layer: timm's own logits from timm's own features."""

from __future__ import annotations

import pytest
import timm
import torch
from support import shake_norms
from timm.models.metaformer import MetaFormer
from torch import nn

from vidinit.zoo.images.heads import (
    LinearHead,
    channels_of,
    head_keys,
    linear_head,
    single_layer,
)
from vidinit.zoo.images.networks import build_image_model


def networks(name: str, **arguments) -> tuple[nn.Module, nn.Module, list[str]]:
    """An image network, the same without its classifier, and the classifier's tensors."""
    torch.manual_seed(0)
    image = timm.create_model(name, **arguments).eval()
    shake_norms(image)
    with torch.no_grad():  # EfficientViM weighs its classifiers
        for key in ("weights", "weights_dist"):
            if hasattr(image, key):
                getattr(image, key).uniform_(-1, 1)
    bare = timm.create_model(name, **{**arguments, "num_classes": 0}).eval()
    bare.load_state_dict({k: v for k, v in image.state_dict().items() if k in bare.state_dict()})
    return image, bare, head_keys(image, bare)


def check(name: str, classifiers: int, *, has_norm: bool, **arguments) -> None:
    image, bare, keys = networks(name, **arguments)
    assert single_layer(image, keys) == ""
    head = linear_head(image, keys)
    assert isinstance(head, LinearHead), head
    assert (head.classifiers, head.has_norm, head.tokens) == (classifiers, has_norm, 0)
    size = image.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        pixels = torch.randn(2, 3, size, size)
        want, features = image(pixels), bare(pixels)
        got = (features.double() @ head.weight.T + head.bias).float()
    assert want.std() > 0.01
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize(
    ("name", "classifiers", "has_norm"),
    [
        pytest.param("efficientvit_m0", 1, True, marks=pytest.mark.slow),
        ("levit_128s", 2, True),
        ("efficientvim_m1", 4, False),  # weighted, each on a quarter of the features
    ],
)
def test_a_classifier_of_several_parts_is_one_linear_layer(name, classifiers, has_norm):
    check(name, classifiers, has_norm=has_norm, num_classes=7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classifiers", "has_norm"),
    [
        ("shvit_s1", 1, True),
        ("iformer_t", 1, True),
        ("levit_256d", 1, True),
        ("iformer_l_distilled", 2, True),
        ("repvit_m0_9", 2, True),
        ("efficientformer_l1", 2, False),
        ("efficientformerv2_s0", 2, False),
        ("swiftformer_xs", 2, False),
        ("crossvit_tiny_240", 2, False),
        ("efficientvim_m1_dist", 8, False),
    ],
)
def test_so_is_any_other(name, classifiers, has_norm):
    check(name, classifiers, has_norm=has_norm)


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_distilled_patch16_224",
        pytest.param("pit_ti_distilled_224", marks=pytest.mark.slow),
    ],
)
def test_classifiers_of_two_tokens_want_them_side_by_side(name):
    image, bare, keys = networks(name, num_classes=7)
    head = linear_head(image, keys)
    assert isinstance(head, LinearHead) and head.tokens == 2
    with torch.no_grad():
        pixels = torch.randn(2, 3, 224, 224)
        tokens = bare.forward_features(pixels)[:, :2]
        got = (tokens.flatten(1).double() @ head.weight.T + head.bias).float()
        want = image(pixels)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18"])
def test_one_layer_is_found_by_its_name(name):
    with torch.device("meta"):
        image, bare = build_image_model(name, 7), build_image_model(name, 0)
    keys = head_keys(image, bare)
    layer = image.get_submodule(single_layer(image, keys))
    assert layer.weight.shape[0] == 7 and len(keys) == 2
    assert channels_of(image) == 3 and channels_of(build_on_meta(name, in_chans=4)) == 4


def build_on_meta(name: str, **arguments) -> nn.Module:
    with torch.device("meta"):
        return build_image_model(name, **arguments)


def test_what_is_not_linear_is_told():
    small = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "use_mlp_head": True}
    image, bare = (MetaFormer(**small, num_classes=n).eval() for n in (7, 0))
    keys = head_keys(image, bare)
    assert single_layer(image, keys) == "" and len(keys) == 6
    assert "has a hidden layer" in str(linear_head(image, keys))


@pytest.mark.slow
def test_a_classifier_that_reads_every_patch_is_told():
    image, _, keys = networks("volo_d1_224")
    assert linear_head(image, keys) == "reads more than one vector of an image (aux_head does)"

"""What descriptors are pooled from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import shake_norms
from torch import Tensor
from zoo_support import families, on_meta

import vidinit
from vidinit.zoo.base import VideoModel
from vidinit.zoo.families.inception3d import window_mean

FRAMES, SIZE = 8, 64


def clips(frames: int = FRAMES, size: int = SIZE) -> Tensor:
    return torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(0))


def shaken(name: str, **options) -> VideoModel:
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=3, **options).eval()
    shake_norms(model)
    return model


def pooled_again(model: VideoModel, tokens: Tensor) -> Tensor:
    """The descriptor from the tokens, by each family's rule."""
    if model.name in ("i2d", "i3d", "s3d", "s3d-g"):
        side = SIZE // 32
        maps = tokens.unflatten(1, (-1, side, side)).flatten(0, 1).permute(0, 3, 1, 2)
        return window_mean(maps, tokens.shape[1] // side**2, 7)
    return tokens.mean(dim=1)


@pytest.mark.parametrize(
    "name", families("s3d-mobilenetv2_050", "tsm-resnet10t", "slowfast-r50-4x16", "x3d-s")
)
def test_tokens_are_what_is_pooled(name):
    model = shaken(name)
    with torch.no_grad():
        descriptor, tokens = model.embed(clips()), model.tokens(clips())
        both = model.embed_with_tokens(clips())
    assert tokens.shape[::2] == (2, model.num_features) and tokens.shape[1] % (SIZE // 32) == 0
    assert torch.equal(both[0], descriptor) and torch.equal(both[1], tokens)
    scale = descriptor.abs().max()
    if "x3d" in name:  # a rectifier stands behind the mean
        assert ((tokens.mean(dim=1) - descriptor) >= -1e-5 * scale).all() and tokens.min() == 0
    else:
        assert (pooled_again(model, tokens) - descriptor).abs().max() < 1e-5 * scale
    # The clips' tokens are their own, and frames lie before rows, rows before columns.
    with torch.no_grad():
        assert (model.tokens(clips()[1:]) - tokens[1:]).abs().max() < 1e-4 * tokens.abs().max()


# name: (frames, tokens of each, width) of 8 frames of 64 x 64
SHAPES = {
    "c2d-r50": (4, 2 * 2, 2048),
    "r2plus1d-18": (1, 4 * 4, 512),  # strides of 8 in time and 16 in space
    "ir-csn-50": (1, 2 * 2, 2048),
    "x3d-s": (8, 2 * 2, 2048),
    "slowfast-r50-4x16": (1, 2 * 2, 2304),
    "slowfast-r50-8x8": (2, 2 * 2, 2304),
    "s3d": (1, 2 * 2, 1024),
    "c2d-mobilenetv3_small_050": (8, 2 * 2, 1024),  # a layer stands behind the pooling
    "c2d-convnext_atto": (8, 2 * 2, 320),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    clip = torch.empty(2, 3, FRAMES, SIZE, SIZE, device="meta")
    model, (frames, each, width) = on_meta(name), SHAPES[name]
    tokens = model.tokens(clip)
    assert tokens.shape == (2, frames * each, width)
    assert model.by_frame(tokens).shape == (2, frames, each, width)


@pytest.mark.parametrize(
    ("name", "size", "grid", "width"),
    [
        ("c2d-swin_tiny_patch4_window7_224", 224, 7 * 7, 768),  # channels last
        ("c2d-vit_small_patch16_224", 224, 14 * 14, 384),  # a class token
        ("c2d-vit_small_patch14_reg4_dinov2", 518, 37 * 37, 384),  # and registers
        ("c2d-vit_base_patch16_siglip_224", 224, 14 * 14, 768),  # attention pools
        ("c2d-vgg11", 224, 7 * 7, 4096),  # layers behind the pooling
    ],
)
def test_shapes_of_other_networks(name, size, grid, width):
    clip = torch.empty(1, 3, 2, size, size, device="meta")
    assert on_meta(name).tokens(clip).shape == (1, 2 * grid, width)


@pytest.mark.parametrize(("name", "pool"), [("test_vit", "token"), ("test_vit2", "avg")])
def test_patch_tokens_of_a_transformer(name, pool):
    """Class tokens and registers are none of them."""
    model, clip = shaken(f"c2d-{name}"), clips(2, 160)
    trunk = model.trunk
    assert trunk.global_pool == pool
    with torch.no_grad():
        tokens, descriptor = model.tokens(clip), model.embed(clip)
        features = trunk.forward_features(clip.transpose(1, 2).flatten(0, 1))  # (B*T, P + N, C)
    first = trunk.num_prefix_tokens
    assert first > 0
    want = features[:, first:].reshape(2, -1, model.num_features)
    assert (tokens - want).abs().max() < 1e-5
    if pool == "avg":
        means = trunk.fc_norm(tokens.unflatten(1, (2, -1)).mean(dim=2)).mean(dim=1)
        assert (means - descriptor).abs().max() < 1e-5


def test_a_layer_behind_the_pooling_is_put_on_each_place():
    model = shaken("c2d-mobilenetv3_small_050")
    clip = clips(1, 32)  # one place, so that its token is the descriptor
    with torch.no_grad():
        assert (model.tokens(clip)[:, 0] - model.embed(clip)).abs().max() < 1e-5


def test_tokens_of_a_fused_and_of_a_recomputing_model():
    model = shaken("s3d-mobilenetv2_050")
    with torch.no_grad():
        want = model.tokens(clips())
        fused = model.fuse().tokens(clips())
    assert (fused - want).abs().max() < 1e-4 * want.abs().max()

    def gradient() -> Tensor:
        model.zero_grad()
        model.tokens(clips(4, 32)).square().mean().backward()
        return model.trunk.conv_stem.weight.grad.clone()

    plain = gradient()
    model.set_grad_checkpointing()
    model.train()
    model.eval()
    assert plain.norm() > 0 and (gradient() - plain).norm() < 1e-5 * plain.norm()


def test_the_frame_count_is_set():
    """Clips of other lengths one after the other, by either method."""
    model = shaken("s3d-mobilenetv2_050")
    model.spec = replace(model.spec, frames=4)
    with torch.no_grad():
        first = model.tokens(clips(4, 32))
        model.embed(clips(2, 32))
        assert torch.equal(model.tokens(clips(4, 32)), first) and first.shape[1] == 4
    with pytest.raises(ValueError, match="expected clips"):
        model.tokens(torch.empty(3, 4, 32, 32))

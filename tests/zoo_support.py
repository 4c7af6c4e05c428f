"""What tests of models share: networks of every kind, other code bases' weights, still clips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support import shake_norms
from torch import Tensor, nn

import vidinit
from vidinit.conversion.layouts.read_write import all_schemes
from vidinit.conversion.proof import Proof, prove
from vidinit.zoo.base import VideoModel

FAMILIES = (
    *("c2d-resnet10t", "i3d-resnet10t", "s3d-resnet10t", "sts-resnet14t", "tsm-resnet10t"),
    *("s3d-mobilenetv2_050", "sts-mobilenetv2_050"),
    "i3d-tf_efficientnet_lite0",  # Conv2dSame, and norms with an activation inside
    "c2d-r50",  # a pool in time between blocks
    *("r2plus1d-18", "r3d-18", "mc3-18", "ir-csn-50"),  # strides in time
    *("x3d-s", "sts-x3d-s"),
    "slowfast-r50-4x16",  # two frame counts
    *("i2d", "i3d", "s3d", "s3d-g"),
)
"""The smallest networks that have between them whatever the zoo is made of."""


def families(*quick: str) -> list[Any]:
    """`FAMILIES` to parametrize a test with; all but the quick ones are marked as slow."""
    assert set(quick) <= set(FAMILIES)
    slow = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=slow) for name in FAMILIES]


def on_meta(name: str, **options: Any) -> VideoModel:
    """A model without memory, to count and to look at."""
    with torch.device("meta"):
        return vidinit.create_model(name, **options)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Keys of the state dict, and the tensors' shapes."""
    return {key: value.shape for key, value in model.state_dict().items()}


# ------------------------------------------------------------------ other code bases


def peer_names(ours: VideoModel, peer: nn.Module) -> dict[str, str]:
    """A peer's names of our tensors, by the layout under which both networks have the same."""
    wanted = set(peer.state_dict())
    for scheme in all_schemes():
        names = {key: str(scheme.public_key(key)) for key in ours.state_dict()}
        if set(names.values()) == wanted:
            return names
    raise AssertionError("no layout has the peer's names for our tensors")


def take_weights(ours: VideoModel, peer: nn.Module) -> None:
    """Unforgiving norms for a peer, and all its weights for our model."""
    shake_norms(peer)
    state, want = peer.state_dict(), ours.state_dict()
    names = peer_names(ours, peer)
    ours.load_state_dict({key: state[names[key]].reshape(want[key].shape) for key in want})


def feed_pathways(peer: nn.Module, alpha: int) -> None:
    """Let pytorchvideo's SlowFast take one clip, as ours does, instead of [slow, fast]."""

    def pathways(_: nn.Module, args: tuple[Tensor]) -> tuple[list[Tensor]]:
        frames = args[0].shape[2]
        seen = torch.linspace(0, frames - 1, frames // alpha).long()
        return ([args[0][:, :, seen], args[0]],)

    peer.register_forward_pre_hook(pathways)


def check_logits(ours: nn.Module, peer: nn.Module, clip: Tensor, bound: float) -> None:
    """Equal logits, relative to the largest."""
    with torch.no_grad():
        a, b = ours(clip), peer(clip)
    assert (a - b).abs().max() < bound * b.abs().max()


def check_gradients(ours: VideoModel, peer: nn.Module, clip: Tensor, bound: float) -> None:
    """Equal gradients of every parameter; in double precision.

    In single precision a ReLU near zero, or a maximum, may fall either way.
    """
    for model in (ours, peer):
        model(clip).square().sum().backward()
    names, others = peer_names(ours, peer), dict(peer.named_parameters())
    for key, parameter in ours.named_parameters():
        other = others[names[key]].grad.reshape(parameter.shape)
        assert other.norm() > 0 and (parameter.grad - other).norm() < bound * other.norm(), key


# ------------------------------------------------------------------ image networks


def still_proof(
    image: nn.Module, model: VideoModel, frames: int, size: int, count: int = 2
) -> Proof:
    """`prove` on still clips of another form than the model's own."""
    model.spec = replace(model.spec, frames=frames, size=size)
    return prove(image, model, count=count)

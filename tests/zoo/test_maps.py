"""`maps`: the tokens in their places, and last stages without their stride."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import adapter_models
import dist_models
import pytest
import side4video_models
import torch
import video_encoders
import vit_support
from support import shake_norms
from torch import Tensor
from zoo_support import on_meta, take_weights

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.base import VideoModel
from vidinit.zoo.families.video_encoder import VideoEncoder
from vidinit.zoo.folding import FrameCount
from vidinit.zoo.modify.output_stride import set_output_stride, why_no_output_stride
from vidinit.zoo.temporal import VolumeConv


def clips(frames: int, height: int, width: int, count: int = 2) -> Tensor:
    seed = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, frames, height, width, generator=seed)


def plain(name: str) -> VideoModel:
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=3).eval()
    shake_norms(model)
    return model


def adapted() -> VideoModel:
    return adapter_models.adapted(adapter_models.small_vit("clip"), "st-adapter")


def beside(fusion: str) -> VideoModel:
    return side4video_models.awake(
        side4video_models.converted(vit_support.small_vit("augreg"), width=64, fusion=fusion)
    )


def encoder(kind: str, family: str) -> VideoModel:
    pytest.importorskip("transformers")
    return VideoEncoder(kind, video_encoders.network(family), 2).eval()


# model: frames, height, width of a clip, then rows and columns of its maps
PLACES: dict[str, tuple[Callable[[], VideoModel], int, int, int, int, int]] = {
    "timm": (lambda: plain("s3d-mobilenetv2_050"), 2, 96, 64, 3, 2),
    "slowfast": (lambda: plain("slowfast-r50-4x16"), 16, 64, 96, 2, 3),
    "x3d": (lambda: plain("x3d-s"), 2, 96, 64, 3, 2),
    "csn": (lambda: plain("ir-csn-50"), 2, 64, 96, 2, 3),
    "strides in time": (lambda: plain("r2plus1d-18"), 8, 48, 32, 3, 2),
    "inception": (lambda: plain("s3d"), 8, 96, 64, 3, 2),
    "frames by a transformer": (lambda: plain("c2d-test_vit"), 2, 160, 160, 10, 10),
    "maps in patches": (lambda: plain("c2d-test_convnext"), 2, 96, 64, 3, 2),
    "timesformer": (
        lambda: vit_support.converted(vit_support.small_vit("registers"), 4), 4, 32, 32, 4, 4
    ),
    "space alone": (
        lambda: vit_support.converted(vit_support.small_vit("augreg"), 4, attention="space"),
        4, 32, 32, 4, 4,
    ),
    "adapters": (adapted, 4, 24, 24, 3, 3),
    "side network": (lambda: beside("zero"), 4, 32, 32, 4, 4),
    "side network alone": (lambda: beside("none"), 4, 32, 32, 4, 4),
    "vjepa2": (lambda: encoder("vjepa2", "VJEPA2"), 4, 32, 32, 4, 4),
    "videomae": (lambda: encoder("videomae", "VideoMAE"), 4, 32, 32, 4, 4),
    "timesformer of transformers": (lambda: encoder("timesformer", "Timesformer"), 4, 32, 32, 4, 4),
}  # fmt: skip

QUICK = ("timm", "maps in patches", "timesformer", "space alone", "adapters", "side network")


def slow_but(quick: Sequence[str], names: Iterable[str]) -> list[Any]:
    return [one if one in quick else pytest.param(one, marks=pytest.mark.slow) for one in names]


@pytest.mark.parametrize("which", slow_but(QUICK, PLACES))
def test_maps_are_the_tokens_in_their_places(which):
    make, frames, height, width, rows, columns = PLACES[which]
    model, clip = make(), clips(frames, height, width)
    with torch.no_grad():
        maps, tokens = model.maps(clip), model.tokens(clip)
        assert model.by_frame(tokens).shape[1] == maps.shape[1]
    assert maps.shape == (2, maps.shape[1], rows, columns, model.num_features)
    assert torch.equal(maps.flatten(1, 3), tokens)


@pytest.mark.parametrize("which", ["maps in patches", "timesformer", "adapters"])
def test_a_position_reads_its_own_part_of_the_frame_most(which):
    make, frames, height, width, rows, columns = PLACES[which]
    model = make()
    for row, column in ((0, columns - 1), (rows - 1, 0)):
        clip = clips(frames, height, width, 1).requires_grad_()
        model.maps(clip)[0, :, row, column].square().sum().backward()
        assert clip.grad is not None
        read = clip.grad.abs().sum(dim=(0, 1, 2))
        cells = read.unflatten(1, (columns, -1)).unflatten(0, (rows, -1)).sum(dim=(1, 3))
        assert divmod(int(cells.argmax()), columns) == (row, column)


def test_dist_has_no_global_tokens_in_its_maps():
    model, clip = dist_models.small_dist(), dist_models.clips()
    with torch.no_grad():
        maps, tokens = model.maps(clip), model.by_frame(model.tokens(clip))
    assert maps.shape == (2, 2, 2, 2, model.num_features) and tokens.shape[2] == 5
    assert torch.equal(maps.flatten(2, 3), tokens[:, :, 1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "height", "width", "grid"),
    [
        ("slowonly-r50", 100, 90, (4, 3)),
        ("c2d-swin_tiny_patch4_window7_224", 224, 224, (7, 7)),
        ("c2d-vit_small_patch14_reg4_dinov2", 518, 518, (37, 37)),
        ("c2d-levit_128s", 224, 224, (4, 4)),
        ("c2d-mixer_s16_224", 224, 224, (14, 14)),
    ],
)
def test_grids(name, height, width, grid):
    clip = torch.empty(1, 3, 2, height, width, device="meta")
    assert on_meta(name).maps(clip).shape[2:4] == grid


def test_a_layer_of_the_inception_family():
    model, clip = on_meta("s3d"), torch.empty(1, 3, 16, 96, 64, device="meta")
    assert model.maps(clip, "mixed4e").shape == (1, 4, 6, 4, model.map_layers()["mixed4e"])
    assert model.maps(clip, "mixed4f").shape == (1, 4, 6, 4, 832)
    assert model.maps(clip).shape == (1, 2, 3, 2, 1024)
    with pytest.raises(UsageError, match="mixed4g"):
        model.maps(clip, "mixed4g")
    with pytest.raises(UsageError, match="r3d-18 has no maps of a layer"):
        on_meta("r3d-18").maps(clip, "mixed4e")


@pytest.mark.slow
def test_a_layer_is_what_its_layers_give():
    model, clip = plain("i3d"), clips(2, 32, 32, 1)
    with torch.no_grad():
        x = model.feature_maps(model._folded(clip), "mixed4e")
        rest = model.mixed5c(model.mixed5b(model.pool5a(model.mixed4f(x))))
        assert torch.equal(rest, model.feature_maps(model._folded(clip)))


# ------------------------------------------------------------------ output_stride


ALLOWED = (
    "i3d-resnet10t",
    "slowonly-r50",
    "slowfast-r50-8x8",
    "ir-csn-50",
    "x3d-s",
    "sts-slowonly-r50",
)


@pytest.mark.parametrize(
    "name", slow_but(("i3d-resnet10t",), [*ALLOWED, "i3d-tf_efficientnet_lite0", "tsm-resnet26d"])
)
def test_maps_of_a_dilated_stage_are_twice_as_fine(name):
    clip = torch.empty(1, 3, 8, 96, 64, device="meta")
    before, model = on_meta(name), on_meta(name, output_stride=16)
    assert model.options == {"output_stride": 16}
    old, new = before.maps(clip).shape, model.maps(clip).shape
    assert (new[2], new[3]) == (6, 4) and (old[2], old[3]) == (3, 2)
    assert (new[0], new[1], new[4]) == (old[0], old[1], old[4])
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in before.state_dict().items()
    }


def test_maps_as_fine_already_stay():
    model = on_meta("r2plus1d-18")
    strides = [module.stride for module in model.modules() if hasattr(module, "stride")]
    set_output_stride(model)
    assert [module.stride for module in model.modules() if hasattr(module, "stride")] == strides


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("s3d", "layer=mixed4f"),
        ("c2d-test_convnext", "even kernel"),
        pytest.param("c2d-vit_tiny_patch16_224", "patches", marks=pytest.mark.slow),
        pytest.param("sts-x3d-s", "STS kernel", marks=pytest.mark.slow),
        pytest.param("c2d-resnetblur18", "BlurPool2d", marks=pytest.mark.slow),
    ],
)
def test_others_are_refused_with_the_reason(name, why):
    assert why in why_no_output_stride(on_meta(name))
    with pytest.raises(UsageError, match=why):
        on_meta(name, output_stride=16)
    with pytest.raises(UsageError, match="output_stride=8"):
        on_meta(name, output_stride=8)


def test_dilated_depthwise_kernels_train_as_they_infer():
    """The sum of shifted 2-D kernels, which training takes, is the one 3-D kernel."""
    torch.manual_seed(0)
    conv = VolumeConv(8, 8, (3, 3, 3), FrameCount(3), stride=(2, 2), groups=8)
    conv.dilate(2)
    x = torch.randn(6, 8, 7, 5)
    trained = conv(x)
    with torch.no_grad():
        inferred = conv(x)
    want = torch.nn.functional.conv3d(
        x.unflatten(0, (2, 3)).transpose(1, 2),
        conv.weight,
        stride=(2, 1, 1),
        padding=(1, 2, 2),
        dilation=(1, 2, 2),
        groups=8,
    )
    want = want.transpose(1, 2).flatten(0, 1)
    assert (trained - want).abs().max() < 1e-4 and (inferred - want).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d-18", "x3d-s"])
def test_dilated_stages_are_those_of_plain_convolutions(name):
    """A peer's last stage changed by hand: 3-D kernels that torch itself dilates."""
    torch.manual_seed(0)
    if name == "r3d-18":
        peer: Any = pytest.importorskip("torchvision.models.video").r3d_18(num_classes=3)
        stage, pool = peer.layer4, torch.nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        peer.layer1.register_forward_pre_hook(lambda _, args: (pool(args[0]),))
    else:
        peer = pytest.importorskip("pytorchvideo.models.hub").x3d_s(model_num_class=3)
        stage = peer.blocks[4]
    # With the pool of image networks R3D's maps have 32 pixels a position.
    options = {"stem": "wide"} if name == "r3d-18" else {}
    ours = vidinit.create_model(name, num_classes=3, **options)
    take_weights(ours, peer)
    set_output_stride(ours)
    for module in stage.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.stride = (module.stride[0], 1, 1)
            if module.kernel_size[1] > 1:
                module.dilation, module.padding = (1, 2, 2), (module.padding[0], 2, 2)
    found: list[Tensor] = []
    stage.register_forward_hook(lambda _, __, out: found.append(out))
    ours.layer4.register_forward_hook(lambda _, __, out: found.append(out))
    clip = clips(13, 160, 192)  # the head of pytorchvideo's X3D pools 13 frames
    with torch.no_grad():
        ours.eval()(clip), peer.eval()(clip)
    mine, theirs = found
    assert mine.shape[2:] == (10, 12) and theirs.shape[3:] == (10, 12)
    mine = mine.unflatten(0, (2, -1)).transpose(1, 2)
    assert (mine - theirs).abs().max() < 1e-4 * theirs.abs().max()

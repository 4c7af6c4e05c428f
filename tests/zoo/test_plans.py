"""The five plans on image networks: which layers, which stages, gates, shifts, public twins."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from support import shake_norms
from torch import nn
from zoo_support import check_gradients, check_logits, on_meta, take_weights

import vidinit
from vidinit.errors import UsageError
from vidinit.measure.flops import count_macs
from vidinit.zoo.base import VideoModel, count_parameters
from vidinit.zoo.folding import fold
from vidinit.zoo.plans.read_network import Network, read_network
from vidinit.zoo.plans.tsm import shift_layers
from vidinit.zoo.temporal import SelfGating, TemporalConv, TemporalShift, VolumeConv


def network(name: str) -> tuple[nn.Module, Network]:
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0)
    return trunk, read_network(trunk)


def modules_of(model: VideoModel, *kinds: type) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize(
    ("name", "frames", "params", "gmacs"),
    [
        ("c2d-r50", 8, 24_327_632, 19.493),
        ("c2d-resnet50", 8, 24_327_632, 32.698),
        ("i3d-r50", 8, 28_043_472, 28.408),
        ("slowonly-r50", 8, 32_454_096, 41.741),
        ("slowonly-r50", 4, 32_454_096, 20.871),
        ("sts-slowonly-r50", 8, 32_454_096, 41.741),
        # The published 32.704 runs the head on every frame; the mean of the features needs it once.
        ("tsm-r50", 8, 24_327_632, 32.704 - 7 * 2048 * 400 / 1e9),
    ],
)
def test_counts_at_224(name, frames, params, gmacs):
    model = on_meta(name)
    assert count_parameters(model) == params
    assert count_macs(model, (1, 3, frames, 224, 224)) / 1e9 == pytest.approx(gmacs, abs=6e-4)


# ------------------------------------------------------------------ pytorchvideo


@pytest.mark.parametrize(
    "name",
    ["i3d-r50", *(pytest.param(x, marks=pytest.mark.slow) for x in ("c2d-r50", "slowonly-r50"))],
)
def test_resnets_equal_pytorchvideo(name):
    hub = pytest.importorskip("pytorchvideo.models.hub")
    build = {"c2d-r50": hub.c2d_r50, "i3d-r50": hub.i3d_r50, "slowonly-r50": hub.slow_r50}
    # A head whose pool takes any size; the hub's is fixed to 224 pixels.
    theirs = build[name](
        pretrained=False, model_num_class=5, dropout_rate=0.0, head_activation=None
    ).eval()
    theirs.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)
    ours = vidinit.create_model(name, num_classes=5).eval()
    take_weights(ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    for size in ((5, 40, 32), (8, 64, 64)):
        clip = torch.randn(1, 3, *size, dtype=torch.float64)
        check_logits(ours, theirs, clip, 1e-10)
    if name == "i3d-r50":
        check_gradients(ours, theirs, clip[:, :, :4, :32, :32], 1e-9)


@pytest.mark.parametrize(("depth", "kernels"), [(50, 9), (101, 18)])
def test_i3d_bottleneck_pattern(depth, kernels):
    model = on_meta(f"i3d-r{depth}", num_classes=2)
    assert modules_of(model, VolumeConv) == ["trunk.conv1"]
    assert model.trunk.conv1.kernel == (5, 7, 7)
    blocks = {"layer1": [], "layer2": [], "layer3": [], "layer4": []}
    for name in modules_of(model, TemporalConv):
        _, layer, block, conv = name.split(".")
        assert conv == "conv1"
        blocks[layer].append(int(block))
    last = 6 if depth == 50 else 23
    assert blocks == {
        "layer1": [0, 1, 2],
        "layer2": [0, 2],
        "layer3": list(range(0, last, 2)),
        "layer4": [1],
    }
    assert sum(map(len, blocks.values())) == kernels


# ------------------------------------------------------------------ cuts and stages


def test_cuts_count_in_the_order_of_execution():
    everything = modules_of(on_meta("i3d-resnet18", num_classes=2), VolumeConv)
    assert len(everything) == 17
    assert modules_of(on_meta("i3d@top:2-resnet18", num_classes=2), VolumeConv) == everything[-2:]
    assert modules_of(on_meta("i3d@bottom:3-resnet18", num_classes=2), VolumeConv) == everything[:3]
    stages = modules_of(on_meta("i3d@stages:0,4-resnet18", num_classes=2), VolumeConv)
    assert stages == [n for n in everything if n == "trunk.conv1" or "layer4" in n]
    # HRNet runs its branches in another order than it lists them.
    _, hrnet = network("hrnet_w18_small")
    order = [layer.name for layer in hrnet.layers]
    cut = modules_of(on_meta("i3d@top:5-hrnet_w18_small", num_classes=2), VolumeConv)
    assert set(cut) == {f"trunk.{name}" for name in order[-5:]}


def test_cuts_of_the_other_plans():
    sts = modules_of(on_meta("sts@top:3-resnet50", num_classes=2), TemporalConv)
    assert sts == [f"trunk.layer4.{i}.conv1" for i in range(3)]
    s3d = on_meta("s3d@stages:4-resnet18", num_classes=2)
    assert len(modules_of(s3d, TemporalConv)) == 4
    assert set(s3d.origins) == set(s3d.state_dict()) - {"head.weight", "head.bias"}
    tsm = modules_of(on_meta("tsm@bottom:2-resnet18", num_classes=2), TemporalShift)
    assert tsm == ["trunk.layer1.0.conv1.shift", "trunk.layer1.1.conv1.shift"]
    i3d = on_meta("i3d-r50", num_classes=2, cut="top:1")
    assert modules_of(i3d, TemporalConv, VolumeConv) == ["trunk.layer4.1.conv1"]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet18", {0: 1, 1: 4, 2: 4, 3: 4, 4: 4}),
        ("resnet18d", {0: 3, 1: 4, 2: 4, 3: 4, 4: 4}),
        ("regnetx_002", {0: 1, 1: 1, 2: 1, 3: 4, 4: 7}),
        ("convnext_atto", {1: 2, 2: 2, 3: 6, 4: 2}),
        ("mobilenetv2_035", {0: 1, 1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 7: 1}),
        ("densenet121", {0: 1, 1: 6, 2: 12, 3: 24, 4: 16}),
        ("dla46_c", {0: 2, 1: 1, 2: 2, 3: 4, 4: 4, 5: 2}),
        # By resolution: full, 1/2, 1/4 ...
        ("vgg11", {0: 1, 1: 1, 2: 2, 3: 2, 4: 2}),
        ("dpn48b", {0: 1, 1: 3, 2: 4, 3: 6, 4: 3}),
    ],
)
def test_stages(name, counts):
    _, net = network(name)
    found: dict[int, int] = {}
    for layer in net.layers:
        found[layer.stage] = found.get(layer.stage, 0) + 1
    assert found == counts


def test_stages_of_inception_are_its_resolutions():
    _, net = network("inception_v3")
    stages = {layer.name.split(".")[0]: layer.stage for layer in net.layers}
    assert stages["Conv2d_1a_3x3"] == stages["Conv2d_2b_3x3"] == 0
    assert stages["Conv2d_4a_3x3"] == 1
    assert stages["Mixed_5b"] == stages["Mixed_5d"] == 2
    assert stages["Mixed_6b"] == stages["Mixed_6e"] == 3
    assert stages["Mixed_7b"] == stages["Mixed_7c"] == 4


# ------------------------------------------------------------------ gates


@pytest.mark.parametrize("plan", ["i3d", "s3d", "sts"])
@pytest.mark.parametrize("backbone", ["resnet26", "mobilenetv2_035"])
def test_gates_follow_every_temporal_layer(plan, backbone):
    plain = on_meta(f"{plan}-{backbone}", num_classes=2)
    gated = on_meta(f"{plan}-g-{backbone}", num_classes=2)
    gates = modules_of(gated, SelfGating)
    assert len(gates) == len(modules_of(plain, TemporalConv, VolumeConv))
    assert set(gated.origins) == set(gated.state_dict()) - {"head.weight", "head.bias"}
    assert {f"{gate}.fc.weight" for gate in gates} <= gated.temporal_parameters()
    assert {gated.origins[f"{gate}.fc.weight"].rule for gate in gates} == {"zeros"}


def test_a_gate_stands_behind_the_activation():
    model = on_meta("s3d-g-resnet18", num_classes=2)
    assert "trunk.layer1.0.act1.gate" in modules_of(model, SelfGating)
    inflated = on_meta("i3d-g-resnet18", num_classes=2)
    assert "trunk.layer1.0.act1.gate" in modules_of(inflated, SelfGating)
    assert "trunk.layer1.0.bn2.gate" in modules_of(inflated, SelfGating)  # a sum follows it


def test_an_activation_that_several_convolutions_share_ends_none_of_them():
    # Res2Net has one ReLU module a block; wrapped, it would run one temporal kernel four times.
    _, net = network("res2net50_14w_8s")
    block = [layer for layer in net.layers if layer.name.startswith("layer1.0.")]
    assert [layer.end for layer in block] == [f"layer1.0.bns.{i}" for i in range(7)]
    assert all(layer.act is None for layer in block)


def test_groups_of_the_temporal_kernel_are_those_of_the_spatial_one():
    _, net = network("regnetx_002")
    model = on_meta("s3d-regnetx_002", num_classes=2)
    for layer in net.layers:
        unit = model.trunk.get_submodule(f"{layer.end}.time")
        assert unit.conv.groups == layer.conv.groups
    assert {layer.conv.groups for layer in net.layers} > {1}


# ------------------------------------------------------------------ tsm


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("resnet50", 16, "layer1.0.conv1"),
        ("resnetv2_18", 8, "stages.0.blocks.0.conv1"),  # not its downsample, which runs first
        ("regnetx_002", 13, "s1.b1.conv1.conv"),
        ("convnext_atto", 12, "stages.0.blocks.0.conv_dw"),
        ("mobilenetv2_035", 17, "blocks.0.0.conv_dw"),
        ("test_nfnet", 4, "stages.0.0.conv1"),
        ("densenet121", 58, "features.denseblock1.denselayer1.conv2"),
        ("vgg11", 7, "features.3"),
    ],
)
def test_shift_layers(name, count, first):
    trunk, net = network(name)
    found = shift_layers(trunk, net)
    assert (len(found), found[0].name) == (count, first)


def test_branches_side_by_side_are_shifted_together():
    model = on_meta("tsm-repvgg_a0", num_classes=2)
    names = modules_of(model, TemporalShift)
    assert len(names) == 2 * 21
    assert {"trunk.stages.0.0.conv_kxk.conv.shift", "trunk.stages.0.0.conv_1x1.conv.shift"} <= {
        *names
    }
    assert len(modules_of(on_meta("tsm@top:1-repvgg_a0", num_classes=2), TemporalShift)) == 2


def test_tsm_is_the_image_network_with_shifts_and_its_keys():
    tsm = vidinit.create_model("tsm-resnet26", num_classes=3).eval()
    c2d = vidinit.create_model("c2d-resnet26", num_classes=3).eval()
    shake_norms(tsm)
    c2d.load_state_dict(tsm.state_dict())
    conv = tsm.trunk.layer1[0].conv1
    x = torch.randn(2, 64, 3, 4, 4)
    tsm.frames.value = 3
    shifted = torch.zeros_like(x)
    shifted[:, :8, :-1], shifted[:, 8:16, 1:] = x[:, :8, 1:], x[:, 8:16, :-1]
    shifted[:, 16:] = x[:, 16:]
    want = c2d.trunk.layer1[0].conv1(fold(shifted))
    assert torch.equal(conv(fold(x)), want)
    clip = torch.randn(1, 3, 3, 32, 32)
    assert (tsm(clip) - c2d(clip)).abs().max() > 1e-3
    # The network can be copied and pickled, whatever classes its convolutions have.
    for other in (copy.deepcopy(tsm), pickle.loads(pickle.dumps(tsm))):
        assert torch.equal(other(clip), tsm(clip))
        assert len(modules_of(other, TemporalShift)) == 8


# ------------------------------------------------------------------ what is refused, and why


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("i3d-vit_tiny_patch16_224", "finds no k x k convolution"),
        ("s3d-swin_tiny_patch4_window7_224", "finds no k x k convolution"),
        ("s3d-mixer_s32_224", "finds no k x k convolution"),
        ("i3d-mvitv2_tiny", "does not work on whole frames"),
        ("i3d-test_nfnet", r"computes its kernel at run time \(ScaledStdConv2d\).*--to s3d"),
        ("i3d-resnetv2_50x1_bit", r"computes its kernel at run time \(StdConv2d\)"),
        ("i3d-skresnet18", "it is dilated"),
        ("s3d-efficientnet_cc_b0_4e", "mixes its kernels anew for every image"),
        ("sts-resnet18", "no kernel it is defined for in resnet18"),
        ("sts-convnext_atto", "no kernel it is defined for in convnext_atto"),
        ("s3d@top:18-resnet18", "plan s3d has 17 layers in resnet18; use at most top:17"),
        ("i3d@bottom:99-resnet18", "at most bottom:17"),
        ("tsm@top:9-resnet18", "has 8 layers"),
        ("i3d@top:0-resnet18", "--to c2d"),
        ("c2d@top:1-resnet18", "c2d has no layer that sees time"),
        ("i3d@stages:5-resnet18", r"no layer in stage 5 of resnet18.*stages 0, 1, 2, 3, 4"),
        ("sts@stages:1,3-resnet50", r"no layer in stage 1 of resnet50.*stages 3, 4"),
        ("s3d@stages:0-convnext_atto", r"stages 1, 2, 3, 4"),
    ],
)
def test_refusals(name, reason):
    with pytest.raises(UsageError, match=reason):
        on_meta(name, num_classes=2)


def test_refused_options():
    with pytest.raises(UsageError, match=r"unknown cut 'last:2'.*top:K"):
        on_meta("i3d-resnet18", cut="last:2")
    with pytest.raises(UsageError, match="unknown padding in time 'same'"):
        on_meta("i3d-resnet18", time_padding="same")
    with pytest.raises(UsageError, match="did you mean 'replicate'"):
        on_meta("i3d-resnet18", time_padding="replicat")
    with pytest.raises(UsageError, match=r"ResNets with bottlenecks.*not for resnet18"):
        on_meta("i3d-resnet18", bottleneck=True)
    with pytest.raises(UsageError, match="pool of plan c2d is defined for ResNets, not for vgg11"):
        on_meta("c2d-vgg11", pool=True)
    with pytest.raises(UsageError, match="has no option 'gating'"):
        on_meta("tsm-resnet18", gating=True)


def test_even_kernels_stay_with_single_frames_and_the_table_says_so():
    model = on_meta("i3d-convnext_atto", num_classes=2)
    assert len(modules_of(model, VolumeConv)) == 12
    assert (
        model.origins["trunk.stem.0.weight"].note
        == "single-frame: an even kernel has no middle, 4x4"
    )
    assert "2x2" in model.origins["trunk.stages.1.downsample.1.weight"].note
    vgg = on_meta("i3d-vgg11", num_classes=2)
    assert len(modules_of(vgg, VolumeConv)) == 8
    assert vgg.origins["trunk.pre_logits.fc1.weight"].note.endswith("belongs to the classifier")


@pytest.mark.parametrize(
    "name", ["i3d-g-resnet10t", "s3d-g-convnext_atto", "sts-g-mobilenetv2_035"]
)
def test_one_frame_is_a_clip(name):
    model = vidinit.create_model(name, num_classes=2).eval()
    assert model(torch.randn(2, 3, 1, 32, 32)).isfinite().all()

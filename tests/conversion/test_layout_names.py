"""The names of each layout's tensors, and files of it that become models and files again."""

from __future__ import annotations

import pytest
import torch

from vidinit.conversion.layouts import LAYOUTS
from vidinit.conversion.layouts.read_write import read_layout, recognize, write_layout
from vidinit.zoo.build import create_model

CLASSES = 5

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm(prefix):
    return [f"{prefix}.{leaf}" for leaf in NORM]


def ends(prefix):
    return [f"{prefix}.weight", f"{prefix}.bias"]


NAMES = {
    ("s3d", "torchvision"): [
        "features.0.0.0.weight",
        *norm("features.0.0.1"),
        "features.0.1.0.weight",
        *norm("features.0.1.1"),
        "features.2.0.weight",
        *norm("features.2.1"),
        "features.5.branch0.0.weight",
        "features.5.branch1.0.0.weight",
        "features.5.branch1.1.0.0.weight",
        "features.15.branch2.1.1.0.weight",
        *norm("features.15.branch3.1.1"),
        *ends("classifier.1"),
    ],
    ("s3d", "kylemin"): [
        "base.0.conv_s.weight",
        *norm("base.0.bn_s"),
        "base.0.conv_t.weight",
        *norm("base.0.bn_t"),
        "base.2.conv.weight",
        *norm("base.2.bn"),
        "base.3.conv_t.weight",
        "base.5.branch0.0.conv.weight",
        *norm("base.5.branch1.0.bn"),
        "base.8.branch1.1.conv_s.weight",
        *norm("base.12.branch2.1.bn_t"),
        "base.15.branch3.1.conv.weight",
        *ends("fc.0"),
    ],
    ("i3d", "piergiaj"): [
        *ends("logits.conv3d"),
        "Conv3d_1a_7x7.conv3d.weight",
        *norm("Conv3d_1a_7x7.bn"),
        "Conv3d_2b_1x1.conv3d.weight",
        *norm("Conv3d_2c_3x3.bn"),
        "Mixed_3b.b0.conv3d.weight",
        "Mixed_3c.b1a.conv3d.weight",
        *norm("Mixed_4d.b1b.bn"),
        "Mixed_4f.b2a.conv3d.weight",
        "Mixed_5b.b2b.conv3d.weight",
        *norm("Mixed_5c.b3b.bn"),
    ],
    ("r2plus1d-34", "vmz"): [
        "stem.0.weight",
        *norm("stem.1"),
        "stem.3.weight",
        *norm("stem.4"),
        "layer1.0.conv1.0.0.weight",
        *norm("layer1.0.conv1.0.1"),
        "layer1.0.conv1.0.3.weight",
        *norm("layer1.0.conv1.1"),
        "layer2.0.downsample.0.weight",
        *norm("layer2.0.downsample.1"),
        "layer3.5.conv2.0.3.weight",
        *ends("fc"),
    ],
    ("ip-csn-50", "vmz"): [
        "layer1.0.conv1.0.weight",
        *norm("layer1.0.conv1.1"),
        "layer1.0.conv2.0.0.weight",
        *norm("layer1.0.conv2.0.1"),
        "layer1.0.conv2.0.2.weight",
        *norm("layer1.0.conv2.1"),
        "layer4.2.conv3.0.weight",
        *norm("layer4.0.downsample.1"),
        *ends("fc"),
    ],
    ("slowfast-r50-4x16", "pyslowfast"): [
        "s1.pathway0_stem.conv.weight",
        *norm("s1.pathway0_stem.bn"),
        "s1.pathway1_stem.conv.weight",
        *norm("s1.pathway1_stem.bn"),
        "s1_fuse.conv_f2s.weight",
        *norm("s1_fuse.bn"),
        "s2.pathway0_res0.branch1.weight",
        *norm("s2.pathway0_res0.branch1_bn"),
        "s2.pathway1_res2.branch2.a.weight",
        *norm("s3.pathway0_res0.branch2.a_bn"),
        "s4.pathway0_res5.branch2.b.weight",
        *norm("s4.pathway1_res5.branch2.b_bn"),
        "s4_fuse.conv_f2s.weight",
        "s5.pathway0_res2.branch2.c.weight",
        *norm("s5.pathway1_res2.branch2.c_bn"),
        *ends("head.projection"),
    ],
    ("i3d-r50", "pyslowfast"): [
        "s1.pathway0_stem.conv.weight",
        "s2.pathway0_res0.branch2.a.weight",
        *norm("s5.pathway0_res2.branch2.c_bn"),
        *ends("head.projection"),
    ],
    ("x3d-s", "pyslowfast"): [
        "s1.pathway0_stem.conv_xy.weight",
        "s1.pathway0_stem.conv.weight",
        *norm("s1.pathway0_stem.bn"),
        "s2.pathway0_res0.branch1.weight",
        *norm("s2.pathway0_res0.branch1_bn"),
        "s2.pathway0_res0.branch2.a.weight",
        *norm("s2.pathway0_res0.branch2.a_bn"),
        "s2.pathway0_res0.branch2.b.weight",
        *norm("s2.pathway0_res0.branch2.b_bn"),
        *ends("s2.pathway0_res0.branch2.se.fc1"),
        *ends("s5.pathway0_res6.branch2.se.fc2"),
        *norm("s5.pathway0_res6.branch2.c_bn"),
        "head.conv_5.weight",
        *norm("head.conv_5_bn"),
        "head.lin_5.weight",
        *ends("head.projection"),
    ],
    ("slowonly-r50", "mmaction"): [
        "backbone.conv1.conv.weight",
        *norm("backbone.conv1.bn"),
        "backbone.layer1.0.conv1.conv.weight",
        *norm("backbone.layer1.0.conv1.bn"),
        "backbone.layer1.0.downsample.conv.weight",
        *norm("backbone.layer1.0.downsample.bn"),
        "backbone.layer4.2.conv3.conv.weight",
        *norm("backbone.layer4.2.conv3.bn"),
        *ends("cls_head.fc_cls"),
    ],
    ("tsm-r50", "mmaction"): [
        "backbone.conv1.conv.weight",
        "backbone.layer1.0.conv1.conv.net.weight",
        *norm("backbone.layer1.0.conv1.bn"),
        "backbone.layer1.0.conv2.conv.weight",
        *ends("cls_head.fc_cls"),
    ],
    ("ir-csn-50", "mmaction"): [
        "backbone.conv1.conv.weight",
        "backbone.layer1.0.conv1.conv.weight",
        "backbone.layer1.0.conv2.0.conv.weight",
        *norm("backbone.layer1.0.conv2.0.bn"),
        "backbone.layer2.0.downsample.conv.weight",
        *ends("cls_head.fc_cls"),
    ],
    ("ip-csn-50", "mmaction"): [
        "backbone.layer1.0.conv2.0.conv.weight",
        *norm("backbone.layer1.0.conv2.0.bn"),
        "backbone.layer1.0.conv2.1.conv.weight",
        *norm("backbone.layer1.0.conv2.1.bn"),
    ],
    ("sts-slowfast-r50-8x8", "mmaction"): [
        "backbone.slow_path.conv1.conv.weight",
        *norm("backbone.slow_path.conv1.bn"),
        "backbone.slow_path.conv1_lateral.conv.weight",
        "backbone.slow_path.layer3_lateral.conv.weight",
        "backbone.slow_path.layer1.0.downsample.conv.weight",
        "backbone.fast_path.conv1.conv.weight",
        *norm("backbone.fast_path.layer4.2.conv3.bn"),
        *ends("cls_head.fc_cls"),
    ],
    ("x3d-s", "mmaction"): [
        "backbone.conv1_s.conv.weight",
        "backbone.conv1_t.conv.weight",
        *norm("backbone.conv1_t.bn"),
        *norm("backbone.layer1.0.downsample.bn"),
        *ends("backbone.layer1.0.se_module.fc1"),
        *ends("backbone.layer4.6.se_module.fc2"),
        "backbone.layer4.6.conv2.conv.weight",
        "backbone.conv5.conv.weight",
        *norm("backbone.conv5.bn"),
        "cls_head.fc1.weight",
        *ends("cls_head.fc2"),
    ],
    ("sts-r2plus1d-34", "sts-image"): [
        "get_feature.conv1.conv.conv_s.weight",
        *norm("get_feature.conv1.conv.bn_s"),
        "get_feature.conv1.conv.conv_t.weight",
        *norm("get_feature.conv1.bn"),
        "get_feature.layer1.0.conv1.conv.conv_s.weight",
        *norm("get_feature.layer3.5.conv2.conv.bn_s"),
        "get_feature.layer4.0.downsample.conv.conv_t.weight",
        *norm("get_feature.layer4.0.downsample.bn"),
        *ends("classifier"),
    ],
    ("sts-slowfast-r50-4x16", "sts-image"): [
        "get_feature.slow_path.conv1_lateral.conv.weight",
        "get_feature.fast_path.layer1.0.conv1.conv.weight",
        *ends("classifier"),
    ],
    ("sts-x3d-s", "sts-image"): [
        "get_feature.conv1_s.conv.weight",
        "get_feature.layer1.0.conv2.conv.weight",
        "fc1.weight",
        *ends("classifier"),
    ],
    ("sts-slowonly-r50", "sts-image"): [
        "get_feature.conv1.conv.weight",
        "get_feature.layer3.0.conv1.conv.weight",
        *ends("classifier"),
    ],
    ("sts-ir-csn-50", "sts-image"): ["get_feature.layer4.2.conv2.0.conv.weight"],
    ("timesformer-vit_tiny_patch16_224", "timesformer"): [
        "cls_token",
        "pos_embed",
        "time_embed",
        "patch_embed.proj.weight",
        "blocks.0.temporal_norm1.bias",
        "blocks.3.temporal_attn.qkv.weight",
        "blocks.3.temporal_attn.proj.bias",
        "blocks.11.temporal_fc.weight",
        "blocks.11.attn.qkv.bias",
        "blocks.11.mlp.fc2.weight",
        "norm.weight",
        "head.bias",
    ],
    ("timesformer-vit_tiny_patch16_224", "transformers"): [
        "timesformer.embeddings.cls_token",
        "timesformer.embeddings.position_embeddings",
        "timesformer.embeddings.time_embeddings",
        "timesformer.embeddings.patch_embeddings.projection.weight",
        "timesformer.encoder.layer.0.layernorm_before.weight",
        "timesformer.encoder.layer.0.layernorm_after.weight",
        "timesformer.encoder.layer.0.attention.attention.qkv.weight",
        "timesformer.encoder.layer.0.attention.output.dense.bias",
        "timesformer.encoder.layer.11.temporal_layernorm.weight",
        "timesformer.encoder.layer.11.temporal_attention.attention.qkv.bias",
        "timesformer.encoder.layer.11.temporal_attention.output.dense.weight",
        "timesformer.encoder.layer.11.temporal_dense.weight",
        "timesformer.encoder.layer.11.intermediate.dense.weight",
        "timesformer.encoder.layer.11.output.dense.weight",
        "timesformer.layernorm.bias",
        "classifier.weight",
    ],
}
ENTRIES = {
    **{("s3d", layout): 464 for layout in ("torchvision", "kylemin")},
    ("i3d", "piergiaj"): 344,
    ("r2plus1d-34", "vmz"): 416,
    ("slowfast-r50-4x16", "pyslowfast"): 662,
    ("i3d-r50", "pyslowfast"): 320,
    ("slowonly-r50", "mmaction"): 320,
    ("sts-slowonly-r50", "sts-image"): 320,
    ("sts-slowfast-r50-4x16", "sts-image"): 642,
    ("sts-slowfast-r50-8x8", "mmaction"): 642,
    ("sts-r2plus1d-34", "sts-image"): 434,
    ("sts-ir-csn-50", "sts-image"): 320,
    ("sts-x3d-s", "sts-image"): 568,  # 569 with the image network's fc1.bias
}
OPTIONS = {"piergiaj": {"padding": "same"}}


def source_model(name, layout):
    options = dict(OPTIONS.get(layout, {}))
    if name.startswith("sts-") and layout != "sts-image":
        options["sts"] = False
    if name == "x3d-s":
        options["norm_shortcut"] = True
    torch.manual_seed(0)
    return create_model(name, num_classes=CLASSES, **options)


LARGE = ("sts-", "slow", "r2plus1d", "ir-csn", "ip-csn", "tsm", "i3d-r50")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        pytest.param(*pair, marks=pytest.mark.slow if pair[0].startswith(LARGE) else ())
        for pair in NAMES
    ],
)
def test_names_and_round_trip(name, layout):
    model = source_model(name, layout)
    state = write_layout(model, layout)
    assert not [key for key in NAMES[name, layout] if key not in state]
    assert len(state) == ENTRIES.get((name, layout), len(model.state_dict()))
    kernels = {v.dim() for k, v in state.items() if k.endswith("weight") and v.dim() > 2}
    assert kernels == ({4} if name.startswith(("tsm-", "timesformer-")) else {5})
    found = recognize(state)
    assert found is not None and found.layout == layout and not found.refusal
    made = create_model(found.target, num_classes=found.num_classes, **found.options)
    result = read_layout(made, state, found)
    assert made.name == name and not result.missing and not result.unexpected
    for key, value in model.state_dict().items():
        assert torch.equal(made.state_dict()[key], value), key
    back = write_layout(made, layout)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    if layout == "piergiaj":
        assert next(iter(state)) == "logits.conv3d.weight"


def test_every_layout_has_names_here():
    # pytorchvideo itself is installed: tests/conversion/test_layouts.py compares with it.
    # dist has tests of its own: tests/conversion/test_dist.py; those on other frozen towers, too.
    frozen = {"dist", "side4video", "st-adapter", "aim", "zeroi2v"}
    frozen |= {"vjepa2-probe", "vjepa2-probe-transformers"}  # test_vjepa2_probe.py
    assert {layout for _, layout in NAMES} | {"pytorchvideo"} | frozen == set(LAYOUTS)

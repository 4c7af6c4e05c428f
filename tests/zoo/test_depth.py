from __future__ import annotations

import pytest
from torch import nn
from zoo_support import on_meta

from vidinit.errors import UsageError
from vidinit.zoo.plans.inflate import InflatedNet

BLOCKS = {
    "r2plus1d-18": 8,
    "ir-csn-50": 16,
    "x3d-s": 26,
    "slowfast-r50-4x16": 16,
    "s3d": 10,  # conv2 and nine mixed blocks
    "i3d-resnet10t": 4,
    "s3d-mobilenetv2_050": 17,
    "sts-resnet14t": 4,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_has_a_layer_and_every_layer_parameters(name):
    model = on_meta(name)
    layers = model.layer_ids()
    assert set(layers) == {key for key, _ in model.named_parameters()}
    assert set(layers.values()) == set(range(BLOCKS[name] + 2))
    assert layers["head.weight"] == layers["head.bias"] == BLOCKS[name] + 1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("r2plus1d-18", {"stem.3": 0, "layer1.0.conv1.0.3": 1, "layer4.1.conv2.1": 8}),
        ("x3d-s", {"stem.conv_t": 0, "layer1.0.conv2": 1, "layer4.6.bn3": 26, "fc1": 27}),
        (
            "slowfast-r50-4x16",
            {
                **{"slow.conv1": 0, "fast.bn1": 0, "lateral.0.conv": 0, "lateral.1.norm": 3},
                **{"slow.layer2.0.conv1": 4, "fast.layer2.0.conv1": 4, "fast.layer4.2.bn3": 16},
            },
        ),
        ("s3d", {"conv1a.time": 0, "conv2b.conv": 1, "conv2c.time": 1, "mixed5c.b1b.time": 10}),
        # A temporal kernel has the number of the layer of the image network it stands in.
        ("s3d-mobilenetv2_050", {"trunk.conv_stem": 0, "trunk.conv_head": 18, "trunk.bn2": 18}),
        ("i3d-resnet10t", {"trunk.conv1.0": 0, "trunk.layer1.0.conv1": 1, "trunk.layer4.0.bn2": 4}),
    ],
)
def test_numbers(name, wanted):
    layers = on_meta(name).layer_ids()
    assert {key: layers[f"{key}.weight"] for key in wanted} == wanted


def test_temporal_kernels_of_a_plan():
    model = on_meta("s3d-mobilenetv2_050")
    layers = model.layer_ids()
    temporal = model.temporal_parameters()
    assert len(temporal) > 10
    for key in temporal:
        block = key.partition(".time")[0].rpartition(".")[0]
        beside = {layers[other] for other in layers if other.startswith(f"{block}.")}
        assert len(beside) == 1 or block == "trunk", key


def test_networks_without_known_layers_say_so():
    with pytest.raises(UsageError, match="are not known"):
        InflatedNet(nn.Linear(4, 4), 4, 5).layer_ids()

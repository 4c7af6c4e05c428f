"""Stages of a network: which there are, and what each of them costs."""

from __future__ import annotations

import time

import pytest
import torch
from support import MODEL
from torch import nn

import vidinit
from vidinit.measure.flops import count_macs
from vidinit.measure.stages import REST, find_stages, metered, time_stages
from vidinit.zoo.base import count_parameters


def stages_of(name, frames=8, size=64):
    with torch.device("meta"):
        model = vidinit.create_model(name, num_classes=10)
    return model, find_stages(model, (1, 3, frames, size, size))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (MODEL, ["trunk.conv_stem", "trunk.bn1", *(f"trunk.blocks.{i}" for i in range(7)),
                 "trunk.conv_head", "trunk.bn2", "head"]),
        ("c2d-resnet18", ["trunk.conv1", "trunk.bn1", *(f"trunk.layer{i}" for i in range(1, 5)),
                          "head"]),
        ("r3d-18", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("slowfast-r50-4x16", [
            *("slow.conv1", "slow.bn1", "fast.conv1", "fast.bn1", "lateral"),
            *(f"{way}.layer{i}" for i in range(1, 5) for way in ("slow", "fast")), "head"]),
    ],
)  # fmt: skip
def test_stages_in_the_order_in_which_they_run(name, wanted):
    model, stages = stages_of(name)
    assert [stage.name for stage in stages] == [*wanted, REST]
    assert sum(stage.params for stage in stages) == count_parameters(model)
    assert sum(stage.macs for stage in stages) == count_macs(model, (1, 3, 8, 64, 64))
    rest = stages[-1]
    assert (rest.params, rest.macs, rest.modules) == (0, 0, ())


def test_blocks_of_a_transformer_and_what_stands_outside_of_them():
    model, stages = stages_of("timesformer-vit_tiny_patch16_224", size=224)
    blocks = [stage for stage in stages if ".blocks." in stage.name]
    assert len(blocks) == 12 and len({(s.params, s.macs) for s in blocks}) == 1
    tokens = sum(p.numel() for name, p in model.named_parameters() if name.count(".") < 2
                 and not name.startswith("head"))  # fmt: skip
    assert stages[-1].params == tokens > 0


class Naps(nn.Module):
    """Three stages, two of them in a list, and a sleep outside of them."""

    def __init__(self):
        super().__init__()
        self.first = Nap(0.01, values=10)
        self.others = nn.ModuleList([Nap(0.002), Nap(0.003)])

    def forward(self, x):
        x = self.first(x)
        for other in self.others:
            x = other(x)
        time.sleep(0.004)
        return x


class Nap(nn.Module):
    def __init__(self, seconds, values=3):
        super().__init__()
        self.seconds = seconds
        self.weight = nn.Parameter(torch.zeros(values))

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def test_times_fall_to_the_stage_that_takes_them():
    model = Naps()
    model.head = nn.Identity()
    stages = find_stages(model, (1, 3))
    assert [(s.name, s.modules) for s in stages] == [
        ("first", ("first",)),
        ("others", ("others.0", "others.1")),
        (REST, ()),
    ]
    bounds = {"first": 10, "others": 5, REST: 4}
    for _ in range(5):  # a machine that is busy with something else sleeps too long
        found = time_stages(model, torch.zeros(1, 3), stages, precision="fp32", seconds=0.2)
        assert list(found) == ["first", "others", REST]
        assert all(least <= found[name] for name, least in bounds.items()), found
        if all(found[name] < 4 * least for name, least in bounds.items()):
            break
    else:
        pytest.fail(str(found))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_meter_begins_anew_with_each_pass():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    ticks = iter(range(100))
    with metered(model, {"both": ["0", "1"]}, lambda: next(ticks)) as spent:
        for _ in range(2):
            model(torch.zeros(1))
            assert spent == {"both": 2}

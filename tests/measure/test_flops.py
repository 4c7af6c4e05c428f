from __future__ import annotations

import pytest
import torch
from torch import nn

from vidinit.measure.flops import count_macs
from vidinit.zoo.base import count_parameters
from vidinit.zoo.build import create_model


def test_layers_count_as_in_the_papers() -> None:
    conv = nn.Conv3d(3, 8, (3, 5, 5), padding=(1, 2, 2), groups=1, bias=False)
    assert count_macs(conv, (1, 3, 4, 10, 10)) == 3 * 8 * 75 * 400
    assert count_macs(conv, (2, 3, 4, 10, 10)) == 2 * 3 * 8 * 75 * 400
    assert count_macs(nn.Linear(10, 7), (3, 10)) == 210


@pytest.mark.parametrize(
    ("name", "clip", "gmacs", "params"),
    [
        ("sts-r3d50", (8, 224), 41.74, 32_454_096),
        ("c2d-r50", (8, 224), 19.493, 24_327_632),
        ("r2plus1d-18", (8, 112), 20.260, 31_505_325),
    ],
)
def test_models_cost_what_their_authors_count(
    name: str, clip: tuple[int, int], gmacs: float, params: int
) -> None:
    frames, size = clip
    with torch.device("meta"):
        model = create_model(name, num_classes=400)
    assert count_macs(model, (1, 3, frames, size, size)) / 1e9 == pytest.approx(gmacs, rel=3e-5)
    assert count_parameters(model) == params


def test_counting_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_macs(model, (1, 3, 8, 8))
    assert model.training and all(m.training for m in model)
    for key, value in model.state_dict().items():
        assert value.device.type == "cpu" and torch.equal(value, before[key])

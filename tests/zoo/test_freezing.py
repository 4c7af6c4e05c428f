from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_support import on_meta

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.modify.freezing import freeze, frozen_norms, hold_frozen_norms


def frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def test_patterns_choose_parameters_by_name():
    model = on_meta("r2plus1d-18")
    names = [name for name, _ in model.named_parameters()]
    given = freeze(model, ["stem*", "layer2.?.conv1.*"])
    wanted = [n for n in names if n.startswith(("stem.", "layer2.0.conv1.", "layer2.1.conv1."))]
    assert given == wanted and frozen(model) == set(wanted)
    assert freeze(model, ["head.bias"]) == ["head.bias"]
    assert frozen(model) == {*wanted, "head.bias"}


@pytest.mark.parametrize(
    ("name", "pattern", "hint"),
    [
        ("r2plus1d-18", "layer1", r"all of it is 'layer1\.\*'"),
        ("c2d-resnet10t", "layer1.*", r"did you mean 'trunk\.layer1\.\*'"),
        ("r2plus1d-18", "layr3*", "did you mean 'layer3'"),
        ("r2plus1d-18", "zzz", r"its parts are head\.\*, stem\.\*, layer1\.\*"),
    ],
)
def test_a_pattern_for_nothing_is_an_error(name, pattern, hint):
    model = on_meta(name)
    with pytest.raises(UsageError, match=f"matches no parameter of {name}.*{hint}"):
        freeze(model, ["head.bias", pattern])
    assert not frozen(model)


def test_something_is_left_to_train():
    model = on_meta("r2plus1d-18")
    with pytest.raises(UsageError, match="leaves no parameter"):
        freeze(model, ["head.*", "*"])
    assert not frozen(model)


def test_frozen_norms_keep_their_statistics():
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-resnet10t", num_classes=2)
    freeze(model, ["trunk.bn1.*", "trunk.layer1.*", "trunk.layer2.0.bn1.weight"])
    held = {name for name, m in model.named_modules() if m in set(frozen_norms(model))}
    assert "trunk.bn1" in held and "trunk.layer1.0.bn2" in held
    assert "trunk.layer2.0.bn1" not in held  # its bias is trained
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    model.train()
    hold_frozen_norms(model)
    model(torch.randn(2, 3, 2, 32, 32))
    for key, value in before.items():
        same = torch.equal(model.state_dict()[key], value)
        assert same == (key.rpartition(".")[0] in held), key

from __future__ import annotations

import copy

import pytest
import timm
import torch
from support import MODEL
from torch import nn
from zoo_support import on_meta

import vidinit
from vidinit.config import TrainConfig
from vidinit.data.label_spaces import label_spaces
from vidinit.engine.optimizer import make_optimizer, parameter_groups, set_lr
from vidinit.errors import UsageError
from vidinit.pipelines.cotrain.task import CotrainTask
from vidinit.pipelines.finetune.task import ClassifyTask
from vidinit.zoo.plans.inflate import InflatedNet


def groups_of(task, config, **options):
    return parameter_groups(
        task,
        config,
        heads=task.head_parameters(),
        temporal=task.temporal_parameters(),
        **options,
    )


def by_name(task, groups, key):
    """A setting of the groups by parameter name; every parameter is in exactly one group."""
    names = {id(p): name for name, p in task.named_parameters()}
    found = {}
    for group in groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))  # raises when it was there before
            found[name] = group[key]
    assert not [name for name in names.values() if task.get_parameter(name).requires_grad]
    return found


def vit():
    """The smallest video model around a timm ViT."""
    with torch.device("meta"):
        return InflatedNet(timm.create_model("vit_tiny_patch16_224", num_classes=0), 192, 5)


def test_every_parameter_is_in_one_group_with_its_rate_and_decay():
    task = ClassifyTask(vidinit.create_model(MODEL, num_classes=3))
    config = TrainConfig(lr=0.1, head_lr_scale=2, temporal_lr_scale=20, weight_decay=0.05)
    groups = groups_of(task, config)
    rates, decays = by_name(task, groups, "lr"), by_name(task, groups, "weight_decay")
    temporal = task.temporal_parameters()
    assert temporal
    for name, parameter in task.named_parameters():
        scale = 2 if ".head." in name else 20 if name in temporal else 1
        assert rates[name] == pytest.approx(0.1 * scale), name
        assert decays[name] == (0.05 if parameter.dim() > 1 else 0.0), name


def test_frozen_parameters_are_in_no_group():
    task = ClassifyTask(on_meta(MODEL, num_classes=3), frozen_trunk=True)
    found = by_name(task, groups_of(task, TrainConfig()), "lr")
    assert set(found) == {"model.head.weight", "model.head.bias"}


def test_a_rate_scaled_to_the_batch_scales_all_groups():
    task = ClassifyTask(on_meta(MODEL, num_classes=3))
    config = TrainConfig(lr=0.1, head_lr_scale=2)
    rates = by_name(task, groups_of(task, config, lr=0.4), "lr")
    assert rates["model.head.weight"] == pytest.approx(0.8)
    assert rates["model.trunk.conv_stem.weight"] == pytest.approx(0.4)


def test_layer_decay_of_a_vit_as_videomae_has_it():
    task = ClassifyTask(vit())
    config = TrainConfig(lr=1.0, layer_decay=0.75)
    rates = by_name(task, groups_of(task, config), "lr")
    expected = {
        "trunk.cls_token": 0.023757,
        "trunk.pos_embed": 0.023757,
        "trunk.patch_embed.proj.weight": 0.023757,
        "trunk.blocks.0.attn.qkv.weight": 0.031676,
        "trunk.blocks.0.norm1.bias": 0.031676,
        "trunk.blocks.11.mlp.fc2.weight": 0.75,
        "trunk.norm.weight": 1.0,
        "head.weight": 1.0,
        "head.bias": 1.0,
    }
    for name, scale in expected.items():
        assert rates[f"model.{name}"] == pytest.approx(scale, abs=5e-7), name
    assert len({round(rate, 9) for rate in rates.values()}) == 14


def test_tokens_and_embeddings_have_no_weight_decay():
    task = ClassifyTask(vit())
    task.model.trunk.time_embed = nn.Parameter(torch.empty(1, 8, 192, device="meta"))
    decays = by_name(task, groups_of(task, TrainConfig(weight_decay=0.05)), "weight_decay")
    free = {name for name, decay in decays.items() if decay == 0}
    more = {name for name, p in task.named_parameters() if p.dim() > 1 and name in free}
    assert more == {f"model.trunk.{n}" for n in ("cls_token", "pos_embed", "time_embed")}
    config = TrainConfig(weight_decay=0.05, decay_all=True)
    assert set(by_name(task, groups_of(task, config), "weight_decay").values()) == {0.05}


def test_what_timm_exempts_has_no_weight_decay():
    trunk = nn.Sequential(nn.Linear(4, 4))
    trunk.no_weight_decay = lambda: {"0.w*"}
    task = ClassifyTask(InflatedNet(trunk, 4, 5))
    decays = by_name(task, groups_of(task, TrainConfig()), "weight_decay")
    assert decays["model.trunk.0.weight"] == 0 and decays["model.head.weight"] == 1e-4


def test_layer_decay_goes_with_the_scales_of_temporal_kernels_and_heads():
    classes = {"one": ["a", "b"], "two": ["c", "d", "e"]}
    task = CotrainTask(on_meta("r2plus1d-18"), label_spaces(classes), image_sources=set())
    config = TrainConfig(lr=1.0, layer_decay=0.5, head_lr_scale=3, temporal_lr_scale=10)
    rates = by_name(task, groups_of(task, config), "lr")
    assert rates["model.stem.0.weight"] == 0.5**9
    assert rates["model.stem.3.weight"] == 10 * 0.5**9  # temporal
    assert rates["model.layer1.0.conv1.0.0.weight"] == 0.5**8
    assert rates["model.layer1.0.conv1.0.3.weight"] == 10 * 0.5**8
    assert rates["model.layer4.1.conv2.1.weight"] == 0.5
    assert rates["model.head.weight"] == rates["heads.further.two.weight"] == 3


def test_layer_decay_needs_known_layers():
    task = ClassifyTask(InflatedNet(nn.Linear(4, 4), 4, 5))
    with pytest.raises(UsageError, match=r"layers of InflatedNet are not known.*layer_decay"):
        groups_of(task, TrainConfig(layer_decay=0.9))


# ------------------------------------------------------------------ optimizers


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))


def take_steps(net, optimizer, count=3):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(8, 6, generator=generator)
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def groups_in(net):
    weights, biases = net[0].weight, net[0].bias
    return [
        {"params": [weights, net[2].weight], "lr": 0.02, "weight_decay": 0.1},
        {"params": [biases, net[2].bias], "lr": 0.05, "weight_decay": 0.0},
    ]


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (TrainConfig(), lambda g: torch.optim.SGD(g, lr=1, momentum=0.9)),
        (TrainConfig(momentum=0.5), lambda g: torch.optim.SGD(g, lr=1, momentum=0.5)),
        (TrainConfig(optimizer="adamw"), lambda g: torch.optim.AdamW(g, lr=1)),
        (
            TrainConfig(optimizer="adamw", betas=(0.8, 0.95)),
            lambda g: torch.optim.AdamW(g, lr=1, betas=(0.8, 0.95)),
        ),
    ],
)
def test_sgd_and_adamw_are_torchs_to_the_bit(config, plain):
    ours, theirs = small_net(), small_net()
    a = take_steps(ours, make_optimizer(groups_in(ours), config))
    b = take_steps(theirs, plain(groups_in(theirs)))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_lamb_by_hand():
    net = small_net()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = make_optimizer(groups_in(net), TrainConfig(optimizer="lamb"))
    after = take_steps(net, optimizer, 1)
    gradients = [p.grad for p in net.parameters()]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert norm > 1  # so that the clipping is seen
    for weight, gradient, found in zip(before, gradients, after, strict=True):
        clipped = gradient / norm
        # The first step of Adam: both moments are unbiased, so m / sqrt(v) is the sign but for eps.
        move = clipped / (clipped.abs() + 1e-6)
        if weight.dim() > 1:
            move = move + 0.1 * weight
            wanted = weight - 0.02 * move * weight.norm() / move.norm()
        else:
            wanted = weight - 0.05 * move
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_optimizers_go_on_where_their_state_was_saved(name):
    config = TrainConfig(optimizer=name)
    net = small_net()
    optimizer = make_optimizer(groups_in(net), config)
    set_lr(optimizer, 0.5)
    take_steps(net, optimizer)
    twin = copy.deepcopy(net)
    again = make_optimizer(groups_in(twin), config)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in (optimizer, again):
        set_lr(one, 0.25)
    assert [g["lr"] for g in again.param_groups] == [0.005, 0.0125]
    a, b = take_steps(net, optimizer), take_steps(twin, again)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import vidinit
from vidinit.config import TrainConfig
from vidinit.config.probe_text import named_probes
from vidinit.engine.optimizer import make_optimizer, parameter_groups
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.probes import ProbeTask, blind_to_order, token_frames
from vidinit.zoo.adapters.frozen import towers_left_out
from vidinit.zoo.attentive import AttentivePooler
from vidinit.zoo.base import VideoModel
from vidinit.zoo.temporal import TemporalConv

THREE = ["linear", "linear:lr=0.5,weight_decay=0", "attentive:lr=0.01,blocks=2"]
ORDERED = ["gru:blocks=1,lr=0.01", "readout:readout=16,lr=0.01", "attentive:time=learned,lr=0.01"]


class Small(VideoModel):
    """A trunk of one kernel in space, one in time and a norm."""

    def __init__(self) -> None:
        super().__init__(24, 5)
        self.conv = torch.nn.Conv2d(3, 24, 8, stride=8)
        self.time = TemporalConv(24, 24, 3, self.frames)
        self.norm = torch.nn.BatchNorm2d(24)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.time(self.conv(x))).relu()


def task_of(*probes: str, **options) -> ProbeTask:
    torch.manual_seed(0)
    return ProbeTask(Small(), named_probes(probes), 3, **options)


def logits_of(task: ProbeTask, clip: torch.Tensor) -> dict[str, torch.Tensor]:
    return task.logits(task.trunk_outputs(clip))


def same(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """True for the same bits, in the same order."""
    pairs = zip(state.values(), other.values(), strict=True)
    return all(torch.equal(mine, own) for mine, own in pairs)


def batch(step: int = 0) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {
        "clip": torch.randn(4, 3, 4, 32, 32, generator=generator),
        "label": torch.tensor([0, 1, 2, 0]),
    }


def trained(*probes: str, steps: int = 3, **options) -> ProbeTask:
    """After some steps of AdamW, by the loop's own groups."""
    task = task_of(*probes, **options).train()
    config = TrainConfig(optimizer="adamw", lr=0.02, weight_decay=0.1)
    heads, temporal = task.head_parameters(), task.temporal_parameters()
    groups = parameter_groups(task, config, heads=heads, temporal=temporal)
    optimizer = make_optimizer(groups, config)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(task(batch(step)).values())).sum().backward()
        optimizer.step()
    return task


# ------------------------------------------------------------------ in words


def test_probes_in_words():
    entries = named_probes(["linear", "attentive:lr=1e-3,blocks=2", "linear:weight_decay=.1"])
    assert list(entries) == ["linear", "attentive", "linear:weight_decay=0.1"]
    attentive = entries["attentive"]
    assert (attentive.lr, attentive.weight_decay, attentive.options) == (1e-3, None, {"blocks": 2})
    assert str(attentive) == "attentive:lr=0.001,blocks=2"
    assert entries["linear:weight_decay=0.1"].weight_decay == 0.1


def test_a_sweep_in_words():
    """Values divided by | stand for a probe each, in the order of all combinations."""
    entries = named_probes(["attentive:lr=1e-3|3e-4,weight_decay=.01|.1,time=none", "linear"])
    assert list(entries) == [
        "attentive:lr=0.001,weight_decay=0.01,time=none",
        "attentive:lr=0.001,weight_decay=0.1,time=none",
        "attentive:lr=0.0003,weight_decay=0.01,time=none",
        "attentive:lr=0.0003,weight_decay=0.1,time=none",
        "linear",
    ]
    assert {str(entry) for entry in entries.values()} == set(entries)
    assert [e.lr for e in entries.values()] == [1e-3, 1e-3, 3e-4, 3e-4, None]
    rates, decays = "5e-3|3e-3|1e-3|3e-4|1e-4", ".01|.1|.4|.8"
    assert len(named_probes([f"attentive:lr={rates},weight_decay={decays},blocks=4"])) == 20


@pytest.mark.parametrize(
    ("probes", "why"),
    [
        (["linaer"], r"'linaer' is no probe \(did you mean 'linear'\?\)"),
        (["attentive:block=2"], r"no setting 'block' \(did you mean 'blocks'\?\)"),
        (["linear:blocks=2"], "probe linear has no setting 'blocks'"),
        (["linear:lr=0"], "lr=0 of probe linear is not a number above 0"),
        (["linear:lr=nan"], "lr=nan of probe linear is not a number above 0"),
        (["linear:weight_decay=-1"], "is not a number from 0 up"),
        (["attentive:heads=1.5"], "heads=1.5 of probe attentive is not a whole number"),
        (["linear:lr=1,lr=2"], "probe linear has 'lr' twice"),
        (["linear:lr=.1", "linear:lr=0.10"], "probe linear:lr=0.1 stands twice"),
        (["linear:lr=.1|0.10"], "probe linear:lr=0.1 stands twice"),
        (["linear:lr=.1|"], "lr= of probe linear is not a number above 0"),
        (["attentive:time=sin"], "time=sin of probe attentive is not none, sincos or learned"),
        (["attentive:form=coca,time=none"], "no time code in the form coca"),
        (["gru:time=none"], "probe gru has no setting 'time'"),
    ],
)
def test_wrong_words(probes, why):
    with pytest.raises(ValueError, match=why):
        named_probes(probes)


# ------------------------------------------------------------------ the task


def test_probes_know_nothing_of_one_another():
    """Three together have the bits that each of them has alone, and the trunk stays as it was."""
    together = trained(*THREE)
    for name, words in zip(together.entries, THREE, strict=True):
        alone = trained(words)
        mine, own = together.by_name()[name].state_dict(), alone.probes.state_dict()
        assert mine and len(mine) == len(own)
        for (key, value), other in zip(mine.items(), own.values(), strict=True):
            assert torch.equal(value, other), f"{name} {key}"
    fresh = task_of(*THREE)
    for key, value in fresh.model.state_dict().items():
        assert torch.equal(value, together.model.state_dict()[key]), key
    for key, value in fresh.probes.state_dict().items():
        moved = not torch.equal(value, together.probes.state_dict()[key])
        assert moved or "blocks" in key, key
    linear, other = list(together.by_name().values())[:2]
    assert not torch.equal(linear.head.weight, other.head.weight), "each has its own rate"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("attentive:lr=1e-3|1e-4,weight_decay=.01|.8,time=sincos", 4),
        pytest.param(
            "attentive:lr=5e-3|3e-3|1e-3|3e-4|1e-4,weight_decay=.01|.1|.4|.8,blocks=2",
            *(20,),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_sweep_is_each_of_its_settings(words, count):
    """Probes on one pass have the bits that each of them has alone."""
    together = trained(words, steps=2)
    assert len(together.entries) == count
    for entry in together.entries.values():
        alone = trained(str(entry), steps=2).probes.state_dict()
        mine = together.by_name()[str(entry)].state_dict()
        assert same(mine, alone), str(entry)
    heads = [probe.head.weight for probe in together.by_name().values()]
    assert not any(torch.equal(heads[0], other) for other in heads[1:])


def test_order_is_known():
    """Reversed clips have other logits, but where there is no time code to tell them by."""
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=3, frames=4)
    model.spec = replace(model.spec, size=32)
    words = [*ORDERED, "attentive:time=none", "attentive", "attentive:form=coca", "linear"]
    task = ProbeTask(model, named_probes(words), 3).eval()
    with torch.no_grad():
        for parameter in task.probes.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
        clip = torch.randn(2, 3, 4, 32, 32)
        there, back = logits_of(task, clip), logits_of(task, clip.flip(2))
    moved = {
        str(entry): float((back[name] - there[name]).std() / there[name].std())
        for name, entry in task.entries.items()
    }
    blind = {"attentive:time=none", "attentive:form=coca", "linear"}
    assert {name for name, by in moved.items() if by < 1e-4} == blind, moved
    assert all(by > 1e-2 for name, by in moved.items() if name not in blind), moved


@pytest.mark.parametrize(
    ("name", "blind", "frames"),
    [
        ("c2d-test_vit", True, 4),
        # Its attention over time starts as nothing.
        pytest.param("timesformer-test_vit", True, 4, marks=pytest.mark.slow),
        ("s3d-test_resnet", False, 4),
        pytest.param("slowfast-r50-4x16", False, 1, marks=pytest.mark.slow),
    ],
)
def test_what_tokens_know_of_order(name, blind, frames):
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=2, frames=4)
    model.spec = replace(model.spec, size=32)
    assert (blind_to_order(model), token_frames(model)) == (blind, frames)
    assert model.training


@pytest.mark.slow
def test_time_codes_are_said(capsys):
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=2, frames=4)
    model.spec = replace(model.spec, size=32)
    task = ProbeTask(model, named_probes(["attentive:lr=1|2", "readout"]), 2)
    times = [probe.pooler.settings()["time"] for probe in task.by_name().values()]
    assert times == ["sincos", "sincos", "learned"]
    assert task.by_name()["readout"].pooler.settings()["frames"] == 4
    assert capsys.readouterr().err.count("so they get a time code (time=sincos;") == 1


def test_a_head_to_compare_with():
    """It changes no other, is not chosen, and stands in where no linear probe was asked for."""
    plain, beside = (trained("attentive", steps=1, compared=both) for both in (False, True))
    assert (list(beside.entries), beside.choices) == (["attentive", "mean_pool"], ["attentive"])
    mine, own = (task.by_name()["attentive"].state_dict() for task in (beside, plain))
    assert same(mine, own)
    assert beside.chosen({"choice_mean_pool": 1.0}) == "attentive"
    head = beside.by_name()["mean_pool"].head
    assert beside.mean_pool({}) is head and plain.mean_pool({}) is None
    both = task_of("linear:lr=1|2", "attentive", compared=True)
    assert "mean_pool" not in both.entries
    second = both.by_name()["linear:lr=2"].head
    assert both.mean_pool({"choice_linear:lr=2": 0.5}) is second


def test_every_parameter_of_a_probe_learns():
    task = task_of("attentive:blocks=2").train()
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.5)
    for step in range(2):
        optimizer.zero_grad()
        task(batch(step))["attentive"].backward()
        optimizer.step()
    silent = {n for n, p in task.probes.named_parameters() if not p.grad.abs().max() > 0}
    # The bias of keys shifts no softmax.
    assert not silent
    assert not task.model.training and task.probes.training


def test_rates_of_parameters():
    task = task_of(*THREE)
    config = TrainConfig(lr=0.1, weight_decay=0.3, head_lr_scale=2, lr_batch=8)
    groups = parameter_groups(task, config, heads=task.head_parameters(), temporal=set(), lr=0.2)
    names = {p: n for n, p in task.named_parameters()}
    got = {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert all(name.startswith("probes.") for name in got)
    assert got["probes.linear.head.weight"] == (pytest.approx(0.4), 0.3)
    assert got["probes.linear.head.bias"] == (pytest.approx(0.4), 0)
    own = next(k for k in got if k.startswith("probes.linear:lr=0_5") and "weight" in k[-7:])
    assert got[own] == (pytest.approx(1.0), 0), "scaled to the batch as the run's, decay 0"
    assert got["probes.attentive.pooler.query_tokens"] == (pytest.approx(0.02), 0)
    assert got["probes.attentive.pooler.blocks.0.mlp.fc1.weight"] == (pytest.approx(0.02), 0.3)


def test_the_trunk_runs_once(monkeypatch):
    task = task_of(*THREE)
    calls = []
    feature_maps = task.model.feature_maps
    monkeypatch.setattr(
        task.model, "feature_maps", lambda x: calls.append(x.shape) or feature_maps(x)
    )
    losses = task(batch())
    assert calls == [(16, 3, 32, 32)] and list(losses) == list(task.entries)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_losses_are_those_of_a_model_with_the_probe(kind):
    from vidinit.pipelines.finetune.task import ClassifyTask

    task = task_of("linear", "attentive", kind=kind, label_smoothing=0.1).eval()
    given = batch()
    if kind == "multi":
        given["label"] = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    for name, loss in task(given).items():
        whole = ClassifyTask(task.model_with(name), kind=kind, label_smoothing=0.1).eval()
        assert loss.item() == pytest.approx(whole(given)["loss"].item(), rel=1e-6)
        assert torch.equal(task.right[f"top1_{name}"], whole.right["top1"])
        assert logits_of(task, given["clip"])[name].shape == (4, 3)
    with pytest.raises(UsageError, match="not for two labels a clip"):
        task_of("linear", kind="pair")


def test_a_joined_model_stands_alone(tmp_path):
    from vidinit.checkpoint import save_model

    torch.manual_seed(0)
    model = vidinit.create_model("s3d-test_resnet", num_classes=5)
    kinds = ["linear", "attentive:heads=2", "gru:blocks=1,readout=16", "readout:readout=32"]
    task = ProbeTask(model, named_probes(kinds), 3)
    task.model.classes = ["a", "b", "c"]
    clip = batch()["clip"]
    task.eval()
    logits = logits_of(task, clip)
    for name in ("gru", "readout", "linear", "attentive"):
        save_model(task.model_with(name), tmp_path / name)
        loaded = vidinit.load(tmp_path / name)
        assert (loaded.pooler is None) == (name == "linear")
        with torch.no_grad():
            assert (loaded(clip) - logits[name]).abs().max() < 1e-5
        assert loaded.classes == ["a", "b", "c"] and loaded.num_classes == 3
        assert loaded.descriptor_width == {"gru": 16, "readout": 32}.get(name, loaded.num_features)
    assert task.model.pooler is None and task.model.num_classes == 5, "the probed one is as it was"
    # Probed again, the attentive descriptor is what a linear probe sees.
    again = ProbeTask(loaded, named_probes(["linear", "attentive"]), 2).eval()
    with torch.no_grad():
        linear = again.model_with("linear")(clip)
        assert torch.equal(linear, again.by_name()["linear"].head(loaded.embed(clip)))
        assert (logits_of(again, clip)["linear"] - linear).abs().max() < 1e-5


# ------------------------------------------------------------------ DiST


SIDE = "dist:dim=64,temporal_dim=8,lr=0.01"


def beside_a_transformer(*probes: str, name: str = "c2d-test_vit") -> ProbeTask:
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=5, frames=4)
    return ProbeTask(model, named_probes(probes), 3)


def test_dist_beside_others(tmp_path, monkeypatch):
    """One pass of the trunk for all, each with what it would see alone; saved as a DiST model."""
    from vidinit.checkpoint import save_model
    from vidinit.zoo.dist_network.model import DistModel

    task = beside_a_transformer("linear", SIDE, "attentive")
    clip = torch.randn(2, 3, 4, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # fresh side networks say nothing yet
        for parameter in task.by_name()["dist"].parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    given = {"clip": clip, "label": torch.tensor([0, 2])}
    calls = []
    trunk = task.model.trunk
    hook = trunk.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    task.train()(given)["dist"].backward()
    hook.remove()
    assert len(calls) == 1
    learned = {n.partition(".")[0] for n, p in task.probes.named_parameters() if p.grad is not None}
    assert learned == {"dist"} and all(p.grad is None for p in task.model.parameters())
    task.eval()
    with torch.no_grad():
        logits = logits_of(task, clip)
        assert (logits["linear"] - task.model_with("linear")(clip)).abs().max() < 1e-5
        assert (logits["attentive"] - task.model_with("attentive")(clip)).abs().max() < 1e-5
        save_model(task.model_with("dist"), tmp_path / "dist")
        loaded = vidinit.load(tmp_path / "dist")
        assert isinstance(loaded, DistModel) and loaded.spec.frames == 4
        assert logits["dist"].std() > 1e-3
        assert (loaded(clip) - logits["dist"]).abs().max() < 1e-5
    keys = set(task.state_dict())
    assert len([k for k in keys if k.endswith("patch_embed.proj.weight")]) == 1, "the trunk is once"


def test_dist_elsewhere():
    with pytest.raises(UsageError, match="probe dist cannot stand beside c2d-resnet10t"):
        beside_a_transformer("dist", name="c2d-resnet10t")
    with pytest.raises(UsageError, match="no image network run frame by frame"):
        task_of("dist")
    with pytest.raises(UsageError, match="gamma=3"):
        beside_a_transformer("dist:gamma=3,dim=64")


# ------------------------------------------------------------------ the pooler


def test_a_pooler_does_not_mind_the_order_of_tokens():
    torch.manual_seed(0)
    pooler = AttentivePooler(24, blocks=2, heads=3).double()
    tokens = torch.randn(2, 1, 7, 24, dtype=torch.float64)
    out = pooler(tokens)
    assert out.shape == (2, 24)
    assert (pooler(tokens[:, :, torch.randperm(7)]) - out).abs().max() < 1e-12
    assert (pooler(tokens[:, :, :6]) - out).abs().max() > 1e-6


def test_a_pooler_is_attention():
    """One block against torch's own multi-head attention."""
    torch.manual_seed(0)
    pooler = AttentivePooler(16, heads=4)
    block = pooler.blocks[0]
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        theirs.out_proj.weight.copy_(block.proj.weight)
    tokens = torch.randn(3, 5, 16)
    query = pooler.query_token.expand(3, -1, -1)
    normed = block.norm_tokens(tokens)
    seen = query + theirs(block.norm_query(query), normed, normed)[0]
    want = seen + block.fc2(torch.nn.functional.gelu(block.fc1(block.norm_mlp(seen))))
    assert (pooler(tokens[:, None]) - pooler.norm(want)[:, 0]).abs().max() < 1e-6


def test_heads_of_attention():
    assert AttentivePooler(1280).heads == 20 and AttentivePooler(70).heads == 1
    assert AttentivePooler(432).heads == 6
    with pytest.raises(UsageError, match="16 channels cannot be shared out among 3 heads"):
        AttentivePooler(16, heads=3)


# ------------------------------------------------------------------ checkpoints


def test_states_in_checkpoints_name_the_trunk():
    task, whole = trained(*THREE), task_of(*THREE).state_dict()
    with towers_left_out([task]):
        state = {key: value.clone() for key, value in task.state_dict().items()}
    probes = {key for key in whole if key.startswith("probes.")}
    assert state.keys() == {"digest", "model.head.weight", "model.head.bias", *probes}
    again = task_of(*THREE)
    assert not torch.equal(again.probes["linear"].head.weight, task.probes["linear"].head.weight)
    with towers_left_out([again]):
        assert not any(again.load_state_dict(state, strict=True))
    assert same(again.state_dict(), task.state_dict())
    again.load_state_dict(task_of(*THREE).state_dict())  # of older runs, with the trunk
    again.model.norm.running_mean += 1e-3
    with pytest.raises(UsageError, match="the frozen trunk is not the one of the saved state"):
        again.load_state_dict(state)

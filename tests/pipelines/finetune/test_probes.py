from __future__ import annotations

import pytest
import torch

import vidinit
from vidinit.config import TrainConfig
from vidinit.config.probe_text import named_probes
from vidinit.engine.optimizer import make_optimizer, parameter_groups
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.probes import ProbeTask
from vidinit.zoo.attentive import AttentivePooler
from vidinit.zoo.base import VideoModel
from vidinit.zoo.temporal import TemporalConv

THREE = ["linear", "linear:lr=0.5,weight_decay=0", "attentive:lr=0.01,blocks=2"]


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


def test_every_parameter_of_a_probe_learns():
    task = task_of("attentive:blocks=2").train()
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.5)
    for step in range(2):
        optimizer.zero_grad()
        task(batch(step))["attentive"].backward()
        optimizer.step()
    silent = {n for n, p in task.probes.named_parameters() if not p.grad.abs().max() > 0}
    # The first query is the same for all tokens' keys until it differs; its bias shifts no softmax.
    assert {n.rpartition("blocks.")[2] for n in silent} <= {"0.key_value.bias"}
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
    assert got["probes.attentive.pooler.query_token"] == (pytest.approx(0.02), 0)
    assert got["probes.attentive.pooler.blocks.1.fc1.weight"] == (pytest.approx(0.02), 0.3)


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
        assert task.logits(given["clip"])[name].shape == (4, 3)
    with pytest.raises(UsageError, match="not for two labels a clip"):
        task_of("linear", kind="pair")


def test_a_joined_model_stands_alone(tmp_path):
    from vidinit.checkpoint import save_model

    torch.manual_seed(0)
    model = vidinit.create_model("s3d-resnet10t", num_classes=5)
    task = ProbeTask(model, named_probes(["linear", "attentive:heads=2"]), 3)
    task.model.classes = ["a", "b", "c"]
    clip = batch()["clip"]
    task.eval()
    logits = task.logits(clip)
    for name in ("linear", "attentive"):
        save_model(task.model_with(name), tmp_path / name)
        loaded = vidinit.load(tmp_path / name)
        assert (loaded.pooler is None) == (name == "linear")
        with torch.no_grad():
            assert (loaded(clip) - logits[name]).abs().max() < 1e-5
        assert loaded.classes == ["a", "b", "c"] and loaded.num_classes == 3
    assert task.model.pooler is None and task.model.num_classes == 5, "the probed one is as it was"
    # Probed again, the attentive descriptor is what a linear probe sees.
    again = ProbeTask(loaded, named_probes(["linear", "attentive"]), 2).eval()
    with torch.no_grad():
        linear = again.model_with("linear")(clip)
        assert torch.equal(linear, again.by_name()["linear"].head(loaded.embed(clip)))
        assert (again.logits(clip)["linear"] - linear).abs().max() < 1e-5


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
        logits = task.logits(clip)
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
    tokens = torch.randn(2, 7, 24, dtype=torch.float64)
    out = pooler(tokens)
    assert out.shape == (2, 24)
    assert (pooler(tokens[:, torch.randperm(7)]) - out).abs().max() < 1e-12
    assert (pooler(tokens[:, :6]) - out).abs().max() > 1e-6


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
    assert (pooler(tokens) - pooler.norm(want)[:, 0]).abs().max() < 1e-6


def test_heads_of_attention():
    assert AttentivePooler(1280).heads == 20 and AttentivePooler(70).heads == 1
    assert AttentivePooler(432).heads == 6
    with pytest.raises(UsageError, match="16 channels cannot be shared out among 3 heads"):
        AttentivePooler(16, heads=3)

"""The task of co-training: heads, labels, and batch norms (facts on co-training, F7, F11, F22)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import MODEL
from torch import nn

import vidinit
from vidinit.checkpoint import load, save_model
from vidinit.data.label_spaces import LabelSpaces, label_spaces
from vidinit.errors import UsageError
from vidinit.pipelines.cotrain.task import PARTS, CotrainTask, unmoved_statistics

CLASSES = {"videos": ["a", "b"], "photos": ["x", "y", "z"]}
MERGED = label_spaces(
    {"k4": ["swim", "Ride Bike", "sing"], "k6": ["ride_bike", "cook", "swim"]},
    {"k4": "k", "k6": "k"},
)


def make_task(spaces: LabelSpaces | None = None, **options: object) -> CotrainTask:
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=9)
    spaces = label_spaces(CLASSES) if spaces is None else spaces
    task = CotrainTask(model, spaces, image_sources={"photos"}, **options)
    for head in (model.head, *task.heads.further.values()):
        nn.init.normal_(head.bias)  # fresh logits are so small that any loss is ln(classes)
    return task.train()


@pytest.fixture
def task() -> CotrainTask:
    return make_task()


def batch(source: str, frames: int, classes: int) -> dict:
    return {
        "clip": torch.randn(4, 3, frames, 32, 32) * (3 if frames == 1 else 1),
        "label": torch.arange(4) % classes,
        "source": source,
    }


VIDEOS, PHOTOS = ("videos", 4, 2), ("photos", 1, 3)


def test_only_the_sources_own_head_learns(task):
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.1, weight_decay=0.1)
    other = task.heads.by_name()["photos"]
    before = other.weight.detach().clone()
    own = task.model.head.weight.detach().clone()
    for _ in range(5):
        optimizer.zero_grad(set_to_none=True)
        losses = task(batch(*VIDEOS))
        assert list(losses) == ["videos"]
        losses["videos"].backward()
        assert other.weight.grad is None
        optimizer.step()
    assert torch.equal(other.weight, before), "an idle head does not drift"
    assert not torch.equal(task.model.head.weight, own)


def test_right_clips_are_counted_by_source(task):
    task.eval()
    videos, photos = batch(*VIDEOS), batch(*PHOTOS)
    with torch.no_grad():
        task({PARTS: {"videos": videos, "photos": photos}})
        both = dict(task.right)
        for name, given in (("videos", videos), ("photos", photos)):
            task(given)
            best = task.classifier(name)(given["clip"]).argmax(1)
            share = (best == given["label"]).float().mean()
            assert task.right == {f"top1_{name}": share} and both[f"top1_{name}"] == share


def test_gradients_of_nothing_would_make_an_idle_head_drift(task):
    """Why idle heads have no gradients rather than zeros."""
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.1, weight_decay=0.1)
    other = task.heads.by_name()["photos"]
    before = other.weight.detach().clone()
    losses = task(batch(*VIDEOS))
    (losses["videos"] + 0 * other.weight.sum()).backward()
    optimizer.step()
    assert not torch.equal(other.weight, before)


def test_all_sources_at_once_have_the_weighted_sum_of_their_gradients():
    torch.manual_seed(1)
    parts = {"videos": batch(*VIDEOS), "photos": batch(*PHOTOS)}
    weights = {"photos": 0.25}
    joint = make_task(weights=weights, norms="frozen")
    losses = joint({PARTS: parts})
    assert list(losses) == ["videos", "photos"]
    sum(losses.values()).backward()
    apart = make_task(norms="frozen")
    for source, part in parts.items():
        (apart(part)[source] * weights.get(source, 1.0)).backward()
    for (name, p), q in zip(joint.named_parameters(), apart.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6 * float(q.grad.abs().max())), name


def test_mixed_clips_are_judged_by_their_mixed_labels(task):
    task.eval()
    one = batch(*VIDEOS)
    target = torch.tensor([[0.7, 0.3]] * 4)
    got = task({**one, "target": target})["videos"]
    logits = task.classifier("videos")(one["clip"])
    assert got.item() == pytest.approx(F.cross_entropy(logits, target).item(), abs=1e-6)
    assert got.item() != pytest.approx(F.cross_entropy(logits, one["label"]).item(), abs=1e-4)


# ------------------------------------------------------------------ names of heads


DOTTED = {"first": ["a", "b"], "a.b": ["x", "y"], "a-b": ["x", "y"], "train": ["x"]}


def test_names_that_differ_only_by_a_dot_have_heads_of_their_own(tmp_path):
    task = make_task(label_spaces(DOTTED)).eval()
    heads = task.heads.by_name()
    assert [len(head.bias) for head in heads.values()] == [2, 2, 1]
    assert len({id(head) for head in heads.values()}) == 3
    clip = torch.randn(2, 3, 4, 32, 32)
    logits = {name: task.classifier(name)(clip) for name in DOTTED}
    assert not torch.equal(logits["a.b"], logits["a-b"])
    task.model.spec = replace(task.model.spec, frames=4, size=32)
    folder = save_model(task.model, tmp_path / "model", **task.save_options())
    for name, expected in logits.items():
        assert torch.equal(load(folder, head=name)(clip), expected)


def test_statistics_of_names_that_begin_alike_are_kept_apart(tmp_path):
    task = make_task(label_spaces({"first": ["a"], "a": ["x"], "a.b": ["x"]}), norms="separate")
    for name in ("a", "a.b"):
        task.logits(torch.randn(2, 3, 4, 32, 32), name)
    task.eval()
    task.model.spec = replace(task.model.spec, frames=4, size=32)
    clip = torch.randn(2, 3, 4, 32, 32)
    logits = {name: task.classifier(name)(clip) for name in ("a", "a.b")}
    assert not torch.equal(logits["a"], logits["a.b"])
    folder = save_model(task.model, tmp_path / "model", **task.save_options())
    for name, expected in logits.items():
        assert torch.equal(load(folder, head=name)(clip), expected)


def test_checkpoints_of_the_first_version_have_the_same_keys():
    spaces = label_spaces({"first": ["a"], "b.c": ["x"], "d-e": ["x"], "f": ["x", "y"]})
    keys = {key for key in make_task(spaces).state_dict() if key.startswith("heads.")}
    names = [f"heads.further.{key}" for key in ("b-c", "d-e", "f")]
    assert keys == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}


def test_a_checkpoint_in_which_two_sources_had_one_head_is_refused():
    spaces = label_spaces({"first": ["a"], "a.b": ["x"], "a-b": ["x"]})
    task = make_task(spaces)
    state = task.state_dict()
    task.load_state_dict(state)
    old = {key: value for key, value in state.items() if "a-b-" not in key}
    with pytest.raises(UsageError, match=r"'a\.b' had no head of its own but that of 'a-b'"):
        task.load_state_dict(old)


# ------------------------------------------------------------------ merged heads


def test_sources_of_one_head_name_its_outputs_in_their_own_order():
    task = make_task(MERGED).eval()
    assert task.model.classes == ["swim", "Ride Bike", "sing", "cook"]
    assert task.model.head.out_features == 4 and not task.heads.further
    clip = torch.randn(2, 3, 4, 32, 32)
    joint = task.model(clip)
    assert torch.equal(task.classifier("k4")(clip), joint[:, [0, 1, 2]])
    assert torch.equal(task.classifier("k6")(clip), joint[:, [1, 3, 0]])
    part = {"clip": clip, "label": torch.tensor([0, 1]), "source": "k6"}  # ride_bike, cook
    want = F.cross_entropy(joint, torch.tensor([1, 3]))
    assert task(part)["k6"].item() == pytest.approx(want.item(), abs=1e-6)
    mixed = {**part, "target": torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.1, 0.9]])}
    spread = torch.tensor([[0.0, 0.6, 0.0, 0.4], [0.9, 0.0, 0.0, 0.1]])
    want = F.cross_entropy(joint, spread)
    assert task(mixed)["k6"].item() == pytest.approx(want.item(), abs=1e-6)


def test_a_merged_head_is_cut_back_to_a_sources_classes(tmp_path):
    task = make_task(MERGED).eval()
    save_model(task.model, tmp_path / "model", **task.save_options())
    clip = torch.randn(2, 3, 4, 32, 32)
    whole = load(tmp_path / "model")
    assert whole.classes == ["swim", "Ride Bike", "sing", "cook"]
    own = load(tmp_path / "model", head="k6")
    assert own.classes == ["ride_bike", "cook", "swim"]
    assert torch.equal(own(clip), whole(clip)[:, [1, 3, 0]])
    outputs = task.spaces.outputs["k6"]
    assert len(set(outputs)) == len(outputs) == own.num_classes


def test_separate_heads_are_kept_by_source(tmp_path, task):
    save_model(task.model, tmp_path / "model", **task.save_options())
    task.eval()
    clip = torch.randn(2, 3, 1, 32, 32)
    for source, names in CLASSES.items():
        own = load(tmp_path / "model", head=source)
        assert own.classes == names
        assert torch.equal(own(clip), task.classifier(source)(clip))


# ------------------------------------------------------------------ batch norms


def first_norm(task: CotrainTask) -> nn.BatchNorm2d:
    return next(m for m in task.modules() if isinstance(m, nn.BatchNorm2d))


def test_image_batches_leave_the_running_statistics_alone(task):
    norm = first_norm(task)
    before = norm.running_mean.clone()
    task(batch(*PHOTOS))
    assert torch.equal(norm.running_mean, before)
    assert norm.momentum == 0.1
    task(batch(*VIDEOS))
    assert not torch.equal(norm.running_mean, before)


def test_each_source_has_running_statistics_of_its_own(tmp_path):
    task = make_task(norms="separate")
    norm = first_norm(task)
    task(batch(*VIDEOS))
    videos = norm.running_mean.clone()
    for _ in range(3):
        task(batch(*PHOTOS))
    assert torch.equal(norm.running_mean, videos), "the model's own are the first source's"
    with task.statistics.of("photos"):
        photos = norm.running_mean.clone()
        assert int(norm.num_batches_tracked) == 3
    assert not torch.allclose(photos, videos)
    task.eval()
    clip = torch.randn(2, 3, 1, 32, 32)
    want = task.classifier("photos")(clip)
    save_model(task.model, tmp_path / "model", **task.save_options())
    assert torch.equal(load(tmp_path / "model", head="photos")(clip), want)
    again = make_task(norms="separate")
    again.load_state_dict(task.state_dict())
    again.eval()
    assert torch.equal(again.classifier("photos")(clip), want), "a resumed run has them, too"


def test_frozen_norms_stay_and_normalize_with_what_they_have():
    task = make_task(norms="frozen")
    norm = first_norm(task)
    assert task.training and not norm.training
    before = norm.running_mean.clone()
    task(batch(*VIDEOS))
    task(batch(*PHOTOS))
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize(("unmoved", "mean", "variance"), [(True, 0.0, 1.0), (False, 1.0, 5.5)])
def test_what_running_statistics_become_where_sources_alternate(unmoved, mean, variance):
    """Videos of N(0, 1) and images of N(2, 9): shared statistics are wrong for both."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).train()
    means, variances = [], []
    for step in range(400):
        norm(torch.randn(16, 3, 8, 8))
        x = 2 + 3 * torch.randn(16, 3, 8, 8)
        if unmoved:
            with unmoved_statistics(norm):
                out = norm(x)
            assert out.mean().abs() < 1e-4, "a batch of images is normalized with its own"
        else:
            norm(x)
        if step >= 100:
            means.append(norm.running_mean.mean())
            variances.append(norm.running_var.mean())
    assert torch.stack(means).mean().item() == pytest.approx(mean, abs=0.1)
    assert torch.stack(variances).mean().item() == pytest.approx(variance, rel=0.1)


def test_an_image_is_a_clip_of_one_frame(task):
    task.eval()
    clip = torch.randn(2, 3, 1, 32, 32)
    logits = task.classifier("photos")(clip)
    assert logits.shape == (2, 3)
    head = task.heads.by_name()["photos"]
    assert torch.equal(logits, head(task.model.embed(clip)))
    assert torch.equal(task.classifier("videos")(clip), task.model(clip))

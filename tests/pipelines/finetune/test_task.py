from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import MODEL
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss

import vidinit
from vidinit.pipelines.finetune.task import ClassifyTask
from vidinit.pipelines.shared.on_device import soft_targets
from vidinit.pipelines.shared.weighted_loss import share_right
from vidinit.zoo.pair import PairModel


def batch() -> dict:
    return {"clip": torch.randn(4, 3, 4, 32, 32), "label": torch.tensor([0, 1, 2, 0])}


def test_a_frozen_trunk_keeps_weights_and_statistics():
    model = vidinit.create_model(MODEL, num_classes=3)
    task = ClassifyTask(model, frozen_trunk=True).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trained = [p for p in task.parameters() if p.requires_grad]
    assert len(trained) == 2
    task(batch())["loss"].backward()
    torch.optim.SGD(trained, lr=0.5).step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}


def test_groups_of_parameters():
    model = vidinit.create_model(MODEL, num_classes=3)
    task = ClassifyTask(model)
    assert task.head_parameters() == {"model.head.weight", "model.head.bias"}
    temporal = task.temporal_parameters()
    assert temporal and temporal <= {name for name, _ in task.named_parameters()}


NOUNS = ["cup", "pan"]
# What the four clips of `colors` show.
LABELS = {
    "single": torch.tensor([0, 1, 2, 1]),
    "multi": torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]),
    "pair": torch.tensor([[0, 0], [1, 1], [2, 0], [1, 0]]),
}


def task_of(kind: str, **options) -> ClassifyTask:
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=3)
    return ClassifyTask(model, kind=kind, nouns=NOUNS if kind == "pair" else None, **options)


def decided(kind: str, **options) -> ClassifyTask:
    """A task in eval mode whose logits differ: a new head's are all near zero."""
    task = task_of(kind, **options).eval()
    heads = [task.model.head, *(task.heads.values() if kind == "pair" else ())]
    with torch.no_grad():
        embedding = task.model.embed(colors())
        for head in heads:
            head.weight.normal_().div_(embedding.std() * embedding.shape[1] ** 0.5)
            assert head(embedding).std() > 0.2
    return task


def colors() -> torch.Tensor:
    """Four clips (4, 3, 4, 32, 32), each of a color of its own."""
    tints = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [-2, -2, 0]])
    noise = torch.randn(4, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    return 0.2 * noise + tints[:, :, None, None, None]


@pytest.mark.parametrize("kind", ["single", "multi", "pair"])
def test_each_kind_learns(kind):
    task, label = task_of(kind), LABELS[kind]
    optimizer = torch.optim.AdamW(task.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        optimizer.zero_grad(set_to_none=True)
        total = torch.stack(list(task({"clip": colors(), "label": label}).values())).sum()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.5 * totals[0]
    with torch.no_grad():
        logits = task.classifier()(colors())  # with the batch's statistics, as it was trained
    if kind == "pair":
        assert list(logits) == ["verb", "noun"]
        found = torch.stack([logits["verb"].argmax(1), logits["noun"].argmax(1)], dim=1)
    else:
        found = logits.argmax(1) if kind == "single" else (logits > 0).float()
    assert torch.equal(found, label)
    assert task.model.label_kind == kind


def test_loss_is_cross_entropy_with_smoothing():
    task = decided("single", label_smoothing=0.1)
    clip, label = colors(), LABELS["single"]
    logits = task.model(clip)
    target = F.one_hot(label, 3) * 0.9 + 0.1 / 3
    want = -(target * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(task({"clip": clip, "label": label})["loss"], want)


def test_losses_are_their_formulas():
    clip = colors()
    task = decided("multi")
    p, y = task.model(clip).sigmoid(), LABELS["multi"]
    want = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert torch.allclose(task({"clip": clip, "label": y})["loss"], want)
    task = decided("pair", label_smoothing=0.2)
    losses = task({"clip": clip, "label": LABELS["pair"]})
    logits = task.classifier()(clip)
    assert list(losses) == ["verb", "noun"]
    for i, (name, count) in enumerate((("verb", 3), ("noun", 2))):
        soft = soft_targets(LABELS["pair"][:, i], count, 0.2)
        want = -(soft * logits[name].log_softmax(1)).sum(1).mean()
        assert torch.allclose(losses[name], want)


def test_targets_are_smoothed_as_by_timm():
    """timm.data.mixup.one_hot: off = smoothing / classes, on = 1 - smoothing + off."""
    off, on = 0.025, 0.925
    want = torch.tensor([[off, on, off, off], [off, off, off, on]])
    assert torch.allclose(soft_targets(torch.tensor([1, 3]), 4, 0.1), want)
    assert torch.allclose(soft_targets(torch.tensor([[0, 1, 0, 0], [0, 0, 0, 1.0]]), 4, 0.1), want)
    assert soft_targets(torch.tensor([1]), 2).tolist() == [[0, 1]]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_soft_target_stands_for_the_label(kind):
    task, clip, label = decided(kind, label_smoothing=0.1), colors(), LABELS[kind]
    hard = task({"clip": clip, "label": label})["loss"]
    same = task({"clip": clip, "label": label, "target": soft_targets(label, 3, 0.1)})["loss"]
    assert torch.allclose(hard, same)
    mixed = 0.7 * soft_targets(label, 3) + 0.3 * soft_targets(label, 3).flip(0)
    logits = task.model(clip)
    if kind == "single":
        want = -(mixed * logits.log_softmax(1)).sum(1).mean()
    else:
        want = F.softplus(logits).sub(mixed * logits).mean()
    found = task({"clip": clip, "label": label, "target": mixed})["loss"]
    assert torch.allclose(found, want) and not torch.allclose(found, hard)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_classes_are_those_of_torch(smoothing):
    clip, weight, noun = colors(), [0.2, 1.0, 3.5], [2.0, 0.5]
    task = decided("single", class_weights=[weight], label_smoothing=smoothing)
    want = CrossEntropyLoss(weight=torch.tensor(weight), label_smoothing=smoothing)
    label = LABELS["single"]
    found = task({"clip": clip, "label": label})["loss"]
    assert torch.equal(found, want(task.model(clip), label))
    task = decided("pair", class_weights=[weight, noun], label_smoothing=smoothing)
    losses, logits = task({"clip": clip, "label": LABELS["pair"]}), task.classifier()(clip)
    for column, (name, own) in enumerate((("verb", weight), ("noun", noun))):
        want = CrossEntropyLoss(weight=torch.tensor(own), label_smoothing=smoothing)
        assert torch.equal(losses[name], want(logits[name], LABELS["pair"][:, column]))
    task = decided("multi", class_weights=[weight])
    loss = task({"clip": clip, "label": LABELS["multi"]})["loss"]
    binary = BCEWithLogitsLoss(pos_weight=torch.tensor(weight))
    assert torch.equal(loss, binary(task.model(clip), LABELS["multi"]))
    assert not any("weights" in key for key in task.state_dict()), "no part of a checkpoint"


def test_the_share_of_right_clips_is_that_of_the_most_likely_class():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0], [1.0, 5.0, 0.0], [4.0, 0.0, 0.0]])
    assert share_right(logits, torch.tensor([0, 1, 1, 0])).item() == 0.75
    several = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 1, 1]]).float()
    assert share_right(logits, several).item() == 0.25
    pair = {"verb": logits, "noun": logits.flip(1)}
    assert share_right(pair, torch.tensor([[0, 2], [2, 0], [1, 0], [0, 2]])).item() == 0.75


def test_mixed_clips_are_neither_right_nor_wrong():
    task = task_of("single")
    clip, label = torch.rand(2, 3, 4, 32, 32), torch.tensor([0, 1])
    loss = task({"clip": clip, "label": label})["loss"]
    assert task.right["top1"].item() in (0.0, 0.5, 1.0) and not task.right["top1"].requires_grad
    assert loss.requires_grad
    task({"clip": clip, "label": label, "target": soft_targets(label, 3)})
    assert task.right == {}


def test_a_pair_has_a_head_more():
    task = task_of("pair", frozen_trunk=True)
    noun = {"heads.noun.weight", "heads.noun.bias"}
    assert task.head_parameters() == {"model.head.weight", "model.head.bias"} | noun
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert trained == task.head_parameters()
    classifier = task.classifier()
    assert isinstance(classifier, PairModel) and classifier.noun is task.heads["noun"]
    again = ClassifyTask(task.model, kind="pair", nouns=NOUNS, noun_head=classifier.noun)
    assert again.heads["noun"] is classifier.noun
    assert task.save_options()["heads"] == {"noun": classifier.noun}
    assert task_of("multi").save_options() == {}


def test_nouns_belong_to_pairs():
    model = vidinit.create_model(MODEL, num_classes=3)
    with pytest.raises(ValueError, match="kind pair"):
        ClassifyTask(model, kind="pair")
    with pytest.raises(ValueError, match="kind single"):
        ClassifyTask(model, nouns=NOUNS)

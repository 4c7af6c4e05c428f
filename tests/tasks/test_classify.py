from __future__ import annotations

import torch
import torch.nn.functional as F
from support import MODEL

import vidinit
from vidinit.tasks.classify import ClassifyTask


def batch() -> dict:
    return {"clip": torch.randn(4, 3, 4, 32, 32), "label": torch.tensor([0, 1, 2, 0])}


def test_loss_is_cross_entropy_with_smoothing():
    model = vidinit.create_model(MODEL, num_classes=3).eval()
    given = batch()
    loss = ClassifyTask(model, label_smoothing=0.1).eval()(given)["loss"]
    logits = model(given["clip"])
    target = F.one_hot(given["label"], 3) * 0.9 + 0.1 / 3
    assert torch.allclose(loss, -(target * logits.log_softmax(1)).sum(1).mean())


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

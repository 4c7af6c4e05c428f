"""DistInit's loss against the paper's equations in NumPy, and what must not move."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from support import MODEL, shake_norms

import vidinit
from vidinit.tasks.distill import DistillTask, Teacher, soft_cross_entropy

HALF = (0.5, 0.5, 0.5)


def teacher(name: str, classes: int, mean=HALF, std=HALF) -> Teacher:
    torch.manual_seed(classes)
    model = timm.create_model("mobilenetv2_050", num_classes=classes)
    shake_norms(model, classes)
    return Teacher(name, model, mean, std)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("picks", [1, 3])
def test_losses_equal_the_papers_equations(temperature, picks):
    teachers = [teacher("a", 7), teacher("b", 5, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))]
    student = vidinit.create_model(MODEL, num_classes=2).eval()
    task = DistillTask(student, teachers, temperature=temperature).eval()
    clip = torch.randn(4, 3, 4, 32, 32)
    chosen = torch.stack([torch.randperm(4)[:picks] for _ in range(4)])
    losses = task({"clip": clip, "picks": chosen})
    assert list(losses) == ["a", "b"]
    spec = student.spec
    for each in teachers:
        rgb = clip * torch.tensor(spec.std).view(3, 1, 1, 1)
        rgb = rgb + torch.tensor(spec.mean).view(3, 1, 1, 1)
        own = (rgb - torch.tensor(each.mean).view(3, 1, 1, 1)) / torch.tensor(each.std).view(
            3, 1, 1, 1
        )
        with torch.no_grad():
            z = np.stack(
                [
                    each.model(own[b, :, chosen[b]].transpose(0, 1)).numpy().mean(axis=0)
                    for b in range(4)
                ]
            )
            head = task.heads.logits(student, student.embed(clip), each.name).numpy()
        q, p = softmax(z / temperature), softmax(head / temperature)
        want = -(q * np.log(p)).sum(axis=1).mean()
        assert float(losses[each.name].detach()) == pytest.approx(want, abs=1e-5)


def test_gradient_of_the_logits_is_p_minus_q():
    logits = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    q = torch.rand(3, 6, dtype=torch.float64)
    q = q / q.sum(1, keepdim=True)
    soft_cross_entropy(logits, q).backward()
    assert torch.allclose(logits.grad, (logits.detach().softmax(1) - q) / 3)


def test_mean_of_logits_is_not_mean_of_probabilities():
    each = teacher("a", 6)
    task = DistillTask(vidinit.create_model(MODEL, num_classes=2), [each])
    clip = 2 * torch.randn(2, 3, 3, 32, 32)
    both = torch.tensor([[0, 2], [0, 2]])
    q = task.targets(clip, both, each)
    parts = [task.targets(clip, torch.tensor([[t], [t]]), each) for t in (0, 2)]
    geometric = (parts[0] * parts[1]).sqrt()
    assert torch.allclose(q, geometric / geometric.sum(1, keepdim=True), atol=1e-5)
    assert not torch.allclose(q, (parts[0] + parts[1]) / 2, atol=1e-4)


def test_teachers_do_not_move_and_get_no_gradient():
    each = teacher("a", 6)
    before = {k: v.clone() for k, v in each.model.state_dict().items()}
    task = DistillTask(vidinit.create_model(MODEL, num_classes=2), [each]).train()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    batch = {"clip": torch.randn(4, 3, 4, 32, 32), "picks": torch.zeros(4, 1, dtype=torch.long)}
    for _ in range(2):
        loss = sum(task(batch).values())
        loss.backward()
        optimizer.step()
    assert not each.model.training
    assert all(p.grad is None for p in each.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in each.model.state_dict().items())
    assert not any("teacher" in name for name, _ in task.named_parameters())


def test_a_converted_student_starts_at_its_teachers_entropy():
    """On still clips the student is its teacher, so the cross-entropy is the target's entropy."""
    from vidinit.recipes.distill import load_teacher

    each = load_teacher("imagenet-lite")
    student = vidinit.convert("tf_efficientnet_lite0", "s3d", size=64, frames=4).model
    task = DistillTask(student, [each]).eval()
    clip = torch.randn(3, 3, 1, 64, 64).expand(-1, -1, 4, -1, -1)
    picks = torch.zeros(3, 1, dtype=torch.long)
    with torch.no_grad():
        loss = float(task({"clip": clip, "picks": picks})["imagenet-lite"])
        q = task.targets(clip, picks, each)
    entropy = float(-(q * q.log()).sum(1).mean())
    assert loss == pytest.approx(entropy, abs=1e-4)
    assert student.classes[281] == "tabby"

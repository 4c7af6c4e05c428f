"""DistInit's losses against the paper's equations in NumPy, and what must not move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pipelines.distill.task_support import paper_loss, teacher
from support import MODEL

import vidinit
from vidinit.data.loading.teacher_frames import FrameView
from vidinit.data.pixels.batch import normalize
from vidinit.pipelines.distill.targets import Objective, entropy, probabilities
from vidinit.pipelines.distill.task import DistillTask

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def column(values):
    return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)


def batch_of(clips: int = 4, frames: int = 4, picks: int = 1, side: int = 32, double: bool = False):
    torch.manual_seed(clips)
    chosen = torch.stack([torch.randperm(frames)[:picks] for _ in range(clips)])
    clip = torch.randn(clips, 3, frames, side, side)
    return {"clip": clip.double() if double else clip, "picks": chosen}


def frame_logits(each, batch, spec):
    """The teacher's logits of the picked frames, one image at a time: (B, K, C)."""
    found = []
    for clip, picks in zip(batch["clip"], batch["picks"], strict=True):
        images = [clip[:, t] * column(spec.std) + column(spec.mean) for t in picks]
        with torch.no_grad():
            own = [((image - column(each.mean)) / column(each.std))[None] for image in images]
            found.append(torch.cat([each.model(image) for image in own]).numpy())
    return np.stack(found)


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize(
    ("count", "picks", "temperature", "keep", "normalize"),
    [
        (1, 1, 1.0, None, "batch"),
        (2, 3, 2.5, None, "batch"),
        (2, 2, 1.0, 0.5, "batch"),
        (1, 4, 0.7, 0.5, "kept"),
    ],
)
def test_losses_equal_the_papers_equations(loss, count, picks, temperature, keep, normalize):
    how = {"loss": loss, "temperature": temperature, "normalize": normalize}
    teachers = [teacher("a", 7, **how), teacher("b", 5, MEAN, STD, **how)][:count]
    student = vidinit.create_model(MODEL, num_classes=2).eval()
    task = DistillTask(student, teachers).eval().double()
    batch = batch_of(picks=picks, double=True)
    frames = {each.name: frame_logits(each, batch, student.spec) for each in teachers}
    if keep:
        for each in teachers:
            nats = entropy(torch.from_numpy(frames[each.name].mean(axis=1)), temperature)
            each.objective.max_entropy = float(nats.sort().values[1:3].mean())  # two of four
    losses = task(batch)
    assert list(losses) == [each.name for each in teachers]
    with torch.no_grad():
        embedding = student.embed(batch["clip"])
        heads = {e.name: task.heads.logits(student, embedding, e.name).numpy() for e in teachers}
    for each in teachers:
        eta = np.inf if keep is None else each.objective.max_entropy
        want = paper_loss(heads[each.name], frames[each.name], max_entropy=eta, **how)
        assert float(losses[each.name].detach()) == pytest.approx(want, abs=1e-6)


def test_gradient_of_the_logits_is_p_minus_q():
    logits = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, 6, dtype=torch.float64)
    Objective()(logits, z).backward()
    assert torch.allclose(logits.grad, (logits.detach().softmax(1) - z.softmax(1)) / 3)


def test_the_target_is_of_mean_logits_not_the_mean_of_probabilities():
    each = teacher("a", 6)
    task = DistillTask(vidinit.create_model(MODEL, num_classes=2), [each])
    clip = 2 * torch.randn(2, 3, 3, 32, 32, dtype=torch.float64)

    def q(*frames: int) -> torch.Tensor:
        picks = torch.tensor([frames, frames])
        return probabilities(task.teacher_outputs({"clip": clip, "picks": picks})["a"])

    both, parts = q(0, 2), [q(0), q(2)]
    geometric = (parts[0] * parts[1]).sqrt()
    assert torch.allclose(both, geometric / geometric.sum(1, keepdim=True), atol=1e-5)
    assert not torch.allclose(both, (parts[0] + parts[1]) / 2, atol=1e-3)


def test_teachers_do_not_move_and_get_no_gradient():
    each = teacher("a", 6)
    before = {k: v.clone() for k, v in each.model.state_dict().items()}
    assert any(k.endswith("running_mean") for k in before)
    task = DistillTask(vidinit.create_model(MODEL, num_classes=2), [each]).train()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    for _ in range(2):
        sum(task(batch_of()).values()).backward()
        optimizer.step()
    assert not each.model.training and task.frozen_networks() == [each.model]
    assert all(p.grad is None for p in each.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in each.model.state_dict().items())
    assert not any("teacher" in name for name, _ in task.named_parameters())
    said = task.teacher_outputs(batch_of())["a"]
    assert not said.requires_grad


def test_weights_scale_losses():
    batch = batch_of()
    losses = {}
    for weight in (1.0, 0.25):
        torch.manual_seed(3)
        student = vidinit.create_model(MODEL, num_classes=2).eval()
        losses[weight] = DistillTask(student, [teacher("a", 6, weight=weight)]).eval()(batch)["a"]
    assert float(losses[0.25].detach()) == float(losses[1.0].detach()) / 4


def test_a_converted_student_starts_at_its_teachers_entropy():
    """On still clips the student is its teacher, so the cross-entropy is the target's entropy."""
    from vidinit.pipelines.distill.settings import DistillSection, parse_teacher
    from vidinit.pipelines.distill.teachers import load_source, make_teacher

    student = vidinit.convert("tf_efficientnet_lite0", "s3d", size=64, frames=4).model
    settings, section = parse_teacher("imagenet-lite"), DistillSection(size="crop")
    source = load_source(settings)
    each = make_teacher(settings, source, section, student.spec, torch.device("cpu"))
    task = DistillTask(student, [each]).eval()
    clip = torch.randn(3, 3, 1, 64, 64).expand(-1, -1, 4, -1, -1)
    batch = {"clip": clip, "picks": torch.zeros(3, 1, dtype=torch.long)}
    with torch.no_grad():
        loss = float(task(batch)["imagenet-lite"])
    nats = float(entropy(task.teacher_outputs(batch)["imagenet-lite"]).mean())
    assert loss == pytest.approx(nats, abs=1e-4)
    assert student.classes[281] == "tabby"


def test_crops_are_resized_to_the_teachers_size():
    each = teacher("a", 6, MEAN, STD)
    each.size = 48
    student = vidinit.create_model(MODEL, num_classes=2)
    task = DistillTask(student, [each])
    pixels = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    clip = normalize(pixels, student.spec.mean, student.spec.std)
    said = task.teacher_outputs({"clip": clip, "picks": torch.tensor([[1], [3]])})["a"]
    rgb = torch.stack([pixels[0, 1], pixels[1, 3]]).permute(0, 3, 1, 2) / 255
    large = F.interpolate(rgb, size=(48, 48), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        want = each.model(((large - column(MEAN)) / column(STD)).double())
    assert torch.allclose(said, want, atol=1e-4)


def test_a_view_of_its_own_does_not_depend_on_the_students_crop():
    each = teacher("a", 6, MEAN, STD)
    each.view = FrameView(40, 0.875, "bicubic")
    task = DistillTask(vidinit.create_model(MODEL, num_classes=2), [each])
    images = torch.randint(0, 256, (2, 3, 40, 40, 3), dtype=torch.uint8)
    said = [
        task.teacher_outputs({**batch_of(2, picks=3, side=side), each.view.key: images})["a"]
        for side in (32, 64)
    ]
    assert torch.equal(*said)
    own = (images.permute(0, 1, 4, 2, 3) / 255 - column(MEAN)) / column(STD)
    with torch.no_grad():
        want = torch.stack([each.model(clip.double()).mean(dim=0) for clip in own])
    assert torch.allclose(said[0], want, atol=1e-4)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.2), (torch.float16, 0.03)])
def test_half_precision_is_the_teachers_own(dtype, bound):
    each, half = (teacher("a", 6, dtype=torch.float32) for _ in range(2))
    half.dtype = dtype
    half.to(torch.device("cpu"))
    images = torch.randn(4, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):  # the student's
        whole, rounded = each.outputs(images), half.outputs(images)
    assert torch.equal(whole, each.outputs(images)) and whole.dtype == rounded.dtype
    assert 0 < float((whole - rounded).abs().max()) < bound * float(whole.abs().max())


def test_teachers_of_a_student_that_wants_bgr_see_rgb():
    student = vidinit.create_model(MODEL, num_classes=2).eval()
    task = DistillTask(student, [teacher("a", 7)]).eval().double()
    batch = batch_of(double=True)
    rgb = task.teacher_outputs(batch)["a"]
    student.spec = replace(student.spec, channels="bgr")
    turned = {**batch, "clip": batch["clip"].flip(1)}  # as the student gets it
    assert torch.equal(task.teacher_outputs(turned)["a"], rgb)
    assert not torch.equal(task.teacher_outputs(batch)["a"], rgb)

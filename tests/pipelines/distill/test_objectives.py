"""Losses of maps and of masked patches against their equations in NumPy, and what is counted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from pipelines.distill.task_support import teacher
from support import MODEL
from torch import nn

import vidinit
from vidinit.data.loading.teacher_frames import CUTS, FrameView
from vidinit.errors import UsageError
from vidinit.pipelines.distill.anchor import TemporalAnchor
from vidinit.pipelines.distill.objective_text import Hide
from vidinit.pipelines.distill.objectives.base import HIDDEN, StudentPass
from vidinit.pipelines.distill.objectives.counted import Counted
from vidinit.pipelines.distill.objectives.grids import cut_grid, frames_seen, match_grid, steps_of
from vidinit.pipelines.distill.objectives.masked import NOISE, MaskedObjective
from vidinit.pipelines.distill.objectives.tokens import TokensObjective
from vidinit.pipelines.distill.targets import Objective
from vidinit.pipelines.distill.task import DistillTask
from vidinit.pipelines.distill.teachers import Teacher
from vidinit.zoo.plans.timesformer import timesformer

FRAMES, SIDE = 4, 32


# ------------------------------------------------------------------ tokens


def small_student() -> vidinit.zoo.base.VideoModel:
    torch.manual_seed(0)
    student = vidinit.create_model(MODEL, num_classes=2).eval()
    student.spec = replace(student.spec, frames=FRAMES, size=SIDE)
    return student


def of_student(student, name="a", **options) -> Teacher:
    each = teacher(name, 5, **options)
    each.student = student.spec
    return each


def clips(count: int = 3) -> torch.Tensor:
    torch.manual_seed(count)
    return torch.randn(count, 3, FRAMES, SIDE, SIDE, dtype=torch.float64)


@pytest.mark.parametrize("loss", ["smooth-l1", pytest.param("cosine", marks=pytest.mark.slow)])
def test_losses_of_maps_equal_their_equations(loss):
    student = small_student().double()
    each = of_student(student)
    each.size = 64  # its maps are finer than the student's
    objective = TokensObjective(student, [each], loss=loss, hidden_weight=0.75, weight=0.5)
    objective.double()
    hidden = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    batch = {"clip": clips(), HIDDEN: hidden}
    seen = StudentPass(student, batch, None, tokens=True)
    found = objective(seen, objective.ask(batch))["a/tokens"]

    shown = batch["clip"].clone()
    shown[hidden[:, None].expand(-1, 3, -1)] = 0
    with torch.no_grad():
        maps = student.tokens(shown).unflatten(1, (FRAMES, 1, 1)).numpy()  # 32 pixels: one place
        weight = next(objective.projections.parameters()).numpy()
        images = each.sized(batch["clip"].transpose(1, 2).flatten(0, 1), student.spec)
        theirs = each.model.forward_features(images).unflatten(0, (3, FRAMES)).numpy()
    assert np.array_equal(weight, np.eye(maps.shape[-1]))
    target = theirs.mean(axis=(3, 4))  # (3, T, C): 2 x 2 places to one
    target = target - target.mean(-1, keepdims=True)
    target = target / np.sqrt((target**2).mean(-1, keepdims=True) + 1e-5)
    own = maps[:, :, 0, 0]
    if loss == "cosine":
        lengths = np.linalg.norm(own, axis=-1) * np.linalg.norm(target, axis=-1)
        each_step = 1 - (own * target).sum(-1) / lengths
    else:
        far = np.abs(own - target)
        each_step = np.where(far < 1, far**2 / 2, far - 0.5).mean(-1)
    want = [
        0.75 * each_step[0, 2:].mean() + 0.25 * each_step[0, :2].mean(),
        0.75 * each_step[1, 0] + 0.25 * each_step[1, 1:].mean(),
        each_step[2].mean(),
    ]
    assert float(found.detach()) == pytest.approx(0.5 * np.mean(want), rel=1e-5)


@pytest.mark.slow
def test_an_inflated_student_says_of_a_still_clip_what_its_teacher_says():
    student = vidinit.convert("tf_efficientnet_lite0", "s3d", size=64, frames=4).model.eval()
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict({k: v for k, v in _image_state(student).items()}, strict=False)
    mean, std = student.spec.mean, student.spec.std
    each = Teacher("lite", model, mean, std, 1000, student=student.spec)
    objective = TokensObjective(student, [each], standardize="none")
    clip = torch.randn(2, 3, 1, 64, 64).expand(-1, -1, 4, -1, -1)
    batch = {"clip": clip}
    with torch.no_grad():
        seen = StudentPass(student, batch, None, tokens=True)
        answers = objective.ask(batch)
        loss, agree = objective(seen, answers), objective.agreement(seen, answers)
    # Padded ends of the clip have taps on zeros, which are zero at the start.
    assert float(loss["lite/tokens"]) < 1e-8
    assert torch.allclose(agree["lite: maps of seen frames"], torch.ones(2), atol=1e-5)
    assert not any("hidden" in name for name in agree)


def _image_state(student):
    """The image network's tensors, from where they came to in the student."""
    state = student.state_dict()
    return {
        origin.source: state[key]
        for key, origin in student.origins.items()
        if origin.source is not None and origin.rule == "copy"
    }


def test_frames_and_grids_are_matched():
    assert frames_seen(8, 1).tolist() == list(range(8))
    assert frames_seen(8, 4).tolist() == [2, 6] and frames_seen(8, 8).tolist() == [4]
    steps = steps_of(np.arange(8), 8, 4)
    assert steps.shape == (4, 8) and torch.equal(steps[1].nonzero().flatten(), torch.tensor([2, 3]))
    assert torch.equal(steps.sum(1), torch.ones(4))
    assert steps_of(frames_seen(8, 4), 8, 8).sum(1).tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    maps = torch.arange(16.0).view(1, 1, 4, 4, 1)
    assert match_grid(maps, 4, 4) is maps
    assert match_grid(maps, 2, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert match_grid(maps, 8, 8).shape == (1, 1, 8, 8, 1)


def test_a_crop_is_cut_from_maps_of_the_whole_frame():
    """Of a map that says where it is, a crop's part says where the crop's places are."""
    rows, columns = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    maps = torch.stack([rows, columns], -1).expand(2, 1, 8, 8, 2) / 8
    cuts = torch.tensor([[0.25, 0.125, 0.75, 0.625, 0.0], [0.25, 0.125, 0.75, 0.625, 1.0]])
    found = cut_grid(maps, cuts, 2, 2)
    assert torch.allclose(found[0, 0, :, 0, 0], torch.tensor([0.375, 0.625]), atol=1e-6)
    assert torch.allclose(found[0, 0, 0, :, 1], torch.tensor([0.25, 0.5]), atol=1e-6)
    assert torch.allclose(found[1], found[0].flip(2))


@pytest.mark.slow
def test_maps_of_whole_frames_stand_for_those_of_crops():
    student = small_student().double()
    each = of_student(student)
    each.whole = FrameView(64, 1.0, "bicubic", whole=True)
    objective = TokensObjective(student, [each]).double()
    images = torch.randint(0, 256, (2, FRAMES, 64, 64, 3), dtype=torch.uint8)
    batch = {"clip": clips(2), each.whole.key: images, CUTS: torch.tensor([[0, 0, 1, 1, 0.0]] * 2)}
    whole = objective.ask(batch)["a"]
    assert whole.shape == (2, FRAMES, 2, 2, 1280)
    loss = objective(StudentPass(student, batch, None, tokens=True), {"a": whole})["a/tokens"]
    each.whole = None
    alike = objective(
        StudentPass(student, batch, None, tokens=True), {"a": whole.mean((2, 3), keepdim=True)}
    )
    assert float(loss.detach()) == pytest.approx(float(alike["a/tokens"].detach()), rel=1e-5)


def test_two_halves_of_a_batch_are_the_whole():
    """What two processes do: means of equal parts, with norms that keep their statistics."""
    student = small_student().double()
    objectives = [TokensObjective(student, [of_student(student)]).double()]
    task = DistillTask(student, [of_student(student)], objectives, frozen_norms=True)
    task.double().train()
    assert task.training and not any(
        module.training for module in task.modules() if isinstance(module, nn.BatchNorm2d)
    )
    picks = torch.tensor([[0], [1], [2], [3]])
    hidden = torch.eye(4, dtype=torch.bool)
    batch = {"clip": clips(4), "picks": picks, HIDDEN: hidden}
    whole = task(batch)
    parts = [task({k: v[at] for k, v in batch.items()}) for at in (slice(0, 2), slice(2, 4))]
    assert list(whole) == ["a", "a/tokens"]
    for name, value in whole.items():
        mean = float((parts[0][name] + parts[1][name]).detach()) / 2
        assert mean == pytest.approx(float(value.detach()), rel=1e-9)


# ------------------------------------------------------------------ masked


def norm(x: np.ndarray, module: nn.LayerNorm) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps)
    return x * module.weight.detach().numpy() + module.bias.detach().numpy()


def linear(x: np.ndarray, module: nn.Linear) -> np.ndarray:
    bias = 0 if module.bias is None else module.bias.detach().numpy()
    return x @ module.weight.detach().numpy().T + bias


def attention(x: np.ndarray, attn, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Of tokens (L, C): what comes out, and the weights (heads, L, L)."""
    length, width = x.shape
    qkv = linear(x, attn.qkv).reshape(length, 3, heads, width // heads).transpose(1, 2, 0, 3)
    scores = qkv[0] @ qkv[1].transpose(0, 2, 1) / math.sqrt(width // heads)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return linear((weights @ qkv[2]).transpose(1, 0, 2).reshape(length, width), attn.proj), weights


def block(x: np.ndarray, module, heads: int) -> tuple[np.ndarray, np.ndarray]:
    change, weights = attention(norm(x, module.norm1), module.attn, heads)
    x = x + change
    inner = linear(norm(x, module.norm2), module.mlp.fc1)
    gelu = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
    return x + linear(gelu, module.mlp.fc2), weights


def patches(image: np.ndarray, embed) -> np.ndarray:
    """An image (3, H, W) as embedded patches, row by row."""
    size = embed.patch_size[0]
    kernel, bias = embed.proj.weight.detach().numpy(), embed.proj.bias.detach().numpy()
    rows = image.shape[1] // size
    cut = image.reshape(3, rows, size, rows, size).transpose(1, 3, 0, 2, 4).reshape(rows**2, -1)
    return cut @ kernel.reshape(len(kernel), -1).T + bias


def tiny_vit(**options) -> nn.Module:
    how = {"img_size": 16, "patch_size": 4, "num_heads": 2, "depth": 3, "num_classes": 0, **options}
    model = timm.create_model("vit_tiny_patch16_224", **how)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.double().eval()


@pytest.fixture(scope="module")
def masked():
    """A student with a class token, a teacher with one, and the objective between them."""
    torch.manual_seed(0)
    student = timesformer(tiny_vit(embed_dim=16), num_classes=0, attention="joint").double().eval()
    student.spec = replace(student.spec, frames=2, size=16)
    nn.init.normal_(student.time_embed)
    model = tiny_vit(embed_dim=24)
    each = Teacher(
        "vit", model, student.spec.mean, student.spec.std, 24, size=16, student=student.spec,
        objective=Objective("cosine"), dtype=torch.float64,
    )  # fmt: skip
    return student, each, MaskedObjective(student, [each], levels=2, share=0.75).double()


def test_the_masked_loss_equals_its_equations(masked):
    student, each, objective = masked
    torch.manual_seed(1)
    clip = torch.randn(2, 3, 2, 16, 16, dtype=torch.float64)
    batch = {"clip": clip, NOISE: torch.empty(2, 2, 16).exponential_()}
    found = objective(StudentPass(student, batch, None, tokens=False), objective.ask(batch))

    vit, trunk, losses = each.model, student.trunk, []
    for b in range(2):
        targets, visible = [], []
        for t in range(2):
            x = patches(clip[b, :, t].numpy(), vit.patch_embed)
            x = np.concatenate([vit.cls_token[0].detach().numpy(), x]) + _array(vit.pos_embed)
            levels = []
            for one in vit.blocks:
                x, weights = block(x, one, 2)
                levels.append(norm(x, vit.norm)[1:])
            scores = weights[:, 0, 1:].mean(0) / batch[NOISE][b, t].numpy()
            visible.append(np.sort(np.argsort(-scores)[:4]))  # 16 - int(0.75 * 16)
            targets.append([level[visible[t]] for level in levels[-2:]])
        kept, places = [], []
        for t in range(2):
            x = patches(clip[b, :, t].numpy(), trunk.patch_embed) + _array(trunk.pos_embed)[1:]
            kept.append((x + _array(student.time_embed)[t])[visible[t]])
            places.append(16 * t + visible[t])
        first = trunk.cls_token[0].detach().numpy() + _array(trunk.pos_embed)[:1]
        x = np.concatenate([first, *kept])
        levels = []
        for one in trunk.blocks:
            x, _ = block(x, one, 2)
            levels.append(norm(x, trunk.norm)[1:])
        for level, decode in enumerate(objective.decoders["vit"]):
            own = levels[level - 2] + _sinusoid(np.concatenate(places), 16)
            own = norm(linear(own, decode.head), decode.norm)
            target = np.concatenate([one[level] for one in targets])
            own = own / np.linalg.norm(own, axis=-1, keepdims=True)
            target = target / np.linalg.norm(target, axis=-1, keepdims=True)
            losses.append(np.mean(2 - 2 * (own * target).sum(-1)))
    assert float(found["vit/masked"].detach()) == pytest.approx(np.mean(losses), abs=1e-6)


def _array(parameter: torch.Tensor) -> np.ndarray:
    return parameter[0].detach().numpy()


def _sinusoid(places: np.ndarray, width: int) -> np.ndarray:
    rows = []
    for place in places:
        row = []
        for i in range(0, width, 2):
            angle = place / 10000 ** (i / width)
            row += [math.sin(angle), math.cos(angle)]
        rows.append(row)
    return np.array(rows)


def test_as_many_patches_are_seen_in_each_frame_and_attention_draws_them(masked):
    _, _, objective = masked
    torch.manual_seed(0)
    attended = torch.rand(1, 1, 16)
    attended[..., 3] = 8
    noise = torch.empty(4000, 2, 16).exponential_()
    drawn = objective.draw(attended.expand(4000, 2, -1), noise)
    assert (drawn.sum(-1) == 4).all()
    shares = drawn.float().mean((0, 1))
    # Four draws without replacement: much attention is almost always seen, none is left out.
    assert shares[3] > 0.9 and shares.min() > 0 and shares.argmax() == 3
    alike = objective.draw(None, noise).float().mean((0, 1))
    assert torch.allclose(alike, torch.full((16,), 0.25), atol=0.03)


def test_what_cannot_be_masked_is_refused(masked):
    student, each, _ = masked
    with pytest.raises(UsageError, match="cannot leave patches out"):
        MaskedObjective(small_student(), [each])
    with pytest.raises(UsageError, match="is no vision transformer"):
        MaskedObjective(student, [teacher("a", 5)])
    with pytest.raises(UsageError, match="mask_levels=9 is more blocks"):
        MaskedObjective(student, [each], levels=9)
    bare = replace(each, model=tiny_vit(embed_dim=24, class_token=False, global_pool="avg"))
    with pytest.raises(UsageError, match="mask_by=attention: teacher 'vit' has no class token"):
        MaskedObjective(student, [bare], levels=2, by="attention")
    assert MaskedObjective(student, [bare], levels=2).by == "random"


# ------------------------------------------------------------------ counted, anchored


def test_what_is_hidden_is_a_function_of_seed_epoch_row_and_repeat():
    def hidden(rows: list[int], *, seed: int = 0, epoch: int = 0, text: str = "random:2") -> list:
        counted = Counted(lambda batch, *_: dict(batch), seed, 6, 2, Hide.parse(text), 9)
        batch = {"index": torch.tensor(rows), "clip": torch.zeros(len(rows), 1)}
        found = counted(batch, epoch, 3)
        assert found[NOISE].shape == (len(rows), 6, 9) and float(found[NOISE].min()) > 0
        return list(zip(found[HIDDEN].tolist(), found[NOISE].tolist(), strict=True))

    both = hidden([4, 4, 9, 9])
    assert both[2:] == hidden([9, 9]) and both[0] != both[1]  # repeats of a row are neighbors
    assert all(sum(row) == 2 for row, _ in both)
    assert both != hidden([4, 4, 9, 9], epoch=1) != hidden([4, 4, 9, 9], seed=1)
    assert hidden([1], text="future:2")[0][0] == [False] * 4 + [True] * 2
    assert hidden([1], text="past")[0][0] == [True] * 2 + [False] * 4  # three of eight


def test_the_anchor_pulls_temporal_kernels_to_their_start():
    student = small_student()
    anchor = TemporalAnchor(student, 0.5)
    assert float(anchor(student).detach()) == 0
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    names = student.temporal_parameters()
    now = dict(student.named_parameters())
    want = sum(float((now[name] - before[name]).detach().square().sum()) for name in names)
    value = anchor(student)
    assert float(value.detach()) == pytest.approx(0.25 * want, rel=1e-4)
    value.backward()
    assert {name for name, p in now.items() if p.grad is not None} == names
    assert len(anchor.state_dict()) == len(names)  # it goes into checkpoints
    with pytest.raises(UsageError, match="has no temporal kernels"):
        TemporalAnchor(vidinit.create_model("c2d-mobilenetv2_050", num_classes=2), 1.0)

"""The memory of a training step: what is counted, what is measured, and what is really taken."""

from __future__ import annotations

import pytest
import torch
from support import MODEL
from torch import nn

import vidinit
from vidinit.config import TrainConfig
from vidinit.measure import memory as measured
from vidinit.measure.memory import (
    MB,
    TrainingMemory,
    free_memory,
    line_through,
    module_bytes,
    step_peak,
    training_memory,
    untouched,
)
from vidinit.measure.speed import PeakMemory


def small(name=MODEL):
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=5)
    clip = torch.randn(1, 3, 4, 32, 32)

    def loss(clips):
        x = clip.to(next(model.parameters()).device).expand(clips, -1, -1, -1, -1).clone()
        return model(x).square().mean()

    return model.train(), loss


def saved_bytes(loss, model):
    """What autograd keeps for the backward pass, each memory once, the model's own left out."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = loss()
    assert kept.requires_grad
    return sum(found.values())


# ------------------------------------------------------------------ what is counted


def test_shared_weights_count_once():
    one, two = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    assert module_bytes(one, two) == 2 * 8 * 8 * 4
    two.weight = one.weight
    assert module_bytes(one, two) == 8 * 8 * 4


@pytest.mark.parametrize(
    ("values", "states"),
    [
        ({"optimizer": "sgd", "momentum": 0.9}, 1),
        ({"optimizer": "sgd", "momentum": 0}, 0),
        ({"optimizer": "adamw"}, 2),
        ({"optimizer": "lamb"}, 2),
    ],
)
def test_states_are_those_of_the_optimizer(values, states):
    from vidinit.engine.optimizer import make_optimizer

    layer, config = nn.Linear(16, 16), TrainConfig(ema=0.9, **values)
    found = training_memory(layer, config, lambda n: layer(torch.ones(n, 16)).sum(), most=2)
    assert found.average == found.gradients == found.weights == (16 * 16 + 16) * 4
    assert found.optimizer == states * found.weights

    optimizer = make_optimizer([{"params": list(layer.parameters())}], config)
    layer(torch.ones(2, 16)).sum().backward()
    optimizer.step()
    held = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    assert sum(v.nbytes for v in held if v.dim()) == found.optimizer


def test_frozen_weights_have_no_gradients_and_teachers_weigh():
    trunk, head, teacher = nn.Linear(8, 8), nn.Linear(8, 2), nn.Linear(8, 100)
    task = nn.Sequential(trunk.requires_grad_(False), head)
    loss = lambda n: task(torch.ones(n, 8)).sum()  # noqa: E731
    found = training_memory(task, TrainConfig(), loss, most=1, frozen=[teacher])
    assert found.gradients == module_bytes(head)
    assert found.weights == module_bytes(trunk, head, teacher)
    assert found.average == 0


def test_parts_add_up():
    found = TrainingMemory(MB, 2 * MB, 3 * MB, 4 * MB, fixed=5 * MB, per_clip=6 * MB)
    parts = found.as_mb(7)
    assert parts["activations"] == 5 + 6 * 7
    assert parts.pop("total") == sum(parts.values()) == found.total(7) / MB


# ------------------------------------------------------------------ what is measured


def test_the_peak_of_a_step_is_what_lives_at_one_time():
    weight = nn.Parameter(torch.ones(1000))
    before = torch.ones(1000)

    def loss():
        kept = (weight * before).exp()  # made, and given to exp: its result is kept, it is not
        return kept.exp().sum()

    # Forward, two results of exp are kept for the backward pass, which makes one gradient beside
    # them; the scalars on top of that are a few bytes.
    assert 3 * 4000 <= step_peak(loss, [weight]) < 3 * 4000 + 100
    assert weight.grad is None
    assert not weight._post_accumulate_grad_hooks


@pytest.mark.parametrize("most", [2, 3, 16])
def test_a_line_is_found(most):
    asked = []

    def peak(clips):
        asked.append(clips)
        return 100 + 7 * clips

    assert line_through(peak, most) == (100, 7)
    assert asked == {2: [1, 2], 3: [1, 2, 3], 16: [1, 2, 4, 8, 16]}[most]
    assert line_through(lambda clips: 50, 1) == (0, 50)

    def small_gpu(clips):
        if clips > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return 50

    assert line_through(small_gpu, 8) == (0, 50)
    asked.clear()
    assert line_through(peak, 20, least=5) == (100, 7) and asked == [5, 10, 20]
    assert line_through(lambda clips: 200 * MB * clips, 64) == (0, 200 * MB)


def test_norms_that_take_no_single_value_begin_with_two():
    layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    loss = lambda n: layers(torch.randn(n, 4)).square().sum()  # noqa: E731
    assert training_memory(layers, TrainConfig(), loss, most=4).per_clip > 0
    with pytest.raises(ValueError, match="more than 1 value"):
        training_memory(layers, TrainConfig(), loss, most=1)


def test_few_clips_tell_of_many(monkeypatch):
    model, loss = small()
    monkeypatch.setattr(measured, "_ENOUGH", 0)  # one clip and two
    guess = training_memory(model, TrainConfig(), loss, most=8)
    real = step_peak(lambda: loss(8), [*model.parameters()])
    assert guess.activations(8) == pytest.approx(real, rel=0.05)
    kept = saved_bytes(lambda: loss(8), model)
    assert kept <= real < 1.5 * kept


def test_recomputed_activations_are_not_counted():
    model, loss = small()
    whole = step_peak(lambda: loss(4), [*model.parameters()])
    model.set_grad_checkpointing()
    assert step_peak(lambda: loss(4), [*model.parameters()]) < 0.8 * whole


def test_a_task_is_left_as_it_was():
    model, loss = small()
    model.eval()
    model.trunk.train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    training_memory(model, TrainConfig(), loss, most=2)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    with pytest.raises(KeyError), untouched(model):
        model.train()
        model.head.weight.data.zero_()
        raise KeyError
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes


# ------------------------------------------------------------------ what there is


def test_a_limit_on_the_container_counts(tmp_path):
    def left():
        return list(measured._container_left(tmp_path))

    assert left() == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    assert left() == [500]
    (tmp_path / "memory.max").write_text("max\n")
    assert left() == []


def test_processes_share_the_memory(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(measured, "_container_left", lambda: iter([1000]))
    assert free_memory(cpu) == 1000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(cpu) == 250


# ------------------------------------------------------------------ what is really taken


@pytest.mark.slow
@pytest.mark.parametrize("name", [MODEL, "sts-r3d50"])
def test_the_resident_memory_agrees(name):
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=5).train()
    clip = torch.randn(1, 3, 8, 64, 64)
    loss = lambda n: model(clip.repeat(n, 1, 1, 1, 1)).square().mean()  # noqa: E731
    guess = training_memory(model, TrainConfig(), loss, most=8)
    watch = PeakMemory(torch.device("cpu"))
    watch.start()
    loss(8).backward()
    taken = watch.peak_mb()
    if taken is None:
        pytest.skip("this system does not tell")
    assert guess.activations(8) / MB == pytest.approx(taken, rel=0.3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["sts-r3d50", "s3d-mobilenetv2_050", "c2d-vit_tiny_patch16_224"])
def test_the_gpu_takes_as_much(name, precision, optimizer):
    from vidinit.engine.optimizer import make_optimizer

    model = vidinit.create_model(name, num_classes=5).cuda().train()
    clip = torch.randn(1, 3, 8, 224, 224, device="cuda")

    def loss(clips):
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            return model(clip.repeat(clips, 1, 1, 1, 1)).float().square().mean()

    config = TrainConfig(optimizer=optimizer)
    guess = training_memory(model, config, loss, most=8)
    made = make_optimizer([{"params": list(model.parameters())}], config)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        loss(8).backward()
        made.step()
        made.zero_grad(set_to_none=True)
    assert guess.total(8) == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.3)

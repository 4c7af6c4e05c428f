"""Activation checkpointing changes memory and time, and nothing else."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support import SMALL, logged
from torch import Tensor, nn
from zoo_support import families

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.modify.recompute import checkpoint_units


def pair(name: str) -> tuple:
    """A model, and the same one with checkpointing."""
    torch.manual_seed(0)
    model = vidinit.create_model(name, num_classes=5)
    model.dropout.p = 0.5
    other = copy.deepcopy(model)
    other.set_grad_checkpointing()
    assert list(other.state_dict()) == list(model.state_dict())
    return model, other


def kept(loss_of) -> tuple[Tensor, int]:
    """A loss, and the bytes its graph holds beside the parameters."""
    seen: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if not isinstance(t, nn.Parameter):
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = loss_of()
    return loss, sum(seen.values())


def step(model, clips: list[Tensor]) -> tuple[Tensor, int]:
    """Losses of clips of several lengths, then one backward pass through all of them."""
    model.train()
    torch.manual_seed(1)
    loss, held = kept(lambda: sum(model(clip).square().sum() for clip in clips))
    model.eval()
    with torch.no_grad():  # a validation clip in between
        model(clips[0][:, :, :1])
    model.train()
    found = model.frames.value
    loss.backward()
    assert model.frames.value == found
    return loss.detach(), held


QUICK = ("s3d-mobilenetv2_050", "i3d-resnet10t", "tsm-resnet10t", "sts-resnet14t", "c2d-r50")
OTHERS = [
    pytest.param("s3d-densenet121", marks=pytest.mark.slow),  # no residual blocks
    pytest.param("c2d-nf_resnet26", marks=pytest.mark.slow),
    pytest.param("i3d-regnetx_002", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", [*families(*QUICK, "x3d-s"), *OTHERS])
def test_a_step_is_the_same_to_the_last_bit(name):
    plain, saving = pair(name)
    clips = [torch.randn(2, 3, 4, 32, 32), torch.randn(2, 3, 3, 32, 32)]
    (a, more), (b, less) = step(plain, clips), step(saving, clips)
    assert torch.equal(a, b)
    for (key, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), key
    for (key, s), t in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(s, t), key
    assert less < 0.8 * more


def test_it_can_be_undone_copied_and_pickled():
    plain, saving = pair("s3d-resnet10t")
    units = checkpoint_units(saving)
    assert len(units) == 4 and all("forward" in vars(unit) for unit in units)
    for other in (copy.deepcopy(saving), pickle.loads(pickle.dumps(saving))):
        for old, new in zip(units, checkpoint_units(other), strict=True):
            assert vars(new)["forward"].block is new and vars(old)["forward"].block is old
            assert vars(new)["forward"].counts == [other.frames]
    saving.set_grad_checkpointing(False)
    assert not any("forward" in vars(module) for module in saving.modules())
    clip = torch.randn(1, 3, 2, 32, 32)
    assert torch.equal(plain.eval()(clip), saving.eval()(clip))


def test_it_rests_without_gradients_and_in_eval_mode():
    _, saving = pair("s3d-resnet10t")
    runs = []
    for unit in checkpoint_units(saving):
        unit.register_forward_hook(lambda m, args, out: runs.append(m))
        unit.conv1.register_forward_hook(lambda m, args, out: runs.append(m))
    clip = torch.randn(1, 3, 2, 32, 32)
    saving.eval()(clip).sum().backward()
    assert len(runs) == 8
    with torch.no_grad():
        saving.train()(clip)
    assert len(runs) == 16
    saving(clip).sum().backward()
    assert len(runs) == 16 + 8 + 4, "the inside of each block twice"


def test_two_backward_passes_through_one_graph():
    plain, saving = pair("s3d-resnet10t")
    clip = torch.randn(2, 3, 3, 32, 32)
    for model in (plain, saving):
        torch.manual_seed(1)
        loss = model(clip).square().sum()
        loss.backward(retain_graph=True)
        model.frames.value = 1
        loss.backward()
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    for s, t in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(s, t)


def test_a_trunk_without_blocks_says_so():
    model = vidinit.create_model("c2d-resnet10t", num_classes=5)
    model.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with pytest.raises(UsageError, match=r"c2d-resnet10t cannot recompute.*not made of blocks"):
        model.set_grad_checkpointing()


@pytest.mark.slow
def test_training_runs_log_the_same_losses(motion_set, tmp_path):
    losses = []
    for on in (False, True):
        out = tmp_path / str(on)
        overrides = [*SMALL, "train.log_every=1", f"train.checkpointing={on}".lower()]
        vidinit.finetune(
            "s3d-resnet10t", data=motion_set, out=out, overrides=overrides, epochs=2, device="cpu"
        )
        losses.append(
            [(r["step"], r.get("loss"), r.get("top1")) for r in logged(out) if "data_wait" not in r]
        )
    assert losses[0] == losses[1] and len(losses[0]) == 8

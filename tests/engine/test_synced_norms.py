from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from launching import losses
from support import MODEL, SMALL
from synced_pair import clips, net, share
from timm.layers import BatchNormAct2d
from torch import nn

import vidinit
from vidinit.engine.norms import SyncedNorms
from vidinit.errors import UsageError


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(3), nn.BatchNorm3d(3, affine=False), BatchNormAct2d(3, momentum=0.3)]
)
def test_it_is_batch_norm_with_its_gradients(norm, group):
    torch.manual_seed(0)
    shape = (4, 3, 2, 5, 5) if isinstance(norm, nn.BatchNorm3d) else (4, 3, 5, 5)
    own = type(norm)(3, affine=False) if norm.weight is None else type(norm)(3)
    own.momentum = norm.momentum
    found = []
    for module, mode in ((norm, SyncedNorms()), (own, None)):
        x = (3 + 2 * torch.randn(shape, generator=torch.manual_seed(1))).requires_grad_()
        if mode is None:
            y = module(x)
        else:
            with mode:
                y = module(x)
        (y * torch.linspace(0, 1, y.numel()).view(shape)).sum().backward()
        grads = [x.grad, *(p.grad for p in module.parameters())]
        found.append([y, *grads, *module.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_nothing_is_shared_in_eval_mode():
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    with SyncedNorms():
        assert torch.equal(norm(x), F.batch_norm(x, torch.zeros(3), torch.ones(3)))


def test_it_does_not_reach_what_is_computed_again(motion_set, tmp_path):
    with pytest.raises(UsageError, match=r"train\.sync_bn does not work with train\.checkpointing"):
        vidinit.finetune(
            MODEL,
            data=motion_set,
            out=tmp_path / "run",
            overrides=[*SMALL, "train.sync_bn=true", "train.checkpointing=true"],
        )


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_the_whole_batch(tmp_path):
    out = tmp_path / "found.pt"
    torch.multiprocessing.spawn(share, (str(tmp_path / "store"), str(out)), nprocs=2)
    found = torch.load(out, weights_only=True)
    model = net()
    x, label = clips()
    F.cross_entropy(model(x), label).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found["grads"][name], parameter.grad, rtol=1e-9, atol=1e-12)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(found["buffers"][name], buffer, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_run_of_two_processes_begins_as_one_with_the_whole_batch(motion_set, tmp_path):
    def first_loss(name: str, processes: int, *more: str) -> float:
        settings = [*SMALL, "train.log_every=1", "eval.every=0", *more]
        vidinit.finetune(
            MODEL,
            data=motion_set,
            out=tmp_path / name,
            overrides=settings,
            epochs=1,
            processes=processes,
        )
        return losses(tmp_path / name)[0]

    whole = first_loss("whole", 1, "data.batch_size=4")
    assert first_loss("halves", 2, "data.batch_size=2", "train.sync_bn=true") == pytest.approx(
        whole, rel=1e-5
    )
    assert first_loss("apart", 2, "data.batch_size=2") != pytest.approx(whole, rel=1e-2)

"""A step of two processes whose batch norms are synced, for `engine/test_synced_norms.py`."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from vidinit.engine.norms import SyncedNorms


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), BatchNormAct2d(5)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * 16, 2)).double()


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 8, 8, generator=made, dtype=torch.float64) * torch.arange(1, 5).view(
        4, 1, 1, 1
    )
    return x, torch.tensor([0, 1, 1, 0])


def share(rank: int, store: str, out: str) -> None:
    """Forward and backward pass of one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(net())
    x, label = clips()
    part = slice(3 * rank, 3 + rank)  # three clips, and one
    with SyncedNorms():
        loss = F.cross_entropy(model(x[part]), label[part], reduction="sum") / 2
    loss.backward()
    if rank == 0:
        grads = {name: p.grad for name, p in model.module.named_parameters()}
        torch.save({"grads": grads, "buffers": dict(model.module.named_buffers())}, out)
    dist.destroy_process_group()

"""Speed of the zoo against public implementations, as ratios within one run.

    python tests/benchmarks/models.py [--threads 2] [--rounds 7] [--batch 2]

Ours and the peer's model have the same weights and take turns, one step each, so that whatever else
the machine does hits both. Printed is the median of the peer's time over ours: above 1 is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import vidinit
from vidinit.zoo.folding import FrameCount, fold, unfold
from vidinit.zoo.temporal import TemporalConv, VolumeConv


def r2plus1d() -> tuple[nn.Module, nn.Module]:
    """Ours and torchvision's R(2+1)D-18 with the same weights."""
    ours = vidinit.create_model("r2plus1d-18")
    theirs = torchvision.models.video.r2plus1d_18(num_classes=400)
    want = ours.state_dict()
    state = {k.replace("fc.", "head."): v for k, v in theirs.state_dict().items()}
    ours.load_state_dict({k: v.reshape(want[k].shape) for k, v in state.items()})
    return ours, theirs


class Folded(nn.Module):
    """A temporal layer between fold and unfold, for clips."""

    def __init__(self, layer: TemporalConv | VolumeConv) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) in channels_last_3d, for which folding is a free view, to the same."""
        self.layer.frames.value = clip.shape[2]
        return unfold(self.layer(fold(clip)), clip.shape[2])


def depthwise(channels: int = 64) -> tuple[nn.Module, nn.Module]:
    """A depthwise 3x3x3 layer: ours against nn.Conv3d."""
    ours = VolumeConv(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), 3, FrameCount()
    )
    theirs = nn.Conv3d(channels, channels, 3, padding=1, groups=channels, bias=False)
    theirs.weight.data.copy_(ours.weight.data)
    return Folded(ours), theirs.to(memory_format=torch.channels_last_3d)


def sts_against_plain() -> tuple[nn.Module, nn.Module]:
    """STS-SlowOnly-R50 against its plain twin, which is ours too."""
    sts = vidinit.create_model("sts-r3d50")
    twin = vidinit.create_model("sts-r3d50", sts=False)
    twin.load_state_dict(sts.state_dict())
    return sts, twin


def train_step(model: nn.Module, clip: Tensor) -> None:
    """One forward and backward pass in train mode."""
    model.train()
    out = model(clip)
    loss = F.cross_entropy(out, torch.zeros(len(out), dtype=torch.long)) if out.dim() == 2 else None
    (out.square().mean() if loss is None else loss).backward()
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def infer_step(model: nn.Module, clip: Tensor) -> None:
    """One forward pass in eval mode."""
    model.eval()
    model(clip)


def compare(
    ours: nn.Module, theirs: nn.Module, clip: Tensor, step: Callable, rounds: int
) -> tuple[float, float, float]:
    """(our median seconds, their median seconds, median of the ratios of neighbors)."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for model, kept in zip((ours, theirs), times, strict=True):
            began = time.perf_counter()
            step(model, clip)
            if turn:  # the first round warms up
                kept.append(time.perf_counter() - began)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return statistics.median(times[0]), statistics.median(times[1]), statistics.median(ratios)


def main() -> None:
    """Print one line per model and step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, batches of {options.batch}, float32")
    print(f"{'':44} {'ours s':>8} {'peer s':>8} {'peer/ours':>9}")
    for name, make, shape in (
        ("r2plus1d-18 8x112, peer torchvision", r2plus1d, (3, 8, 112, 112)),
        ("depthwise 3x3x3 layer 64x8x28, peer Conv3d", depthwise, (64, 8, 28, 28)),
        ("sts-r3d50 8x112, peer its plain twin", sts_against_plain, (3, 8, 112, 112)),
    ):
        ours, theirs = make()
        clip = torch.randn(options.batch, *shape).to(memory_format=torch.channels_last_3d)
        with torch.no_grad():
            if "twin" not in name:
                difference = (ours.eval()(clip) - theirs.eval()(clip)).abs().max()
                assert difference < 1e-3, difference
        for label, step in (("train", train_step), ("infer", infer_step)):
            a, b, ratio = compare(ours, theirs, clip, step, options.rounds)
            print(f"{name + ', ' + label:50} {a:8.3f} {b:8.3f} {ratio:9.2f}", flush=True)


if __name__ == "__main__":
    main()

"""One model in a process of its own, which takes single steps when told to.

    python tests/benchmarks/worker.py '{"case": "s3d", "who": "ours", ...}'

Commands come line by line on stdin (``train``, ``infer``, ``fused``, ``compare``, with `` peak``
behind to watch the memory); each answer is a line of JSON on stdout. Ours has the peer's weights,
read through the layouts of the library.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers_models import timesformer

import vidinit
from vidinit.conversion.layouts.read_write import read_layout, recognize
from vidinit.measure.speed import PRECISIONS, PeakMemory
from vidinit.processes import keep_freed_memory
from vidinit.zoo.base import VideoModel

CLASSES = 400


def torchvision_model(name: str) -> Callable[[], nn.Module]:
    """A constructor of torchvision's video network."""

    def make() -> nn.Module:
        from torchvision.models import get_model

        made: nn.Module = get_model(name, weights=None, num_classes=CLASSES)
        return made

    return make


def pytorchvideo_model(name: str) -> Callable[[], nn.Module]:
    """A constructor of pytorchvideo's network as its hub has it, for crops of 112 pixels."""

    def make() -> nn.Module:
        from pytorchvideo.models import hub

        made: nn.Module = getattr(hub, name)(pretrained=False)
        for module in made.modules():
            if isinstance(module, nn.AvgPool3d):  # heads for 224 pixels: any size will do
                module.kernel_size = (module.kernel_size[0], 1, 1)
        return made

    return make


# case: (our name, options, the peer's constructor or None for the plain twin, clip)
CASES: dict[str, tuple[str, dict, Callable[[], nn.Module] | None, tuple[int, int, int]]] = {
    "r2plus1d-18": ("r2plus1d-18", {}, torchvision_model("r2plus1d_18"), (8, 112, 112)),
    "r3d-18": ("r3d-18", {}, torchvision_model("r3d_18"), (8, 112, 112)),
    "mc3-18": ("mc3-18", {}, torchvision_model("mc3_18"), (8, 112, 112)),
    "s3d": ("s3d", {}, torchvision_model("s3d"), (16, 224, 224)),
    "slowonly-r50": ("slowonly-r50", {}, pytorchvideo_model("slow_r50"), (8, 112, 112)),
    "x3d-s": ("x3d-s", {}, pytorchvideo_model("x3d_s"), (13, 160, 160)),
    "sts-slowonly-r50": ("sts-slowonly-r50", {}, None, (8, 112, 112)),
    "timesformer-b16": ("timesformer-b16", {}, timesformer(8, 224), (8, 224, 224)),
}


def make_pair(case: str, who: str) -> nn.Module:
    """The model of one side, with the same weights on both."""
    name, options, peer, _ = CASES[case]
    torch.manual_seed(0)
    if peer is None:
        twin = {} if who == "ours" else {"sts": False}
        return vidinit.create_model(name, num_classes=CLASSES, **options, **twin)
    theirs = peer()
    if who != "ours":
        return theirs
    state = theirs.state_dict()
    found = recognize(state)
    assert found is not None
    ours = vidinit.create_model(name, num_classes=CLASSES, **{**found.options, **options})
    read_layout(ours, state, found)
    return ours


def train_step(model: nn.Module, clip: Tensor) -> None:
    """Forward and backward pass in train mode."""
    model.train()
    logits = model(clip)
    F.cross_entropy(logits.float(), torch.zeros(len(clip), dtype=torch.long)).backward()
    model.zero_grad(set_to_none=True)


def infer_step(model: nn.Module, clip: Tensor) -> Tensor:
    """Forward pass in eval mode, without gradients."""
    model.eval()
    with torch.inference_mode():
        out: Tensor = model(clip)
    return out


def main() -> None:
    """Answer commands until stdin ends."""
    job = json.loads(sys.argv[1])
    if job["who"] == "ours" and job["tuned"]:
        keep_freed_memory()
    torch.set_num_threads(job["threads"])
    memory = PeakMemory(torch.device("cpu"))
    model = make_pair(job["case"], job["who"])
    torch.manual_seed(1)
    clip = torch.randn(job["batch"], 3, *CASES[job["case"]][3])
    dtype = PRECISIONS[job["precision"]]
    fused: VideoModel | None = None
    clock = time.process_time if job["processor"] else time.perf_counter
    for line in sys.stdin:
        command, _, watched = line.strip().partition(" ")
        if command == "fused" and fused is None and isinstance(model, VideoModel):
            fused = model.fuse()
        cast = torch.autocast("cpu", dtype) if dtype is not None else contextlib.nullcontext()
        if watched:  # gives memory back first, so such a step is not one to time
            memory.start()
        began = clock()
        answer: dict = {}
        with cast:
            if command == "train":
                train_step(model, clip)
            else:
                # Only ours can be fused: the peer runs as it is.
                out = infer_step(fused or model if command == "fused" else model, clip)
                if command == "compare":
                    answer["logits"] = out[0].float().tolist()
        answer["seconds"] = clock() - began
        answer["peak_mb"] = memory.peak_mb() if watched else None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

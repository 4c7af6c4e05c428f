"""The memory of a training step, estimated before it is taken.

Weights, gradients, the optimizer's states and the moving average are counted. What a step needs
beside them is measured: a forward and a backward pass on a few clips, with every tensor watched
from its making to its end. That peak grows with the clips along a straight line.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..config import TrainConfig

MB = 2**20
# A pass that takes so much shows what large batches take: small tensors no longer matter.
_ENOUGH = 128 * MB
_STATES = {"adamw": 2, "lamb": 2}  # values that the optimizer keeps for each weight
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training takes on the device.

    Attributes:
        weights: parameters and buffers, those of teachers included.
        gradients: of all trained parameters.
        optimizer: its states from the first step on.
        average: the moving average of the weights.
        fixed: what a step takes beside these, whatever the number of clips.
        per_clip: what each clip adds to that: its pixels, what is kept for the backward pass, and
            what is at work when that is most.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    fixed: float
    per_clip: float

    def activations(self, clips: int) -> int:
        """Bytes of a step on ``clips`` clips beside weights, gradients and their like."""
        return round(self.fixed + self.per_clip * clips)

    def total(self, clips: int) -> int:
        """The sum of all: at most so much is in use, as not all of it is at the same time."""
        kept = self.weights + self.gradients + self.optimizer + self.average
        return kept + self.activations(clips)

    def as_mb(self, clips: int) -> dict[str, float]:
        """All parts and ``total`` in MiB, for a step on ``clips`` clips."""
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "average": self.average,
            "activations": self.activations(clips),
            "total": self.total(clips),
        }
        return {name: round(size / MB, 1) for name, size in parts.items()}


def training_memory(
    task: nn.Module,
    config: TrainConfig,
    loss: Callable[[int], Tensor],
    *,
    most: int,
    least: int = 1,
    frozen: Iterable[nn.Module] = (),
) -> TrainingMemory:
    """Estimate what training takes, by a few passes; the task is left as it was.

    Args:
        task: what is trained, on the device.
        config: names the optimizer and the moving average.
        loss: from a number of clips to the loss of the task on so many, with gradients.
        most: clips of the largest batch in question.
        least: of the smallest that there can be.
        frozen: other networks on the device, such as a teacher.
    """
    trained = [p for p in task.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in trained)
    states = _STATES.get(config.optimizer, 1 if config.momentum else 0)
    with untouched(task):
        task.train()
        fixed, per_clip = line_through(
            lambda clips: step_peak(lambda: loss(clips), trained), most, least
        )
    return TrainingMemory(
        weights=module_bytes(task, *frozen),
        gradients=gradients,
        optimizer=states * gradients,
        average=gradients if config.ema else 0,
        fixed=fixed,
        per_clip=per_clip,
    )


def module_bytes(*modules: nn.Module) -> int:
    """Bytes of the parameters and buffers of modules; a tensor in several places counts once."""
    sizes = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for module in modules
        for tensor in chain(module.parameters(), module.buffers())
    }
    return sum(sizes.values())


def line_through(peak: Callable[[int], int], most: int, least: int = 1) -> tuple[float, float]:
    """Fixed part and slope of a peak that grows linearly with the clips, in bytes.

    Small batches are asked, twice as large each time, until one is large enough to judge by. Where
    the smallest is too few clips to be trained on, twice as many are the first.

    Args:
        peak: from a number of clips to bytes.
        most: clips of the largest batch in question.
        least: of the smallest that there can be.
    """
    clips = least
    try:
        points = [(clips, peak(clips))]
    except (RuntimeError, ValueError):
        # Norms, and some of PyTorch's kernels, cannot be trained on a single value or picture.
        if most < 2 * least:
            raise
        clips = 2 * least
        points = [(clips, peak(clips))]
    with contextlib.suppress(torch.cuda.OutOfMemoryError):
        while clips < most and (len(points) < 2 or points[-1][1] < _ENOUGH):
            clips = min(2 * clips, most)
            points.append((clips, peak(clips)))
    if len(points) == 1:
        return 0.0, points[0][1] / points[0][0]
    (before, low), (after, high) = points[-2:]
    slope = max((high - low) / (after - before), 0.0)
    return max(high - slope * after, 0.0), slope


def step_peak(loss: Callable[[], Tensor], trained: Iterable[nn.Parameter]) -> int:
    """The most bytes that tensors made by a forward and a backward pass hold at one time.

    Gradients of parameters do not count, and are thrown away. Neither does what a kernel of a
    library uses for itself.

    Args:
        loss: the forward pass.
        trained: the parameters that get gradients.
    """

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    hooks = [p.register_post_accumulate_grad_hook(drop) for p in trained]
    try:
        with _Watch() as watch:
            loss().backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    return watch.peak


class _Watch(TorchDispatchMode):
    """Counts the bytes of the memory that operations hand out, until it is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._refs: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            self._note(tensor, new=False)
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._note(tensor, new=True)
        return result

    def _note(self, tensor: Tensor, *, new: bool) -> None:
        """Remember the memory of a tensor; what is not new was there before, and is not counted."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._refs:
            return
        size = storage.nbytes() if new else 0

        def ended(_: object) -> None:
            del self._refs[key]
            self.live -= size

        self._refs[key] = weakref.ref(storage, ended)
        self.live += size
        self.peak = max(self.peak, self.live)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (v for v in tree_leaves(values) if isinstance(v, Tensor) and v.layout == torch.strided)


@contextlib.contextmanager
def untouched(task: nn.Module) -> Iterator[None]:
    """A context that restores values, mode and torch's random generators at its end."""
    tensors = [*task.parameters(), *task.buffers()]
    kept = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    modes = [(module, module.training) for module in task.modules()]
    devices = {t.device for t in tensors if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, kept, strict=True):
                    tensor.copy_(value)
            for module, mode in modes:
                module.training = mode


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take, of a GPU or of this machine's memory.

    On a CPU the processes of a run on this machine share evenly what is left, and a limit on the
    container counts as the machine's.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    import psutil

    left = [int(psutil.virtual_memory().available), *_container_left()]
    return max(0, min(left)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _container_left(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Bytes left of the limit that the kernel sets to this process's group, if it sets one."""
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
            cache = 0
            for line in (root / limit).with_name("memory.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                if name in ("inactive_file", "total_inactive_file"):  # given back when asked for
                    cache = max(cache, int(value))
            yield int((root / limit).read_text()) - int((root / used).read_text()) + cache

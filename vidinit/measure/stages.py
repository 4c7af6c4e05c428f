"""Where a model's parameters, multiply-adds and time are, stage by stage."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..zoo.base import VideoModel, count_parameters
from .flops import shadow_of
from .speed import time_passes, wait_for

REST = "rest"
"""The stage of what stands in no other: tokens, pools, activations, what the model itself does."""

_NAMED = re.compile(r"(?:^|\.)(?:(?:layer|stage|level|denseblock|s)\d+|(?:stages|blocks)\.\d+)$")


@dataclass(frozen=True)
class Stage:
    """A part of a model that a forward pass goes through.

    Attributes:
        name: of the module, or of the list of modules.
        modules: names of the modules that make it up, none inside another; empty for `REST`.
        params: learnable values.
        macs: multiply-adds of one clip.
    """

    name: str
    modules: tuple[str, ...]
    params: int
    macs: int


def find_stages(model: VideoModel, shape: tuple[int, ...]) -> list[Stage]:
    """The top-level stages of a model in the order in which they run, `REST` last.

    They are the modules right below the model. One that only holds others (a trunk, a pathway), or
    more than half of the parameters outside the head without being a numbered stage of its network,
    gives way to those below it. What has neither parameters nor multiply-adds is counted to the
    rest.

    Args:
        model: left alone; nothing is computed.
        shape: of its input, (1, 3, T, H, W) for one clip.
    """
    shadow = shadow_of(model)
    names = [name for name, _ in shadow.named_modules() if name]
    order: list[str] = []
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        groups = {name: [name] for name in names}
        with metered(shadow, groups, counter.get_total_flops, order.append) as flops:
            shadow(torch.empty(shape, device="meta"))
    total, params = counter.get_total_flops() // 2, count_parameters(model)
    called = dict.fromkeys(order)
    stages = []
    half = (params - count_parameters(model.head)) / 2
    for name, modules in _parts(shadow, "", called, half):
        macs = sum(int(flops[part]) // 2 for part in modules)
        size = count_parameters(shadow.get_submodule(name))
        if macs or size:
            stages.append(Stage(name, tuple(modules), size, macs))
    order_of = {name: number for number, name in enumerate(called)}
    stages.sort(key=lambda stage: min(order_of[part] for part in stage.modules))
    left = params - sum(s.params for s in stages), total - sum(s.macs for s in stages)
    return [*stages, Stage(REST, (), *left)]


def _parts(
    module: nn.Module, start: str, called: Mapping[str, None], half: float
) -> Iterator[tuple[str, list[str]]]:
    """Names of stages below a module, and the modules that a pass calls of each."""
    for key, child in module.named_children():
        name = start + key
        inside = [n for n in called if n.startswith(f"{name}.")]
        large = count_parameters(child) > half and not _NAMED.search(name)
        if not inside or (name in called and not large):
            if name in called:
                yield name, [name]
        elif isinstance(child, nn.ModuleList) and not large:
            yield name, [n for n in inside if not any(n.startswith(f"{m}.") for m in inside)]
        else:
            yield from _parts(child, f"{name}.", called, half)


@contextmanager
def metered(
    model: nn.Module,
    groups: Mapping[str, Sequence[str]],
    read: Callable[[], float],
    entered: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, float]]:
    """Read a meter before and after modules run, and add up the differences.

    Args:
        model: its forward passes set all sums back to zero.
        groups: names of modules, by the name under which they are added up.
        read: the meter.
        entered: called with the name of the group whenever one of its modules begins.

    Yields:
        By group, the sum of the latest pass.
    """
    spent = dict.fromkeys(groups, 0.0)
    begun: list[float] = []

    def clear(*_: object) -> None:
        spent.update(dict.fromkeys(groups, 0.0))

    def before(group: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            entered(group)
            begun.append(read())

        return hook

    def after(group: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            spent[group] += read() - begun.pop()

        return hook

    hooks = [model.register_forward_pre_hook(clear)]
    for group, names in groups.items():
        for module in map(model.get_submodule, names):
            hooks.append(module.register_forward_pre_hook(before(group)))
            hooks.append(module.register_forward_hook(after(group)))
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def time_stages(
    model: nn.Module, clip: Tensor, stages: Sequence[Stage], *, precision: str, seconds: float
) -> dict[str, float]:
    """Milliseconds of each stage in forward passes of a batch, by name; each stage's own median.

    The device is waited for before and after each stage, so on a GPU the sum is more than a pass
    takes that is left alone.

    Args:
        model, clip, precision, seconds: as for `speed.measure_speed`.
        stages: of this model.
    """
    wait = wait_for(clip.device)

    def read() -> float:
        wait()
        return time.perf_counter()

    passes: list[dict[str, float]] = []
    groups = {stage.name: stage.modules for stage in stages if stage.modules}
    with metered(model, groups, read) as spent:
        totals = time_passes(
            model, clip, precision, seconds, after=lambda: passes.append(dict(spent))
        )
    for parts, total in zip(passes, totals, strict=True):
        parts[REST] = max(0.0, total - sum(parts.values()))
    return {name: 1000 * statistics.median(p[name] for p in passes) for name in (*groups, REST)}

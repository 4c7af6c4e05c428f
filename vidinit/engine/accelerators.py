"""Accelerate for a run: device, precision, processes, and what shards the weights among them.

How many processes there are, and whether FSDP or DeepSpeed shards the model, is Accelerate's own
configuration: what `accelerate launch` hands down in the environment. See `sharding` for the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from ..config import RunConfig
from ..console import say
from ..errors import UsageError
from ..measure.speed import pick_device
from ..processes import in_group
from . import sharding

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(config: RunConfig, *, seed: int = 0, find_unused: bool = False) -> Any:
    """Accelerate for the configured device and precision, alone or in a launched group.

    Args:
        config: its ``precision``, where it is ``auto``, becomes what was chosen.
        seed: of everything random from here on.
        find_unused: look in each step for parameters that it does not use.

    Raises:
        UsageError: for a device that is not there, and what it or Accelerate cannot do.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        GradientAccumulationPlugin,
        InitProcessGroupKwargs,
        set_seed,
    )

    device = pick_device(config.device).type
    resolve_precision(config, device)
    sharding.check_supported(config, device)
    # Of an earlier run in this process, maybe with another device or precision.
    AcceleratorState._reset_state(reset_partial_state=not in_group())
    with _refusals():
        plugin = sharding.fsdp_plugin()
        accelerator = Accelerator(
            cpu=device == "cpu",
            # DeepSpeed's own half precision is another one, see `sharding.settle_deepspeed`.
            mixed_precision="no" if sharding.configured("DEEPSPEED") else _MIXED[config.precision],
            fsdp_plugin=plugin,
            # train.accumulate is ours: one in the environment would divide the losses again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[
                # Heads that a step leaves idle get no gradients, which DDP would wait for. To look
                # for such heads costs a walk over the graph in each step, so it is not the rule.
                DistributedDataParallelKwargs(find_unused_parameters=find_unused),
                # The others wait while the first process checks a large data set for the first
                # time.
                InitProcessGroupKwargs(timeout=timedelta(hours=2)),
            ],
        )
    if plugin is not None:
        sharding.shard_on_cpu(accelerator, plugin)
    if config.precision == "bf16" and sharding.kind(accelerator) == "deepspeed":
        sharding.autocast_in_deepspeed(accelerator)
    set_seed(seed)
    return accelerator


def resolve_precision(config: RunConfig, device: str) -> None:
    """Set a ``precision`` of ``auto``: what `accelerate launch` says, else bf16 on fitting GPUs.

    On CPUs chip and kernels decide which is faster, so there, and on Apple's GPUs, one has to ask.

    Raises:
        UsageError: fp16 without a GPU, and what is not one of the precisions.
    """
    if config.precision == "auto":
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
        if launched not in _MIXED.values():
            raise UsageError(
                f"accelerate launch asks for mixed precision {launched}", "use bf16, fp16 or no"
            )
        fast = device == "cuda" and torch.cuda.get_device_capability()[0] >= 8
        config.precision = launched if launched != "no" else "bf16" if fast else "fp32"  # type: ignore[assignment]
        say(f"precision {config.precision} (auto)")
    if config.precision == "fp16" and device == "cpu":
        raise UsageError("precision fp16 needs a GPU", "use --precision bf16 or fp32")


def warn_of_slow_precision(model: nn.Module, accelerator: Any) -> None:
    """Say so where half precision costs time: depthwise kernels have no fast form on CPUs."""
    half, on_cpu = accelerator.mixed_precision != "no", accelerator.device.type == "cpu"
    if half and on_cpu and any(map(_is_depthwise, model.modules())):
        say(
            f"warning: {accelerator.mixed_precision} slows depthwise convolutions down on a CPU; "
            "--precision fp32 is faster"
        )


def _is_depthwise(module: nn.Module) -> bool:
    groups = getattr(module, "groups", 1)
    return groups > 1 and groups == getattr(module, "in_channels", None)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn an error of Accelerate about its configuration into a UsageError of one line."""
    try:
        yield
    except (ImportError, ValueError, NotImplementedError, RuntimeError) as error:
        if torch.distributed.is_initialized():
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"Accelerate refuses its configuration: {first}",
            "see what was given to accelerate launch, and its --config_file",
        ) from error

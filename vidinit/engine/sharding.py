"""Weights in shards: FSDP and DeepSpeed, by Accelerate's own configuration.

Under these a process holds a part of each weight. Evaluation, statistics of norms and the model
folder want all of it, and processes that evaluate have different numbers of clips, so that they
cannot gather layer by layer. So what is trained is a copy of the task, which is sharded; the task
itself stays whole, and takes the trained weights over when they are looked at.

FSDP is version 2 (``fully_shard``), where parameters keep their names, groups and settings. With it
a training has the losses, and the model the weights, that it has without.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..config import RunConfig, TrainConfig
from ..errors import UsageError
from ..zoo.modify.recompute import checkpoint_units
from .optimizer import set_lr
from .task import Task


def configured(name: str) -> bool:
    """True where `accelerate launch` is configured to use it: FSDP, DEEPSPEED and so on."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"


def kind(accelerator: Any) -> str:
    """``whole``, or what shards the weights: ``fsdp`` or ``deepspeed``."""
    name = accelerator.distributed_type.value.lower()
    return name if name in ("fsdp", "deepspeed") else "whole"


def check_supported(config: RunConfig, device: str) -> None:
    """Refuse configurations that cannot be trained in shards, before anything is read.

    Raises:
        UsageError: for what the weights' shards do not allow, and for ways that are not taken.
    """
    name = "FSDP" if configured("FSDP") else "DeepSpeed" if configured("DEEPSPEED") else None
    sizes = [os.environ.get(f"PARALLELISM_CONFIG_{way}_SIZE", "1") for way in ("TP", "CP", "SP")]
    parallel = configured("PARALLELISM_CONFIG") and any(size != "1" for size in sizes)
    if configured("MEGATRON_LM") or parallel:
        raise UsageError(
            "Accelerate is configured for tensor, context or sequence parallelism",
            "vidinit shares out clips: use several processes, FSDP 2 or DeepSpeed",
        )
    train = getattr(config, "train", None)
    if name is None or train is None:
        return
    for key, why in _impossible(train):
        raise UsageError(f"{key} does not go with {name}: {why}", "leave out one of them")
    if name == "FSDP":
        _refuse_fsdp(device)
    elif config.precision == "fp16":
        raise UsageError("precision fp16 does not go with DeepSpeed", "use --precision bf16")


def _impossible(train: TrainConfig) -> Iterator[tuple[str, str]]:
    """Settings that shards do not allow, and why."""
    if train.ema:
        yield "train.ema", "the average is of whole weights, of which a process holds a part"
    if train.optimizer == "lamb":
        yield "train.optimizer=lamb", "it takes the norms of whole layers"
    if train.compile:
        yield "train.compile", "weights that come and go cannot be compiled in one piece"


def _refuse_fsdp(device: str) -> None:
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UsageError("FSDP of version 1 is not supported", "set fsdp_version: 2")
    if os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "false").lower() == "true":
        raise UsageError(
            "FSDP's activation checkpointing would move batch norms' statistics twice",
            "set fsdp_activation_checkpointing: false and train.checkpointing=true",
        )
    if device == "cpu" and torch.cuda.is_available():
        raise UsageError("FSDP shards on this machine's GPUs", "leave out --device cpu")


def fsdp_plugin() -> Any:
    """FSDP as `accelerate launch` configured it, with weights that stay float32; None for none.

    Mixed precision is autocast's business, as without FSDP: by FSDP's own, norms, losses and the
    sums of gradients would be in half precision, too.
    """
    if not configured("FSDP"):
        return None
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return FullyShardedDataParallelPlugin(
        mixed_precision_policy=MixedPrecisionPolicy(),
        cpu_ram_efficient_loading=False,  # of transformers' models, without batch norms
    )


def shard_on_cpu(accelerator: Any, plugin: Any) -> None:
    """Have FSDP also on CPUs, where Accelerate leaves it out without a word and torch has it."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        for state in (PartialState(), accelerator.state):
            state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin


def to_train(task: Task, accelerator: Any) -> Task:
    """The module for the accelerator to prepare: the task, or a copy of it to be sharded."""
    if kind(accelerator) == "whole":
        return task
    frozen = {id(network): network for network in task.frozen_networks()}  # one for both
    trained = copy.deepcopy(task, frozen)
    for parameter in trained.parameters():  # neither takes channels that lie last
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return trained


def prepare(
    trained: Task,
    optimizer: torch.optim.Optimizer,
    accelerator: Any,
    config: TrainConfig,
    clips: int,
) -> tuple[Any, Any]:
    """The wrapped task and optimizer.

    Args:
        trained: the result of `to_train`.
        optimizer: of its parameters.
        accelerator: prepares both.
        config: gives the clipping, which DeepSpeed does itself.
        clips: of a batch of one process.

    Raises:
        UsageError: for a configuration of DeepSpeed that contradicts ours.
    """
    if kind(accelerator) == "deepspeed":
        settle_deepspeed(accelerator.state.deepspeed_plugin.deepspeed_config, config, clips)
    if kind(accelerator) == "fsdp":
        shard_by_blocks(trained, accelerator.state.fsdp_plugin)
    if kind(accelerator) == "whole" and accelerator.num_processes > 1:
        lie_as_gradients(trained)
    set_lr(optimizer, 1.0)  # notes the peak rates: from sharded checkpoints come no new settings
    wrapped, prepared = accelerator.prepare(trained, optimizer)
    return wrapped, prepared


def lie_as_gradients(trained: Task) -> None:
    """Give depthwise kernels the strides of their gradients: DDP warns where these differ.

    A kernel of one channel is contiguous with channels last and first, so `to_channels_last` leaves
    it alone; its gradient has them last, as the maps have that it reads.
    """
    for parameter in trained.parameters():
        if parameter.dim() == 4 and parameter.shape[1] == 1:
            height, width = parameter.shape[2:]
            plain = parameter.data.contiguous()
            parameter.data = plain.as_strided(plain.shape, (height * width, 1, width, 1))


def shard_by_blocks(trained: Task, plugin: Any) -> None:
    """Have FSDP gather block by block, unless its configuration names classes or wraps nothing.

    By size it would take containers whose ``forward`` is never called, as trunks are that give
    their feature maps; their weights would never be gathered.
    """
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    if plugin.auto_wrap_policy is None or plugin.transformer_cls_names_to_wrap:
        return
    names = {type(unit).__name__ for unit in checkpoint_units(trained.model)}
    plugin.auto_wrap_policy = transformer_auto_wrap_policy if names else None
    plugin.transformer_cls_names_to_wrap = sorted(names)


def autocast_in_deepspeed(accelerator: Any) -> None:
    """bf16 as without DeepSpeed: by torch's autocast, with weights and statistics in float32."""
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}


def settle_deepspeed(settings: dict[str, Any], config: TrainConfig, clips: int) -> None:
    """Fill in what DeepSpeed has to be told, in place.

    Args:
        settings: its configuration, as Accelerate read it.
        config: of the training.
        clips: of a batch of one process.

    Raises:
        UsageError: it says something else than the training's own configuration.
    """
    for section in ("optimizer", "scheduler"):
        if section in settings:
            raise UsageError(
                f"DeepSpeed's configuration has a section '{section}'",
                "remove it: train.optimizer, train.lr and train.schedule say what is used",
            )
    for section in ("fp16", "bf16"):
        if settings.get(section, {}).get("enabled") is True:
            raise UsageError(
                f"DeepSpeed's section '{section}' would hold batch norms' statistics in half "
                "precision, too",
                "remove it, and use --precision bf16",
            )
    ours = {
        "train_micro_batch_size_per_gpu": (clips, "data.batch_size"),
        "gradient_accumulation_steps": (1, "train.accumulate, and 1 there"),
        "gradient_clipping": (config.clip_grad or 0.0, "train.clip_grad"),
    }
    for key, (value, way) in ours.items():
        if settings.get(key, "auto") not in ("auto", value):
            raise UsageError(
                f"DeepSpeed's configuration has {key}={settings[key]}, this training {value:g}",
                f"set it to auto: it is {way} that counts",
            )
        settings[key] = value
    settings["train_batch_size"] = "auto"


@contextmanager
def part_of_step(accelerator: Any, wrapped: Any, *, last: bool) -> Iterator[None]:
    """Around the forward and backward pass of one of a step's batches.

    Gradients go to the other processes with the last one only; DeepSpeed takes its step with it.
    """
    accelerator.gradient_state._set_sync_gradients(last)
    try:
        with nullcontext() if last else accelerator.no_sync(wrapped):
            yield
    finally:
        accelerator.gradient_state._set_sync_gradients(True)


@contextmanager
def whole_weights(task: Task, trained: Task, accelerator: Any) -> Iterator[None]:
    """Inside, the task has the trained weights, all of them, on the device; all processes enter.

    What happens to its buffers inside reaches what is trained.
    """
    if trained is task:
        yield
        return
    task.to(accelerator.device)
    with torch.no_grad():
        for ours, theirs in zip(task.parameters(), trained.parameters(), strict=True):
            ours.copy_(_gathered(theirs, accelerator))
        _copy_buffers(trained, task)
    try:
        yield
    finally:
        _copy_buffers(task, trained)
        task.to("cpu")


def _gathered(parameter: Tensor, accelerator: Any) -> Tensor:
    """All of a parameter, in float32; all processes call it."""
    if kind(accelerator) == "deepspeed":
        from deepspeed.utils import safe_get_full_fp32_param

        full = safe_get_full_fp32_param(parameter)
        return parameter if full is None else full
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter


def _copy_buffers(source: Task, target: Task) -> None:
    for theirs, ours in zip(source.buffers(), target.buffers(), strict=True):
        ours.copy_(theirs)

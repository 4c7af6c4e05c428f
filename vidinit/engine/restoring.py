"""A checkpoint's files, read without running anything that is in them.

Weights and averages are safetensors. Optimizers, scalers and random states are pickles of tensors
and numbers, which torch reads with ``weights_only=True``: anything else in them is refused.
Accelerate's own loading would run what it finds under `register_for_checkpointing`, and goes on
with other random numbers where it cannot read theirs.
"""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..console import say
from ..errors import UsageError
from .averages import MovingAverage
from .sharding import kind

AVERAGES = "averages.safetensors"
_AVERAGES_OF_0_1 = "custom_checkpoint_0.pkl"
_WEIGHTS, _OPTIMIZER, _SCALER = "model.safetensors", "optimizer.bin", "scaler.pt"


def save_averages(average: MovingAverage, folder: Path) -> None:
    """Write the averages of the weights into a checkpoint's folder."""
    from safetensors.torch import save

    state = {
        name: value.detach().cpu().contiguous() for name, value in average.state_dict().items()
    }
    (folder / AVERAGES).write_bytes(save(state))


def read_averages(checkpoint: Path) -> dict[str, torch.Tensor] | None:
    """The averages in a checkpoint by name of the parameter, those of 0.1 too; None without any.

    Raises:
        UsageError: when they cannot be read.
    """
    from safetensors.torch import load_file

    file = _averages_file(checkpoint)
    if not file.is_file():
        return None
    with _restoring(file):
        return load_file(file) if file.suffix == ".safetensors" else _tensors_of(file)


def _averages_file(checkpoint: Path) -> Path:
    """Where a checkpoint has its averages; one of 0.1 has them elsewhere."""
    new, old = checkpoint / AVERAGES, checkpoint / _AVERAGES_OF_0_1
    return old if old.is_file() and not new.is_file() else new


def restore_state(
    accelerator: Any, checkpoint: Path, average: MovingAverage | None, *, same_world: bool
) -> None:
    """Load a checkpoint into what the accelerator prepared; all processes call it.

    Args:
        accelerator: holds the model, the optimizer and the scaler.
        checkpoint: whole, with weights sharded as this run's are.
        average: of the weights, where the run has one.
        same_world: False where another number of processes wrote it. Processes that there were not
            go on with the random numbers of their seed.

    Raises:
        UsageError: for a file that cannot be restored; it names the file and the way on.
    """
    sharded = kind(accelerator)
    if sharded == "whole":
        _restore_whole(accelerator, checkpoint)
    else:
        if sharded == "fsdp":
            for metadata in checkpoint.rglob(".metadata"):
                with _restoring(metadata):
                    _check_metadata(metadata)
        else:
            say("DeepSpeed reads pickles, which can run code: resume only runs that you trust")
        accelerator.load_state(str(checkpoint))
    averages = read_averages(checkpoint)
    with _restoring(_averages_file(checkpoint)):
        if average is not None and averages is not None:
            average.load_state_dict(averages)
        elif average is not None:
            raise ValueError("the run has train.ema, and the checkpoint has no averages")
        elif averages is not None:
            raise ValueError("the checkpoint has averages, and the run is without train.ema")
    states = checkpoint / f"random_states_{accelerator.process_index}.pkl"
    if states.exists() or same_world:
        with _restoring(states):
            accelerator.step = _restore_random_numbers(states)


def _restore_whole(accelerator: Any, checkpoint: Path) -> None:
    """Weights, optimizer and scaler of a run that shards nothing, as Accelerate saved them."""
    from safetensors.torch import load_model

    several_gpus = accelerator.num_processes > 1 and accelerator.device.type != "cpu"
    place = str(accelerator.device) if several_gpus else "cpu"
    for model in accelerator._models:
        with _restoring(checkpoint / _WEIGHTS):
            load_model(model, checkpoint / _WEIGHTS, device=place)
    for optimizer in accelerator._optimizers:
        with _restoring(checkpoint / _OPTIMIZER):
            optimizer.load_state_dict(_plain(checkpoint / _OPTIMIZER, place))
    if accelerator.scaler is not None:
        with _restoring(checkpoint / _SCALER):
            accelerator.scaler.load_state_dict(_plain(checkpoint / _SCALER, "cpu"))


def _plain(file: Path, place: str = "cpu") -> Any:
    """Tensors, arrays and numbers of a pickle; an error where it holds anything else."""
    from accelerate.utils.other import load

    return load(file, map_location=place, weights_only=True)


def _tensors_of(file: Path) -> dict[str, torch.Tensor]:
    found = _plain(file)
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise ValueError("it does not map names to tensors")
    return found


def _restore_random_numbers(file: Path) -> int:
    """Set the generators of Python, numpy and torch; the step that Accelerate counted."""
    states = _plain(file)
    random.setstate(states["random_state"])
    np.random.set_state(states["numpy_random_seed"])
    torch.set_rng_state(states["torch_manual_seed"])
    of_gpus = states.get("torch_cuda_manual_seed", [])
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(of_gpus) == there:
        torch.cuda.set_rng_state_all(of_gpus)
    else:
        say(f"{len(of_gpus)} GPUs were there before, {there} are now: their random numbers are new")
    return int(states["step"])


@contextlib.contextmanager
def _restoring(file: Path) -> Iterator[None]:
    """Turn whatever a damaged or foreign file causes into one error that names it."""
    try:
        yield
    except Exception as error:
        checkpoint = next(p for p in file.parents if p.name.startswith("step_") or p == p.parent)
        raise UsageError(
            f"cannot restore {file} ({_reason(error)})",
            f"delete the folder {checkpoint.name} to go on from the checkpoint before it",
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors and numbers, which is not run"
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


class _Metadata(pickle.Unpickler):
    """Reads the description of a sharded checkpoint, which is made of a few classes of torch."""

    def find_class(self, module: str, name: str) -> Any:
        plain = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (
            plain
            or module == "torch.distributed.checkpoint.metadata"
            or module == "torch.distributed.checkpoint.filesystem"
            or (module, name) in _OF_METADATA
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


_OF_METADATA = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),
    ("pathlib._local", "WindowsPath"),
}


def _check_metadata(file: Path) -> None:
    """Read what torch is about to read as a pickle, with the classes that belong there alone."""
    with file.open("rb") as opened:
        _Metadata(opened).load()

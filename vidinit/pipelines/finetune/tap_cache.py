"""`train.tap_cache`: the outputs of a frozen tower for each training clip, computed once.

Where clips are the same in every epoch, so are the outputs of a tower that does not learn. They are
kept in full precision, so a run that reads them is the run that computes them, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config import DataConfig
from ...console import say
from ...data.loading.datasets import ClipDataset
from ...errors import UsageError
from ...zoo.adapters.frozen import digest
from ...zoo.adapters.tower import arch_of
from ...zoo.adapters.tower_model import ReadTowerModel
from ...zoo.base import VideoModel
from ..shared.array_store import ArrayStore, predicted_bytes, size_text
from ..shared.clips import digest_of_videos
from .settings import FinetuneConfig

Batch = dict[str, Any]
OnDevice = Callable[[Batch, int, int], Batch]


class TapCache:
    """Prepares batches on the device, and gives the model its tower's outputs.

    To be closed when the run ends, however it does.

    Args:
        on_device: makes batches what the task takes.
        model: with a frozen tower.
        store: of what `ReadTowerModel.read_tower` returns of a clip, by row; None leaves the tower
            to do its work.
        accelerator: of the run, for its precision.
    """

    def __init__(
        self, on_device: OnDevice, model: VideoModel, store: ArrayStore | None, accelerator: Any
    ) -> None:
        self.on_device, self.model = on_device, model
        self.store, self.accelerator = store, accelerator

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch as ``on_device`` makes it; see `engine.fit.Job`."""
        ready = self.on_device(batch, epoch, step)
        if self.store is not None:
            assert isinstance(self.model, ReadTowerModel)
            self.model.use_tower(self.taps(self.model, ready["clip"], ready["index"]))
        return ready

    def taps(self, model: ReadTowerModel, clip: Tensor, index: Tensor) -> Tensor:
        """The tower's outputs that the model reads of clips (B, 3, T, H, W) of these rows."""
        assert self.store is not None
        keys = index.cpu().numpy()
        new = ~self.store.written(keys)
        if new.any():
            fresh = clip[torch.from_numpy(new).to(clip.device)]
            with self.accelerator.autocast():
                values = model.read_tower(fresh)
            self.store.write(keys[new], _to_numpy(values, model))
        found = torch.from_numpy(self.store.read(keys))
        if model.tower.dtype is not None:
            found = found.view(model.tower.dtype)
        return found.to(clip.device, non_blocking=True)

    def close(self) -> None:
        """Write the rest to the disk."""
        if self.store is not None:
            self.store.close()


def _to_numpy(values: Tensor, model: ReadTowerModel) -> np.ndarray:
    """Half precision goes as the integers of its bits: numpy knows no bfloat16."""
    half = model.tower.dtype is not None
    values = values.view(torch.int16) if half else values.float()
    array: np.ndarray = values.cpu().numpy()
    return array


def open_taps(
    on_device: OnDevice,
    model: VideoModel,
    dataset: ClipDataset,
    config: FinetuneConfig,
    accelerator: Any,
    *,
    real: bool = True,
) -> TapCache:
    """The cache of a run; one that does nothing without ``train.tap_cache``.

    Args:
        on_device: makes batches what the task takes.
        model: with its final clip settings.
        dataset: the training clips.
        config: of the run.
        accelerator: of the run.
        real: False only checks the settings.

    Raises:
        UsageError: a model without a frozen tower, clips that differ from epoch to epoch, or a
            folder that holds something else.
        VidinitError: the disk has too little room.
    """
    folder = config.train.tap_cache
    if folder is None:
        return TapCache(on_device, model, None, accelerator)
    if not isinstance(model, ReadTowerModel):
        raise UsageError(
            f"train.tap_cache={folder}: {config.model} has no frozen tower that is only read",
            "use a model of the plan dist or side4video",
        )
    wanted = still_settings(config.data, dataset.augment.flip)
    if wanted:
        raise UsageError(
            f"train.tap_cache={folder}: the clips of this run differ from epoch to epoch, so "
            "nothing of them can be kept",
            f"set {' '.join(wanted)}, or leave train.tap_cache out",
        )
    if not real:
        return TapCache(on_device, model, None, accelerator)
    tower, spec, rows = model.tower, model.spec, dataset.rows
    shape = model.tap_shape
    dtype = "float32" if tower.dtype is None else "int16"
    size = predicted_bytes(len(rows), shape, dtype)
    say(f"outputs of the frozen tower: {size_text(size)} for {len(rows)} clips in {folder}")
    store = ArrayStore(
        folder,
        count=len(rows),
        shape=shape,
        dtype=dtype,
        fingerprint={
            "weights": digest(tower.vit),
            # Activation and heads, which no weight tells: CLIP's GELU and QuickGELU share a file.
            "tower": arch_of(tower.vit),
            "network": model.options.get("network"),
            "blocks": tower.blocks,
            "precision": str(tower.dtype or config.precision).removeprefix("torch."),
            "clip": spec.as_dict(),
            **model.tap_settings,
            "decode_side": config.data.decode_side,
            "videos": digest_of_videos(rows),
        },
    )
    if len(store):
        say(f"outputs of the frozen tower: those of {len(store)} clips are there")
    return TapCache(on_device, model, store, accelerator)


def still_settings(data: DataConfig, flip: bool) -> list[str]:
    """Settings with which clips would be the same in every epoch; empty where they are."""
    still: dict[str, Any] = {
        "start": "center",
        "min_area": 1.0,
        "jitter": None,
        "randaug": "",
        "color_jitter": 0.0,
        "grayscale": 0.0,
        "erasing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    wanted = [
        f"data.{key}={'null' if value is None else value}"
        for key, value in still.items()
        if getattr(data, key) != value
    ]
    return [*wanted, *(["data.flip=false"] if flip else [])]

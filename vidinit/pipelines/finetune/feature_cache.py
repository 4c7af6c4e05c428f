"""`train.feature_cache`: what a frozen trunk gives its probes of each clip, computed once.

An epoch for which all of it is there neither runs the trunk nor decodes a video.
``train.feature_views`` says how many epochs have clips of their own: epoch e shows the clips of
epoch e modulo that number, with the cache and without it, so that a run with one is the run
without, to the bit.

A folder holds a store for each kind of output and each kind of views: ``train/descriptor``,
``train/tokens``, ``val/...``, and ``held-out/...``. Runs with other probes, seeds of probes and
learning rates share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...console import say
from ...data.loading.datasets import ClipDataset, labels
from ...data.loading.quarantine import Quarantine, ReadGuard
from ...data.pixels.batch import normalize
from ...data.rows import Rows
from ...engine.collectives import gather_all
from ...errors import UsageError
from ...scoring.metrics import Scores
from ...scoring.score import map_videos, split_scores
from ...zoo.adapters.frozen import digest
from ...zoo.base import VideoModel
from ...zoo.modify.eval_mode import in_eval_mode
from ...zoo.probabilities import averaged
from ...zoo.view_outputs import videos_at_once
from ..shared.array_store import ArrayStore, check_room, predicted_bytes, size_text
from ..shared.clips import digest_of_videos
from .probes import ProbeTask, TrunkOutputs
from .settings import FinetuneConfig
from .tap_cache import still_settings

Batch = dict[str, Any]
OnDevice = Callable[[Batch, int, int], Batch]


@dataclass(frozen=True)
class Kept:
    """The outputs of a trunk for the views of a data set's rows, on disk.

    The views of a row are numbered, and row n has the keys from ``n * views`` on.

    Attributes:
        stores: of each kind of output, ``descriptor`` (C,) and ``tokens`` (T', N, C).
        views: of a row.
        numbers: the row of the stores that each row of the data set is, int64 (rows,).
    """

    stores: dict[str, ArrayStore]
    views: int
    numbers: np.ndarray

    def keys(self, rows: Any, view: Any) -> np.ndarray:
        """Keys of views of rows, of the shape of both."""
        found: np.ndarray = self.numbers[np.asarray(rows)] * self.views + view
        return found

    def has(self, keys: Any) -> np.ndarray:
        """True for keys of which everything is there."""
        return np.logical_and.reduce([store.written(keys) for store in self.stores.values()])

    def read(self, keys: np.ndarray, device: torch.device) -> TrunkOutputs:
        """The outputs for some keys, in single precision, on the device."""
        found = {
            name: torch.from_numpy(store.read(keys)).to(device, non_blocking=True).float()
            for name, store in self.stores.items()
        }
        return TrunkOutputs(found["descriptor"], found.get("tokens"))

    def write(self, keys: np.ndarray, outputs: TrunkOutputs) -> None:
        """Keep the outputs for some keys."""
        for name, store in self.stores.items():
            store.write(keys, getattr(outputs, name).cpu().numpy())

    def flush(self) -> None:
        """Bring everything to the disk, so that other processes see it."""
        for store in self.stores.values():
            store.flush()

    def close(self) -> None:
        """Flush, and let go of the files."""
        for store in self.stores.values():
            store.close()


@dataclass(frozen=True)
class ViewClips(ClipDataset):
    """A `ClipDataset` whose epochs come again, and which reads no video whose outputs are kept.

    Items have ``key``, int64 (R,): that of `Kept`, or -1 for a clip that stands in for another one;
    ``clip`` is left out of those that are kept.

    Args:
        views: epochs with clips of their own.
        kept: outputs of a trunk for these, ``views * repeats`` a row; None where nothing is kept.
    """

    views: int = 1
    kept: Kept | None = None

    def load(self, key: tuple[int, int], guard: ReadGuard) -> dict[str, Any]:
        """The item of a key; see `ClipDataset.load`."""
        epoch, index = key
        keys = self.keys_of(key)
        if self.kept is not None and self.kept.has(keys).all():
            several = [index] * self.repeats
            return {
                "label": labels(self.rows, several),
                "index": torch.tensor(several),
                "skipped": torch.zeros(self.repeats, dtype=torch.int64),
                "key": torch.from_numpy(keys),
                "bad": [],
            }
        item = super().load((epoch % self.views, index), guard)
        own = bool((item["index"] == index).all())
        return {**item, "key": torch.from_numpy(keys if own else np.full_like(keys, -1))}

    def keys_of(self, key: tuple[int, int]) -> np.ndarray:
        """Keys of the clips of an item, int64 (R,)."""
        epoch, index = key
        order = (epoch % self.views) * self.repeats + np.arange(self.repeats)
        return order if self.kept is None else self.kept.keys(index, order)

    def reads(self, keys: Iterable[tuple[int, int]]) -> bool:
        """True where a video has to be read for one of these keys."""
        if self.kept is None:
            return True
        self.kept.flush()  # for the other processes
        wanted = [self.keys_of(key) for key in keys]
        return not wanted or not self.kept.has(np.concatenate(wanted)).all()

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As `ClipDataset.collate`; ``clip`` of those that have one, ``decoded`` bool (B,)."""
        decoded = [torch.full_like(item["key"], "clip" in item, dtype=torch.bool) for item in items]
        names = [name for name in items[0] if name not in ("clip", "bad")]
        batch: Batch = {name: torch.cat([item[name] for item in items]) for name in names}
        batch["decoded"] = torch.cat(decoded)
        if batch["decoded"].any():
            batch["clip"] = torch.cat([item["clip"] for item in items if "clip" in item])
        return {**batch, "bad": [path for item in items for path in item["bad"]]}


class Features:
    """Prepares batches on the device, and gives probes a trunk's outputs where these are kept.

    To be closed when the run ends, however it does.

    Args:
        task: the probes and their trunk.
        on_device: makes clips what the trunk takes.
        accelerator: of the run.
        clips: the training clips.
        scored: what is kept of videos that are scored, by the name of their data set.
        options: of the scoring, see `scoring.score.map_videos`; and ``average``.
    """

    def __init__(
        self,
        task: ProbeTask,
        on_device: OnDevice,
        accelerator: Any,
        clips: ViewClips,
        scored: dict[str, Kept],
        options: dict[str, Any],
    ) -> None:
        self.task, self.on_device, self.accelerator = task, on_device, accelerator
        self.clips, self.scored, self.options = clips, scored, options

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch with ``features`` in place of its clips; see `engine.fit.Job`."""
        kept = self.clips.kept
        ready = self.on_device(batch, epoch, step) if "clip" in batch else batch
        if kept is None:
            return ready
        keys, decoded = ready["key"].cpu().numpy(), ready["decoded"].cpu().numpy()
        if not decoded.any():
            features = kept.read(keys, self.accelerator.device)
        else:
            # Kernels may round differently for another number of clips, so it is always the same.
            clip, short = ready["clip"], len(keys) - int(decoded.sum())
            if short:
                clip = torch.cat([clip, clip[-1:].expand(short, *clip.shape[1:])])
            with self.accelerator.autocast():
                made = _part(self.task.trunk_outputs(clip), slice(len(keys) - short))
            own = keys[decoded] >= 0
            kept.write(keys[decoded][own], _part(made, torch.from_numpy(own)))
            features = made
            if short:
                others = kept.read(keys[~decoded], self.accelerator.device)
                features = _joined(made, others, torch.from_numpy(decoded))
        return {name: v for name, v in ready.items() if name != "clip"} | {"features": features}

    def scores(self, name: str, rows: Rows, quarantine: Quarantine) -> dict[str, Scores]:
        """Scores of all probes on videos, as `scoring.score.score_each` has them.

        Args:
            name: of the data set.
            rows: its videos.
            quarantine: those that are not to be tried.
        """
        kept = self.scored[name]
        kept.flush()
        spec = self.task.model.spec
        views, number = np.arange(kept.views), np.arange(len(rows))
        there = kept.has(kept.keys(number[:, None], views)).all(axis=1)
        # The same on all processes, which may see less or more of what others have written.
        there = np.logical_and.reduce(gather_all(self.accelerator, there))
        absent = number[~there]
        results: list[tuple[int, Any]] = []
        if len(absent):
            options = {key: value for key, value in self.options.items() if key != "average"}

            def read(shown: Tensor, indices: Sequence[int]) -> list[np.ndarray]:
                return self._seen(kept, shown, absent[np.asarray(indices)])

            part = _part_of(quarantine, absent)
            found = map_videos(
                self.task.classifier(),
                rows.of([rows.rows[n] for n in absent]),
                *(spec, self.accelerator, read),
                **{**options, "quarantine": part},
            )
            _take_over(quarantine, part, absent)
            results += [(int(absent[place]), result) for place, result in found]
        results += self._kept_results(kept, number[there])
        return split_scores(
            rows, results, names=list(self.task.entries), num_classes=len(rows.classes or ())
        )

    def _seen(self, kept: Kept, shown: Tensor, rows: np.ndarray) -> list[np.ndarray]:
        """Probabilities of videos (B, V, T, S, S, C); what the trunk gives is kept."""
        spec = self.task.model.spec
        clips = normalize(shown.flatten(0, 1), spec.mean, spec.std, bgr=spec.channels == "bgr")
        outputs = self.task.trunk_outputs(clips)
        # All views of a video that could not be read are zero, which the caller knows.
        real = shown.flatten(1).any(dim=1).bool().cpu()
        chosen = real.repeat_interleave(kept.views)
        keys = kept.keys(rows[real.numpy()][:, None], np.arange(kept.views)).reshape(-1)
        _, first = np.unique(keys, return_index=True)  # a batch that is short repeats its last one
        wanted = chosen.nonzero()[:, 0][torch.from_numpy(np.sort(first))]
        kept.write(keys[np.sort(first)], _part(outputs, wanted))
        return self._probabilities(outputs, len(shown))

    def _kept_results(self, kept: Kept, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Probabilities of videos of which everything is kept, in batches as they are shown in."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        size = videos_at_once(self.task.model.spec, self.options["batch_size"], kept.views)
        size, mine = min(size, len(rows)), rows[rank::world]
        own: list[tuple[int, np.ndarray]] = []
        with in_eval_mode(self.task):
            for start in range(0, len(mine), max(1, size)):
                part = mine[start : start + size]
                padded = np.concatenate([part, np.repeat(part[-1:], size - len(part))])
                keys = kept.keys(padded[:, None], np.arange(kept.views)).reshape(-1)
                with self.accelerator.autocast():
                    outputs = kept.read(keys, self.accelerator.device)
                    found = self._probabilities(outputs, len(padded))
                own += zip(part.tolist(), found, strict=False)
        return [item for part in gather_all(self.accelerator, own) for item in part]

    @torch.no_grad()
    def _probabilities(self, outputs: TrunkOutputs, videos: int) -> list[np.ndarray]:
        """Of each video, those of all probes one after the other."""
        heads = [head.float() for head in self.task.logits(outputs).values()]
        logits = torch.cat(heads, dim=1).unflatten(0, (videos, -1))
        sizes = [head.shape[1] for head in heads]
        kind, average = self.task.label_kind, self.options["average"]
        return list(averaged(logits.cpu().numpy(), sizes, kind=kind, average=average))

    def close(self) -> None:
        """Write the rest to the disk."""
        for kept in (self.clips.kept, *self.scored.values()):
            if kept is not None:
                kept.close()


def _part(outputs: TrunkOutputs, which: Any) -> TrunkOutputs:
    """The outputs for some of the clips."""
    if isinstance(which, Tensor):
        which = which.to(outputs.descriptor.device)
    tokens = None if outputs.tokens is None else outputs.tokens[which]
    return TrunkOutputs(outputs.descriptor[which], tokens)


def _joined(first: TrunkOutputs, second: TrunkOutputs, mask: Tensor) -> TrunkOutputs:
    """The outputs of a batch from those where the mask is true, and those where it is not."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        out = a.new_empty(len(mask), *a.shape[1:])
        place = mask.to(a.device)
        out[place], out[~place] = a, b
        return out

    tokens = None
    if first.tokens is not None and second.tokens is not None:
        tokens = one(first.tokens, second.tokens)
    return TrunkOutputs(one(first.descriptor, second.descriptor), tokens)


def _part_of(quarantine: Quarantine, rows: np.ndarray) -> Quarantine:
    """The part of a quarantine that is of some rows, numbered anew."""
    reasons = quarantine.reasons
    return Quarantine({n: reasons[row] for n, row in enumerate(rows.tolist()) if row in reasons})


def _take_over(quarantine: Quarantine, part: Quarantine, rows: np.ndarray) -> None:
    """Add what was found out about some rows, which `_part_of` had numbered anew."""
    for place, reason in part.reasons.items():
        quarantine.reasons[int(rows[place])] = reason
    quarantine.kept.update(int(rows[place]) for place in part.kept)
    quarantine.events += part.events
    if part.events and quarantine.on_event is not None:
        quarantine.on_event()


# -------------------------------------------------------------------------------------- opening


def view_clips(clips: ClipDataset, views: int | None, kept: Kept | None = None) -> ViewClips:
    """Training clips of which so many epochs are different ones."""
    own = {field.name: getattr(clips, field.name) for field in fields(clips)}
    return ViewClips(**own, views=views or 1, kept=kept)


def open_features(
    task: ProbeTask,
    clips: ClipDataset,
    on_device: OnDevice,
    config: FinetuneConfig,
    accelerator: Any,
    *,
    rows: Rows,
    scored: dict[str, Rows],
    options: dict[str, Any],
) -> Features:
    """The cache of a run.

    Args:
        task: the probes and their trunk, with its final clip settings.
        clips: the training clips.
        on_device: makes clips what the trunk takes.
        config: of the run.
        accelerator: of the run.
        rows: all training rows, before some were held out.
        scored: the rows that are scored, by name: ``val``, and ``held-out`` of the training rows.
        options: of the scoring, see `Features`.

    Raises:
        UsageError: a folder that holds something else.
        VidinitError: the disk has too little room; it says how much that takes.
    """
    folder = Path(str(config.train.feature_cache))
    _check_folder(folder)
    views, crops = config.train.feature_views or 1, options["clips"] * options["crops"]
    dtype = "float16" if config.train.feature_precision == "fp16" else "float32"
    shapes = _shapes(task)
    places = {row: number for number, row in enumerate(rows.rows)}
    still = not still_settings(config.data, clips.augment.flip)
    # Other clips are drawn by their row's number among those that are trained on.
    wanted = {"train": (rows if still else clips.rows, clips.rows, views * clips.repeats)}
    for name, part in scored.items():
        wanted[name] = (rows if name == "held-out" else part, part, crops)
    size = sum(
        predicted_bytes(len(every) * each, shape, dtype, len(part) * each)
        for every, part, each in wanted.values()
        for shape in shapes.values()
    )
    half = "" if dtype == "float16" else "; train.feature_precision=fp16 takes half of that"
    say(
        f"features of the frozen trunk: {size_text(size)} in {folder} for {len(clips.rows)} clips"
        f"{f' x {views} views' if views > 1 else ''}"
        f"{_and_scored(scored, crops)}{half}"
    )
    if not still and config.train.feature_views is None and config.train.epochs > 1:
        say(
            "note: with train.feature_cache all epochs show the clips of the first one, cut and "
            "augmented as there; train.feature_views=4 keeps those of four epochs"
        )
    check_room(folder, size)
    trunk = _digest_of_trunk(task.model)
    of_rows = digest_of_videos(rows)  # it looks at each file
    kept: dict[str, Kept] = {}
    for name, (every, part, each) in wanted.items():
        depends = _scored_settings(config)
        if name == "train":
            depends = {"clips": "center"} if still else _drawn_settings(config, clips)
        videos = of_rows if every is rows else digest_of_videos(every)
        numbers = np.arange(len(part))
        if every is not part:
            numbers = np.array([places[row] for row in part.rows])
        stores = {
            output: ArrayStore(
                folder / name / output,
                count=len(every) * each,
                shape=shape,
                dtype=dtype,
                fingerprint={
                    "weights": trunk,
                    **_beside_weights(task.model),
                    "precision": str(config.precision),
                    "clip": task.model.spec.as_dict(),
                    "decode_side": config.data.decode_side,
                    "videos": videos,
                    **depends,
                },
                expected=len(part) * each,
            )
            for output, shape in shapes.items()
        }
        kept[name] = Kept(stores, each, numbers)
    train = kept.pop("train")
    there = train.has(train.keys(np.arange(len(clips.rows))[:, None], np.arange(train.views)))
    if there.any():
        say(f"features of the frozen trunk: those of {int(there.sum())} clips are there")
    return Features(
        task, on_device, accelerator, view_clips(clips, views, train), kept, dict(options)
    )


_PARTS, _OUTPUTS = ("train", "val", "held-out"), ("descriptor", "tokens")


def _check_folder(folder: Path) -> None:
    """Raise UsageError for a folder of something else: a data set has a ``train``, too."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"train.feature_cache={folder} is a file", "name an empty folder")
    found = [p for p in folder.glob("*") if p.name[0] != "."]
    inside = [p for part in found if part.name in _PARTS for p in part.glob("*")]
    others = [p for p in found if p.name not in _PARTS]
    others += [p for p in inside if p.name not in _OUTPUTS and p.name[0] != "."]
    if others:
        raise UsageError(
            f"train.feature_cache={folder} is no cache: it holds {min(others).relative_to(folder)}",
            "name an empty folder",
        )


def _and_scored(scored: dict[str, Rows], crops: int) -> str:
    words = {"val": "validation", "held-out": "held-out"}
    parts = [f" and {len(rows)} {words[name]} videos" for name, rows in scored.items()]
    return "".join(parts) + (f" x {crops} views" if parts and crops > 1 else "")


def _shapes(task: ProbeTask) -> dict[str, tuple[int, ...]]:
    """Of the outputs that are kept, for one clip; by one pass through the trunk."""
    model, spec = task.model, task.model.spec
    first = next(model.parameters())
    clip = torch.zeros(1, model.in_channels, spec.frames, spec.size, spec.size, device=first.device)
    with in_eval_mode(model):
        outputs = task.trunk_outputs(clip)
    found = {"descriptor": tuple(outputs.descriptor.shape[1:])}
    if outputs.tokens is not None:
        found["tokens"] = tuple(outputs.tokens.shape[1:])
    return found


def _digest_of_trunk(model: VideoModel) -> str:
    """The network's name and a digest of its weights, but the head's, of which probes have own."""
    heads = [key for key in model.state_dict() if key.startswith("head.")]
    return f"{model.name} {digest(model, without=heads)}"


def _beside_weights(model: VideoModel) -> dict[str, Any]:
    """All that no weight of a trunk tells: the scale of adapters, heads, the pooler."""
    return {
        **{f"option {key}": value for key, value in sorted(model.options.items())},
        "still": model.still,
        "pooler": None if model.pooler is None else model.pooler.settings(),
    }


def _drawn_settings(config: FinetuneConfig, clips: ClipDataset) -> dict[str, Any]:
    """All that decides on training clips that are drawn."""
    cut = {name: getattr(clips.augment, name) for name in _AUGMENT}
    return {"seed": config.train.seed, "start": config.data.start, **cut}


_AUGMENT = ("scale", "ratio", "jitter", "flip", "randaug", "color_jitter", "grayscale", "erasing")


def _scored_settings(config: FinetuneConfig) -> dict[str, Any]:
    """All that decides on the views of videos that are scored."""
    scored = config.eval
    return {
        "clips": scored.clips,
        "crops": scored.crops,
        "start": scored.start,
        "partial": config.data.partial,
    }

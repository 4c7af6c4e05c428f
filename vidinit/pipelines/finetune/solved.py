"""`--probe ridge` and `--probe logistic`: probes that are solved over one pass of a frozen trunk.

Each clip is seen once, as it is scored. Four kinds of features are made of a trunk's outputs:
``mean`` is its own descriptor, ``change`` the mean absolute difference of neighboring frames'
tokens, ``segments`` the means of K parts of the clip in order, ``all`` these three (the mean being
that of the tokens). Which of them a probe reads, and how strongly it is regularized, is chosen by
cross-validation on the training clips; `solver` has the mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...checkpoint import save_model
from ...config.probe_text import ALL, CHANGE, FEATURES, MEAN, SEGMENTS, ProbeEntry, named_probes
from ...console import say
from ...data.loading.quarantine import Quarantine
from ...data.pixels.batch import normalize
from ...data.rows import Rows
from ...engine.collectives import from_main
from ...errors import DataError, UsageError, VidinitError
from ...report.html import Section, table
from ...report.model_parts import model_sections
from ...report.run_report import write_report
from ...report.scores import time_section
from ...scoring.metrics import CHOICE, WATCH, Scores, labels_of
from ...scoring.score import map_videos, split_scores
from ...scoring.time_test import MEAN_POOL
from ...zoo.base import VideoModel, with_head
from ...zoo.poolers import PARTS, SegmentsPooler
from ...zoo.probabilities import averaged
from ..evaluate.time_test import has_order
from ..shared.clips import CheckedSplit, data_name, quarantine_of, scoring_options, split_of
from ..shared.modality import set_spec
from ..shared.overlap import say_overlap
from ..shared.run_records import HealthFile, open_run
from ..shared.skewed_classes import class_lists, class_weights, keep_class_weights, say_skew
from ..shared.training import Training, open_model, set_training
from .choice import group_of
from .settings import FinetuneConfig
from .solver import Solution, grouped_folds, solve
from .time_test import time_of_run

READ = {MEAN: ("mean",), CHANGE: ("change",), SEGMENTS: ("segments",), ALL: PARTS}
"""Parts of `SegmentsPooler` that each of the features is; the mean alone is a trunk's own."""
SEGMENTS_OF_A_CLIP = 4


@dataclass(frozen=True)
class Features:
    """Features of the views of some videos, by a frozen trunk.

    Attributes:
        values: float32 (videos, views, D) by the name of a part: a trunk's own ``descriptor``, and
            `PARTS`; ``segments`` by their number, as ``segments 4``.
        missing: why a video has none, by its row.
    """

    values: dict[str, np.ndarray]
    missing: dict[int, str]

    def blocks(self, features: str, segments: int) -> list[np.ndarray]:
        """The parts, each (videos, views, D), that a probe of these features reads."""
        if features == MEAN:
            return [self.values["descriptor"]]
        return [self.values[part_key(part, segments)] for part in READ[features]]


def part_key(part: str, segments: int) -> str:
    """The name of a part in `Features.values`."""
    return f"{part} {segments}" if part == "segments" else part


@dataclass(frozen=True)
class SolvedProbe:
    """A probe with its weights.

    Attributes:
        features: one of `FEATURES`.
        segments: K.
        solution: of `solver.solve`.
    """

    features: str
    segments: int
    solution: Solution

    def head(self) -> nn.Linear:
        """The linear head."""
        weight = self.solution.weight
        head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(self.solution.bias)
        return head

    def as_head(self, model: VideoModel) -> VideoModel:
        """The model with this probe for its head; they share the trunk."""
        if self.features == MEAN:
            return with_head(model, self.head(), pooler=model.pooler)
        pooler = SegmentsPooler(
            model.num_features, parts=READ[self.features], segments=self.segments
        )
        return with_head(model, self.head(), pooler=pooler)


def execute_solved(
    config: FinetuneConfig, training: Training[FinetuneConfig], split: CheckedSplit
) -> dict[str, Any]:
    """A run whose probes are solved; the result is that of a run whose probes are trained.

    Args:
        config: of the run.
        training: whose data is checked.
        split: the rows.

    Raises:
        UsageError: labels that are pairs, or a dry run.
        DataError: one class alone, or no clip that can be read.
    """
    train, data, accelerator = config.train, config.data, training.accelerator
    rows, val, name = split.train, split.val, data_name(data.train)
    if training.dry_run:
        raise UsageError(
            "--dry-run takes a step of training, and these probes are solved without any",
            "leave it out: a run is one pass over the clips",
        )
    _check_labels(rows, name)
    overlap, of_overlap = from_main(
        accelerator, lambda: say_overlap(rows, val, name, named=data.val is not None)
    )
    clips_of_classes, of_skew = say_skew(
        rows, name, balance=data.balance, class_weights=train.class_weights
    )
    weights = class_weights(train.class_weights, rows, name)
    classes = list(rows.classes or ())
    model = open_model(
        config.model,
        len(classes),
        classes,
        options=config.options,
        init_from=config.init_from,
        head=config.source,
    )
    set_training(model, train)
    set_spec(model, data)
    model.label_kind = rows.kind
    model = model.to(accelerator.device).eval().requires_grad_(False)
    if data.batch_size == "auto":
        data.batch_size = 8
        say("data.batch_size=auto: 8, as nothing is trained")
    quarantines = {
        "train": quarantine_of(rows, split.check.known),
        "val": quarantine_of(val or rows.of(()), split.check.known),
    }
    run = open_run(
        *(config, config.command, accelerator),
        resume=training.resume,
        overwrite=training.overwrite,
    )
    health = HealthFile(
        run, [split.check.health], list(quarantines.values()), resumed=training.resume
    )
    names = class_lists(rows)
    keep_class_weights(run, dict(zip(names, weights or (), strict=False)), names)
    if data.train is not None and data.val is None and val is not None:
        run.write_json("split.json", split_of(data.train, val))
    entries = named_probes(train.probes)
    counts = sorted({_segments(entry) for entry in entries.values()})
    say(f"one pass of the frozen trunk over {len(rows)} training clips")
    seen = features_of(model, rows, config, accelerator, quarantines["train"], counts)
    solved = solved_probes(entries, seen, rows, train.seed, weights)
    chosen = min(entries, key=lambda name: solved[name].solution.loss)
    for name, probe in solved.items():
        own = probe.solution
        say(
            f"probe {name}: reads {probe.features}, penalty {own.penalty:g}, cross-validated loss "
            f"{own.loss:.3f}{', in the model folder' if name == chosen else ''}"
        )
    step: dict[str, Any] = {"step": "finetune", "data": data.train, "probe": chosen}
    watch = WATCH[rows.kind]
    each: dict[str, float | None] = dict.fromkeys(solved)
    if val is not None:
        scored = features_of(model, val, config, accelerator, quarantines["val"], counts)
        scores = scores_of(solved, scored, val, config.eval.average)
        each = {name: one.metrics()[watch] for name, one in scores.items()}
        metrics = {
            **scores[chosen].logged(),
            **{f"{watch}_{name}": value for name, value in each.items() if value is not None},
        }
        run.log(epoch=1, step=0, **metrics)
        say("  ".join(f"{key} {value:.3f}" for key, value in metrics.items()))
        step |= metrics
    plain = solved.get(MEAN_POOL)
    model.lineage = [*model.lineage, step]
    if run.writes:
        run.check()
        save_model(
            solved[chosen].as_head(model),
            run.model,
            mean_pool=None if plain is None else plain.head(),
        )
    accelerator.wait_for_everyone()
    result: dict[str, Any] = {
        "out": str(run.root),
        "steps": 0,
        "best": each[chosen],
        "videos": len(rows),
        "skipped": len(seen.missing),
        "overlap": overlap,
        "class_clips": clips_of_classes,
        "notes": of_overlap + of_skew,
        "probe": chosen,
        "probes": each,
        "solved": {name: _told(probe) for name, probe in solved.items()},
    }
    if len(entries) > 1:
        losses = {name: round(solved[name].solution.loss, 6) for name in entries}
        result[CHOICE] = {"clips": len(rows), "losses": losses}
    sections = [_section(solved, each, chosen, watch)]
    if config.eval.time_test and val is not None and has_order(model.spec):
        result["time"] = time_of_run(run, val, config, accelerator, quarantines["val"])
        sections.append(time_section(result["time"]))
    health.gather(accelerator)
    run.write_json("result.json", result)
    if run.writes:
        parts = [*sections, *model_sections(run.model, model)]
        write_report(run, title=f"finetune {config.model}", config=config, extra=parts)
    accelerator.wait_for_everyone()
    return result


def _check_labels(rows: Rows, name: str) -> None:
    """Raise for labels that a linear classifier cannot be solved for."""
    if rows.kind == "pair":
        raise UsageError(
            "train.probes are not for two labels a clip", "leave them out, or list one label"
        )
    used = {label for row in rows.rows for label in _labels(row.label)}
    if rows.kind == "single" and len(used) < 2:
        raise DataError(
            f"{name}: all training clips are of one class, so there is nothing to tell apart",
            "give a folder or list with at least two classes",
        )


def _labels(label: Any) -> tuple[int, ...]:
    return () if label is None else (label,) if isinstance(label, int) else tuple(label)


def _segments(entry: ProbeEntry) -> int:
    return int(entry.options.get("segments", SEGMENTS_OF_A_CLIP))


def features_of(
    model: VideoModel,
    rows: Rows,
    config: FinetuneConfig,
    accelerator: Any,
    quarantine: Quarantine,
    segments: Sequence[int],
) -> Features:
    """The features of videos, by one pass of the trunk over them; the same on all processes.

    Args:
        model: the trunk, in eval mode.
        rows: the videos.
        config: of the run: how they are read, and how many views each has.
        accelerator: of the run.
        quarantine: those that are not to be tried.
        segments: all numbers of segments that are asked for.

    Raises:
        DataError: no video can be read.
        VidinitError: a feature is no number.
    """
    spec, width = model.spec, model.num_features
    poolers = {part: SegmentsPooler(width, parts=[part]) for part in ("mean", "change")}
    poolers |= {
        part_key("segments", count): SegmentsPooler(width, parts=["segments"], segments=count)
        for count in segments
    }

    def read(views: Tensor, _: Sequence[int]) -> list[dict[str, np.ndarray] | str]:
        clips = normalize(views.flatten(0, 1), spec.mean, spec.std, bgr=spec.channels == "bgr")
        descriptor, tokens = model.embed_with_tokens(clips)
        tokens = model.by_frame(tokens).float()
        found = {"descriptor": descriptor.float()}
        if tokens.shape[1] > 1:
            found |= {name: pooler(tokens) for name, pooler in poolers.items()}
        apart = {
            name: value.unflatten(0, views.shape[:2]).cpu().numpy() for name, value in found.items()
        }
        return [{name: value[n].copy() for name, value in apart.items()} for n in range(len(views))]

    results = dict(
        map_videos(
            model,
            rows,
            spec,
            accelerator,
            read,
            clips=config.eval.clips,
            crops=config.eval.crops,
            start=config.eval.start,
            **scoring_options(config.data, accelerator, quarantine),
        )
    )
    missing = {row: reason for row, reason in results.items() if isinstance(reason, str)}
    there = [found for found in results.values() if not isinstance(found, str)]
    if not there:
        raise DataError("no clip can be read", "vidinit data check says why")
    values = {
        name: np.full((len(rows), *first.shape), np.nan, dtype=np.float32)
        for name, first in there[0].items()
    }
    for row, found in results.items():
        if not isinstance(found, str):
            for name, value in found.items():
                values[name][row] = value
    readable = [row for row in results if row not in missing]
    if not all(np.isfinite(value[readable]).all() for value in values.values()):
        raise VidinitError(
            "the trunk's outputs are no numbers for some clips", "set precision=fp32"
        )
    return Features(values, missing)


def solved_probes(
    entries: Mapping[str, ProbeEntry],
    seen: Features,
    rows: Rows,
    seed: int,
    class_weights: Sequence[Sequence[float]] | None = None,
) -> dict[str, SolvedProbe]:
    """The probes by name, each with the features whose cross-validated loss is least.

    Where the best of all reads more than the trunk's own descriptor, `MEAN_POOL` is one of the same
    kind that reads that alone, to be compared with.

    Args:
        entries: the probes as they are configured.
        seen: features of the training clips.
        rows: the training clips; those of one group are in one fold (`choice.group_of`).
        seed: of the folds.
        class_weights: of the classes, see `skewed_classes.class_weights`.

    Raises:
        DataError: all clips are of one group, so that nothing can be left out.
    """
    used = np.array([row for row in range(len(rows)) if row not in seen.missing])
    count = len(rows.classes or ())
    labels = labels_of(rows, count)[used]
    hot = labels.astype(bool) if rows.kind == "multi" else np.eye(count, dtype=bool)[labels]
    first = hot.argmax(axis=1)
    folds = grouped_folds(first.tolist(), [group_of(rows.rows[row]) for row in used], seed)
    if not folds.any():
        raise DataError(
            "all training clips are of one group (one file, or one scene), so no regularization "
            "can be chosen on clips that were left out",
            "give clips of several files, or train: --probe linear",
        )
    weight = np.ones(len(used))
    if class_weights is not None:
        own = np.asarray(class_weights[0])
        weight = (hot * own).sum(axis=1) / np.maximum(hot.sum(axis=1), 1)
    solved: dict[tuple[str, str, int], SolvedProbe] = {}

    def of(kind: str, features: str, segments: int) -> SolvedProbe:
        """The probe of these features; each is solved once."""
        key = kind, features, segments if features in (SEGMENTS, ALL) else 0
        if key not in solved:
            blocks = [block[used] for block in seen.blocks(features, segments)]
            views = blocks[0].shape[1]
            x = np.concatenate(blocks, axis=2).reshape(len(used) * views, -1)

            def each(values: np.ndarray) -> Tensor:
                return torch.from_numpy(np.repeat(values, views, axis=0))

            solution = solve(
                *(kind, torch.from_numpy(x), each(hot.astype(np.float64)), each(folds)),
                each(weight),
                blocks=[block.shape[2] for block in blocks],
                labels="multi" if rows.kind == "multi" else "single",
            )
            solved[key] = SolvedProbe(features, segments, solution)
        return solved[key]

    found = {}
    for name, entry in entries.items():
        asked = entry.options.get("features", "auto")
        among = FEATURES if asked == "auto" else (asked,)
        if "change" not in seen.values:  # one frame, or one time, is all the trunk has
            if asked not in ("auto", MEAN):
                raise UsageError(
                    f"probe {entry} needs the outputs of several frames, and this trunk gives "
                    "those of one",
                    "take features=mean, or longer clips",
                )
            among = (MEAN,)
        each = [of(entry.kind, features, _segments(entry)) for features in among]
        found[name] = min(each, key=lambda probe: probe.solution.loss)
    best = min(entries, key=lambda name: found[name].solution.loss)
    if found[best].features != MEAN:
        found[MEAN_POOL] = of(entries[best].kind, MEAN, 0)
    return found


def scores_of(
    probes: Mapping[str, SolvedProbe], seen: Features, rows: Rows, average: Any
) -> dict[str, Scores]:
    """Scores of all probes on videos whose features are known.

    Args:
        probes: by name.
        seen: features of the videos.
        rows: the videos.
        average: over the views, see `zoo.probabilities.averaged`.
    """
    logits = []
    for probe in probes.values():
        blocks = seen.blocks(probe.features, probe.segments)
        x = np.concatenate(blocks, axis=2).astype(np.float64)
        logits.append(x @ probe.solution.weight.numpy().T + probe.solution.bias.numpy())
    values = averaged(
        np.concatenate(logits, axis=2),
        [one.shape[2] for one in logits],
        kind=rows.kind,
        average=average,
    )
    results: list[tuple[int, np.ndarray | str]] = [
        (row, seen.missing.get(row, values[row])) for row in range(len(rows))
    ]
    return split_scores(rows, results, names=list(probes), num_classes=len(rows.classes or ()))


def _told(probe: SolvedProbe) -> dict[str, Any]:
    """A probe in result.json."""
    own = probe.solution
    return {"features": probe.features, "penalty": own.penalty, "loss": round(own.loss, 6)}


def _section(
    probes: Mapping[str, SolvedProbe],
    each: Mapping[str, float | None],
    chosen: str,
    watch: str,
) -> Section:
    """The probes beside one another, for the report."""
    rows = [
        [name, probe.features, probe.solution.penalty, probe.solution.loss, each[name]]
        for name, probe in probes.items()
    ]
    headers = ["probe", "reads", "penalty", "cross-validated loss", watch]
    note = (
        "Chosen by the loss on training clips that were left out in turn, those of one group "
        f"together; {watch} is on the validation clips, which had no part in the choice."
    )
    body = table(headers, rows, highlight=list(probes).index(chosen))
    return Section("Probes of the frozen trunk", body, note)

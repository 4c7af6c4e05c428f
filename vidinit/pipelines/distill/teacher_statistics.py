"""The first pass over the data: thresholds of teachers' entropies, and whitenings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ...console import ProgressBar, say
from ...engine.run_folder import RunFolder
from ...errors import UsageError
from ...files import written
from ...report import plots
from ...report.html import Section
from .objectives.tokens import TokensObjective
from .settings import LOSSES
from .targets import Whitening, entropy, threshold
from .task import DistillTask
from .teachers import Teacher

FILE = "first_pass.npz"
_BINS = 60


def of_features(teacher: Teacher) -> bool:
    """True where a teacher gives features, not class logits."""
    return teacher.objective.loss in LOSSES["features"]


def needs_first_pass(teacher: Teacher) -> bool:
    """True where its objective has something to be estimated, or a threshold to be shown."""
    objective = teacher.objective
    confident = objective.keep is not None or objective.max_entropy is not None
    return confident or objective.standardize == "whiten"


def estimate(
    task: DistillTask, teachers: list[Teacher], batches: Iterable[dict[str, Any]], clips: int
) -> dict[str, np.ndarray]:
    """Run the teachers on some clips.

    Args:
        task: with all teachers.
        teachers: those that need it.
        batches: on the device, as the task takes them.
        clips: number of clips that are enough.

    Returns:
        By ``<teacher>/entropies``: nats, (N,); ``<teacher>/mean`` (C,) and ``<teacher>/matrix``
        (C, C): a whitening; ``<teacher>/maps/mean`` and ``<teacher>/maps/matrix``: that of maps.
    """
    outputs: dict[str, list[np.ndarray]] = {teacher.name: [] for teacher in teachers}
    tokens = whitened(task)
    positions: dict[str, list[np.ndarray]] = {}
    done = 0
    with ProgressBar("first pass") as bar:
        for batch in batches:
            of_batch = task.teacher_outputs(batch) if teachers else {}
            for name, parts in outputs.items():
                parts.append(of_batch[name].float().cpu().numpy())
            for name, some in {} if tokens is None else tokens.samples(tokens.ask(batch)).items():
                positions.setdefault(name, []).append(some.float().cpu().numpy())
            done += len(batch["clip"])
            bar.update(min(done, clips), clips)
            if done >= clips:
                break
    estimates: dict[str, np.ndarray] = {}
    for teacher in teachers:
        values = np.concatenate(outputs[teacher.name])[:clips]
        if not of_features(teacher):
            nats = entropy(torch.from_numpy(values), teacher.objective.temperature)
            estimates[f"{teacher.name}/entropies"] = nats.numpy()
        else:
            whitening = Whitening.of(values)
            estimates[f"{teacher.name}/mean"] = whitening.mean.numpy()
            estimates[f"{teacher.name}/matrix"] = whitening.matrix.numpy()
    for name, found in positions.items():
        whitening = Whitening.of(np.concatenate(found))
        estimates[f"{name}/maps/mean"] = whitening.mean.numpy()
        estimates[f"{name}/maps/matrix"] = whitening.matrix.numpy()
    return estimates


def apply(task: DistillTask, teachers: list[Teacher], found: dict[str, np.ndarray]) -> None:
    """Give the objectives the estimates.

    Raises:
        UsageError: a threshold that no clip passes.
    """
    tokens = whitened(task)
    for key in [key for key in found if key.endswith("/maps/matrix")]:
        assert tokens is not None
        name = key.removesuffix("/maps/matrix")
        parts = (torch.from_numpy(found[f"{name}/maps/{part}"]) for part in ("mean", "matrix"))
        tokens.whitening[name] = Whitening(*parts)
    for teacher in teachers:
        objective, name = teacher.objective, teacher.name
        if f"{name}/matrix" in found:
            parts = (torch.from_numpy(found[f"{name}/{part}"]) for part in ("mean", "matrix"))
            objective.whitening = Whitening(*parts)
            continue
        nats = found[f"{name}/entropies"]
        if objective.keep is not None:
            objective.max_entropy = threshold(nats, objective.keep)
        assert objective.max_entropy is not None
        share = float(np.mean(nats <= objective.max_entropy))
        if not share:
            raise UsageError(
                f"teacher '{name}' is never as sure as max_entropy={objective.max_entropy:g}: of "
                f"{len(nats)} clips the surest has {nats.min():.2f} nats",
                "raise it, or give a share with --keep",
            )
        say(
            f"teacher {name}: clips with an entropy of up to {objective.max_entropy:.3f} nats "
            f"count, {100 * share:.0f}% of {len(nats)}"
        )


def whitened(task: DistillTask) -> TokensObjective | None:
    """The objective of maps, if these are whitened."""
    for one in task.each():
        if isinstance(one, TokensObjective) and one.standardize == "whiten":
            return one
    return None


def begin(task: DistillTask, teachers: list[Teacher]) -> None:
    """Give objectives a whitening that changes nothing.

    A step is measured, for its memory, before the first pass has estimated the real one.
    """
    if (tokens := whitened(task)) is not None:
        for teacher in teachers:
            width = teacher.maps_shape[-1]
            tokens.whitening[teacher.name] = Whitening(torch.zeros(width), torch.eye(width))
    for teacher in teachers:
        objective = teacher.objective
        if objective.standardize == "whiten" and objective.whitening is None:
            objective.whitening = Whitening(torch.zeros(teacher.width), torch.eye(teacher.width))


def read(run: RunFolder) -> dict[str, np.ndarray] | None:
    """The estimates that the run began with, or None."""
    file = run.root / FILE
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def write(run: RunFolder, found: dict[str, np.ndarray]) -> None:
    """Keep the estimates in the run folder: a resumed run has the same thresholds."""
    if run.writes:
        with written(run.claim(FILE)) as part, part.open("wb") as file:
            np.savez(file, **found)  # type: ignore[arg-type]


def section(teachers: list[Teacher], found: dict[str, np.ndarray]) -> Section | None:
    """The density of the entropies, as Fig. 6 of the paper; None where there is no threshold."""
    series, notes = {}, []
    for teacher in teachers:
        nats = found.get(f"{teacher.name}/entropies")
        if nats is None or teacher.objective.max_entropy is None:
            continue
        density, edges = np.histogram(
            nats, bins=_BINS, range=(0, float(np.log(teacher.width))), density=True
        )
        centers = (edges[:-1] + edges[1:]) / 2
        series[teacher.name] = list(zip(centers.tolist(), density.tolist(), strict=True))
        eta = teacher.objective.max_entropy
        notes.append(
            f"{teacher.name}: clips of up to {eta:.3f} nats count, "
            f"{100 * float(np.mean(nats <= eta)):.0f} % of {len(nats)}."
        )
    if not series:
        return None
    picture = plots.curves(series, xlabel="entropy of the teacher (nats)", ylabel="density")
    return Section("Confidence of the teachers", picture, " ".join(notes))

"""What `finetune` does with probes: score all of them in one pass, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..checkpoint import read_card
from ..config import TrainConfig
from ..data.rows import Rows
from ..engine.metrics import WATCH
from ..engine.run_folder import RunFolder
from ..engine.scoring import score_each
from ..report.progress import say
from ..tasks.probe import ProbeTask
from ..tasks.probe_entries import named_probes
from ..tasks.task import Task
from ..zoo.base import ClipSpec, VideoModel
from .common import saver


def probe_task(model: VideoModel, rows: Rows, train: TrainConfig) -> ProbeTask:
    """The configured probes of a model on data of this kind.

    Raises:
        UsageError: labels that are pairs, or a probe that does not suit the model.
    """
    return ProbeTask(
        model,
        named_probes(train.probes),
        len(rows.classes or ()),
        kind=rows.kind,
        label_smoothing=train.label_smoothing,
        loss=train.loss,
        dropout=train.dropout,
        seed=train.seed,
    )


def score_probes(
    task: ProbeTask,
    val: Rows,
    spec: ClipSpec,
    accelerator: Any,
    **options: Any,
) -> dict[str, float]:
    """The best probe's metrics, and of each probe ``top1_<name>`` (multi-label: ``map_<name>``).

    Args:
        task: has the probes.
        val, spec, accelerator: as for `engine.scoring.score`.
        options: as for `engine.scoring.said_of`.
    """
    found = score_each(
        task.classifier(),
        val,
        spec,
        accelerator,
        names=list(task.entries),
        num_classes=len(val.classes or ()),
        **options,
    )
    metrics = {name: scores.metrics() for name, scores in found.items()}
    watch = WATCH[val.kind]
    told = [watch] if watch == "top1" else [watch, "top1"]
    each = {f"{key}_{name}": m[key] for key in told for name, m in metrics.items()}
    return {**metrics[best_probe(each, task, watch)], **each}


def best_probe(metrics: dict[str, float], task: ProbeTask, watch: str) -> str:
    """The probe with the highest watched metric; the first of equals, and where none was scored."""
    return max(task.entries, key=lambda name: metrics.get(f"{watch}_{name}", 0.0))


def probe_saver(
    task: ProbeTask, run: RunFolder, step: dict[str, Any]
) -> Callable[[dict[str, float]], None]:
    """Writes the model folder of a run: the model with the best probe, which the lineage names."""

    def save(metrics: dict[str, float]) -> None:
        name = best_probe(metrics, task, WATCH[task.label_kind])
        saver(task.joined(name), run, {**step, "probe": name})(metrics)

    return save


def compared(task: Task, run: RunFolder) -> dict[str, Any]:
    """What the result of a finished run says of its probes; it is told, too.

    Returns:
        ``{probe, probes}``: the one in the model folder, and the best ``top1`` (``map``) of each
        probe over all evaluations, None where there was none. Nothing where there are no probes.
    """
    if not isinstance(task, ProbeTask):
        return {}
    watch = WATCH[task.label_kind]
    rows = run.read_metrics()
    best = {
        name: max((row[key] for row in rows if key in row), default=None)
        for name, key in ((name, f"{watch}_{name}") for name in task.entries)
    }
    saved = read_card(run.model)["lineage"][-1]["probe"]
    for name, value in best.items():
        shown = "not scored" if value is None else f"{watch} {value:.3f}"
        say(f"probe {name}: {shown}{', in the model folder' if name == saved else ''}")
    return {"probe": saved, "probes": best}

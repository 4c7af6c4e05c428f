"""Probes: what a frozen trunk knows, by several small classifiers over one pass of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...checkpoint import read_card
from ...config import TrainConfig
from ...config.probes import ProbeEntry, named_probes
from ...console import say
from ...data.rows import LabelKind, Rows
from ...engine.run_folder import RunFolder
from ...engine.task import Rates, Task
from ...errors import UsageError
from ...scoring.score import score_each
from ...scoring.scores import WATCH
from ...zoo.base import VideoModel
from ...zoo.spec import ClipSpec
from ..shared.classify import classification_loss
from ..shared.training import saver
from .probes import MAKERS, Probe, Seen, seen_with_taps


class ProbeTask(Task):
    """The loss of each probe on a batch, under the probe's name.

    The trunk stays in eval mode without gradients and runs once a batch. No probe has to do with
    another: each begins as it would alone with this seed, and gets its own loss's gradients only.

    Args:
        model: what is probed; all of it is frozen.
        probes: settings by name, see `config.probes.named_probes`.
        num_classes: of each probe.
        kind: of the labels: ``single`` or ``multi``.
        label_smoothing, loss: as for `ClassifyTask`.
        dropout: before each head.
        seed: of the probes' weights.

    Raises:
        UsageError: labels that are pairs, or a probe that does not suit the model.
    """

    def __init__(
        self,
        model: VideoModel,
        probes: Mapping[str, ProbeEntry],
        num_classes: int,
        *,
        kind: LabelKind = "single",
        label_smoothing: float = 0.0,
        loss: Literal["ce", "bce"] = "ce",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        if kind == "pair":
            raise UsageError(
                "train.probes are not for two labels a clip", "leave them out, or list one label"
            )
        model.requires_grad_(False)
        model.label_kind = self.label_kind = kind
        self.entries = dict(probes)
        self.binary = loss == "bce" or kind == "multi"
        self.label_smoothing = label_smoothing
        self.probes = nn.ModuleDict()
        for name, entry in probes.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                probe = MAKERS[entry.kind](model, num_classes, dropout, **entry.options)
            self.probes[_key(name)] = probe
        self.needs_tokens = any(probe.needs_tokens for probe in self.by_name().values())
        self.needs_taps = any(probe.needs_taps for probe in self.by_name().values())

    def by_name(self) -> dict[str, Probe]:
        """The probes under their names."""
        return {name: self.probes[_key(name)] for name in self.entries}  # type: ignore[misc]

    def train(self, mode: bool = True) -> ProbeTask:
        """Train mode for the probes; the trunk stays as it is."""
        super().train(mode)
        self.model.eval()
        return self

    @torch.no_grad()
    def seen(self, clip: Tensor) -> Seen:
        """What the probes get of clips (B, 3, T, H, W): one pass through the trunk."""
        if self.needs_taps:
            return seen_with_taps(self.model, clip)
        if self.needs_tokens:
            return Seen(clip, *self.model.embed_with_tokens(clip))
        return Seen(clip, self.model.embed(clip))

    def logits(self, clip: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) of each probe."""
        seen = self.seen(clip)
        return {name: probe(seen) for name, probe in self.by_name().items()}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A loss per probe, of a batch as `ClassifyTask` takes it."""
        return {
            name: classification_loss(
                logits, batch, binary=self.binary, label_smoothing=self.label_smoothing
            )
            for name, logits in self.logits(batch["clip"]).items()
        }

    def classifier(self) -> nn.Module:
        """From clips to logits by probe, as `scoring.score.score_each` takes it."""
        return _Classifier(self)

    def joined(self, name: str) -> VideoModel:
        """The model with this probe for its head, complete by itself; it shares its tensors."""
        return self.by_name()[name].joined(self.model)

    def head_parameters(self) -> set[str]:
        """All that is trained: the names of the probes' parameters."""
        return {name for name, _ in self.named_parameters() if name.startswith("probes.")}

    def classifiers(self) -> dict[str, nn.Module]:
        """The probes."""
        return dict(self.by_name())

    def own_rates(self) -> dict[str, Rates]:
        """Learning rate and weight decay of the probes that have their own."""
        return {
            f"probes.{_key(name)}.{parameter}": Rates(entry.lr, entry.weight_decay)
            for name, entry in self.entries.items()
            for parameter, _ in self.by_name()[name].named_parameters()
        }


class _Classifier(nn.Module):
    def __init__(self, task: ProbeTask) -> None:
        super().__init__()
        self.task = task
        self.label_kind = task.label_kind
        self.training = task.training

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        return self.task.logits(clip)


def _key(name: str) -> str:
    """Module names may not hold dots."""
    return name.replace(".", "_")


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
        val, spec, accelerator: as for `scoring.score.score`.
        options: as for `scoring.score.probabilities_by_row`.
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

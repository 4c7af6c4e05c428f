"""Probes of a frozen trunk: several small classifiers, trained and scored over one pass of it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...checkpoint import read_card
from ...config import TrainConfig
from ...config.probe_text import ATTENTIVE, DIST, LINEAR, ProbeEntry, named_probes
from ...console import say
from ...data.rows import LabelKind, Rows
from ...engine.run_folder import RunFolder
from ...engine.task import Rates, Task
from ...errors import UsageError
from ...scoring.metrics import WATCH
from ...scoring.score import score_each
from ...zoo.attentive import AttentivePooler
from ...zoo.base import VideoModel
from ...zoo.build import assemble
from ...zoo.dist_network.model import DistModel
from ...zoo.dist_network.tower import kept_tokens, why_no_tower
from ...zoo.folding import fold
from ...zoo.names import find_entry
from ...zoo.spec import ClipSpec
from ..shared.heads import module_keys, new_head
from ..shared.training import saver
from ..shared.weighted_loss import classification_loss


@dataclass(frozen=True)
class TrunkOutputs:
    """The outputs of a frozen trunk for a batch of clips.

    Attributes:
        clip: the clips themselves, (B, 3, T, H, W).
        descriptor: (B, C).
        tokens: (B, N, C), or None where no probe needs them.
        taps: output of each block of a vision transformer, as `kept_tokens` has them, (B*T, 1 + P,
            C), or None where no probe needs them.
    """

    clip: Tensor
    descriptor: Tensor
    tokens: Tensor | None = None
    taps: list[Tensor] | None = None


class Probe(nn.Module, ABC):
    """A small classifier over the outputs of a frozen trunk.

    Attributes:
        needs_tokens, needs_taps: True where it reads them, see `TrunkOutputs`.
    """

    needs_tokens = False
    needs_taps = False

    @abstractmethod
    def forward(self, outputs: TrunkOutputs) -> Tensor:
        """Logits (B, classes)."""

    @abstractmethod
    def as_head(self, model: VideoModel) -> VideoModel:
        """A copy of the model with this probe for its head; they share their tensors."""


class LinearProbe(Probe):
    """A linear head on the descriptor."""

    def __init__(self, model: VideoModel, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.head = new_head(model, num_classes)

    def forward(self, outputs: TrunkOutputs) -> Tensor:
        """Logits (B, classes) of the descriptor."""
        return self.classify(outputs.descriptor)

    def classify(self, descriptor: Tensor) -> Tensor:
        """(B, C) to logits (B, classes)."""
        logits: Tensor = self.head(self.dropout(descriptor))
        return logits

    def as_head(self, model: VideoModel) -> VideoModel:
        """The model with this head."""
        twin = copy.copy(model)
        twin._modules = dict(model._modules)  # a copy of a module shares this dict
        twin.head = self.head
        twin.num_classes = self.head.out_features
        return twin


class AttentiveProbe(LinearProbe):
    """A linear head on what a learned query finds among the tokens, see `AttentivePooler`."""

    needs_tokens = True

    def __init__(self, model: VideoModel, num_classes: int, dropout: float, **options: int) -> None:
        super().__init__(model, num_classes, dropout)
        self.pooler = AttentivePooler(model.num_features, **options)

    def forward(self, outputs: TrunkOutputs) -> Tensor:
        """Logits (B, classes) of the tokens."""
        assert outputs.tokens is not None
        return self.classify(self.pooler(outputs.tokens))

    def as_head(self, model: VideoModel) -> VideoModel:
        """The model with this pooler and head."""
        twin = super().as_head(model)
        twin.pooler = self.pooler
        return twin


class DistProbe(Probe):
    """DiST's side network beside a vision transformer, and a linear head; see `zoo.dist_network`.

    Raises:
        UsageError: another trunk, or clips that do not suit gamma.
    """

    needs_taps = True

    def __init__(self, model: VideoModel, num_classes: int, dropout: float, **options: int) -> None:
        super().__init__()
        name = f"dist-{model.name.partition('-')[2]}"
        twin = assemble(
            _vision_transformer(model),
            find_entry(name),
            num_classes=num_classes,
            name=name,
            **{**options, "projection": 0},  # the trunk's classifier was taken off
        )
        assert isinstance(twin, DistModel)
        twin.spec = model.spec
        self.dropout = nn.Dropout(dropout)
        self.side, self.head = twin.side, twin.head
        self._twin = (twin,)  # not a module of this one: its tower is the trunk

    def forward(self, outputs: TrunkOutputs) -> Tensor:
        """Logits (B, classes) of the clips and the taps."""
        assert outputs.taps is not None
        (twin,) = self._twin
        frames, gamma = outputs.clip.shape[2], twin.side.gamma
        every = (tap.unflatten(0, (-1, frames))[:, ::gamma].flatten(0, 1) for tap in outputs.taps)
        twin.use_taps(list(every))
        return self.head(self.dropout(twin.embed(outputs.clip)))

    def as_head(self, model: VideoModel) -> VideoModel:
        """A DiST model with the trunk for its tower."""
        twin = copy.copy(self._twin[0])
        twin.classes, twin.label_kind = model.classes, model.label_kind
        twin.lineage = list(model.lineage)
        return twin


PROBES: dict[str, type[LinearProbe | DistProbe]] = {
    LINEAR: LinearProbe,
    ATTENTIVE: AttentiveProbe,
    DIST: DistProbe,
}
"""The probes by the word for them, see `config.probe_text`."""


def _vision_transformer(model: VideoModel) -> nn.Module:
    """The trunk of a c2d model, if it is one that DiST can stand beside."""
    trunk = getattr(model, "trunk", None)
    reason = "it is no image network run frame by frame"
    if model.name.startswith("c2d-") and isinstance(trunk, nn.Module):
        reason = why_no_tower(trunk)
        if not reason:
            return trunk
    raise UsageError(
        f"probe dist cannot stand beside {model.name or type(model).__name__}: {reason}",
        "probe a c2d model of a vision transformer, c2d-vit_base_patch16_224 for example",
    )


def _outputs_with_taps(model: VideoModel, clip: Tensor) -> TrunkOutputs:
    """All outputs of a frozen c2d model of a vision transformer, in one pass."""
    trunk = _vision_transformer(model)
    model.frames.value = clip.shape[2]
    maps, taps = trunk.forward_intermediates(  # type: ignore[operator]
        fold(clip), return_prefix_tokens=True, norm=False, output_fmt="NLC"
    )
    tokens = model.spread(maps, len(clip))
    descriptor = model.pooled(maps) if model.pooler is None else model.pooler(tokens)
    return TrunkOutputs(clip, descriptor, tokens, [kept_tokens(tap) for tap in taps])


class ProbeTask(Task):
    """The loss of each probe on a batch, under the probe's name.

    The trunk stays in eval mode without gradients and runs once a batch. No probe has to do with
    another: each begins as it would alone with this seed, and gets its own loss's gradients only.

    Args:
        model: the trunk; all of it is frozen.
        probes: settings by name, see `config.probe_text.named_probes`.
        num_classes: of each probe.
        kind: of the labels: ``single`` or ``multi``.
        label_smoothing, loss, class_weights: as for `ClassifyTask`.
        dropout: before each head.
        seed: of the probes' weights.

    Raises:
        UsageError: labels that are pairs, or a probe that does not suit the model.
    """

    weights: Tensor | None

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
        class_weights: Sequence[Sequence[float]] | None = None,
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
        weights = None if class_weights is None else torch.tensor(class_weights[0])
        self.register_buffer("weights", weights, persistent=False)
        self.probes = nn.ModuleDict()
        self._keys = module_keys(probes, "_")
        for name, entry in probes.items():
            # Of their own draws, so that a probe does not depend on which others there are.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                probe = PROBES[entry.kind](model, num_classes, dropout, **entry.options)
            self.probes[self._keys[name]] = probe
        self.needs_tokens = any(probe.needs_tokens for probe in self.by_name().values())
        self.needs_taps = any(probe.needs_taps for probe in self.by_name().values())

    @classmethod
    def configured(
        cls,
        model: VideoModel,
        rows: Rows,
        train: TrainConfig,
        class_weights: Sequence[Sequence[float]] | None = None,
    ) -> ProbeTask:
        """The probes of a configuration, on data of this kind."""
        return cls(
            model,
            named_probes(train.probes),
            len(rows.classes or ()),
            kind=rows.kind,
            label_smoothing=train.label_smoothing,
            loss=train.loss,
            dropout=train.dropout,
            seed=train.seed,
            class_weights=class_weights,
        )

    def by_name(self) -> dict[str, Probe]:
        """The probes under their names."""
        return {name: self.probes[key] for name, key in self._keys.items()}  # type: ignore[misc]

    def train(self, mode: bool = True) -> ProbeTask:
        """Train mode for the probes; the trunk stays as it is."""
        super().train(mode)
        self.model.eval()
        return self

    @torch.no_grad()
    def trunk_outputs(self, clip: Tensor) -> TrunkOutputs:
        """All that the probes read of clips (B, 3, T, H, W), by one pass through the trunk."""
        if self.needs_taps:
            return _outputs_with_taps(self.model, clip)
        if self.needs_tokens:
            return TrunkOutputs(clip, *self.model.embed_with_tokens(clip))
        return TrunkOutputs(clip, self.model.embed(clip))

    def logits(self, clip: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) of each probe."""
        outputs = self.trunk_outputs(clip)
        return {name: probe(outputs) for name, probe in self.by_name().items()}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A loss per probe, of a batch as `ClassifyTask` takes it."""
        return {
            name: classification_loss(
                logits,
                batch,
                binary=self.binary,
                label_smoothing=self.label_smoothing,
                weight=self.weights,
            )
            for name, logits in self.logits(batch["clip"]).items()
        }

    def classifier(self) -> nn.Module:
        """From clips to logits by probe, as `scoring.score.score_each` takes it."""
        return _Classifier(self)

    def best(self, metrics: Mapping[str, float]) -> str:
        """The probe with the highest watched metric; the first of equals, and where none has one.

        Args:
            metrics: as `score_probes` returns them.
        """
        watch = WATCH[self.label_kind]
        return max(self.entries, key=lambda name: metrics.get(f"{watch}_{name}", 0.0))

    def model_with(self, name: str) -> VideoModel:
        """The model with this probe for its head, complete by itself; it shares its tensors."""
        return self.by_name()[name].as_head(self.model)

    def head_parameters(self) -> set[str]:
        """All that is trained: the names of the probes' parameters."""
        return {name for name, _ in self.named_parameters() if name.startswith("probes.")}

    def classifiers(self) -> dict[str, nn.Module]:
        """The probes."""
        return dict(self.by_name())

    def own_rates(self) -> dict[str, Rates]:
        """Learning rate and weight decay of the probes that have their own."""
        return {
            f"probes.{self._keys[name]}.{parameter}": Rates(entry.lr, entry.weight_decay)
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
    scores = score_each(
        task.classifier(),
        val,
        spec,
        accelerator,
        names=list(task.entries),
        num_classes=len(val.classes or ()),
        **options,
    )
    metrics = {name: one.metrics() for name, one in scores.items()}
    watch = WATCH[val.kind]
    keys = [watch] if watch == "top1" else [watch, "top1"]
    each = {f"{key}_{name}": own[key] for key in keys for name, own in metrics.items()}
    return {**metrics[task.best(each)], **each}


def probe_saver(
    task: ProbeTask, run: RunFolder, step: dict[str, Any]
) -> Callable[[dict[str, float]], None]:
    """Writes the model folder of a run: the model with the best probe, which the lineage names."""

    def save(metrics: dict[str, float]) -> None:
        name = task.best(metrics)
        saver(task.model_with(name), run, {**step, "probe": name})(metrics)

    return save


def probe_results(task: Task, run: RunFolder) -> dict[str, Any]:
    """The probes' part of the result of a finished run, which is also printed.

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
    saved = read_card(run.model).lineage[-1]["probe"]
    for name, value in best.items():
        shown = "not scored" if value is None else f"{watch} {value:.3f}"
        say(f"probe {name}: {shown}{', in the model folder' if name == saved else ''}")
    return {"probe": saved, "probes": best}

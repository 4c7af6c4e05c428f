"""Probes of a frozen trunk: several small classifiers, trained and scored over one pass of it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...checkpoint import read_card
from ...config import TrainConfig
from ...config.probe_text import (
    ATTENTIVE,
    DIST,
    GRU,
    LINEAR,
    READOUT,
    ProbeEntry,
    named_probes,
)
from ...console import say
from ...data.rows import LabelKind, Rows
from ...engine.run_folder import RunFolder
from ...engine.task import Rates, Task
from ...errors import UsageError, VidinitError
from ...scoring.metrics import CHOICE, WATCH, Scores
from ...scoring.time_test import MEAN_POOL
from ...zoo.adapters.frozen import NamesFrozen
from ...zoo.adapters.tower import kept_tokens, why_no_tower
from ...zoo.base import VideoModel, with_head
from ...zoo.build import assemble
from ...zoo.dist_network.model import DistModel
from ...zoo.folding import fold
from ...zoo.modify.eval_mode import in_eval_mode
from ...zoo.names import find_entry
from ...zoo.poolers import make_pooler
from ..shared.heads import module_keys, new_head, new_linear
from ..shared.training import saver
from ..shared.weighted_loss import classification_loss, share_right


@dataclass(frozen=True)
class TrunkOutputs:
    """The outputs of a frozen trunk for a batch of clips.

    Attributes:
        descriptor: (B, C).
        tokens: (B, T', N, C), frame by frame, or None where no probe needs them.
        clip: the clips themselves, (B, 3, T, H, W), or None where no probe needs them.
        taps: output of each block of a vision transformer, as `kept_tokens` has them, (B*T, 1 + P,
            C), or None where no probe needs them.
    """

    descriptor: Tensor
    tokens: Tensor | None = None
    clip: Tensor | None = None
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

    def __init__(self, model: VideoModel, num_classes: int, dropout: float, kind: str) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.head = new_head(model, num_classes)

    def forward(self, outputs: TrunkOutputs) -> Tensor:
        """Logits (B, classes) of the descriptor."""
        logits: Tensor = self.head(self.dropout(outputs.descriptor))
        return logits

    def as_head(self, model: VideoModel) -> VideoModel:
        """The model with this head."""
        return with_head(model, self.head, pooler=model.pooler)


class PoolerProbe(Probe):
    """A linear head on what a pooler makes of the tokens, see `zoo.poolers`.

    Args:
        model: the trunk.
        num_classes: of the head.
        dropout: before it.
        kind: ``attentive``, ``gru`` or ``readout``.
        options: of the pooler; see `with_time_codes`.
    """

    needs_tokens = True

    def __init__(
        self, model: VideoModel, num_classes: int, dropout: float, kind: str, **options: Any
    ) -> None:
        super().__init__()
        form = options.pop("form", "vjepa2") if kind == ATTENTIVE else kind
        self.dropout = nn.Dropout(dropout)
        width = model.num_features
        self.head = new_linear(options.get("readout", width), num_classes)
        self.pooler = make_pooler(width, form=form, **options)

    def forward(self, outputs: TrunkOutputs) -> Tensor:
        """Logits (B, classes) of the tokens."""
        assert outputs.tokens is not None
        logits: Tensor = self.head(self.dropout(self.pooler(outputs.tokens)))
        return logits

    def as_head(self, model: VideoModel) -> VideoModel:
        """The model with this pooler and head."""
        return with_head(model, self.head, pooler=self.pooler)


class DistProbe(Probe):
    """DiST's side network beside a vision transformer, and a linear head; see `zoo.dist_network`.

    Raises:
        UsageError: another trunk, or clips that do not suit gamma.
    """

    needs_taps = True

    def __init__(
        self, model: VideoModel, num_classes: int, dropout: float, kind: str, **options: int
    ) -> None:
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
        assert outputs.taps is not None and outputs.clip is not None
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


PROBES: dict[str, type[LinearProbe | PoolerProbe | DistProbe]] = {
    LINEAR: LinearProbe,
    ATTENTIVE: PoolerProbe,
    GRU: PoolerProbe,
    READOUT: PoolerProbe,
    DIST: DistProbe,
}
"""The probes by the word for them, see `config.probe_text`."""


def with_time_codes(model: VideoModel, probes: Mapping[str, ProbeEntry]) -> dict[str, ProbeEntry]:
    """The same probes with the time codes that they have by default, which is said.

    An attentive probe gets one where `blind_to_order` says that nothing else knows the order of
    frames; a readout has a learned one, with a vector for each frame.
    """
    found = dict(probes)
    blind: bool | None = None
    frames = 0
    for name, entry in probes.items():
        options = dict(entry.options)
        if entry.kind == ATTENTIVE and options.get("form") != "coca" and "time" not in options:
            if blind is None and (blind := blind_to_order(model)):
                say(
                    "probe attentive: in this trunk a clip that runs backwards has the same "
                    "tokens, so they get a time code (time=sincos; time=none leaves it out)"
                )
            options["time"] = "sincos" if blind else "none"
        if entry.kind == READOUT:
            options.setdefault("time", "learned")
        if options.get("time") == "learned":
            frames = frames or token_frames(model)
            options["frames"] = frames
        found[name] = replace(entry, options=options)
    return found


@torch.no_grad()
def blind_to_order(model: VideoModel) -> bool:
    """True where a clip that runs backwards gives the same tokens, the last frame's first.

    So it is of all trunks that run frame by frame. It is measured, on random pixels.
    """
    frames = 2 if model.clip_lengths() is None else model.spec.frames
    clip = _random_clip(model, frames)
    with in_eval_mode(model):
        tokens = model.by_frame(model.tokens(clip))
        if tokens.shape[1] == 1:
            return False
        reversed_ones = model.by_frame(model.tokens(clip.flip(2)))
    return bool((reversed_ones.flip(1) - tokens).abs().max() < 1e-4 * tokens.abs().max())


@torch.no_grad()
def token_frames(model: VideoModel) -> int:
    """T' of the tokens of clips as the model takes them."""
    with in_eval_mode(model):
        model.tokens(_random_clip(model, model.spec.frames))
    return model.token_frames()


def _random_clip(model: VideoModel, frames: int) -> Tensor:
    first = next(model.parameters())
    size = (1, model.in_channels, frames, model.spec.size, model.spec.size)
    clip = torch.randn(size, generator=torch.Generator().manual_seed(0))
    return clip.to(first.device)


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
    tokens = model.by_frame(tokens)
    descriptor = model.pooled(maps) if model.pooler is None else model.pooler(tokens)
    return TrunkOutputs(descriptor, tokens, clip, [kept_tokens(tap) for tap in taps])


class ProbeTask(Task, NamesFrozen):
    """The loss of each probe on a batch, under the probe's name.

    The trunk stays in eval mode without gradients and runs once a batch; checkpoints name it by its
    digest. No probe has to do with another: each begins as it would alone with this seed, and gets
    its own loss's gradients only.

    Args:
        model: the trunk; all of it is frozen.
        probes: settings by name, see `config.probe_text.named_probes`.
        num_classes: of each probe.
        kind: of the labels: ``single`` or ``multi``.
        label_smoothing, loss, class_weights: as for `ClassifyTask`.
        dropout: before each head.
        seed: of the probes' weights.
        compared: train a linear head on the trunk's own descriptor, too, where no probe is one: it
            is what the others are compared with, and never chosen.
        precision: what the trunk's outputs are rounded to: ``fp32`` leaves them as they are.

    Attributes:
        entries: settings by name, of all that are trained.
        choices: the names of those of which one is chosen.

    Raises:
        UsageError: labels that are pairs, or a probe that does not suit the model.
    """

    inside = "model"
    what = "trunk"
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
        compared: bool = False,
        precision: Literal["fp32", "fp16"] = "fp32",
    ) -> None:
        super().__init__(model)
        if kind == "pair":
            raise UsageError(
                "train.probes are not for two labels a clip", "leave them out, or list one label"
            )
        model.requires_grad_(False)
        # Its own head may be a random one, and is as small as a probe.
        self.own = frozenset(key for key in model.state_dict() if key.startswith("head."))
        model.label_kind = self.label_kind = kind
        self.choices = list(probes)
        self.entries = dict(probes)
        if compared and all(entry.kind != LINEAR for entry in probes.values()):
            self.entries[MEAN_POOL] = ProbeEntry(LINEAR)
        self.precision = precision
        self.binary = loss == "bce" or kind == "multi"
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights[0])
        self.register_buffer("weights", weights, persistent=False)
        self.probes = nn.ModuleDict()
        self._keys = module_keys(self.entries, "_")
        for name, entry in with_time_codes(model, self.entries).items():
            # Of their own draws, so that a probe does not depend on which others there are.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                make: Callable[..., Probe] = PROBES[entry.kind]
                probe = make(model, num_classes, dropout, entry.kind, **entry.options)
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
        *,
        compared: bool = False,
    ) -> ProbeTask:
        """The probes of a configuration, on data of this kind."""
        # These know of all gradients of a step, so that a further probe would change the one.
        apart = train.clip_grad is None and train.optimizer != "lamb"
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
            compared=compared and apart,
            precision=train.feature_precision,
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
        if not self.needs_tokens:
            return TrunkOutputs(self._rounded(self.model.embed(clip)))
        descriptor, tokens = self.model.embed_with_tokens(clip)
        tokens = self._rounded(self.model.by_frame(tokens))
        return TrunkOutputs(self._rounded(descriptor), tokens)

    def _rounded(self, values: Tensor) -> Tensor:
        """Values in single precision, rounded to half where that is asked for."""
        values = values.float()
        if self.precision == "fp32":
            return values
        rounded = values.half().float()
        if not rounded.isfinite().all():
            raise VidinitError(
                "the trunk's outputs are too large for half precision",
                "set train.feature_precision=fp32",
            )
        return rounded

    def logits(self, outputs: TrunkOutputs) -> dict[str, Tensor]:
        """Logits (B, classes) of each probe."""
        return {name: probe(outputs) for name, probe in self.by_name().items()}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A loss per probe, of a batch as `ClassifyTask` takes it.

        Args:
            batch: may have ``features`` (`TrunkOutputs`) in place of its clips.
        """
        outputs = batch["features"] if "features" in batch else self.trunk_outputs(batch["clip"])
        found = self.logits(outputs)
        self.right = {}
        if "target" not in batch:
            shares = {name: share_right(one, batch["label"]) for name, one in found.items()}
            self.right = {f"top1_{name}": share for name, share in shares.items()}
        return {
            name: classification_loss(
                logits,
                batch,
                binary=self.binary,
                label_smoothing=self.label_smoothing,
                weight=self.weights,
            )
            for name, logits in found.items()
        }

    def classifier(self) -> nn.Module:
        """From clips to logits by probe, as `scoring.score.score_each` takes it."""
        return _Classifier(self)

    def chosen(self, metrics: Mapping[str, float]) -> str:
        """The probe that is best on the clips held out for the choice.

        The first of equals, and where there is one only, or no such score.

        Args:
            metrics: as `score_probes` returns them.
        """
        return max(self.choices, key=lambda name: metrics.get(f"{CHOICE}_{name}", 0.0))

    def mean_pool(self, metrics: Mapping[str, float]) -> nn.Linear | None:
        """The linear head that probes with a pooler are compared with; None where there is none."""
        names = [name for name, entry in self.entries.items() if entry.kind == LINEAR]
        if not names:
            return None
        best = max(names, key=lambda name: metrics.get(f"{CHOICE}_{name}", 0.0))
        head: nn.Linear = self.by_name()[best].head  # type: ignore[assignment]
        return head

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
        return self.task.logits(self.task.trunk_outputs(clip))


def score_probes(
    task: ProbeTask, scores: Mapping[str, Callable[[], dict[str, Scores]]]
) -> dict[str, float]:
    """The chosen probe's metrics, and of each probe ``top1_<name>`` (multi-label: ``map_<name>``).

    Args:
        task: has the probes.
        scores: make the scores of all probes, by name: ``val`` on the validation videos, and where
            one of several is chosen ``held-out`` on the training videos that this is done on. Its
            score there is ``choice``, that of each ``choice_<name>``.
    """
    watch = WATCH[task.label_kind]
    found: dict[str, float] = {}
    if "held-out" in scores:
        own = {name: one.metrics()[watch] for name, one in scores["held-out"]().items()}
        each = {f"{CHOICE}_{name}": value for name, value in own.items()}
        found = {CHOICE: own[task.chosen(each)], **each}
    if "val" not in scores:
        return found
    metrics = {name: one.logged() for name, one in scores["val"]().items()}
    keys = [watch] if watch == "top1" else [watch, "top1"]
    each = {f"{key}_{name}": one[key] for key in keys for name, one in metrics.items()}
    return {**metrics[task.chosen(found)], **each, **found}


def probe_saver(
    task: ProbeTask, run: RunFolder, step: dict[str, Any]
) -> Callable[[dict[str, float]], None]:
    """Writes the model folder of a run: the model with the chosen probe, which the lineage names.

    Beside a pooler's it writes the head that it is compared with.
    """

    def save(metrics: dict[str, float]) -> None:
        name = task.chosen(metrics)
        plain = None if task.entries[name].kind == LINEAR else task.mean_pool(metrics)
        saver(task.model_with(name), run, {**step, "probe": name}, lambda: {"mean_pool": plain})(
            metrics
        )

    return save


def probe_results(task: Task, run: RunFolder, held: Rows | None) -> dict[str, Any]:
    """The probes' part of the result of a finished run, which is also printed.

    Args:
        task: of the run.
        run: its folder.
        held: the clips that the choice was made on, None for none.

    Returns:
        ``{probe, probes}``: the one in the model folder, and ``top1`` (``map``) of each probe on
        the validation videos, at the epoch that is in the model folder; None where there was none.
        With a choice among several also ``best``, that of the one in the folder, and ``choice``:
        ``{clips, scores}``, which are those that it was chosen by. Nothing without probes.
    """
    if not isinstance(task, ProbeTask):
        return {}
    watch = WATCH[task.label_kind]
    step = read_card(run.model).lineage[-1]
    saved, one = step["probe"], len(task.choices) == 1
    scores = {name: step.get(f"{watch}_{name}") for name in task.entries}
    chosen_by = {name: step.get(f"{CHOICE}_{name}") for name in task.entries}
    for name, value in scores.items():
        shown = "not scored" if value is None else f"{watch} {value:.3f}"
        if chosen_by[name] is not None:
            shown = f"{shown}, {chosen_by[name]:.3f} on the held-out training clips"
        why = "" if one or held is not None else ", the first"
        say(f"probe {name}: {shown}{f', in the model folder{why}' if name == saved else ''}")
    out: dict[str, Any] = {"probe": saved, "probes": scores}
    if held is None:
        return out
    return {**out, "best": scores[saved], CHOICE: {"clips": len(held), "scores": chosen_by}}

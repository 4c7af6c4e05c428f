"""Settings of co-training: the mixture, and each of its sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from ...config.base import TrainRunConfig
from ...config.contradictions import Contradiction
from ...config.data import DataConfig
from ...config.scoring import EvalConfig
from ...config.section import Section


class CotrainSection(Section):
    """How several sources share one trunk."""

    schedule: Literal["use_one", "use_all"] = "use_one"
    """A step takes a batch of one source, drawn by its share, or one of each, losses weighted."""
    alpha: float = Field(1.0, ge=0, le=1)
    """Where no share is given, shares go by (steps alone)^alpha: 1 by size, 0 all alike."""
    merge_labels: bool = False
    """Video sources that have classes in common share a head over the classes of all of them."""
    norms: Literal["video_only_stats", "separate", "frozen"] = "video_only_stats"
    """Whose batches move batch norms' statistics: videos', each source its own, or nobody's."""
    ablate: bool = False
    """A run for each subset of the sources, those of images alone left out, and one table."""
    still: Literal["sum", "center"] = "sum"
    """A temporal kernel on an image: the sum of its taps, or its center tap."""


class SourceConfig(Section):
    """One data set of a co-training. What it does not say is as in `data`."""

    name: str
    """Of its head and its metrics."""
    data: str
    """Folder or list, as `data.train`."""
    val: str | None = None
    """Validation data; default: as for `data.val`."""
    root: str | None = None
    """As `data.root`."""
    class_names: str | None = None
    """As `data.class_names`."""
    kind: Literal["video", "image"] = "video"
    """Images are clips of one frame."""
    balance: Literal["classes", "none"] | None = None
    """As `data.balance`."""
    class_weights: str | None = None
    """As `train.class_weights`."""
    labels: str | None = None
    """Name of a head that it shares with all sources that give the same name."""
    share: float | None = Field(None, gt=0)
    """Share of the steps, 0 to 1; default: what is left, see `cotrain.alpha`."""
    steps: int | None = Field(None, ge=1)
    """Steps in an epoch, in place of a share."""
    weight: float = Field(1.0, ge=0)
    """Of its loss, where a step takes a batch of each source."""
    lr_scale: float = Field(1.0, gt=0)
    """Learning rate of its steps over that of the others."""
    accumulate: int | None = Field(None, ge=1)
    """As `train.accumulate`."""
    batch_size: int | None = Field(None, ge=1)
    """Default: `data.batch_size`, times the clip's frames for images (equal cost)."""
    repeats: int | None = Field(None, ge=1)
    """As `data.repeats`."""
    frames: int | None = Field(None, ge=1)
    """Frames of a clip; default: the model's, 1 for images."""
    stride: int | None = Field(None, ge=1)
    """As `data.stride`."""
    sampling: Literal["dense", "uniform", "all"] | None = None
    """As `data.sampling`."""
    start: Literal["random", "center"] | None = None
    """As `data.start`."""
    decode_side: int | None = Field(None, ge=16)
    """As `data.decode_side`."""
    flip: bool | Literal["auto", "swap"] | None = None
    """As `data.flip`."""
    min_area: float | None = Field(None, gt=0, le=1)
    """As `data.min_area`."""
    jitter: tuple[int, int] | None = None
    """As `data.jitter`."""
    randaug: str | None = None
    """As `data.randaug`."""
    color_jitter: float | None = Field(None, ge=0)
    """As `data.color_jitter`."""
    grayscale: float | None = Field(None, ge=0, le=1)
    """As `data.grayscale`."""
    erasing: float | None = Field(None, ge=0, le=1)
    """As `data.erasing`."""
    mixup: float | None = Field(None, ge=0)
    """As `data.mixup`."""
    cutmix: float | None = Field(None, ge=0)
    """As `data.cutmix`."""
    clips: int | None = Field(None, ge=1)
    """As `eval.clips`; 1 for images."""
    crops: Literal[1, 3] | None = None
    """As `eval.crops`."""


class CotrainConfig(TrainRunConfig):
    """Configuration of `vidinit cotrain`; the first source is the primary one."""

    command: ClassVar[str] = "cotrain"

    eval: EvalConfig = Field(default_factory=EvalConfig)
    cotrain: CotrainSection = Field(default_factory=CotrainSection)
    sources: list[SourceConfig] = Field(default_factory=list)

    def scored_data(self) -> DataConfig:
        """The data of the primary source."""
        first = self.sources[0]
        changes = {"train": first.data, "val": first.val, "class_names": first.class_names}
        return self.data.model_copy(update={**changes, "root": first.root or self.data.root})

    def own_contradictions(self) -> Iterator[Contradiction]:
        """Flow of images, classes evened out twice, and what only fine-tuning takes."""
        if self.data.modality == "flow":
            for source in self.sources:
                if source.kind == "image":
                    text = f"source '{source.name}' has images, and images have no optical flow"
                    yield ("data.modality", "sources"), text
        for source in self.sources:
            balance = source.balance or self.data.balance
            weights = source.class_weights or self.train.class_weights
            own = source.balance or source.class_weights
            if own and (balance, weights) == ("classes", "auto"):
                text = "balance=classes draws rare classes as often as others, so that"
                text += " class_weights=auto would count them too much"
                yield ("sources",), f"source '{source.name}': {text}"
        yield from super().own_contradictions()

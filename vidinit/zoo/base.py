"""The class of every video model: a trunk, a head, and the settings a clip needs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .folding import FrameCount, clip_mean, fold
from .spec import ClipSpec, Origin
from .temporal import TemporalConv, VolumeConv

if TYPE_CHECKING:
    from ..data.rows import LabelKind
    from .attentive import Pooler

COMPILED = ("embed", "embed_with_tokens")
"""Methods of a `VideoModel` that tasks call, one or the other: what is compiled of a trunk."""


class VideoModel(nn.Module):
    """A video classifier: `embed` makes a clip descriptor, `head` the logits.

    A family says what its `feature_maps` are and, where its descriptor is not their mean, how they
    are `pooled` and which tokens they `spread` to.

    Attributes:
        name: zoo name or ``<plan>-<timm name>``; `create_model` rebuilds the model from it.
        options: the options of `create_model` it was made with.
        spec: how clips are cut and normalized.
        classes: class names in the order of the logits, or None.
        label_kind: what the logits are for: ``single``: one class a clip, by softmax; ``multi``:
            any number of classes, by sigmoid; ``pair``: verbs, by softmax, beside a head of nouns.
        still: what a kernel is on a clip of one frame, an image: its ``center`` tap, as in public
            implementations, where zeros lie around the clip; or the ``sum`` of its taps, which is
            what the inner frames of a still clip see.
        lineage: what made the weights what they are, oldest first.
        origins: for every tensor but the head's, where an image network's weights go; empty where
            no image network fits.
        fused: True for a model that came from `fuse` and is for inference only.
        pooler: makes the descriptor of the tokens in place of `pooled`, or None.
        only_rgb: why the inputs can be nothing but RGB; empty where the first kernels can change.
        only_frozen: why nothing but what reads its outputs can be trained; empty where all can.
    """

    only_rgb = ""
    only_frozen = ""

    def __init__(self, num_features: int, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.frames = FrameCount()
        self.in_channels = 3
        self.num_features = num_features
        self.pooler: Pooler | None = None
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout)
        self.head = _linear(num_features, num_classes)
        self.reset_head(num_classes)
        self.name = ""
        self.options: dict[str, Any] = {}
        self._spec = ClipSpec()
        self.classes: list[str] | None = None
        self.label_kind: LabelKind = "single"
        self.still: Literal["center", "sum"] = "center"
        self.lineage: list[dict[str, Any]] = []
        self.origins: dict[str, Origin] = {}
        self.fused = False

    def reset_head(self, num_classes: int) -> None:
        """A new linear head, N(0, 0.01) and zero bias; forgets the class names and their kind."""
        old = self.head.weight
        self.head = _linear(self.descriptor_width, num_classes).to(old.device, old.dtype)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.num_classes = num_classes
        self.classes = None
        self.label_kind = "single"

    @property
    def descriptor_width(self) -> int:
        """Channels of a descriptor: ``num_features``, or what the pooler makes of them."""
        return self.num_features if self.pooler is None else self.pooler.out_features

    def set_pooler(self, pooler: Pooler) -> None:
        """Make descriptors by this one; a head for another width is replaced by a new one."""
        before, self.pooler = self.descriptor_width, pooler
        if pooler.out_features != before and self.num_classes:
            kind, classes = self.label_kind, self.classes
            self.reset_head(self.num_classes)
            self.label_kind, self.classes = kind, classes

    def feature_maps(self, x: Tensor) -> Any:
        """Folded frames (B*T, 3, H, W), with `self.frames` set, to what `pooled` and `spread` take.

        Most often the last maps, (B*T', C, H', W').
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it pools")

    def pooled(self, maps: Any) -> Tensor:
        """`feature_maps` to descriptors (B, C): here their mean over space and time."""
        return clip_mean(maps, self.frames.value)

    def spread(self, maps: Any, clips: int) -> Tensor:
        """`feature_maps` of ``clips`` clips to tokens (B, N, C), frame by frame, row by row."""
        return maps.permute(0, 2, 3, 1).reshape(clips, -1, maps.shape[1])

    def embed_frames(self, x: Tensor) -> Tensor:
        """Folded frames (B*T, 3, H, W), with `self.frames` set, to descriptors (B, C)."""
        return self.pooled(self.feature_maps(x))

    def embed(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalized clips to (B, C) descriptors, pooled over space and time."""
        if self.pooler is not None:
            return self.pooler(self.by_frame(self.tokens(clip)))
        return self.embed_frames(self._folded(clip))

    def tokens(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalized clips to (B, N, C): what descriptors are pooled from.

        One token per position of the last maps, N = T' * H' * W', with C = ``num_features``. Where
        the descriptor is their plain mean, that is ``tokens(clip).mean(1)``.
        """
        return self.spread(self.feature_maps(self._folded(clip)), clip.shape[0])

    def placed(self, maps: Any, clips: int, size: tuple[int, int]) -> Tensor:
        """`feature_maps` of ``clips`` clips to their tokens in their places, (B, T', H', W', C).

        Args:
            maps: as `feature_maps` returned them.
            clips: B.
            size: height and width of the frames in pixels.
        """
        return self.spread(maps, clips).unflatten(1, (-1, *maps.shape[2:]))

    def maps(self, clip: Tensor, layer: str | None = None) -> Tensor:
        """(B, 3, T, H, W) normalized clips to (B, T', H', W', C): the `tokens` in their places.

        Frames may be rectangles where the network takes them.

        Args:
            clip: normalized.
            layer: one of `map_layers`, whose maps are returned; default: the last maps.

        Raises:
            UsageError: for a layer that the family does not tell, and for tokens without places.
        """
        if layer is not None:
            raise UsageError(
                f"{self.name or type(self).__name__} has no maps of a layer '{layer}'",
                "leave the layer out: its last maps are taken",
            )
        maps = self.feature_maps(self._folded(clip))
        return self.placed(maps, clip.shape[0], (clip.shape[3], clip.shape[4]))

    def map_layers(self) -> dict[str, int]:
        """Layers below the last whose `maps` can be had, and their channels; most have none."""
        return {}

    @property
    def in_patches(self) -> bool:
        """True where frames are cut into whole patches; False where convolutions step over them."""
        return False

    def token_frames(self) -> int:
        """T' of the tokens of the last forward pass: of how many frames, or times, they are."""
        return self.frames.value

    def by_frame(self, tokens: Tensor) -> Tensor:
        """The tokens of the last forward pass, (B, T' * N, C), as (B, T', N, C)."""
        return tokens.unflatten(1, (self.token_frames(), -1))

    def embed_with_tokens(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """`embed` and `tokens` of clips in one pass through the trunk."""
        maps = self.feature_maps(self._folded(clip))
        tokens = self.spread(maps, clip.shape[0])
        if self.pooler is None:
            return self.pooled(maps), tokens
        return self.pooler(self.by_frame(tokens)), tokens

    def _folded(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B*T, 3, H, W); sets the frame count."""
        if clip.dim() != 5 or clip.shape[1] != self.in_channels:
            want = f"(B, {self.in_channels}, T, H, W)"
            raise ValueError(f"expected clips {want}, got {tuple(clip.shape)}")
        self.frames.value = clip.shape[2]
        self.frames.still = clip.shape[2] == 1 and self.still == "sum"
        return fold(clip)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalized clips to logits (B, num_classes)."""
        return self.head(self.dropout(self.embed(clip)))

    @property
    def spec(self) -> ClipSpec:
        """How clips are cut and normalized. Setting it makes the model take such clips."""
        return self._spec

    @spec.setter
    def spec(self, spec: ClipSpec) -> None:
        self.fit_clip(spec)
        self._spec = spec

    def fit_clip(self, spec: ClipSpec) -> None:
        """Resize what has a value for each frame or position of a clip; most families have nothing.

        Called whenever `spec` is set. New parameters take the place of the old ones, so set it
        before an optimizer is made.

        Raises:
            UsageError: for clips the model cannot take.
        """

    def clip_lengths(self) -> set[int] | None:
        """How many frames clips may have as the model is; None: any number."""
        return None

    def temporal_parameters(self) -> set[str]:
        """Names of the parameters of kernels that look across time, and of their norms."""
        names: set[str] = set()
        for prefix, module in self.named_modules():
            if isinstance(module, (TemporalConv, VolumeConv)) or getattr(module, "is_new", False):
                names.update(f"{prefix}.{key}" for key, _ in module.named_parameters())
        return names

    def layer_ids(self) -> dict[str, int]:
        """The number of each parameter's layer, by name: for layer-wise learning rates.

        Stem and embeddings are 0, L blocks 1 to L, and what follows them, the head included, L + 1.
        Temporal kernels have the number of the layer they stand in.

        Raises:
            UsageError: when the layers of the network are not known.
        """
        from .modify.depth import by_blocks

        return by_blocks(self)

    def fuse(self) -> VideoModel:
        """A copy for inference, every batch norm folded into the convolution before it.

        ZeroI2V's adapters are folded into the projections they stand before or behind.

        Its logits are this model's in eval mode up to rounding, and it skips a pass over memory per
        norm. It has other keys than the model: it can neither be trained, nor saved as a model
        folder, nor load one's weights. This model stays as it is.
        """
        from .modify.fuse import fuse

        return fuse(self)

    def set_grad_checkpointing(self, on: bool = True) -> None:
        """Compute the activations inside blocks again in the backward pass instead of keeping them.

        Less memory for about a third more compute; losses and gradients stay the same. ``on=False``
        undoes it.

        Raises:
            UsageError: when the network is not made of blocks.
        """
        from .modify.recompute import set_grad_checkpointing

        set_grad_checkpointing(self, on)

    def class_names_by_head(self) -> dict[str, list[str]]:
        """Class names under ``classes``, in the order of the logits; their numbers for none."""
        return {"classes": self.classes or [str(index) for index in range(self.num_classes)]}

    def predict(self, path: str | Path, topk: int = 5) -> list[tuple[str, float]]:
        """The ``topk`` most probable classes of a video file, as (class name, probability).

        One centre clip and crop, by this model's `spec`.

        Raises:
            DataError: when the file cannot be read.
        """
        from .view_outputs import predict_file

        return predict_file(self, Path(path), topk)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer; torch warns where one without outputs has no values to begin with."""
    layer = nn.Linear(inputs, max(outputs, 1))
    if not outputs:
        layer.out_features = 0
        layer.weight = nn.Parameter(layer.weight.detach()[:0])
        layer.bias = nn.Parameter(layer.bias.detach()[:0])
    return layer


def with_head(model: VideoModel, head: nn.Linear, *, pooler: Pooler | None) -> VideoModel:
    """The model with another head and pooler; the two share the trunk."""
    twin = copy.copy(model)
    twin._modules = dict(model._modules)  # a copy of a module shares this dict
    twin.pooler, twin.head = pooler, head
    twin.num_classes = head.out_features
    return twin


def count_parameters(model: nn.Module) -> int:
    """Number of learnable values."""
    return sum(p.numel() for p in model.parameters())


def init_convolutions(model: nn.Module) -> None:
    """Kaiming-normal kernels with fan-out in all 2-D layers; a `VolumeConv` starts so by itself."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def to_channels_last(model: VideoModel) -> VideoModel:
    """4-D weights in channels_last memory: the layout that all convolutions here read.

    Networks with 3-D convolutions of torch's own, which have no such layout, stay as they are.
    """
    if any(parameter.dim() == 5 for parameter in model.parameters()):
        return model
    return model.to(memory_format=torch.channels_last)

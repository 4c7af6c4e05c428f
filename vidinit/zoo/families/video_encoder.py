"""Video encoders of Hugging Face's transformers as frozen trunks.

V-JEPA 2 (https://arxiv.org/abs/2506.09985), VideoMAE (https://arxiv.org/abs/2203.12602), VideoPrism
(https://arxiv.org/abs/2402.13217), TimeSformer and ViViT, computed by transformers itself. None of
them starts as an image model: they are what such models are compared with.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...extras import install_extra
from ..adapters.frozen import FrozenNetwork
from ..adapters.tower_model import TowerModel
from ..attentive import Pooler
from ..base import VideoModel
from ..encoders.clips import default_clip
from ..encoders.kinds import KINDS, NO_SETTINGS, Kind, side_of, tubelet_of
from ..encoders.probe_names import from_transformers
from ..poolers import VJEPA2Pooler
from ..spec import ClipSpec

FROZEN = "the video encoders of transformers are frozen trunks here"


class EncoderNetwork(FrozenNetwork):
    """The encoder itself: clips (B, T, 3, H, W) to its last tokens, as they come out.

    Args:
        encoder: of transformers.
    """

    inside = "encoder"

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.freeze()

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) to (B, N, C), a class token first where there is one."""
        return self.encoder(clips).last_hidden_state


class VideoEncoder(TowerModel):
    """An encoder of transformers, frozen, with a linear head.

    Args:
        kind: key of `KINDS`.
        network: one of its two classes; a classifier's own pooling and norm come with it.
        num_classes: of the head; 0 for none: `forward` then returns descriptors (B, C).

    Attributes:
        reads_first: True where the first token is the descriptor in place of the mean of all.
        norm: of the descriptor, where a classifier has one (VideoMAE's ``fc_norm``).
        readout: the attention by which VideoPrism's classifier reads the tokens; None elsewhere,
            and behind `reset_head`, as is V-JEPA 2's pooler: they were trained with the head.
    """

    only_rgb = f"{FROZEN}, and see RGB only"
    only_frozen = FROZEN

    def __init__(self, kind: str, network: Any, num_classes: int) -> None:
        self.kind: Kind = KINDS[kind]
        config = network.config.to_dict()
        super().__init__(int(config["hidden_size"]), max(num_classes, 1))
        self.tubelet = tubelet_of(config)
        self.native_frames = int(config[self.kind.frames])
        self.native_size = side_of(self.kind, config)
        self.reads_first = self.kind.first or not config.get("use_mean_pooling", True)
        classifies = type(network).__name__ == self.kind.classifier
        base = getattr(network, self.kind.trunk) if classifies else network
        # V-JEPA 2's predictor makes no descriptor, and is left behind.
        self.tower = EncoderNetwork(base.encoder if hasattr(base, "predictor") else base)
        self.norm: nn.Module = getattr(network, "fc_norm", None) or nn.Identity()
        self.readout: nn.Module | None = None
        self._published: tuple[Pooler | None] = (None,)
        if hasattr(network, "head_layernorm"):
            self.readout = _AttentionHead(network.head, network.head_layernorm)
        if classifies:
            self.head = network.classifier
            self.num_classes = num_classes
        if hasattr(network, "pooler") and classifies:
            self.pooler = _pooler(network.pooler, config)
            self._published = (self.pooler,)
        for part in (self.norm, self.readout):
            if part is not None:
                part.requires_grad_(False)
        self._spec = default_clip(kind, config)
        if not num_classes:
            self.reset_head(0)
        self.train(self.training)

    def reset_head(self, num_classes: int) -> None:
        """A new linear head on the encoder's own descriptor; none for 0 classes."""
        if num_classes and not isinstance(self.head, nn.Linear):
            self.head = nn.Linear(1, 1, device=next(self.tower.parameters()).device)
        if num_classes:
            super().reset_head(num_classes)
        else:
            self.head = nn.Identity()  # type: ignore[assignment]
            self.num_classes, self.classes, self.label_kind = 0, None, "single"
        if "readout" in vars(self) or "readout" in self._modules:  # else the base constructs
            self._forget_classifier()

    def _forget_classifier(self) -> None:
        """Take off what a classifier of transformers reads the tokens with."""
        if self.readout is not None or self._published[0] is not None:
            self.options.pop("classifier", None)
        self.readout = None
        if self.pooler is self._published[0]:
            self.pooler = None
        self._published = (None,)

    def train(self, mode: bool = True) -> VideoEncoder:
        """Train mode for the head, and for a pooler."""
        super().train(mode)
        if self.readout is not None:
            self.readout.train(False)
        return self

    # ------------------------------------------------------------------------------ forward pass

    def feature_maps(self, x: Tensor) -> Tensor:
        """Folded frames (B*T, 3, H, W), with `frames` set, to the last tokens, as they come out."""
        clips = x.unflatten(0, (-1, self.frames.value)).contiguous()
        self._check(clips.shape[1], clips.shape[-1], clips.shape[-2])
        return self.tower(clips)

    def pooled(self, maps: Tensor) -> Tensor:
        """The descriptor (B, C): a classifier's own, the first token, or the mean of the tokens."""
        if self.readout is not None:
            return self.readout(maps)
        return self.norm(maps[:, 0] if self.reads_first else maps.mean(1))

    def spread(self, maps: Tensor, clips: int) -> Tensor:
        """(B, N, C): the tokens of the first frames first, without a class token."""
        tokens = maps[:, 1:] if self.kind.first else maps
        if self.kind.patches_first:
            tokens = tokens.unflatten(1, (-1, self.frames.value)).transpose(1, 2).flatten(1, 2)
        return tokens

    def placed(self, maps: Tensor, clips: int, size: tuple[int, int]) -> Tensor:
        """(B, T', H', W', C): of square frames as many rows of patches as columns."""
        tokens = self.by_frame(self.spread(maps, clips))
        return tokens.unflatten(2, (math.isqrt(tokens.shape[2]), -1))

    def token_frames(self) -> int:
        """How many places in time the tokens of the last clips have: one for each tubelet."""
        return self.frames.value // self.tubelet

    # ------------------------------------------------------------------------------------- clips

    def fit_clip(self, spec: ClipSpec) -> None:
        """Refuse clips that the encoder has no positions for.

        Raises:
            UsageError: saying which it takes.
        """
        self._check(spec.frames, spec.size, spec.size)

    def _check(self, frames: int, width: int, height: int) -> None:
        if {width, height} != {self.native_size}:
            raise UsageError(
                f"{self.kind.title} of this folder takes frames of {self.native_size} pixels, not "
                f"{width} x {height}",
                f"leave data.size out, or set data.size={self.native_size}",
            )
        if self.kind.any_length:
            if frames < self.tubelet or frames % self.tubelet:
                near = max(round(frames / self.tubelet), 1) * self.tubelet
                raise UsageError(
                    f"{self.kind.title} reads {self.tubelet} frames at a time, and {frames} are no "
                    "multiple",
                    f"set data.frames={near}",
                )
        elif frames != self.native_frames:
            raise UsageError(
                f"{self.kind.title} of this folder has positions for {self.native_frames} frames, "
                f"not {frames}",
                f"leave data.frames out, or set data.frames={self.native_frames}",
            )

    def clip_lengths(self) -> set[int] | None:
        """The one length that there are positions for; None for V-JEPA 2."""
        return None if self.kind.any_length else {self.native_frames}

    def fuse(self) -> VideoModel:
        """Refused: there are no batch norms.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{FROZEN}, and have no batch norms to fuse", "leave --fuse out")


def _pooler(theirs: Any, config: dict[str, Any]) -> VJEPA2Pooler:
    """V-JEPA 2's attentive pooler in our class, with the weights of transformers'."""
    pooler = VJEPA2Pooler(
        int(config["hidden_size"]),
        blocks=len(theirs.self_attention_layers) + 1,
        heads=int(config["num_attention_heads"]),
        eps=float(config["layer_norm_eps"]),
    )
    pooler.load_state_dict(from_transformers(theirs.state_dict()))
    return pooler.eval()


class _AttentionHead(nn.Module):
    """VideoPrism's pooling by attention, and its norm."""

    def __init__(self, head: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.head, self.norm = head, norm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.head(tokens)[0])


def video_encoder(
    num_classes: int, *, kind: str, config: dict[str, Any] | None = None, classifier: bool = False
) -> VideoEncoder:
    """An encoder with random weights.

    Args:
        num_classes: of the head.
        kind: its model type in transformers.
        config: its settings, as config.json has them; default: those of transformers' class.
        classifier: with the pooling and norm of transformers' classifier.

    Raises:
        UsageError: transformers is not installed, or knows no such model.
    """
    own = KINDS[kind]
    made = transformers_class(own.classifier if classifier else own.base)
    network = made(_configuration(kind, config or {}, num_classes))
    return VideoEncoder(kind, network.eval(), num_classes)


def _configuration(kind: str, config: dict[str, Any], num_classes: int) -> Any:
    """Settings in transformers' class for them.

    Raises:
        UsageError: what is none of a network, as the name of code to fetch.
    """
    if foreign := [key for key in config if key in NO_SETTINGS]:
        raise UsageError(f"config.{foreign[0]} is no setting of a network", "leave it out")
    made = transformers_class(KINDS[kind].config)
    return made(**config, num_labels=max(num_classes, 1))


def open_network(
    kind: str, folder: Path, config: dict[str, Any], num_classes: int, *, classifier: bool
) -> tuple[Any, list[str]]:
    """The network of a folder in float32, and names of tensors in it that are no part of it.

    Args:
        kind: key of `KINDS`.
        folder: with the weights.
        config: its settings; those of files are no part of them.
        num_classes: of its classifier.
        classifier: True for the class with one.

    Raises:
        UsageError: transformers does not open it, or tensors are missing from it.
    """
    own = KINDS[kind]
    made = transformers_class(own.classifier if classifier else own.base)
    try:
        with quiet_transformers():
            network, found = made.from_pretrained(
                folder,
                config=_configuration(kind, config, num_classes),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # transformers, huggingface_hub and safetensors have many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UsageError(
            f"transformers does not open {folder} ({reason})", "take a whole copy of the folder"
        ) from error
    missing = sorted(key for key in found["missing_keys"] if ".predictor." not in f".{key}")
    missing += [str(key) for key in found.get("mismatched_keys", ())]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(
            f"{folder} lacks {missing[0]}{more}, which {own.title} has",
            "take a whole copy of the folder: transformers would make them up",
        )
    return network.eval(), sorted(found["unexpected_keys"])


def transformers_class(name: str) -> Any:
    """A class of transformers.

    Raises:
        UsageError: it is not installed, or too old to have the class.
    """
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            "video encoders of transformers need transformers, which is not installed",
            install_extra("transformers"),
        ) from error
    found = getattr(transformers, name, None)
    if found is None:
        raise UsageError(
            f"transformers {transformers.__version__} has no {name}", "pip install -U transformers"
        )
    return found


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Transformers without its warnings and bars: what matters is said in our own lines."""
    from transformers.utils import logging as settings

    logger = logging.getLogger("transformers")
    level, bars = logger.level, settings.is_progress_bar_enabled()
    logger.setLevel(logging.CRITICAL)
    settings.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            settings.enable_progress_bar()

"""`vidinit convert`: an image checkpoint in, a video model out, with a proof."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import check_out, save_model
from ..errors import UsageError, suggest
from ..measure.flops import count_macs
from ..measure.speed import pick_device
from ..zoo.base import VideoModel, count_parameters, to_channels_last
from ..zoo.build import assemble
from ..zoo.image import (
    ImageSource,
    build_image_model,
    clip_spec_of,
    imagenet_classes,
    load_image_model,
)
from ..zoo.names import find_target
from .plan import Row, transfer
from .proof import Proof, prove
from .rules import INFLATIONS


@dataclass
class ConversionReport:
    """What `convert` did.

    Attributes:
        source, target: the image model and the video model, by name.
        weights: where the image weights came from.
        model: the video model, in eval mode.
        exact: whether a still clip gets the image model's logits, up to rounding.
        max_difference: largest logit difference of that check.
        rows: the table, by stage and rule.
        params, gmacs: of the video model, at its clip's frames and size.
        image_params, image_gmacs: of the image model, for one frame of that size.
        out: the model folder, or None.
    """

    source: str
    target: str
    weights: str
    model: VideoModel = field(repr=False)
    proof: Proof
    rows: list[Row]
    params: int
    gmacs: float
    image_params: int
    image_gmacs: float
    out: Path | None = None

    @property
    def exact(self) -> bool:
        """Whether a still clip gets the image model's logits, up to rounding."""
        return self.proof.exact

    @property
    def max_difference(self) -> float:
        """Largest difference between a logit of the video model and the image model's."""
        return self.proof.max_difference

    def total(self, kind: str) -> int:
        """Tensors that were ``copied``, ``inflated`` or ``initialized``."""
        return sum(row.tensors for row in self.rows if row.kind == kind)

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "source": self.source,
            "target": self.target,
            "weights": self.weights,
            "exact": self.exact,
            "max_difference": self.max_difference,
            "logit_scale": self.proof.scale,
            "frames": self.proof.frames,
            "size": self.proof.size,
            "params": self.params,
            "gmacs": round(self.gmacs, 3),
            "image_params": self.image_params,
            "image_gmacs": round(self.image_gmacs, 3),
            "copied": self.total("copied"),
            "inflated": self.total("inflated"),
            "initialized": self.total("initialized"),
            "rows": [asdict(row) for row in self.rows],
            "out": None if self.out is None else str(self.out),
        }


def convert(
    source: str,
    to: str,
    *,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    inflate: str = "center",
    pretrained: bool = True,
    frames: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    **options: Any,
) -> ConversionReport:
    """Turn an image model into a video model and prove what carried over.

    Args:
        source: timm name of the image model (``resnet50``, ``tf_efficientnet_lite0``).
        to: a plan (``c2d``, ``i3d``, ``s3d``, ``sts``) put on the source's own architecture, or a
            zoo name (``sts-r3d50``).
        weights: local file with the image weights; default: a package's, else timm's hub.
        out: model folder to write; None writes nothing.
        inflate: ``center`` (exact) or ``mean`` (I3D's; not exact under zero padding).
        pretrained: False starts from random image weights.
        frames, size: the clip the model folder records and the proof uses.
        seed: of random image weights.
        device: where the proof is computed: auto, cpu, cuda or mps.
        overwrite: replace a folder that is there.
        options: of the plan, ``sts=False`` for example.

    Raises:
        UsageError: unknown names, weights that do not fit, an ``out`` that is not empty.
        VidinitError: weights that cannot be fetched.
    """
    if inflate not in INFLATIONS:
        hint = suggest(inflate, INFLATIONS) or f"use {' or '.join(INFLATIONS)}"
        raise UsageError(f"unknown inflation rule '{inflate}'", hint)
    if Path(source).suffix in (".pth", ".pt", ".safetensors", ".bin"):
        raise UsageError(
            f"'{source}' is a file; its architecture is needed too",
            f"vidinit convert ARCH --weights {source} --to {to}",
        )
    if frames is not None and frames < 1:
        raise UsageError(f"--frames must be at least 1, not {frames}")
    name, entry = find_target(to, source.split(".")[0])
    folder = None if out is None else check_out(Path(out), overwrite=overwrite)
    if entry.backbone is None:
        raise UsageError(
            f"'{to}' has no image network whose weights fit it",
            f"teach it from an image model instead: vidinit distill --student {to}",
        )
    place = pick_device(device)
    torch.manual_seed(seed)
    image = load_image_model(source, weights=weights, pretrained=pretrained)
    name, entry = find_target(to, image.arch)  # hf-hub: and local-dir: tell it only now
    assert entry.backbone is not None
    _check_backbone(image, entry.backbone, to)
    blank = build_image_model(image.arch, num_classes=0)
    model = assemble(blank, entry, num_classes=image.num_classes, name=name, **options)
    model.spec = clip_spec_of(
        image.model,
        frames=frames or model.spec.frames,
        stride=model.spec.stride,
        size=size or model.spec.size,
    )
    rows = transfer(model, image.model.state_dict(), image.classifier, inflate)
    to_channels_last(model).eval()
    proof = prove(image.model, model, place)
    report = ConversionReport(
        source=source,
        target=name,
        weights=image.weights,
        model=model,
        proof=proof,
        rows=rows,
        params=count_parameters(model),
        gmacs=count_macs(model, (1, 3, proof.frames, proof.size, proof.size)) / 1e9,
        image_params=count_parameters(image.model),
        image_gmacs=count_macs(image.model, (1, 3, proof.size, proof.size)) / 1e9,
        out=folder,
    )
    model.classes = imagenet_classes(image)
    model.lineage.append(
        {
            "step": "convert",
            "source": source,
            "weights": image.weights,
            "to": name,
            "rule": inflate,
            "exact": report.exact,
            "max_difference": report.max_difference,
        }
    )
    if folder is not None:
        save_model(model, folder)
    return report


def _check_backbone(image: ImageSource, backbone: str, to: str) -> None:
    if image.arch == backbone:
        return
    want = build_image_model(backbone).state_dict()
    have = image.model.state_dict()
    if {k: v.shape for k, v in want.items()} != {k: v.shape for k, v in have.items()}:
        raise UsageError(
            f"'{to}' is made of {backbone}, not of {image.arch}",
            "put a plan on the source itself: --to c2d, i3d, s3d or sts",
        )

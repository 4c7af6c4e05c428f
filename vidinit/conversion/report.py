"""The account of a conversion, for people and for scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..zoo.base import VideoModel
from ..zoo.detector import Detector
from .proof import Proof
from .table import Row


def order_words(proof: Proof) -> str:
    """By how much a model tells a clip from its reverse, for people; it must have been measured."""
    assert proof.order is not None
    if not proof.sees_order:
        return "nothing moves, the model does not see the order of frames yet"
    what = "logits" if proof.isolated is None else "features"
    return f"{what} move by {proof.order:.1%} of the difference to another picture"


@dataclass
class ConversionReport:
    """The account of a conversion, which `vidinit.convert` returns.

    Attributes:
        source, target: the source and the video model, by name.
        weights: where the weights came from.
        model: the video model, in eval mode; or a detector, its trunk that video model.
        proof: the still-clip check; None for a video checkpoint, which has no image parent.
        rows: the table, by stage and rule.
        notes: what a user should know about exactness, one sentence each.
        params, gmacs: of the video model, at its clip's frames and size; 0 until counted.
        image_params, image_gmacs: of the image model, for one frame of that size; None without one.
        layout: the public layout of a video checkpoint; None for image models.
        leftovers: tensors of the file that have no place in the model, by name.
        missing: tensors of the model that the file lacked (``allow_partial``), by name.
        read: which tensors of a file were read: ``key`` and ``prefix`` that lead to them, ``kind``
            (``plain``, ``averaged``, ...), ``layout``, ``left_out``, ``new``; empty without a file.
        out: the model folder, or None.
        compared: what the proof looked at.
    """

    source: str
    target: str
    weights: str
    model: VideoModel | Detector = field(repr=False)
    proof: Proof | None
    rows: list[Row]
    params: int = 0
    gmacs: float = 0.0
    notes: list[str] = field(default_factory=list)
    image_params: int | None = None
    image_gmacs: float | None = None
    layout: str | None = None
    leftovers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)
    out: Path | None = None
    compared: str = "still clip"

    @property
    def trunk(self) -> VideoModel:
        """The video model, or a detector's trunk."""
        return self.model.trunk if isinstance(self.model, Detector) else self.model

    @property
    def exact(self) -> bool | None:
        """True where a still clip gets the image model's logits, up to rounding.

        None of a video checkpoint, and where the weights tell nothing (`reason`).
        """
        return None if self.proof is None else self.proof.exact

    @property
    def reason(self) -> str | None:
        """Why the weights tell nothing; None where they do, and of a video checkpoint."""
        return None if self.proof is None else self.proof.reason or None

    @property
    def max_difference(self) -> float | None:
        """Largest difference between a logit of the video model and the image model's."""
        return None if self.proof is None else self.proof.max_difference

    def total(self, kind: str) -> int:
        """Tensors that were ``copied``, ``inflated`` or ``initialized``."""
        return sum(row.tensors for row in self.rows if row.kind == kind)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``--json`` prints."""
        proof, spec = self.proof, self.model.spec
        return {
            "source": self.source,
            "target": self.target,
            "weights": self.weights,
            "layout": self.layout,
            "exact": self.exact,
            "max_difference": self.max_difference,
            "reason": self.reason,
            "logit_scale": None if proof is None else proof.scale,
            "logit_spread": None if proof is None else proof.spread,
            "random_gains": None if proof is None else proof.shaken,
            "order": None if proof is None else proof.order,
            "frames": spec.frames,
            "size": spec.size,
            "params": self.params,
            "gmacs": round(self.gmacs, 3),
            "image_params": self.image_params,
            "image_gmacs": None if self.image_gmacs is None else round(self.image_gmacs, 3),
            "copied": self.total("copied"),
            "inflated": self.total("inflated"),
            "initialized": self.total("initialized"),
            "notes": self.notes,
            "leftovers": self.leftovers,
            "missing": self.missing,
            "read": self.read or None,
            "rows": [asdict(row) for row in self.rows],
            "out": None if self.out is None else str(self.out),
        }

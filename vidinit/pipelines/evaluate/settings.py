"""Settings of `vidinit eval`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, get_args

from pydantic import Field

from ...config.base import RunConfig
from ...config.contradictions import Contradiction
from ...config.detect import DetectScoring
from ...config.scoring import FrozenEvalConfig, TextSection
from ...errors import UsageError, suggest

TemporalTest = Literal["reverse", "shuffle", "freeze"]
"""Orders of the frames, see `scoring.score.reorder_frames`."""


class EvaluateSection(FrozenEvalConfig):
    """How `vidinit eval` scores, beside what evaluations while training have."""

    dense: bool = False
    """All clips of a video, one behind the other, whatever clips says."""
    step: int = Field(0, ge=0)
    """Of dense: frames from one clip to the next; 0: one begins where the last ends."""
    curve: bool = False
    """Also score by fewer views, from 1 clip x 1 crop on; all come from one pass."""
    tests: list[TemporalTest] = Field(default_factory=list)
    """Also score clips whose frames are reversed, shuffled, or one frame repeated."""
    scores: Literal["float32", "float16"] = "float32"
    """Type of the logits in predictions.npz; all figures are those of what is in the file."""
    resamples: int = Field(1000, ge=0)
    """Of the videos, for the bootstrap's intervals; 0 for none."""
    bins: int = Field(15, ge=1)
    """Of the confidences, for the calibration error."""
    positive: str | None = None
    """The class that is looked for: precision, recall, F1, areas under the curves, threshold."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Of its probability: what has so much or more is found; default 0.5."""
    wanted_precision: float | None = Field(None, gt=0, le=1)
    """In place of threshold: the lowest one of so high a precision on these videos."""
    wanted_recall: float | None = Field(None, gt=0, le=1)
    """In place of threshold: of those of so high a recall here the one of the highest precision."""


class EvaluateConfig(RunConfig):
    """Configuration of `vidinit eval`; `data.val`, else `data.train`, is what is scored."""

    command: ClassVar[str] = "eval"

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; fp32 by default, so that scores are the same on all devices."""
    eval: EvaluateSection = Field(default_factory=EvaluateSection)
    predictions: str | None = None
    """Saved predictions, or the folder of an evaluation: scored again, and no model runs."""
    fuse: str | None = None
    """Saved predictions of a second stream, or the folder of its evaluation, to average with."""
    weight: float = Field(0.5, ge=0, le=1)
    """Of predictions, where fuse names others, which have the rest."""
    against: str | None = None
    """Saved predictions, or the folder of an evaluation, to compare with, video by video."""
    head: str | None = None
    """Which head of a co-trained model; default: the primary source's."""
    zero_shot: bool = False
    """Compare videos with text embeddings of the classes in place of the model's own head."""
    classes: str | list[str] | None = None
    """Of zero_shot: a file with the class names, or the names; default: the data's."""
    ensemble: float = Field(0.0, ge=0, le=1)
    """Of zero_shot with DiST: share of the image tower in the logits; the paper's code has 0.5."""
    text: TextSection = Field(default_factory=TextSection)
    detect: DetectScoring = Field(default_factory=DetectScoring)
    seed: int = Field(0, ge=0)
    """Of the random weights of a zoo name, of shuffled frames, and of the bootstrap."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Several ways to a threshold of which one can be gone."""
        ways = ("threshold", "wanted_precision", "wanted_recall")
        given = [name for name in ways if getattr(self.eval, name) is not None]
        if len(given) > 1:
            keys = tuple(f"eval.{name}" for name in given)
            yield keys, f"{' and '.join(keys)} each say where the threshold is, so give one of them"


def parse_tests(names: str | Sequence[str]) -> list[str]:
    """Names of temporal tests, from a list or apart by commas, each once.

    Raises:
        UsageError: one that is no `TemporalTest`.
    """
    names = names.split(",") if isinstance(names, str) else names
    known = get_args(TemporalTest)
    for name in names:
        if name not in known:
            hint = suggest(name, known) or f"take one of {', '.join(known)}"
            raise UsageError(f"there is no temporal test '{name}'", hint)
    return list(dict.fromkeys(names))

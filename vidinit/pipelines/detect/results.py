"""The figures of detections, as result.json has them; no torch is imported here."""

from __future__ import annotations

from typing import Any

from ...config import DetectScoring
from ...scoring.detection_scores import frame_scores, video_scores
from ...scoring.detections import Detections

Scores = dict[str, Any]
"""Figures by name."""


def scores_of(found: Detections, scoring: DetectScoring, *, tubes: bool) -> Scores:
    """Frame-AP, and with ``tubes`` video-AP where the truth allows it, rounded to six digits.

    ``{protocol, iou, frame_ap, frame_ap_at, [video_ap, video_ap_at | no_video_ap,] by_class}``.
    """
    values: Scores = {"protocol": scoring.protocol, "iou": scoring.iou}
    values |= frame_scores(found, scoring)
    if tubes:
        values |= video_scores(found, scoring)
    return {key: _rounded(value) for key, value in values.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return round(value, 6) if isinstance(value, float) else value

"""Tables of a report about detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...report.html import Section, table

PROTOCOLS = {"voc": "PASCAL VOC 2010 (AVA's)", "act": "ACT (JHMDB's and UCF101-24's tables)"}
"""Protocols in words."""


def class_section(scores: Mapping[str, Any]) -> Section:
    """Average precision of each class, the best first.

    Args:
        scores: as `score.scores_of` gives them, with ``given``.
    """
    order = sorted(scores["by_class"].items(), key=lambda item: -item[1]["frame_ap"])
    rows = [[name, one["boxes"], one["frame_ap"]] for name, one in order]
    at = f"IoU {scores['iou']:g}"
    body = table(["class", "true boxes", f"frame-AP at {at}"], rows)
    body += table(
        ["", *scores["frame_ap_at"]],
        [
            ["frame-AP, mean", *scores["frame_ap_at"].values()],
            *([["video-AP, mean", *_at(scores)]] if "video_ap_at" in scores else []),
        ],
    )
    note = (
        f"Protocol {scores['protocol']}: {PROTOCOLS[scores['protocol']]}; {scores['given']}. "
        "Columns of the last table are least IoUs."
    )
    if why := scores.get("no_video_ap"):
        note += f" No video-AP: {why}."
    return Section("Average precision of classes", body, note)


def _at(scores: Mapping[str, Any]) -> list[float]:
    return [scores["video_ap_at"][name] for name in scores["frame_ap_at"]]

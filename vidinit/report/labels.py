"""What figures of a run are called where people read them."""

from __future__ import annotations

LABELS = {
    "out": "Run folder",
    "steps": "Training steps",
    "best": "Best validation score",
    "videos": "Videos",
    "skipped": "Clips skipped while training",
    "views": "Views per video (clips x crops)",
    "missing": "Videos that could not be read",
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "mean_class_accuracy": "Mean class accuracy",
    "top1_interval": "95 % interval of top-1",
    "map": "Mean average precision",
    "top1_action": "Top-1 of the action",
    "top1_verb": "Top-1 of the verb",
    "top1_noun": "Top-1 of the noun",
    "top5_action": "Top-5 of the action",
    "top5_verb": "Top-5 of the verb",
    "top5_noun": "Top-5 of the noun",
    "epochs": "Epochs",
    "seconds": "Seconds in all",
    "clips_per_second": "Clips per second",
    "data_wait": "Share of the time waiting for data",
    "top1_per_view": "Top-1 accuracy of single views",
    "average": "What is averaged over views",
    "expected": "Videos expected",
    "decoded": "Videos decoded",
    "intervals": "95 % intervals",
    "ece": "Expected calibration error",
    "empty_classes": "Classes of the model without a video",
    "map_interval": "95 % interval of the mean average precision",
    "curve": "By fewer views",
    "temporal": "With the frames in another order",
    "against": "Against another evaluation",
    "sources": "Sources",
    "probe": "Probe in the model folder",
    "probes": "Probes",
    "clips": "Clips per video",
    "crops": "Crops per clip",
}
"""By key of result.json and metrics.jsonl."""

METRICS = ("map", "top1", "top5", "mean_class_accuracy", "top1_verb", "top1_noun")
"""Those that are fractions of the videos and share a picture."""


def split(key: str) -> tuple[str, str]:
    """A metric's name and its source: ``top1_photos`` is top1 of photos, ``top1`` of no source."""
    for metric in METRICS:
        if key == metric or key.startswith(f"{metric}_"):
            return metric, key[len(metric) + 1 :]
    return key, ""

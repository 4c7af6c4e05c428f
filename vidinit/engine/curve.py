"""What more views of a video are worth, from one pass over the most there are."""

from __future__ import annotations

from collections.abc import Iterator

from .predictions import Predictions

_CLIPS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def curve_of(predictions: Predictions) -> Iterator[tuple[dict[str, int], dict[str, float]]]:
    """The metrics of smaller and smaller shares of the views, the smallest first.

    The clips of a smaller grid are chosen from those there are (`predictions.chosen`); where n
    clips alone would be cut at other times, or one crop alone to another scale, its figures are
    near to those of an evaluation with n clips or one crop, and not the same.

    Yields:
        ``{clips, crops, views}`` of a video, and its metrics.
    """
    most = predictions.clips
    for crops in sorted({1, predictions.crops}):
        for clips in [*(n for n in _CLIPS if n < most), *([most] if most else [])]:
            scores = predictions.scores(clips=clips, crops=crops)
            yield {"clips": clips, "crops": crops, "views": clips * crops}, scores.metrics()

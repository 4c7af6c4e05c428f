"""How good detections of actions are: boxes in frames, and tubes of boxes through a video.

Numpy only, so that files of detections are scored without importing torch.

- `frame_ap`: average precision of boxes, frame by frame (frame-AP);
- `video_ap`: average precision of tubes (video-AP);
- `link`: boxes of successive frames joined to tubes.

Evaluators that are in use differ by several points on one and the same file; which of them is
followed is the ``protocol``, see `protocols`.
"""

from __future__ import annotations

from .frames import frame_ap
from .linking import link
from .tubes import video_ap

__all__ = ["frame_ap", "link", "video_ap"]

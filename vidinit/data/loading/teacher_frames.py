"""The part of a clip that image teachers see: some of its frames, cropped and sized for them.

All of it comes from the decode of the clip itself, however many teachers there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..pixels.transforms import Interpolation, eval_crops, resize
from ..views import Picks

CROPS = "crops"
"""In a batch: the picked frames as RGB in the student's crop, uint8 (R, K, size, size, 3)."""

CUTS = "cuts"
"""In a batch: the part of the frames that each clip shows, float32 (R, 5): top, left, bottom and
right as fractions of the frame, and 1 where it is mirrored."""


class FrameCache(Protocol):
    """The outputs of a teacher that are cached, by frame."""

    def has(self, row: int, numbers: np.ndarray) -> np.ndarray:
        """True for the frames of a row that are cached, bool of the shape of ``numbers``."""


@dataclass(frozen=True)
class FrameView:
    """How a teacher sees a frame: the center crop it was tested on, or all of it.

    Attributes:
        size: side of the crop in pixels.
        crop_pct: side of the crop over the short side it is cut from, in (0, 1].
        interpolation: how the frame is resized, with antialiasing.
        whole: all of the frame instead, made square: nothing of any crop is missing.
    """

    size: int
    crop_pct: float
    interpolation: Interpolation
    whole: bool = False

    @property
    def key(self) -> str:
        """The key of its images in a batch."""
        part = "whole" if self.whole else f"{self.crop_pct:g}"
        return f"seen/{self.size}/{part}/{self.interpolation}"


@dataclass(frozen=True)
class TeacherFrames:
    """The frames for teachers in the items of a data set, and how to cut them.

    Attributes:
        picks: which frames of a clip.
        views: crops of whole frames, each once; teachers that see the student's crop need none.
        caches: by the key of a view, the caches of all of its teachers; a frame that every one of
            them has is left out. A view that is not named here is always complete.
        crops: hold `CROPS`, too, which `ClipDataset` cuts: for teachers that see the crop of a
            student that does not see RGB.
        cuts: hold `CUTS`, too: for maps of whole frames, of which the student sees a part.
    """

    picks: Picks
    views: tuple[FrameView, ...] = ()
    caches: tuple[tuple[str, tuple[FrameCache, ...]], ...] = ()
    crops: bool = False
    cuts: bool = False

    def of(
        self,
        row: int,
        frames: np.ndarray,
        places: np.ndarray,
        numbers: np.ndarray,
        generators: Sequence[np.random.Generator],
    ) -> dict[str, Tensor]:
        """The teachers' part of an item of R clips.

        Args:
            row: whose video it is.
            frames: decoded, uint8 (N, H, W, 3).
            places: where in ``frames`` the frames of each clip are, (R, T).
            numbers: which frames of the video these are, (R, T).
            generators: one for each clip.

        Returns:
            ``picks``: int64 (R, K), sorted positions in the clips. With views also ``frames``:
            int64 (R, K), their numbers in the video, and for each view ``<key>``: uint8
            (R, K, size, size, 3). Of a view in ``caches`` that is (M, size, size, 3), and
            ``<key>/present``, bool (R, K), says which M frames are there.
        """
        length = places.shape[1]
        picks = np.stack([self.picks.of(length, generator) for generator in generators])
        item = {"picks": torch.from_numpy(picks)}
        if not self.views:
            return item
        wanted = np.take_along_axis(numbers, picks, axis=1)
        item["frames"] = torch.from_numpy(wanted)
        shown = np.take_along_axis(places, picks, axis=1)
        caches = dict(self.caches)
        for view in self.views:
            if view.key not in caches:
                item[view.key] = _crops(frames, shown.reshape(-1), view).unflatten(0, shown.shape)
                continue
            present = ~np.all([one.has(row, wanted) for one in caches[view.key]], axis=0)
            item[view.key] = _crops(frames, shown[present], view)
            item[f"{view.key}/present"] = torch.from_numpy(present)
        return item


def _crops(frames: np.ndarray, places: np.ndarray, view: FrameView) -> Tensor:
    """uint8 (M, size, size, 3): frames at some places, each cropped once."""
    if not len(places):
        return torch.empty(0, view.size, view.size, 3, dtype=torch.uint8)
    single, order = np.unique(places, return_inverse=True)
    if view.whole:
        frame = torch.from_numpy(np.ascontiguousarray(frames[single]))
        crops = resize(frame, view.size, view.size, view.interpolation)
        return crops.index_select(0, torch.from_numpy(order.reshape(-1))).contiguous()
    crops = eval_crops(
        frames[single],
        size=view.size,
        crop_pct=view.crop_pct,
        interpolation=view.interpolation,
    )[0]
    return crops.index_select(0, torch.from_numpy(order.reshape(-1)))

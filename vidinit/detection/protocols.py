"""The two definitions of average precision that tables of action detection are made with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UsageError, suggest

ProtocolName = Literal["voc", "act"]
Thresholds = float | Iterable[float] | str

_RANGE = re.compile(r"(0?\.\d{1,2}|1\.0)\s*:\s*(0?\.\d{1,2}|1\.0)")


@dataclass(frozen=True)
class Protocol:
    """The choices of an evaluator where others choose otherwise.

    Attributes:
        pixel: added to each side of a box: 1 where corners are the first and the last pixel, 0
            where they are edges.
        free: a box is compared with the true boxes that no other one has taken yet; else with all,
            and is false if the one of largest IoU is taken.
        envelope: AP is the area under the precision made falling (VOC 2010 and later); else that
            under the straight lines between its points, from recall 0 and precision 1 on.
        nms: tubes of a class that overlap a better one by more are dropped before; None: none are.
    """

    pixel: float
    free: bool
    envelope: bool
    nms: float | None


PROTOCOLS: dict[str, Protocol] = {
    # PASCAL VOC since 2010, with which AVA's, MultiSports' and the later evaluators agree.
    "voc": Protocol(pixel=0.0, free=False, envelope=True, nms=None),
    # Kalogeiton et al., "Action Tubelet Detector", ICCV 2017: JHMDB's and UCF101-24's tables.
    "act": Protocol(pixel=1.0, free=True, envelope=False, nms=0.3),
}


def protocol_of(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in PROTOCOLS:
        hint = suggest(str(name), PROTOCOLS) or f"one of {', '.join(PROTOCOLS)}"
        raise UsageError(f"unknown protocol '{name}'", hint)
    return PROTOCOLS[name]


def thresholds_of(iou: Thresholds) -> np.ndarray:
    """The IoU thresholds that are meant, float64 (n,).

    Args:
        iou: one number, several, or a text ``"0.5:0.95"``, which is 0.50, 0.55, ..., 0.95.

    Raises:
        UsageError: one is not above 0 and up to 1, or there is none.
    """
    if isinstance(iou, str):
        match = _RANGE.fullmatch(iou.strip())
        if match is None:
            try:
                values = [float(iou)]
            except ValueError:
                raise _wrong(iou) from None
        else:
            # Hundredths, so that 0.55 is the number 0.55 and not a sum of steps.
            first, last = (round(100 * float(end)) for end in match.groups())
            values = [step / 100 for step in range(first, last + 1, 5)]
    else:
        try:
            values = list(np.atleast_1d(np.asarray(iou, dtype=np.float64)).ravel())
        except (TypeError, ValueError):
            try:
                values = [float(one) for one in iou]  # type: ignore[union-attr]
            except (TypeError, ValueError):
                raise _wrong(iou) from None
    if not values or not all(0 < value <= 1 for value in values):
        raise _wrong(iou)
    return np.array(values, dtype=np.float64)


def _wrong(iou: object) -> UsageError:
    return UsageError(
        f"iou is {iou!r}", "a number above 0 and up to 1, several of them, or '0.5:0.95'"
    )

"""The methods that estimate optical flow between two frames: DIS and RAFT."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import UsageError
from ...extras import install_extra
from .settings import Flow

# On wide frames of fewer pixels OpenCV's DIS ends the process.
_DIS_SIDE = 16
# RAFT compares features of an eighth of the size over four levels, so it takes no smaller frames.
_RAFT_SIDE, _RAFT_UNIT = 128, 8


class FlowError(Exception):
    """Frames between which no flow can be estimated."""


def require_method(flow: Flow) -> None:
    """See that a method can be used here, before anything is read.

    Raises:
        UsageError: a package or the weights are missing.
    """
    if flow.method == "dis":
        if flow.weights is not None:
            raise UsageError(
                f"data.flow_weights={flow.weights} is for RAFT", "set data.flow=raft, too"
            )
        _opencv()
    else:
        _raft(flow.weights)


def estimate_flow(flow: Flow, frames: np.ndarray, places: Sequence[int]) -> Iterator[np.ndarray]:
    """Flow from some frames to those behind them.

    Args:
        flow: the method.
        frames: uint8 (N, H, W, 3).
        places: in ``frames``, each below N - 1.

    Yields:
        float32 (H, W, 2) of each place, in pixels to the right and down.

    Raises:
        FlowError: the frames are too small.
    """
    return (_by_dis if flow.method == "dis" else _by_raft)(flow, frames, places)


def _by_dis(flow: Flow, frames: np.ndarray, places: Sequence[int]) -> Iterator[np.ndarray]:
    height, width = frames.shape[1:3]
    if min(height, width) < _DIS_SIDE:
        raise FlowError(f"frames of {width} x {height} pixels are too small for optical flow")
    cv2 = _opencv()
    shown = {index for place in places for index in (place, place + 1)}
    with _one_thread(cv2):
        gray = {index: cv2.cvtColor(frames[index], cv2.COLOR_RGB2GRAY) for index in shown}
        method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        for place in places:
            yield method.calc(gray[place], gray[place + 1], None)


@contextmanager
def _one_thread(cv2: Any) -> Iterator[None]:
    """OpenCV on one thread and off the GPU while entered.

    Workers are as many as there are cores, so threads would only be in each other's way, and on a
    GPU OpenCV rounds differently: the same video must have the same flow on all machines.
    """
    threads, gpu = cv2.getNumThreads(), cv2.ocl.useOpenCL()
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        cv2.ocl.setUseOpenCL(gpu)


def _opencv() -> Any:
    """The module cv2.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise UsageError(
            "optical flow by DIS needs OpenCV, which is not installed", install_extra("flow")
        ) from None
    return cv2


def _by_raft(flow: Flow, frames: np.ndarray, places: Sequence[int]) -> Iterator[np.ndarray]:
    import torch
    from torch.nn import functional as F

    height, width = frames.shape[1:3]
    if min(height, width) < _RAFT_SIDE:
        raise FlowError(f"frames of {width} x {height} pixels are too small for RAFT")
    network = _raft(flow.weights)
    padding = (0, -width % _RAFT_UNIT, 0, -height % _RAFT_UNIT)
    for place in places:
        # Contiguous, because a view of decoded memory may go backwards (rotated videos).
        pair = torch.from_numpy(np.ascontiguousarray(frames[place : place + 2]))
        images = F.pad(pair.permute(0, 3, 1, 2).float() / 127.5 - 1, padding, mode="replicate")
        with torch.no_grad():
            found = network(images[:1], images[1:])[-1][0]
        yield found[:, :height, :width].permute(1, 2, 0).contiguous().numpy()


@lru_cache(maxsize=1)
def _raft(weights: str | None) -> Any:
    """The network of some weights, whose names say whether it is the small one, on the CPU.

    Raises:
        UsageError: there are no such weights, or they are of something else.
    """
    import torch
    from torchvision.models import optical_flow as models

    if weights is None:
        try:
            return models.raft_small(weights=models.Raft_Small_Weights.C_T_V2).eval()
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"the weights of RAFT cannot be had from torchvision's hub ({_first_line(error)})",
                "name a file with data.flow_weights=FILE, or set data.flow=dis",
            ) from error
    if not os.path.isfile(weights):
        raise UsageError(f"data.flow_weights={weights} does not exist", "name a file of weights")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        large = "context_encoder.convnormrelu.1.running_mean" in state
        network = (models.raft_large if large else models.raft_small)(weights=None)
        network.load_state_dict(state)
    except Exception as error:  # torch raises all kinds for files that are something else
        raise UsageError(
            f"data.flow_weights={weights} is not of torchvision's RAFT ({_first_line(error)})",
            "name a file of raft_small or raft_large",
        ) from error
    return network.eval()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]

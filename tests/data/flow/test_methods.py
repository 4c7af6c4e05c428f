"""Optical flow of motion that is known, in 8 bits and mirrored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.flow.scenes import Pictures, dequantize, translating
from torchvision.models import optical_flow

from vidinit.data.flow.methods import estimate_flow, require_method
from vidinit.data.flow.reader import FlowReader
from vidinit.data.flow.settings import STILL, Flow, quantize
from vidinit.data.pixels.transforms import Augment, augment_clip, negate_flow
from vidinit.data.readers import VideoReadError
from vidinit.data.views import rng
from vidinit.errors import UsageError

cv2 = pytest.importorskip("cv2")
DIS = Flow()


def reader(frames: np.ndarray, flow: Flow = DIS) -> FlowReader:
    return FlowReader("video", Pictures(frames), flow)


def inner(flow: np.ndarray) -> np.ndarray:
    """Away from the borders, where what moves in was never seen."""
    return flow[..., 12:-12, 12:-12, :]


# ------------------------------------------------------------------ 8 bits


def test_bytes_are_exact_at_rest_and_at_the_bound_and_near_between() -> None:
    motion = np.array([[-30, 20], [0, -20], [9.99, 0.04]])
    assert quantize(motion, 20).tolist() == [[1, 255], [STILL, 1], [191, 128]]
    fine = np.random.default_rng(0).uniform(-5, 5, (50, 2))
    back = dequantize(quantize(fine, 5), 5)
    assert back.dtype == np.float32
    assert np.abs(back - fine).max() <= 5 / 254 + 1e-6


def test_mirroring_bytes_is_mirroring_motion() -> None:
    motion = np.random.default_rng(0).uniform(-25, 25, (6, 8, 2))
    mirrored = quantize(motion * [-1, 1], 20)
    assert np.array_equal(negate_flow(torch.from_numpy(quantize(motion, 20))).numpy(), mirrored)
    # A resize may make a 0 where there was none.
    assert negate_flow(torch.tensor([[0, 0]], dtype=torch.uint8)).tolist() == [[255, 0]]


# ------------------------------------------------------------------ dis


@pytest.mark.parametrize(("dx", "dy"), [(3, 2), (-5, 0), (0, -4), (0, 0)])
def test_flow_is_the_known_motion(dx: int, dy: int) -> None:
    found = reader(translating(dx, dy)).get([0, 1, 2])
    assert found.shape == (3, 64, 64, 2)
    assert found.dtype == np.uint8
    assert np.abs(inner(dequantize(found, 20.0)) - [dx, dy]).max() < 0.3


def test_the_bound_cuts_off_and_refines() -> None:
    frames = translating(3, 1)
    cut = inner(reader(frames, Flow(bound=2.0)).get([0]))
    assert (cut[..., 0] == 255).all()
    assert np.abs(dequantize(cut, 2.0)[..., 1] - 1).max() < 0.3
    fine, coarse = (len(np.unique(reader(frames, Flow(bound=b)).get([0]))) for b in (4.0, 40.0))
    assert fine > 2 * coarse


def test_the_flow_of_a_mirrored_video_is_the_mirrored_flow() -> None:
    frames = translating(4, -2)
    mirrored = reader(np.ascontiguousarray(frames[:, :, ::-1])).get([0, 1])
    flow = torch.from_numpy(reader(frames).get([0, 1]))
    expected = dequantize(negate_flow(flow.flip(2)).numpy(), 20.0)
    assert np.abs(inner(dequantize(mirrored, 20.0)) - inner(expected)).max() < 0.3
    assert inner(dequantize(mirrored, 20.0))[..., 0].mean() == pytest.approx(-4, abs=0.1)


def test_augmentation_mirrors_flow() -> None:
    flow = reader(translating(4, -2)).get([0, 1])
    whole = {"size": 64, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    for epoch in range(8):
        plain, _ = augment_clip(flow, Augment(**whole, flip=False), rng(0, epoch, 0))
        clip, cut = augment_clip(flow, Augment(**whole), rng(0, epoch, 0))
        mirrored = cut.mirrored
        assert torch.equal(clip, negate_flow(plain.flip(2)) if mirrored else plain)
        motion = inner(dequantize(clip.numpy(), 20.0)).mean(axis=(0, 1, 2))
        assert motion == pytest.approx([-4 if mirrored else 4, -2], abs=0.1)


def test_threads_of_opencv_change_nothing_and_stay() -> None:
    frames = translating(3, 1, side=96)
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            found.append(reader(frames).get([0, 1]))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*found)


@pytest.mark.parametrize(("height", "width"), [(8, 64), (15, 400), (64, 8)])
def test_small_frames_have_none(height: int, width: int) -> None:
    frames = np.zeros((3, height, width, 3), np.uint8)
    with pytest.raises(VideoReadError, match=f"video: frames of {width} x {height} pixels are too"):
        reader(frames).get([0])
    assert reader(np.zeros((2, 16, 400, 3), np.uint8)).get([0]).shape == (1, 16, 400, 2)


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"needs OpenCV.*pip install 'opencv-python-headless"):
        require_method(DIS)


# ------------------------------------------------------------------ reader


def test_each_frame_is_decoded_once_and_the_last_has_the_flow_before_it() -> None:
    frames = translating(2, 1, frames=6)
    pictures = Pictures(frames)
    flow = FlowReader("video", pictures, DIS)
    every = flow.get(range(6))
    assert pictures.decoded == 6
    assert np.array_equal(every[5], every[4])
    assert np.array_equal(flow.get([4, 0, 5, 0]), every[[4, 0, 5, 0]])
    shown, both = flow.both([1, 3, 5])
    assert np.array_equal(shown, frames[[1, 3, 5]])
    assert np.array_equal(both, every[[1, 3, 5]])
    assert (flow.num_frames, flow.fps, flow.size) == (6, 25.0, (64, 64))
    with pytest.raises(VideoReadError, match="it has 6 frames, no frame 6"):
        flow.get([6])


def test_a_picture_does_not_move() -> None:
    frames, flow = reader(translating(0, 0, frames=1)).both([0, 0])
    assert frames.shape == (2, 64, 64, 3)
    assert flow.shape == (2, 64, 64, 2)
    assert (flow == STILL).all()


# ------------------------------------------------------------------ raft


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(optical_flow.raft_small(weights=None).state_dict(), file)
    return str(file)


def test_raft_is_torchvisions(weights: str) -> None:
    flow = Flow("raft", weights=weights)
    require_method(flow)
    frames = translating(3, 2, frames=2, side=132)[:, :, :128]
    (found,) = estimate_flow(flow, frames, [0])
    network = optical_flow.raft_small(weights=None).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    pair = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
    padded = torch.nn.functional.pad(pair, (0, 0, 0, 4), mode="replicate")
    with torch.no_grad():
        expected = network(padded[:1], padded[1:])[-1][0, :, :132].permute(1, 2, 0)
    assert found.shape == (132, 128, 2)
    assert np.allclose(found, expected.numpy(), atol=1e-4)


def test_raft_refuses_what_it_cannot_do(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VideoReadError, match="64 x 64 pixels are too small for RAFT"):
        reader(translating(1, 1), Flow("raft", weights=weights)).get([0])
    with pytest.raises(UsageError, match="does not exist"):
        require_method(Flow("raft", weights=str(tmp_path / "none.pth")))
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, other)
    with pytest.raises(UsageError, match="is not of torchvision's RAFT"):
        require_method(Flow("raft", weights=str(other)))
    with pytest.raises(UsageError, match=r"flow_weights=.* is for RAFT"):
        require_method(Flow(weights=weights))

    def offline(**_: Any) -> None:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(optical_flow, "raft_small", offline)
    with pytest.raises(UsageError, match=r"cannot be had .*\(no route to host\)"):
        require_method(Flow("raft"))

"""Facts of videos, of a machine, and of weights that are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidinit.data.rows import Probe, Row, Rows
from vidinit.pipelines.fit import look as looking
from vidinit.pipelines.fit.look import Facts, Spread, look
from vidinit.zoo.images.hub import where_at_hand


def rows(labels: list[int], *, frames: int = 50, fps: float = 25.0) -> Rows:
    """A row of a video for each label, the n-th with n frames more."""
    probes = [Probe(frames + n, fps, 120, 160) for n in range(len(labels))]
    found = [
        Row(f"{n}.mp4", label, probe=probe, group=f"camera {n % 3}")
        for n, (label, probe) in enumerate(zip(labels, probes, strict=True))
    ]
    return Rows(tuple(found), ("a", "b"))


def test_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "weights_at_hand", lambda: {"resnet50": "the hub"})
    facts = look(rows([0] * 6 + [1] * 3), rows([0, 1, 1]), own_val=True, unlabelled=5, device="cpu")
    assert (facts.clips, facts.held_out, facts.unlabelled, facts.groups) == (9, 3, 5, 3)
    assert facts.counts == (6, 3) and facts.held_out_counts == (1, 2)
    assert facts.chance == pytest.approx(2 / 3)
    assert facts.frames == Spread(50, 50.1, 52.5, 56.9, 58)
    assert facts.seconds is not None and facts.seconds.median == pytest.approx(2.1)
    assert (facts.fps, facts.short_side, facts.gpu) == (25.0, 120, None)
    assert facts.cores >= 1 and facts.memory_gb > 0
    assert Facts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts


def test_videos_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "weights_at_hand", dict)
    facts = look(rows([0, 1], fps=0.0), None, own_val=False, unlabelled=0, device="cpu")
    assert facts.seconds is None and facts.fps == 0 and facts.held_out == 0
    assert Facts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts


def test_weights_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the cache, on the hub that answers, or nowhere; nothing is fetched."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert where_at_hand("me/net") == ""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("vidinit.zoo.images.hub.reachable", lambda url: True)
    assert where_at_hand("me/net") == "the hub"
    folder = tmp_path / "models--me--net"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert where_at_hand("me/net") == "the local cache"

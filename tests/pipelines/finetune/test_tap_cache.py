from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import losses
from support import MODEL, SMALL

import vidinit
from vidinit.checkpoint import save_model
from vidinit.config import DataConfig
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.tap_cache import still_settings
from vidinit.zoo.dist_network.tower import Tower

STILL = ["data.batch_size=5", "data.workers=0", "train.log_every=1", "train.lr=0.1"]
STILL += ["data.start=center", "data.min_area=1", "data.flip=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = vidinit.create_model(
        "dist-vit_tiny_patch16_224", dim=64, temporal_dim=16, pools=1, tower_precision="bf16"
    )
    model.spec = replace(model.spec, frames=4, size=32)
    return save_model(model, tmp_path_factory.mktemp("models") / "m")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames a tower is given, call by call."""
    seen: list[int] = []
    forward = Tower.forward

    def counted(tower: Tower, frames: torch.Tensor) -> list[torch.Tensor]:
        seen.append(len(frames))
        return forward(tower, frames)

    monkeypatch.setattr(Tower, "forward", counted)
    return seen


def test_the_tower_looks_at_a_clip_once(
    folder: Path,
    motion_set: Path,
    tmp_path: Path,
    looked_at: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10 clips of 2 frames for the tower, twice; and the same losses to the bit."""
    # The report's counting of multiply-adds is a look of its own.
    monkeypatch.setattr("vidinit.pipelines.shared.training.model_sections", lambda *given: [])
    options: dict[str, Any] = {"data": motion_set / "train", "epochs": 2}
    common = [*STILL, "data.val_fraction=0.001", "eval.every=0"]
    cache = [f"train.tap_cache={tmp_path / 'taps'}"]
    trained = {}
    for name, more in (("without", []), ("with", cache)):
        looked_at.clear()
        vidinit.finetune(folder, out=tmp_path / name, overrides=common + more, **options)
        trained[name] = losses(tmp_path / name), sum(looked_at)
    assert trained["without"][0] == trained["with"][0]
    assert (trained["without"][1], trained["with"][1]) == (2 * 2 * 10, 2 * 10)


def test_runs_that_have_nothing_to_keep(folder: Path, motion_set: Path, tmp_path: Path) -> None:
    cache = f"train.tap_cache={tmp_path / 'taps'}"
    with pytest.raises(UsageError, match="differ from epoch to epoch") as error:
        vidinit.finetune(folder, data=motion_set, out=tmp_path / "a", overrides=[cache])
    assert "data.start=center data.min_area=1.0" in str(error.value.hint)
    assert not (tmp_path / "a").exists() and not (tmp_path / "taps").exists()
    with pytest.raises(UsageError, match="no frozen tower"):
        vidinit.finetune(MODEL, data=motion_set, out=tmp_path / "b", overrides=[*SMALL, cache])


def test_what_makes_clips_differ() -> None:
    still = DataConfig(start="center", min_area=1.0)
    assert still_settings(still, flip=False) == []
    assert still_settings(still, flip=True) == ["data.flip=false"]
    changed = still.model_copy(update={"randaug": "rand-m7-n4", "mixup": 0.8, "jitter": (32, 40)})
    assert still_settings(changed, flip=False) == [
        *("data.jitter=null", "data.randaug=", "data.mixup=0.0")
    ]

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
from vidinit.zoo.adapters.tower import Tower

STILL = ["data.batch_size=5", "data.workers=0", "train.log_every=1", "train.lr=0.1"]
STILL += ["data.start=center", "data.min_area=1", "data.flip=false"]


SMALL_DIST = {"dim": 64, "temporal_dim": 16, "pools": 1, "tower_precision": "bf16"}
MODELS = {  # options, and how many of the four frames the tower sees
    "dist": (SMALL_DIST, 2),
    "side4video": ({"width": 64, "network": {"depth": 2}}, 4),
    "side4video alone": ({"fusion": "none", "network": {"depth": 2}}, 4),
}


def make(name: str, root: Path) -> Path:
    torch.manual_seed(0)
    plan, options = name.split()[0], MODELS[name][0]
    classes = {} if plan == "dist" else {"num_classes": 2}
    model = vidinit.create_model(f"{plan}-vit_tiny_patch16_224", **classes, **options)
    model.spec = replace(model.spec, frames=4, size=32)
    return save_model(model, root / "m")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("dist", tmp_path_factory.mktemp("models"))


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames a tower is given, call by call."""
    seen: list[int] = []

    def count(method: str) -> None:
        whole = getattr(Tower, method)

        def counted(tower: Tower, frames: torch.Tensor) -> Any:
            seen.append(len(frames))
            return whole(tower, frames)

        monkeypatch.setattr(Tower, method, counted)

    count("forward")
    count("both")
    return seen


@pytest.mark.parametrize(
    "name", ["dist", "side4video", pytest.param("side4video alone", marks=pytest.mark.slow)]
)
def test_the_tower_looks_at_a_clip_once(
    name: str,
    motion_set: Path,
    tmp_path: Path,
    looked_at: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10 clips, twice; and the same losses to the bit."""
    folder, frames = make(name, tmp_path), MODELS[name][1]
    # The report's counting of multiply-adds is a look of its own.
    monkeypatch.setattr("vidinit.pipelines.shared.training.model_sections", lambda *given: [])
    options: dict[str, Any] = {"data": motion_set / "train", "epochs": 2}
    common = [*STILL, "data.val_fraction=0.001", "eval.every=0"]
    cache = [f"train.tap_cache={tmp_path / 'taps'}"]
    trained = {}
    for run, more in (("without", []), ("with", cache)):
        looked_at.clear()
        vidinit.finetune(folder, out=tmp_path / run, overrides=common + more, **options)
        trained[run] = losses(tmp_path / run), sum(looked_at)
    assert trained["without"][0] == trained["with"][0]
    assert (trained["without"][1], trained["with"][1]) == (2 * frames * 10, frames * 10)


def test_runs_that_have_nothing_to_keep(folder: Path, motion_set: Path, tmp_path: Path) -> None:
    cache = f"train.tap_cache={tmp_path / 'taps'}"
    with pytest.raises(UsageError, match="differ from epoch to epoch") as error:
        vidinit.finetune(folder, data=motion_set, out=tmp_path / "a", overrides=[cache])
    assert "data.start=center data.min_area=1.0" in str(error.value.hint)
    assert not (tmp_path / "a").exists() and not (tmp_path / "taps").exists()
    with pytest.raises(UsageError, match="no frozen tower"):
        vidinit.finetune(MODEL, data=motion_set, out=tmp_path / "b", overrides=[*SMALL, cache])


def test_a_tower_with_the_same_weights(
    motion_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GELU and QuickGELU, and other heads, are no tensors, and what is kept is another's."""
    for name in ("model_sections", "write_report"):
        monkeypatch.setattr(f"vidinit.pipelines.shared.training.{name}", lambda *_, **__: [])
    network = {"depth": 1, "embed_dim": 64, "num_heads": 1}
    names = ("vit_base_patch16_clip_224", "vit_base_patch16_clip_quickgelu_224")
    cache = f"train.tap_cache={tmp_path / 'taps'}"
    settings = [*STILL, cache, "eval.every=0"]
    differs = "tower is vit_base_patch16_clip_224 there", "network is .*'num_heads': 1"
    for number, (name, heads) in enumerate(((names[0], 1), (names[1], 1), (names[0], 2))):
        torch.manual_seed(0)
        arguments = {**network, "num_heads": heads}
        made = vidinit.create_model(
            f"side4video-{name}", num_classes=2, width=64, network=arguments
        )
        made.spec = replace(made.spec, frames=2, size=32)
        folder, out = save_model(made, tmp_path / f"m{number}"), tmp_path / f"r{number}"
        if number == 0:
            vidinit.finetune(folder, data=motion_set, out=out, epochs=1, overrides=settings)
            continue
        with pytest.raises(UsageError, match=f"for something else: {differs[number - 1]}"):
            vidinit.finetune(folder, data=motion_set, out=out, epochs=1, overrides=settings)


def test_what_makes_clips_differ() -> None:
    still = DataConfig(start="center", min_area=1.0)
    assert still_settings(still, flip=False) == []
    assert still_settings(still, flip=True) == ["data.flip=false"]
    changed = still.model_copy(update={"randaug": "rand-m7-n4", "mixup": 0.8, "jitter": (32, 40)})
    assert still_settings(changed, flip=False) == [
        *("data.jitter=null", "data.randaug=", "data.mixup=0.0")
    ]

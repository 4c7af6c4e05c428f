"""Runs whose probes are solved: what they find, their folder, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL, logged, moving_bar, write_video

import vidinit
from vidinit.checkpoint import save_model
from vidinit.errors import DataError, UsageError
from vidinit.zoo.poolers import SegmentsPooler, make_pooler


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = vidinit.create_model("c2d-test_vit", num_classes=2)
    return save_model(model, tmp_path_factory.mktemp("models") / "m")


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the page that are tested elsewhere and take longer than these runs."""
    monkeypatch.setattr("vidinit.pipelines.finetune.solver.PENALTIES", (1e-3, 1.0))
    monkeypatch.setattr("vidinit.pipelines.finetune.solved.model_sections", lambda *_: [])
    monkeypatch.setattr("vidinit.pipelines.evaluate.results.write_report", lambda *_, **__: None)


def test_segments_pooler() -> None:
    tokens = torch.randn(2, 6, 3, 5)
    pooled = SegmentsPooler(5, segments=3)(tokens)
    assert pooled.shape == (2, 5 + 5 + 3 * 5)
    frames = tokens.mean(2)
    assert torch.allclose(pooled[:, :5], frames.mean(1))
    change = (tokens[:, 1:] - tokens[:, :-1]).abs().mean((1, 2))
    assert torch.allclose(pooled[:, 5:10], change)
    parts = torch.cat([frames[:, 2 * k : 2 * k + 2].mean(1) for k in range(3)], dim=1)
    assert torch.allclose(pooled[:, 10:], parts, atol=1e-6)
    # In the order of the parts, however they are named; one frame has no change.
    two = SegmentsPooler(5, parts=["change", "mean"])
    assert torch.equal(two(tokens), pooled[:, :10])
    assert not two(tokens[:, :1])[:, 5:].any()
    again = make_pooler(5, **two.settings())
    assert again.settings() == two.settings() == {
        "form": "segments", "parts": ["mean", "change"], "segments": 4
    }  # fmt: skip
    with pytest.raises(UsageError, match="name some of mean, change, segments"):
        SegmentsPooler(5, parts=["mean", "mean"])


@pytest.mark.usefixtures("short_pages")
def test_a_run(trunk: Path, motion_set: Path, tmp_path: Path) -> None:
    """Ridge and logistic: the model folder scores what the run says, and says if time matters."""
    out = tmp_path / "run"
    result = vidinit.finetune(
        trunk,
        data=motion_set,
        probe=["ridge", "logistic:features=change"],
        out=out,
        overrides=SMALL,
    )
    assert set(result["probes"]) >= {"ridge", "logistic"}
    assert result["steps"] == 0 and result["videos"] == 12
    assert result["probe"] == min(
        ("ridge", "logistic"), key=lambda name: result["solved"][name]["loss"]
    )
    assert result["choice"]["clips"] == 12
    assert result["time"]["videos"] == 6
    assert result["best"] == result["probes"][result["probe"]]
    (row,) = logged(out)
    assert row["top1"] == pytest.approx(result["best"])
    assert "Probes of the frozen trunk" in (out / "report.html").read_text("utf-8")
    scored = vidinit.evaluate(out, data=motion_set, out=tmp_path / "eval")
    assert scored["top1"] == pytest.approx(result["best"])
    model = vidinit.load(out)
    assert model.lineage[-1]["probe"] == result["probe"] and model.classes == ["left", "right"]
    # A finished run is left alone, another configuration refused.
    again = vidinit.finetune(
        *(trunk,),
        data=motion_set,
        probe=["ridge", "logistic:features=change"],
        out=out,
        overrides=SMALL,
        resume=True,
    )
    assert again == result


def test_refusals(trunk: Path, motion_set: Path, tmp_path: Path) -> None:
    words = {"data": motion_set, "overrides": SMALL, "out": tmp_path / "run"}
    with pytest.raises(UsageError, match="ridge is solved over one pass, probe linear is trained"):
        vidinit.finetune(trunk, probe=["ridge", "linear"], **words)
    with pytest.raises(UsageError, match=r"train\.feature_views is for probes that are trained"):
        vidinit.finetune(
            trunk, probe="ridge", **{**words, "overrides": [*SMALL, "train.feature_views=2"]}
        )
    with pytest.raises(UsageError, match="these probes are solved without any"):
        vidinit.finetune(trunk, probe="ridge", dry_run=True, **words)
    with pytest.raises(UsageError, match="features=speed of probe ridge is not auto, mean"):
        vidinit.finetune(trunk, probe="ridge:features=speed", **words)
    with pytest.raises(UsageError, match="needs the outputs of several frames"):
        vidinit.finetune(
            trunk,
            probe="ridge:features=change",
            **{**words, "overrides": [*SMALL, "data.frames=1"], "out": tmp_path / "one"},
        )
    for n in range(3):
        write_video(tmp_path / "data" / "left" / f"{n}.mp4", moving_bar(4, n))
    with pytest.raises(DataError, match="all training clips are of one class"):
        vidinit.finetune(trunk, probe="ridge", **{**words, "data": tmp_path / "data"})
    assert np.all([not (tmp_path / name).exists() for name in ("run",)])

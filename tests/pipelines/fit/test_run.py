"""Fits from end to end: their folder, going on after a kill, budgets, and refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support import json_of, moving_bar, run_cli, write_video

import vidinit
from vidinit.errors import DataError, UsageError

TINY = ["data.frames=4", "data.size=32", "data.workers=0", "data.flip=false"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny image network with weights in a file."""
    import timm

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(timm.create_model("test_efficientnet").state_dict(), file)
    return f"test_efficientnet={file}"


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of the stages are tested elsewhere; they take longer than these runs."""
    monkeypatch.setattr("vidinit.pipelines.finetune.solver.PENALTIES", (1e-3, 1.0))
    monkeypatch.setattr("vidinit.pipelines.convert.write_conversion_page", lambda *_: None)
    for module in ("shared.training", "finetune.solved", "evaluate.results"):
        monkeypatch.setattr(
            f"vidinit.pipelines.{module}.write_report",
            lambda run, **_: run.write("report.html", "a page"),
        )
    for module in ("shared.training", "finetune.solved"):
        monkeypatch.setattr(f"vidinit.pipelines.{module}.model_sections", lambda *_: [])


@pytest.mark.usefixtures("no_pages")
def test_a_fit(motion_set: Path, source: str, tmp_path: Path) -> None:
    """Baseline, fine-tuning, the better one of the two, and every choice as a setting."""
    out = tmp_path / "fit"
    result = vidinit.fit(
        motion_set,
        source=source,
        out=out,
        overrides=[*TINY, "train.epochs=2"],
        budget="1h",
        test=motion_set / "train",
    )
    assert set(result["models"]) == {"baseline", "tuned"}
    best = result["best"]
    assert result["score"] == max(one["top1"] for one in result["models"].values())
    assert result["videos"] == 6 and result["chance"] == 0.5
    assert f"{100 * result['score']:.1f} % of 6 validation clips right" in result["answer"]
    assert "always the most frequent class 50.0 %" in result["answer"]
    assert result["time"]["text"] in result["answer"]
    assert result["test"]["videos"] == 12
    assert f"{100 * result['test']['top1']:.1f} % on 12 test clips" in result["answer"]
    assert set(result["models"]["tuned"]["temporal"]) == {"shuffle", "freeze"}
    assert result["next"].startswith("vidinit ")
    # The best model is whole, and scores what is said.
    assert vidinit.load(out).classes == ["left", "right"]
    scored = vidinit.evaluate(out, data=motion_set, out=tmp_path / "eval")
    assert scored["top1"] == result["score"]
    # Each stage is a run, and the choices are the settings of one that can be repeated.
    for name in ("baseline", "tuned"):
        assert (out / name / "config.yaml").is_file() and (out / name / "eval").is_dir()
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["command"] == "finetune" and settings["model"] == str(out / "start")
    assert settings["train"]["optimizer"] == "adamw" and settings["data"]["frames"] == 4
    assert settings["train"]["epochs"] == 2
    plan = json.loads((out / "plan.json").read_text())
    reasons = {one["key"]: one["reason"] for one in plan["choices"]}
    assert reasons["data.frames"] == reasons["source"] == "given"
    assert "identities" in reasons["train.temporal_lr_scale"]
    page = (out / "report.html").read_text("utf-8")
    assert result["models"][best]["name"] in page and "identities" in page
    with pytest.raises(UsageError, match="is not empty"):
        vidinit.fit(motion_set, source=source, out=out)
    assert vidinit.fit(motion_set, out=out, resume=True) == {**result, "out": str(out)}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_a_budget_without_room(motion_set: Path, source: str, tmp_path: Path) -> None:
    """The baseline alone, and the budget that would do."""
    out = tmp_path / "fit"
    result = vidinit.fit(motion_set, source=source, out=out, overrides=TINY, budget="5s")
    assert list(result["models"]) == ["baseline"] and result["best"] == "baseline"
    assert not (out / "tuned").exists()
    words = result["next"].split()
    assert words[:4] == ["vidinit", "fit", str(motion_set), "--budget"]


def test_a_dry_run_writes_nothing(motion_set: Path, tmp_path: Path) -> None:
    found = vidinit.fit(motion_set, dry_run=True, out=tmp_path / "fit", overrides=TINY)
    assert found["choices"]["data.frames"] == 4
    assert found["facts"]["clips"] == 12 and found["facts"]["counts"] == (6, 6)
    assert not (tmp_path / "fit").exists()


def test_refusals(motion_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    with pytest.raises(UsageError, match="does not exist"):
        vidinit.fit(tmp_path / "nowhere", out=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        vidinit.fit(tmp_path / "empty", out=out)
    for name in ("left", "right"):
        write_video(tmp_path / "single" / name / "0.mp4", moving_bar(4, 0))
    with pytest.raises(DataError, match="no class has a second clip"):
        vidinit.fit(tmp_path / "single", out=out)
    for number in range(3):
        write_video(tmp_path / "one" / "left" / f"{number}.mp4", moving_bar(4, number))
    with pytest.raises(DataError, match="of one class"):
        vidinit.fit(tmp_path / "one", out=out)
    with pytest.raises(UsageError, match="is no time"):
        vidinit.fit(motion_set, out=out, budget="soon")
    with pytest.raises(UsageError, match=r"unknown key 'train\.epocs'"):
        vidinit.fit(motion_set, out=out, overrides=["train.epocs=3"])
    with pytest.raises(UsageError, match="model cannot be given to a fit"):
        vidinit.fit(motion_set, out=out, overrides=["model=s3d-resnet18"])
    with pytest.raises(UsageError, match=r"data\.split=all makes several runs"):
        vidinit.fit(motion_set, out=out, overrides=["data.split=all"])
    with pytest.raises(UsageError, match="--resume needs the folder"):
        vidinit.fit(motion_set, resume=True)
    assert not out.exists()


def test_finetune_without_a_model_is_a_fit(motion_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model is given, and --probe is for one"):
        vidinit.finetune(data=motion_set, probe="ridge", out=tmp_path / "fit")
    found = vidinit.finetune(data=motion_set, epochs=3, dry_run=True, overrides=TINY)
    assert found["choices"]["train.epochs"] == 3


@pytest.mark.slow
def test_a_killed_fit_goes_on(motion_set: Path, source: str, tmp_path: Path) -> None:
    """Killed in the middle of the fine-tuning; the baseline is not run again."""
    out = tmp_path / "fit"
    words = ["fit", str(motion_set), "--source", source, "--out", str(out), "--budget", "1h"]
    words += [*TINY, "train.epochs=40"]
    process = subprocess.Popen([sys.executable, "-m", "vidinit", *words], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 200
        while not list(out.glob("tuned/checkpoints/step_*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    before = (out / "baseline" / "result.json").stat().st_mtime_ns
    result = json_of(run_cli(*words[:2], "--out", out, "--resume", "--json"))
    assert result["models"].keys() == {"baseline", "tuned"}
    assert (out / "baseline" / "result.json").stat().st_mtime_ns == before
    assert json.loads((out / "tuned" / "result.json").read_text())["epochs"] == 40


@pytest.mark.slow
def test_ctrl_c(motion_set: Path, source: str, tmp_path: Path) -> None:
    """A fit that is stopped says how it goes on."""
    out = tmp_path / "fit"
    words = ["fit", str(motion_set), "--source", source, "--out", str(out), "--budget", "1h"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vidinit", *words, *TINY, "train.epochs=200"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not list(out.glob("tuned/checkpoints/step_*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130
    assert f"go on with: vidinit fit {motion_set} --out {out} --resume" in told


@pytest.mark.slow
def test_distillation(motion_set: Path, source: str, tmp_path: Path) -> None:
    """With videos without labels there is a third model."""
    raw: list[Any] = [
        write_video(tmp_path / "raw" / f"{n}.mp4", moving_bar((-4, 4)[n % 2], n)) for n in range(8)
    ]
    result = vidinit.fit(
        motion_set,
        source=source,
        out=tmp_path / "fit",
        unlabelled=tmp_path / "raw",
        overrides=[*TINY, "train.epochs=2"],
        budget="1h",
    )
    assert len(raw) == 8
    assert result["models"].keys() == {"baseline", "tuned", "tuned-distilled"}
    assert (tmp_path / "fit" / "distilled" / "model").is_dir()

"""Bad input: one clear line on stderr, the documented exit code, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from support import MODEL, moving_bar, write_video
from typer.testing import CliRunner
from vidinit.commands import app


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders and files that are wrong in known ways."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    good = write_video(tmp_path / "good" / "a" / "1.mp4", moving_bar(2, 0))
    write_video(tmp_path / "good" / "b" / "1.mp4", moving_bar(-2, 1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes" / "a").mkdir(parents=True)
    (tmp_path / "notes" / "a" / "readme.txt").write_text("no video")
    for name, content in (
        ("text", b"this is no video\n"),
        ("zero", b""),
        ("cut", good.read_bytes()[: good.stat().st_size // 2]),
    ):
        for label in "ab":
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "1.mp4").write_bytes(content)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "r18.pth")
    (tmp_path / "my.yaml").write_text("train:\n  epocs: 3\n")
    return tmp_path


CASES = {
    "unknown command": ("finetun", 2, "finetune"),
    "unknown option": ("finetune r3d50 --epoch 3", 2, "--epoch"),
    "setting as an option": ("finetune r3d50 --frames 8", 2, "write data.frames=VALUE)"),
    "other word for a setting": (
        "finetune r3d50 --data good train.learning_rate=3",
        2,
        "(did you mean 'train.lr'?)",
    ),
    "setting of no section": ("finetune r3d50 --data good num_frames=3", 2, "mean 'data.frames'"),
    "other word for a command": ("train r3d50 --data good", 2, "Did you mean 'finetune'?"),
    "end of a preset's name": (
        "finetune r3d50 --data good --preset small-data",
        2,
        "name finetune/s3d-tf_efficientnet_lite0_small-data or finetune/timesformer",
    ),
    "unknown model": ("finetune r3d5O --data good", 2, "did you mean 'r3d50'"),
    "unknown timm name": ("finetune s3d-resnet5O --data good", 2, "did you mean 's3d-resnet50'"),
    "unknown source": ("convert resnet5O --to i3d", 2, "did you mean 'resnet50"),
    "unknown target": ("convert resnet50 --to sts-r3d5O", 2, "did you mean 'sts-r3d50'"),
    "unknown preset": (
        "finetune r3d50 --data good --preset sts-r3d50_k40",
        2,
        "did you mean 'finetune/sts-r3d50_k400'",
    ),
    "unknown key": ("finetune r3d50 train.epocs=3 --data good", 2, "did you mean 'train.epochs'"),
    "unknown key in a file": ("finetune r3d50 --data good --config my.yaml", 2, "my.yaml:2"),
    "wrong value": ("finetune r3d50 train.lr=fast --data good", 2, "train.lr"),
    "no model": ("finetune --data good", 3, "no class has a second clip"),
    "no data": (f"finetune {MODEL}", 2, "--data"),
    "missing folder": (f"finetune {MODEL} --data nowhere", 2, "nowhere does not exist"),
    "missing model folder": ("eval runs/none --data good", 2, "no such model folder"),
    "empty folder": (f"finetune {MODEL} --data empty", 3, "empty"),
    "no video": (f"finetune {MODEL} --data notes", 3, "notes"),
    "text called mp4": (f"finetune {MODEL} --data text", 3, "text/a/1.mp4"),
    "zero bytes": (f"finetune {MODEL} --data zero", 3, "zero/a/1.mp4"),
    "truncated": (f"finetune {MODEL} --data cut", 3, "cut/a/1.mp4"),
    "eval of nothing readable": (f"eval {MODEL} --data text", 3, "text/a/1.mp4"),
    "distill without videos": (
        f"distill --student {MODEL} --teacher imagenet-lite --videos notes",
        3,
        "notes",
    ),
    "distill from nothing readable": (
        f"distill --student {MODEL} --teacher imagenet-lite --videos zero",
        3,
        "zero/a/1.mp4",
    ),
    "two teachers of one name": (
        f"distill --student {MODEL} --teacher imagenet --teacher imagenet --videos good",
        2,
        "two teachers are called 'imagenet'",
    ),
    "unknown teacher": (
        f"distill --student {MODEL} --teacher imagnet-lit --videos good",
        2,
        "imagnet-lit",
    ),
    "weights of another shape": (
        "convert resnet50 --weights r18.pth --to i3d",
        2,
        "do not fit the model",
    ),
    "missing weights": ("convert resnet50 --weights none.pth --to i3d", 2, "none.pth"),
    "hub out of reach": ("convert resnet10t --to i3d", 1, "--weights FILE"),
    "teacher's hub out of reach": (
        f"distill --student {MODEL} --teacher resnet10t --videos good",
        1,
        "--teacher resnet10t=FILE",
    ),
    "out not empty": (f"finetune {MODEL} --data good --out full", 2, "not empty"),
    "convert out not empty": ("convert resnet18 --no-pretrained --to i3d --out full", 2, "full"),
    "out is a file": (f"finetune {MODEL} --data good --out my.yaml", 2, "is a file"),
    "overwrite of something else": (
        f"finetune {MODEL} --data good --out full --overwrite",
        2,
        "mine.txt",
    ),
    "convert over something else": (
        "convert resnet18 --no-pretrained --to i3d --out full --overwrite",
        2,
        "mine.txt",
    ),
    "resume without out": (f"finetune {MODEL} --data good --resume", 2, "--out"),
    "one source": (f"cotrain {MODEL} --source a=good", 2, "at least two sources"),
    "sources of one name": (
        f"cotrain {MODEL} --source a=good --source a=good",
        2,
        "two sources are called 'a'",
    ),
    "source without a name": (f"cotrain {MODEL} --source good --source b=good", 2, "NAME=DIR"),
    "source with an unknown setting": (
        f"cotrain {MODEL} --source a=good,frame=3 --source b=good",
        2,
        "did you mean 'frames'",
    ),
    "profile of an unknown model": ("profile r3d50 r3d5", 2, "did you mean"),
    "no such device": (f"finetune {MODEL} --data good --device cuda", 2, "cuda"),
    "wrong device": (f"finetune {MODEL} --data good --device gpu", 2, "device"),
    "no processes": (f"finetune {MODEL} --data good --processes 0", 2, "--processes"),
    "unknown reader": (f"finetune {MODEL} --data good data.reader=ffmpeg", 2, "data.reader"),
    "no share of bad files": (f"finetune {MODEL} --data good --max-bad few", 2, "data.max_bad"),
    "no root": (f"finetune {MODEL} --data good --root nowhere", 2, "nowhere"),
    "batches that are no multiple of the repeats": (
        f"finetune {MODEL} --data good data.repeats=3 data.batch_size=4",
        2,
        "no multiple of data.repeats=3",
    ),
    "all frames in a batch": (
        f"finetune {MODEL} --data good data.sampling=all data.batch_size=2",
        2,
        "data.batch_size=1",
    ),
    "unknown augmentation": (
        f"finetune {MODEL} --data good data.randaug=rand-q7",
        2,
        "rand-m7-n4-mstd0.5-inc1",
    ),
    "data check of nothing": ("data check nowhere", 2, "nowhere"),
    "data prepare into its source": ("data prepare good good", 2, "good"),
    "unknown preset to show": ("preset show finetune/sts-r3d50_k40", 2, "sts-r3d50_k400"),
    "demo on one video": ("demo --videos good/a --quick", 3, "at least two files"),
    "demo on no folder": ("demo --videos nowhere --quick", 2, "nowhere"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_the_documented_code(case, bad):
    line, code, part = CASES[case]
    if "cuda" in line and torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    before = {p: p.read_bytes() for p in bad.rglob("*") if p.is_file()}
    result = CliRunner().invoke(app, line.split())
    errors = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert result.exit_code == code, result.output
    assert len(errors) == 1 and part in errors[0], result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == errors[0]
    after = {p: p.read_bytes() for p in bad.rglob("*") if p.is_file()}
    assert after == before, "nothing is written, nothing is lost"


def test_debug_shows_where(bad):
    result = CliRunner().invoke(app, ["finetune", MODEL, "--data", "text", "--debug"])
    assert result.exit_code == 3
    assert "Traceback" in result.stderr and result.stderr.splitlines()[-1].startswith("error: ")


def test_unknown_faults_are_one_line_too(bad, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("vidinit.pipelines.finetune.run.train_val", broken)
    result = CliRunner().invoke(app, ["finetune", MODEL, "--data", "good"])
    assert result.exit_code == 1
    assert "unexpected RuntimeError: first line; " in result.stderr
    assert "--debug" in result.stderr and "second" not in result.stderr


def test_a_few_bad_files_are_left_out_and_counted(bad):
    for i in range(2, 24):
        write_video(bad / "good" / "a" / f"{i}.mp4", moving_bar(1, i))
        write_video(bad / "good" / "b" / f"{i}.mp4", moving_bar(-1, i))
    (bad / "good" / "a" / "broken.mp4").write_bytes(b"")
    line = f"finetune {MODEL} --data good --out run --json --epochs 1 data.size=32 data.frames=2"
    result = CliRunner().invoke(app, [*line.split(), "data.workers=0", "data.stride=1"])
    assert result.exit_code == 0, result.stderr
    import json

    health = json.loads((bad / "run" / "data_health.json").read_text())
    assert (health["files"], health["good"]) == (47, 46)
    assert health["bad"][0]["path"].endswith("broken.mp4")
    assert "broken.mp4" in result.stderr
    assert json.loads(result.stdout)["skipped"] == 0
    assert np.isfinite(json.loads(result.stdout)["best"])


def test_readers_who_have_enough_are_no_fault():
    code = "import sys; sys.argv[1:] = ['list', 'models']; from vidinit.commands import app; app()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (141, "")

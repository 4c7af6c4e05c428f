"""`--dry-run`, which writes nothing, and `data.batch_size=auto`, which it shows too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from support import MODEL, SMALL, json_of, logged, run_cli
from typer.testing import CliRunner
from vidinit.commands import app

import vidinit
from vidinit.config import TrainConfig
from vidinit.errors import UsageError, VidinitError
from vidinit.measure.memory import MB, TrainingMemory
from vidinit.pipelines.shared import batch_size, dry_run
from vidinit.pipelines.shared.batch_size import _largest, sizes
from vidinit.zoo.base import count_parameters

NO_BATCH = [word for word in SMALL if not word.startswith("data.batch_size")]
PARTS = ("weights", "gradients", "optimizer", "average", "activations")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Runs without a folder of their own would go below this one."""
    monkeypatch.chdir(tmp_path)


def files():
    return sorted(Path.cwd().rglob("*"))


# ------------------------------------------------------------------ a dry run


def test_the_first_step_is_that_of_the_run(motion_set, tmp_path, capsys):
    settings = [*SMALL, "train.dropout=0.5", "train.accumulate=2", "train.ema=0.9"]
    before = files()
    dry = vidinit.finetune(MODEL, data=motion_set, overrides=settings, epochs=2, dry_run=True)
    assert files() == before
    told = capsys.readouterr().err
    for line in ("accumulate: 2", "epochs: 2"):
        assert f"  {line} " in told and "# the arguments" in told.partition(line)[2][:80]
    assert f"model: {MODEL}" in told
    assert "weight_decay" not in told, "what nobody has set is not listed"
    assert "more settings have their defaults, see docs/settings.md" in told

    model = vidinit.create_model(MODEL, num_classes=2)
    assert dry["model"] == MODEL
    assert dry["params"] == dry["trained"] == count_parameters(model)
    assert dry["head"] == count_parameters(model.head)
    assert dry["batch"] == 4 and dry["clips"] == 12
    assert dry["shapes"] == {"clip": [4, 3, 4, 32, 32], "logits": [4, 2]}
    assert (dry["steps_per_epoch"], dry["epochs"]) == (1, 2)
    memory = dry["memory_mb"]
    assert memory["total"] == pytest.approx(sum(memory[part] for part in PARTS), abs=0.3)
    assert memory["average"] == memory["optimizer"] == memory["gradients"] > 0
    assert dry["clips_per_second"] == pytest.approx(8 / dry["seconds"])

    run = vidinit.finetune(
        MODEL, data=motion_set, overrides=[*settings, "eval.every=0"], epochs=1, out=tmp_path / "r"
    )
    first = next(row for row in logged(Path(run["out"])) if "loss" in row)
    assert first["step"] == 1
    assert dry["losses"] == {"loss": pytest.approx(first["loss"], rel=1e-5)}


def test_the_command_prints_it(motion_set):
    words = ["finetune", MODEL, "--data", str(motion_set), "--dry-run", "--overwrite", *SMALL]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for text in ("2,562 in heads", "logits (4, 2)", "memory", "3 steps an epoch, 30 in 10 epochs"):
        assert text in done.stdout
    assert done.stdout.splitlines()[-1] == "dry run: nothing was written"
    assert "batch_size: 4 " in done.stderr and files() == []
    assert "\\n" not in done.stderr and "command: finetune" in done.stderr.splitlines()


@pytest.mark.slow
def test_processes_run_dry_together(motion_set):
    words = [*NO_BATCH, "data.batch_size=auto"]
    found = json_of(
        run_cli(
            *("finetune", MODEL, "--data", motion_set, "--processes", "2"),
            *("--dry-run", "--json", *words),
        )
    )
    assert (found["batch"], found["steps_per_epoch"]) == (6, 1) and files() == []


def test_random_clips_stand_in_for_data(trained, tmp_path, capsys):
    found = vidinit.finetune(MODEL, overrides=[*SMALL, "data.mixup=0.8"], dry_run=True)
    assert found["shapes"] == {"clip": [4, 3, 4, 32, 32], "logits": [4, 400]}
    assert found["steps_per_epoch"] is found["clips"] is None
    assert "random clips of 400 classes" in capsys.readouterr().err

    found = vidinit.finetune(trained, overrides=SMALL, dry_run=True)
    assert found["shapes"]["logits"] == [4, 2]
    assert "new head" not in capsys.readouterr().err

    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    found = vidinit.finetune(MODEL, overrides=[*SMALL, f"data.class_names={names}"], dry_run=True)
    assert found["shapes"]["logits"] == [4, 3]


@pytest.mark.parametrize("given", [False, True])
def test_cotraining_runs_dry(given, motion_set, picture_set):
    sources = {"motion": motion_set} if given else None
    images = {"photos": picture_set} if given else None
    found = vidinit.cotrain(MODEL, sources=sources, images=images, overrides=SMALL, dry_run=True)
    (name,) = found["losses"]
    assert name in ({"motion", "photos"} if given else {"videos", "images"})
    assert (found["clips"] is None) != given
    heads = 2 + 3 if given else 2 * 400
    assert found["head"] == (MODEL_WIDTH + 1) * heads
    assert files() == []


def test_a_step_on_all_sources_is_one_batch(motion_set, picture_set):
    found = vidinit.cotrain(
        MODEL,
        sources={"motion": motion_set},
        images={"photos": picture_set},
        overrides=[*SMALL, "cotrain.schedule=use_all"],
        dry_run=True,
    )
    assert found["batch"] == 4 + 4 * 4
    assert list(found["losses"]) == ["motion", "photos"]
    assert found["shapes"] == {
        "clip of motion": [4, 3, 4, 32, 32],
        "clip of photos": [16, 3, 1, 32, 32],
        "logits": [4, 2],
        "logits of photos": [16, 3],
    }
    alone = vidinit.finetune(MODEL, data=motion_set, overrides=SMALL, dry_run=True)
    both, one = (result["memory_mb"]["activations"] for result in (found, alone))
    assert both == pytest.approx(2 * one, rel=0.2), "images come as often as they cost a clip's"


MODEL_WIDTH = vidinit.create_model(MODEL).num_features


def test_distillation_runs_dry(motion_set, capsys):
    teacher = "mobilenetv2_050"
    for videos in (None, motion_set):
        found = vidinit.distill(
            MODEL, videos=videos, teacher=teacher, overrides=SMALL, dry_run=True
        )
        assert "random weights" in (said := capsys.readouterr().err)
        left = "the 12 clips of its training part are taken, 6 of its val part are left out"
        assert (left in said) == (videos is not None)
        assert list(found["losses"]) == [teacher]
        assert found["shapes"]["logits"] == [4, 1000]
        assert found["memory_mb"]["weights"] > 4 * found["params"] / MB + 5, "the teacher's, too"
        assert found["clips"] == (None if videos is None else 12)
    assert files() == []


def test_what_does_not_fit_is_not_tried(motion_set, monkeypatch):
    monkeypatch.setattr(dry_run, "free_memory", lambda device: 10 * MB)
    with pytest.raises(VidinitError, match=r"a step on 4 clips .* about \d+ MB, and 10 MB are fr"):
        vidinit.finetune(MODEL, data=motion_set, overrides=SMALL, dry_run=True)


def test_it_contradicts_resuming(tmp_path):
    with pytest.raises(UsageError, match="--dry-run starts anew"):
        vidinit.finetune(MODEL, out=tmp_path / "run", resume=True, dry_run=True)


# ------------------------------------------------------------------ data.batch_size=auto


def test_sizes_are_powers_of_two_and_between():
    assert sizes(1, 20) == [1, 2, 3, 4, 6, 8, 12, 16]
    assert sizes(1, 1) == [1]
    assert sizes(2, 7) == [2, 4, 6]
    assert sizes(4, 3) == [4]


class Given:
    """A `Sample` that knows what it takes, on a GPU that holds so many clips."""

    def __init__(self, device="cpu", holds=0):
        self.device, self.holds, self.tried = torch.device(device), holds, []

    def memory(self, config, most):
        return TrainingMemory(10 * MB, 5 * MB, 5 * MB, 0, fixed=10 * MB, per_clip=10 * MB)

    def steps_fit(self, clips, config, memory):
        self.tried.append(clips)
        if clips > self.holds:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 MiB")


@pytest.mark.parametrize(("free", "clips"), [(40.1, 1), (66.8, 3), (1000, 64)])
def test_a_cpu_is_filled_to_three_quarters(free, clips, monkeypatch):
    monkeypatch.setattr(batch_size, "free_memory", lambda device: free * MB)
    found, why = _largest(Given(), TrainConfig(), sizes(1, 64))
    assert found == clips and f"about {30 + 10 * clips} MB in a step, {free:.0f} MB" in why


def test_a_gpu_is_asked_for_more_and_judges(monkeypatch):
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 200 * MB)
    for holds, tried in ((100, [24]), (13, [24, 16, 12])):
        sample = Given("cuda", holds)
        found, _ = _largest(sample, TrainConfig(), sizes(1, 100))
        assert found == tried[-1] and sample.tried == tried
    with pytest.raises(VidinitError, match="a step on 1 clips does not fit"):
        _largest(Given("cuda"), TrainConfig(), sizes(1, 2))


def test_auto_fits_the_memory_and_is_recorded(motion_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 30 * MB)
    words = [*NO_BATCH, "data.batch_size=auto", "train.lr_batch=1", "eval.every=0"]
    how = {"data": motion_set, "overrides": words, "out": tmp_path / "run", "lr": 1e-3}
    result = vidinit.finetune(MODEL, epochs=1, **how)
    told = capsys.readouterr().err
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    clips = recorded["data"]["batch_size"]
    assert 1 < clips < 12 and f"auto: {clips} clips" in told
    assert f"peak learning rate {1e-3 * clips:g} (train.lr" in told
    assert result["steps"] == 12 // clips

    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed before its end
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 10_000 * MB)
    assert vidinit.finetune(MODEL, epochs=1, resume=True, **how)["steps"] == result["steps"]


def test_auto_leaves_the_run_as_it_would_be(motion_set):
    """Measuring draws no numbers and moves no statistics: the loss is that of the number."""
    words = [*NO_BATCH, "train.dropout=0.5", "data.shots=2"]
    auto, number = (
        vidinit.finetune(MODEL, data=motion_set, overrides=words, batch_size=size, dry_run=True)
        for size in ("auto", 4)
    )
    assert auto["batch"] == number["batch"] == 4, "no more than the data"
    assert auto["losses"] == {"loss": pytest.approx(number["losses"]["loss"], rel=1e-5)}


def test_auto_counts_the_clips_of_videos(motion_set, picture_set, capsys):
    words = [*NO_BATCH, "data.batch_size=auto", "data.shots=1"]
    sources, images = {"motion": motion_set}, {"photos": picture_set}
    vidinit.cotrain(MODEL, sources=sources, images=images, overrides=words, dry_run=True)
    told = capsys.readouterr().err
    assert "auto: 2 clips" in told
    assert "motion: 1 steps an epoch of 2 x 4 frames" in told
    with pytest.raises(UsageError, match="counts clips of videos"):
        images = {"a": picture_set, "b": picture_set}
        vidinit.cotrain(MODEL, images=images, overrides=words, dry_run=True)


def test_not_one_clip_fits(monkeypatch):
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 20 * MB)
    with pytest.raises(VidinitError, match="on 1 clips does not fit: it takes about 40 MB, and 20"):
        _largest(Given(), TrainConfig(), sizes(1, 64))


def test_auto_is_for_training_and_words_are_checked(trained, motion_set):
    with pytest.raises(UsageError, match=r"auto is for training"):
        vidinit.evaluate(trained, data=motion_set, overrides=["data.batch_size=auto"])
    with pytest.raises(UsageError, match=r"data.batch_size .* valid integer or 'auto', not 'most'"):
        vidinit.finetune(MODEL, batch_size="most", dry_run=True)

"""Weights in shards: what is refused, what DeepSpeed is told, and that FSDP changes no number."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import ACCELERATE, FSDP, TORCHRUN, launch, losses, metrics
from safetensors.torch import load_file
from support import SMALL
from torch import nn
from toy import make

from vidinit.config import TrainConfig
from vidinit.engine import checkpoint_folders as folders
from vidinit.engine import resume, sharding
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.settings import FinetuneConfig

MODEL = "tsm-resnet10t"
STEPS = [
    *SMALL,
    *("data.batch_size=2", "train.log_every=1", "train.optimizer=adamw", "train.lr=0.001"),
    *("train.clip_grad=1", "train.freeze=['*bn?.*']", "train.layer_decay=0.9", "train.keep=9"),
    *("train.accumulate=2", "train.dropout=0.1", "train.save_steps=2", "data.workers=1"),
    "train.select=last",
]


@pytest.fixture
def fsdp(monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"ema": 0.9}, "train.ema does not go with FSDP: the average is of whole weights"),
        ({"optimizer": "lamb"}, "train.optimizer=lamb does not go with FSDP"),
        ({"compile": True}, "train.compile does not go with FSDP"),
    ],
)
def test_settings_that_need_whole_weights_are_refused(train, told, fsdp):
    config = FinetuneConfig(model="r3d50", train=train)
    with pytest.raises(UsageError, match=told):
        sharding.check_supported(config, "cpu")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FSDP_VERSION", "1", "FSDP of version 1 is not supported; set fsdp_version: 2"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "statistics twice.*train.checkpointing=true"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "tensor, context or sequence parallelism"),
    ],
)
def test_ways_that_are_not_taken_are_refused(name, value, told, fsdp, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        sharding.check_supported(FinetuneConfig(model="r3d50"), "cpu")
    assert re.search(told, str(caught.value)), str(caught.value)


def test_without_shards_nothing_is_refused_and_the_task_itself_is_trained():
    config = FinetuneConfig(model="r3d50", train={"ema": 0.9, "optimizer": "lamb"})
    sharding.check_supported(config, "cpu")

    class Alone:
        distributed_type = type("Kind", (), {"value": "NO"})

    task: Any = nn.Linear(2, 2)
    assert sharding.to_train(task, Alone()) is task
    with sharding.whole_weights(task, task, Alone()):
        assert task.weight.device.type == "cpu"


AUTO = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": 1,
    "gradient_clipping": "auto",
    "zero_optimization": {"stage": 2},
}


def test_deepspeed_is_told_what_it_cannot_know():
    settings = copy.deepcopy(AUTO)
    sharding.settle_deepspeed(settings, TrainConfig(clip_grad=40, accumulate=4), clips=6)
    assert settings["train_micro_batch_size_per_gpu"] == 6
    assert settings["gradient_accumulation_steps"] == 1, "the loop accumulates"
    assert settings["gradient_clipping"] == 40
    bare: dict[str, Any] = {"zero_optimization": {"stage": 3}}
    sharding.settle_deepspeed(bare, TrainConfig(), clips=3)
    assert bare["train_micro_batch_size_per_gpu"] == 3 and bare["gradient_clipping"] == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"optimizer": {"type": "Adam"}}, "has a section 'optimizer'"),
        ({"bf16": {"enabled": True}}, "section 'bf16' would hold batch norms' statistics"),
        ({"train_micro_batch_size_per_gpu": 4}, "train_micro_batch_size_per_gpu=4.*training 6"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps=2, this training 1"),
        ({"gradient_clipping": 1.0}, "gradient_clipping=1.0, this training 0"),
    ],
)
def test_a_deepspeed_configuration_that_says_otherwise_is_refused(more, told):
    with pytest.raises(UsageError, match=told):
        sharding.settle_deepspeed({**AUTO, **more}, TrainConfig(), clips=6)


def test_a_checkpoint_in_other_shards_is_refused(tmp_path):
    accelerator, step = make()
    step()
    saved = resume.save(accelerator, tmp_path, resume.Progress(step=1))
    told = json.loads((saved / "progress.json").read_text())
    assert told["sharded"] == "whole"
    (saved / "progress.json").write_text(json.dumps({**told, "sharded": "fsdp"}))
    (saved / folders.MANIFEST).unlink()
    folders.seal(saved)
    with pytest.raises(UsageError, match="has its weights as 'fsdp', this run as 'whole'"):
        resume.restore(accelerator, tmp_path)


def line(data: Path, out: Path, *more: str) -> list[str]:
    where = ["--data", str(data), "--out", str(out), "--epochs", "4", "--json"]
    return ["finetune", MODEL, *STEPS, *where, *more]


@pytest.fixture(scope="module")
def sharded(motion_set, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run with FSDP on two processes, and the launcher's flags."""
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "fsdp.yaml").write_text(FSDP)
    flags = ["--config_file", str(folder / "fsdp.yaml")]
    code, told, err = launch(ACCELERATE, flags, line(motion_set, folder / "run"))
    assert code == 0, err
    assert json.loads(told)["steps"] == 4
    return folder / "run", flags


@pytest.mark.slow
def test_fsdp_has_the_losses_and_the_model_of_ddp(sharded, motion_set, tmp_path):
    run, _ = sharded
    out = tmp_path / "run"
    code, _, err = launch(
        TORCHRUN, ["--standalone", "--nproc_per_node", "2"], line(motion_set, out)
    )
    assert code == 0, err
    assert losses(run) == pytest.approx(losses(out), abs=1e-5)
    assert len(set(losses(run))) == 4
    theirs, ours = (load_file(place / "model" / "model.safetensors") for place in (out, run))
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert torch.allclose(ours[name].float(), value.float(), atol=1e-5), name
    assert [row.get("top1") for row in metrics(run)] == [row.get("top1") for row in metrics(out)]
    newest = folders.newest(run / "checkpoints")
    assert newest is not None and folders.damage(newest, contents=True) is None
    files = {p.name for p in newest.rglob("*")}
    assert {"__0_0.distcp", "__1_0.distcp", "random_states_1.pkl"} <= files, "of both processes"


@pytest.mark.slow
def test_fsdp_resumes_to_the_bit(sharded, motion_set, tmp_path):
    run, flags = sharded
    out = tmp_path / "run"
    shutil.copytree(run, out, symlinks=True)
    shutil.rmtree(out / "model")
    (out / "result.json").unlink()
    for folder in folders.step_folders(out / "checkpoints"):
        if folders.step_of(folder) > 2:
            shutil.rmtree(folder)
    code, _, err = launch(ACCELERATE, flags, line(motion_set, out, "--resume"))
    assert code == 0, err
    assert "resuming from epoch 2, step 2" in err
    assert metrics(out) == metrics(run)
    last = folders.folder_of(out / "checkpoints", 4)
    for path in [out / "model" / "model.safetensors", *last.rglob("*.distcp")]:
        assert path.read_bytes() == (run / path.relative_to(out)).read_bytes(), path.name

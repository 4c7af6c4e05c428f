"""What is written of losses and of clips that were right: means over all steps, to the bit."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from vidinit.engine.job import LossLog
from vidinit.engine.resume import Progress
from vidinit.engine.run_folder import RunFolder
from vidinit.errors import VidinitError

ONE = SimpleNamespace(num_processes=1, device=torch.device("cpu"))


def log_of(tmp_path):
    return LossLog(RunFolder(tmp_path), ONE)


def step(log, progress, losses, right=None):
    progress.step += 1
    tensors = [{k: torch.tensor(v) for k, v in one.items()} for one in (losses, right or {})]
    log.add(progress.step, *tensors, ["a.mp4", "b.mp4"])


def test_a_line_is_the_mean_since_the_line_before(tmp_path):
    log, progress = log_of(tmp_path), Progress()
    for loss in (1.0, 2.0, 6.0):
        step(log, progress, {"loss": loss}, {"top1": loss / 8})
    log.write(progress, 0.1)
    step(log, progress, {"loss": 5.0}, {"top1": 1.0})
    log.write(progress, 0.05)
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first == {"epoch": 1, "step": 3, "loss": 3.0, "lr": 0.1}
    assert second == {"epoch": 1, "step": 4, "loss": 5.0, "lr": 0.05}
    # The epoch has all four: (1 + 2 + 6 + 5) / 4, and (9 / 8 + 1) / 4.
    assert log.of_epoch(progress) == {"train_loss": 3.5, "train_top1": 2.125 / 4}
    assert log.of_epoch(progress) == {}, "the next epoch begins anew"


def test_terms_that_are_not_in_every_step_have_means_of_their_own(tmp_path):
    log, progress = log_of(tmp_path), Progress()
    step(log, progress, {"photos": 1.0, "videos": 2.0})
    step(log, progress, {"videos": 4.0})
    log.write(progress, 0.1)
    found = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (found["loss"], found["loss_photos"], found["loss_videos"]) == (3.5, 1.0, 3.0)


def test_sums_survive_a_checkpoint_to_the_bit(tmp_path):
    values = torch.rand(6, generator=torch.Generator().manual_seed(0)).tolist()
    whole, progress = log_of(tmp_path / "a"), Progress()
    for value in values:
        step(whole, progress, {"loss": value})
    again, saved = log_of(tmp_path / "b"), Progress()
    for value in values[:4]:
        step(again, saved, {"loss": value})
    again.check(saved)
    restored = Progress(**json.loads(json.dumps(vars(saved))))
    again = log_of(tmp_path / "b")
    for value in values[4:]:
        step(again, restored, {"loss": value})
    assert again.of_epoch(restored) == whole.of_epoch(progress)


def test_a_loss_that_is_no_number_names_its_step_and_files(tmp_path):
    log, progress = log_of(tmp_path), Progress()
    step(log, progress, {"loss": 1.0})
    step(log, progress, {"loss": float("nan")})
    with pytest.raises(VidinitError, match=r"nan at step 2 \(loss nan\), on the clips of a.mp4, b"):
        log.check(progress)

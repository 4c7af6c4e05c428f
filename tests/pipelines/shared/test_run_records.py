"""Where the settings of a run come from, as its folder has it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import MODEL, SMALL, run_cli

import vidinit
from vidinit.config.build import build, known_keys
from vidinit.config.layers import COMMAND_LINE, called_from
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.shared.run_records import SETTLED, open_recorded


def places(run: Path) -> dict[str, str]:
    return dict(json.loads((run / "origins.json").read_text()))


def test_a_run_tells_where_its_settings_come_from(trained: Path) -> None:
    found = places(trained)
    assert set(found) == set(known_keys(FinetuneConfig))
    assert found["train.epochs"] == found["data.size"] == found["model"] == "the arguments"
    assert (found["train.seed"], found["precision"]) == ("default", SETTLED)
    rows = re.findall(r"<tr>(.*?)</tr>", (trained / "report.html").read_text())
    (row,) = [row for row in rows if "<td>train.epochs</td>" in row]
    assert row.endswith("<td>the arguments</td>")
    again = build(FinetuneConfig, file=trained / "config.yaml")
    assert again.origins["train.epochs"].startswith(f"{trained / 'config.yaml'}:")


def test_a_run_that_goes_on_keeps_what_is_as_it_was(tmp_path: Path) -> None:
    given = {"model": MODEL, "data.workers": 1, "train.lr": 0.1}
    with called_from(COMMAND_LINE):
        config = build(FinetuneConfig, flags={**given, "out": str(tmp_path / "run")})
    run = open_recorded(config, "finetune")
    first = places(run.root)
    assert first["train.lr"] == first["out"] == COMMAND_LINE and first["train.seed"] == "default"
    file = run.root / "config.yaml"
    config = build(FinetuneConfig, file=file, overrides={"data.workers": 0})
    open_recorded(config, "finetune", resume=True)
    assert places(run.root) == {**first, "data.workers": "the overrides"}
    (run.root / "origins.json").unlink()  # as runs of before have none
    open_recorded(build(FinetuneConfig, file=file), "finetune", resume=True)
    assert places(run.root)["train.seed"].startswith(f"{file}:")


@pytest.mark.slow
def test_processes_hand_them_on(motion_set: Path, tmp_path: Path) -> None:
    words = ["--data", motion_set, "--epochs", "1", "--processes", "2", "--out", tmp_path / "run"]
    done = run_cli("finetune", MODEL, *words, *SMALL)
    assert done.returncode == 0, done.stderr
    found = places(tmp_path / "run")
    assert found["train.epochs"] == found["data.size"] == COMMAND_LINE
    assert vidinit.evaluate(tmp_path / "run", data=motion_set, processes=2, out=tmp_path / "eval")
    assert places(tmp_path / "eval")["data.train"] == "the arguments"

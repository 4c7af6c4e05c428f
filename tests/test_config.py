from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vidinit import config
from vidinit.config import CotrainConfig, DistillConfig, FinetuneConfig
from vidinit.configure import build, list_presets, preset_folder
from vidinit.errors import UsageError


def test_layers_in_order(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("model: r3d50\ntrain:\n  lr: 1e-4\n  epochs: 7\ndata:\n  batch_size: 3\n")
    built = build(
        FinetuneConfig,
        preset="s3d-tf_efficientnet_lite0_demo",
        file=file,
        overrides=["train.epochs=8", "data.batch_size=4"],
        flags={"data.batch_size": 5, "train.seed": None},
    )
    assert built.model == "r3d50"
    assert built.train.optimizer == "adamw", "from the preset"
    assert built.train.lr == pytest.approx(1e-4), "from the file; YAML 1.1 reads 1e-4 as text"
    assert built.train.epochs == 8, "from the override"
    assert built.data.batch_size == 5, "from the flag"
    assert built.train.seed == 0, "a flag that was not given changes nothing"


def test_overrides_of_every_form():
    built = build(FinetuneConfig, overrides={"model": "r3d50", "train.lr": 0.5})
    assert built.train.lr == 0.5
    texts = ["model=r3d50", "data.flip=false", "train.clip_grad=null", "data.size=96"]
    built = build(FinetuneConfig, overrides=texts)
    assert (built.data.flip, built.train.clip_grad, built.data.size) == (False, None, 96)


def test_unknown_keys_are_refused_with_a_suggestion_and_a_place(tmp_path):
    with pytest.raises(UsageError, match=r"unknown key 'train.epocs'.*did you mean 'train.epochs'"):
        build(FinetuneConfig, overrides=["train.epocs=3"])
    file = tmp_path / "my.yaml"
    file.write_text("model: r3d50\ntrain:\n  epochs: 3\n  lrr: 0.1\ndatas:\n  size: 3\n")
    with pytest.raises(UsageError) as caught:
        build(FinetuneConfig, file=file)
    assert f"'train.lrr' in {file}:4" in str(caught.value)
    assert f"'datas.size' in {file}:6" in str(caught.value), "all of them at once"
    # A key of another command is unknown here.
    with pytest.raises(UsageError, match=r"distill.picks"):
        build(FinetuneConfig, overrides=["model=r3d50", "distill.picks=2"])


def test_wrong_values_name_key_place_and_value(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("model: r3d50\ntrain:\n  epochs: many\n")
    with pytest.raises(UsageError, match=rf"train.epochs in {file}:3: .*integer.*not 'many'"):
        build(FinetuneConfig, file=file)
    with pytest.raises(UsageError, match=r"train.lr in the command line: .*greater than 0"):
        build(FinetuneConfig, overrides=["model=r3d50", "train.lr=-1"])
    with pytest.raises(UsageError, match="no model is given"):
        build(FinetuneConfig)
    with pytest.raises(UsageError, match="'train' in the command line is a section"):
        build(FinetuneConfig, overrides=["model=r3d50", "train=3"])


@pytest.mark.parametrize("text", ["train.lr", "=3", "0.1"])
def test_what_is_no_override(text):
    with pytest.raises(UsageError, match="is no override"):
        build(FinetuneConfig, overrides=["model=r3d50", text])


def test_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="no such configuration file"):
        build(FinetuneConfig, file=tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UsageError, match="must map sections"):
        build(FinetuneConfig, file=tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(UsageError, match="no valid YAML"):
        build(FinetuneConfig, file=tmp_path / "bad.yaml")


def test_a_dumped_configuration_builds_itself_again(tmp_path):
    built = build(CotrainConfig, overrides={"model": "r3d50", "train.epochs": 3})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"command": "cotrain", **built.model_dump(mode="json")}))
    assert build(CotrainConfig, file=file) == built


def test_every_shipped_preset_is_valid_and_says_what_it_is():
    names = list_presets()
    assert len(names) >= 6
    for name in names:
        command = name.split("/")[0]
        cls = config.COMMANDS[command]
        flags = {"model": "r3d50"}
        built = build(cls, preset=name, flags=flags)
        assert built == build(cls, preset=name.split("/")[1], flags=flags)
        text = (preset_folder() / f"{name}.yaml").read_text()
        for part in ("# Needs:", "# Command: vidinit " + command, "# Expect:"):
            assert part in text, f"{name} lacks '{part}'"
        assert name.split("/")[1] in text, "the command names the preset"


def test_unknown_presets_are_suggested():
    with pytest.raises(UsageError, match=r"did you mean 'distill/s3d-tf_efficientnet_lite0_demo'"):
        build(DistillConfig, preset="s3d-tf_eficientnet_lite0_demo")


def test_every_field_is_explained():
    """The text under a field is its help: no field without one."""
    import ast

    tree = ast.parse(Path(config.__file__).read_text())
    checked = 0
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or not node.name.endswith(("Config", "Section")):
            continue
        for i, item in enumerate(node.body):
            if isinstance(item, ast.AnnAssign) and "default_factory" not in ast.unparse(item):
                if ast.unparse(item.target) in ("model", "sources") and node.name != "RunConfig":
                    continue
                after = node.body[i + 1]
                assert isinstance(after, ast.Expr), f"{node.name}.{ast.unparse(item.target)}"
                checked += 1
    assert checked > 40

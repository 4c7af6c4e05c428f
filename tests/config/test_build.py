from __future__ import annotations

import re

import pytest
import yaml

from vidinit.config.build import build, check_file, dumped, known_keys
from vidinit.config.layers import COMMAND_LINE, called_from
from vidinit.errors import UsageError
from vidinit.pipelines.cotrain.settings import CotrainConfig
from vidinit.pipelines.distill.settings import DistillConfig
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.pipelines.registry import config_classes

CONFIGS = config_classes()

DEMO = "s3d-tf_efficientnet_lite0_demo"


def test_layers_in_order(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("model: r3d50\ntrain:\n  lr: 1e-4\n  epochs: 7\ndata:\n  batch_size: 3\n")
    built = build(
        FinetuneConfig,
        preset=DEMO,
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


def test_the_place_of_every_value_is_known(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("train:\n  lr: 1e-4\n  epochs: 7\n")
    built = build(
        FinetuneConfig,
        preset=DEMO,
        file=file,
        overrides={"train.epochs": 8},
        flags={"data.batch_size": 5},
    )
    assert set(built.origins) == set(known_keys(FinetuneConfig))
    assert re.fullmatch(rf"preset finetune/{DEMO}:\d+", built.origins["train.optimizer"])
    assert built.origins["train.lr"] == f"{file}:2"
    assert built.origins["train.epochs"] == "the overrides"
    assert built.origins["data.batch_size"] == "the arguments"
    assert built.origins["train.seed"] == "default"
    with called_from(COMMAND_LINE):
        words = build(FinetuneConfig, overrides=["model=r3d50"], flags={"train.lr": 0.1})
    assert words.origins["model"] == words.origins["train.lr"] == "the command line"
    assert words == build(FinetuneConfig, overrides={"model": "r3d50", "train.lr": 0.1})


def test_overrides_of_every_form():
    built = build(FinetuneConfig, overrides={"model": "r3d50", "train.lr": 0.5})
    assert built.train.lr == 0.5
    texts = ["model=r3d50", "data.flip=false", "train.clip_grad=null", "data.size=96"]
    built = build(FinetuneConfig, overrides=texts)
    assert (built.data.flip, built.train.clip_grad, built.data.size) == (False, None, 96)
    built = build(FinetuneConfig, overrides=["model=r3d50", "data.flip=off", "train.compile=yes"])
    assert built.data.flip is False and built.train.compile is True, "these keys take yes and no"


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


EVERYTHING_WRONG = """\
model: r3d50
trian:
  lr: 3
train:
  lr: fast
  epochs: on
  lr: 1e-3
  optimizer: adamm
  lr_steps: [1e1, soon]
  freeze: [on, stem]
  label_smoothing: 2
  trackers: [wandbb]
data:
  flip: maybe
  short: no
  train: 2019
eval: 5
"""
SENTENCES = [
    "'train.lr' stands twice in {}: in line 5 and 7",
    "unknown key 'trian.lr' in {}:3 (did you mean 'train.lr'",
    "train.epochs in {}:6: True is no value for it (YAML reads yes, no, on and off as true and",
    "train.optimizer in {}:8: input should be 'sgd', 'adamw' or 'lamb', not 'adamm' (did you mean",
    "train.lr_steps.1 in {}:9: input should be a valid number, not 'soon'",
    "train.freeze in {}:10: True is no value for it (YAML reads",
    "train.label_smoothing in {}:11: input should be less than 1, not 2",
    "train.trackers.0 in {}:12: input should be 'tensorboard' or 'wandb', not 'wandbb' (did you",
    "data.flip in {}:14: input should be a valid boolean or 'auto' or 'swap', not",
    "data.short in {}:15: False is no value for it (YAML reads",
    "data.train in {}:16: input should be a valid string or a valid list, not 2019 (quote it",
    "'eval' in {}:17 is a section and takes no value",
]


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(EVERYTHING_WRONG)
    with pytest.raises(UsageError) as caught:
        build(FinetuneConfig, file=file, overrides=["train.lr", "train.seed=-1"])
    text = str(caught.value)
    wanted = [sentence.format(file) for sentence in SENTENCES]
    wanted += ["'train.lr' is no override", "train.seed in the arguments: input should be great"]
    assert [part for part in wanted if part not in text] == []
    assert len(text.split("; ")) == len(wanted), "each once"


def test_wrong_values_name_key_place_and_value(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("model: r3d50\ntrain:\n  epochs: many\n")
    with pytest.raises(UsageError, match=rf"train.epochs in {file}:3: .*integer.*not 'many'"):
        build(FinetuneConfig, file=file)
    with pytest.raises(UsageError, match=r"train.lr in the arguments: .*greater than 0"):
        build(FinetuneConfig, overrides=["model=r3d50", "train.lr=-1"])
    with pytest.raises(UsageError, match="no model is given"):
        build(FinetuneConfig)
    with pytest.raises(UsageError, match="'train' in the arguments is a section"):
        build(FinetuneConfig, overrides=["model=r3d50", "train=3"])


def test_sources_are_checked_to_the_item(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(
        "model: r3d50\n"
        "sources:\n  - name: a\n    data: x\n    frmaes: 3\n  - data: y\n    share: 0\n"
    )
    with pytest.raises(UsageError) as caught:
        build(CotrainConfig, file=file)
    text = str(caught.value)
    assert f"unknown key 'sources.0.frmaes' in {file}:5 (did you mean 'frames'" in text
    assert f"no sources.1.name is given in {file}:6" in text
    assert f"sources.1.share in {file}:7: input should be greater than 0" in text


def test_an_empty_section_says_nothing(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("model: r3d50\ntrain:\n  # lr: 0.1\ndata: {}\n")
    assert build(FinetuneConfig, file=file) == build(FinetuneConfig, flags={"model": "r3d50"})


@pytest.mark.parametrize("text", ["train.lr", "=3", "0.1"])
def test_what_is_no_override(text):
    with pytest.raises(UsageError, match="is no override"):
        build(FinetuneConfig, overrides=["model=r3d50", text])


@pytest.mark.parametrize("command", CONFIGS)
@pytest.mark.parametrize("origins", [False, True])
def test_what_is_written_builds_the_same_again(tmp_path, command, origins):
    cls = CONFIGS[command]
    given = {"model": "r3d50", "data.max_bad": 1e-7, "data.class_names": "no", "data.val": "a # b"}
    if command == "cotrain":
        given["sources"] = [{"name": "1e3", "data": "x"}, {"name": "on", "data": "y: z"}]
    built = build(cls, overrides=given)
    file = tmp_path / "config.yaml"
    file.write_text(dumped(built, origins=origins))
    again = build(cls, file=file)
    assert again == built
    assert all(place.startswith(f"{file}:") for place in again.origins.values()), "nothing is left"
    # So does the form in which a run's config.yaml is written.
    file.write_text(yaml.safe_dump({"command": command, **built.model_dump(mode="json")}))
    assert build(cls, file=file) == built


def test_a_file_for_another_command_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("command: distill\nmodel: r3d50\n")
    assert build(DistillConfig, file=file).model == "r3d50"
    with pytest.raises(UsageError, match=r"config.yaml:1 is for `vidinit distill`, not for"):
        build(FinetuneConfig, file=file)


def test_checking_a_file(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("train:\n  lr: 0.1\n")
    assert check_file(file, CONFIGS) == "finetune", "it need not name a model"
    assert check_file(file, CONFIGS, "cotrain") == "cotrain"
    file.write_text("command: distill\ndistill:\n  picks: 2\n")
    assert check_file(file, CONFIGS) == "distill"
    with pytest.raises(UsageError, match="unknown command 'finetun' in the arguments; did you"):
        check_file(file, CONFIGS, "finetun")
    file.write_text("command: distil\n")
    with pytest.raises(
        UsageError, match=rf"unknown command 'distil' in {file}:1; did you mean 'dist"
    ):
        check_file(file, CONFIGS)

from __future__ import annotations

import pytest

from vidinit.config.layers import file_layer, override_layer
from vidinit.errors import UsageError


def written(tmp_path, text):
    file = tmp_path / "my.yaml"
    file.write_text(text)
    return file


def test_a_file_is_flat_values_and_their_lines(tmp_path):
    file = written(
        tmp_path, "# top\nmodel: r3d50\ntrain:\n  lr: 1\n\n  lr_steps:\n    - 3\n    - 4\n"
    )
    layer = file_layer(file)
    assert layer.values == {"model": "r3d50", "train.lr": 1, "train.lr_steps": [3, 4]}
    assert layer.where("train.lr") == f"{file}:4"
    assert layer.where("train.lr_steps.1") == f"{file}:8"
    assert layer.where("data.size") == str(file), "not in the file: no line of it"
    assert file_layer(file, "preset x").where("model") == "preset x:2"
    assert layer.problems == []


def test_keys_that_stand_twice_are_told_with_both_lines(tmp_path):
    text = "train:\n  lr: 1\n  epochs: 2\n  lr: 3\ndata: {size: 32, size: 64}\ntrain:\n  seed: 1\n"
    file = written(tmp_path, text)
    assert file_layer(file).problems == [
        f"'train.lr' stands twice in {file}: in line 2 and 4",
        f"'data.size' stands twice in {file}: in line 5 and 5",
        f"'train' stands twice in {file}: in line 1 and 6",
    ]


def test_words_that_yaml_reads_as_something_else_are_keys_all_the_same(tmp_path):
    layer = file_layer(written(tmp_path, "on: 1\ntrain:\n  no: 2\n  3: 4\n"))
    assert layer.values == {"on": 1, "train.no": 2, "train.3": 4}
    assert layer.lines["train.no"] == 3 and layer.lines["train.3"] == 4


def test_a_file_says_for_which_command_it_is(tmp_path):
    layer = file_layer(written(tmp_path, "command: distill\nmodel: r3d50\n"))
    assert layer.command == "distill" and layer.values == {"model": "r3d50"}
    assert file_layer(written(tmp_path, "")).command is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- 1\n", "must map sections"),
        ("3\n", "must map sections"),
        ("a: 1\nb: [1\n", r"my.yaml:3 is no valid YAML"),
        ("a: 1\n\tb: 2\n", r"my.yaml:2 is no valid YAML"),
        ("a: 1\nb: !!python/name:os.system ''\n", r"my.yaml:2 is no valid YAML"),
        ("? [1, 2]\n: 3\n", "no valid YAML"),
        ("a: &x\n  b: *x\n", "refers to itself"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, part):
    with pytest.raises(UsageError, match=part):
        file_layer(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="no such configuration file"):
        file_layer(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="no such configuration file"):
        file_layer(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
    with pytest.raises(UsageError, match="cannot be read as text"):
        file_layer(tmp_path / "latin.yaml")


def test_overrides_are_yaml_and_all_that_are_none_are_told():
    layer = override_layer(["train.lr=0.5", "data.jitter=[256, 320]", "x", "=3", "a=[1", "b.c="])
    assert layer.values == {"train.lr": 0.5, "data.jitter": [256, 320], "b.c": None}
    assert [text.partition(" (")[0] for text in layer.problems] == [
        "'x' is no override",
        "'=3' is no override",
        "cannot read the value of 'a=[1'",
    ]
    nested = override_layer({"train": {"lr": 0.5}, "data.size": 32})
    assert nested.values == {"train.lr": 0.5, "data.size": 32}
